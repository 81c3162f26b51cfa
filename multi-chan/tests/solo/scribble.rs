//! A process that writes random words all over a channel's memory while both sides run.
//!
//! What comes out of such a channel means nothing; but every call returns, with an error or with something, and nobody
//! crashes. `MULTI_SCRIBBLE_SECONDS` makes it longer, `MULTI_SEED` repeats a run's choices.

#![expect(unsafe_code, reason = "writes over memory that it does not own")]

use crate::support::{Random, exit, fork, pause};
use multi_chan::{Builder, BytesReceiver, BytesSender, Exposed, Receiver, Sender, channel, spsc};
use std::cell::RefCell;
use std::process::Command;
use std::ptr::NonNull;
use std::time::{Duration, Instant};

crate::tests![
    scribbles_over_a_channel_give_errors_only,
    scribbles_over_messages_give_errors_only,
    scribbles_over_one_to_one_give_errors_only,
    scribbles_over_a_pollable_channel_give_errors_only,
    scribbles_over_the_roll_give_errors_only,
];

/// How long each call may wait by its own account, and how long it may take before it counts as hung.
const LIMIT: Duration = Duration::from_millis(2);
const HUNG: Duration = Duration::from_secs(10);

fn seconds() -> f64 {
    let given = std::env::var("MULTI_SCRIBBLE_SECONDS").ok();
    given.and_then(|text| text.parse().ok()).unwrap_or(0.5)
}

/// Words that mean something to the protocol, and some that mean nothing.
fn word(random: &mut Random) -> u64 {
    let any = random.below(u64::MAX);
    match random.below(6) {
        0 => any,
        // A stamp of a near lap.
        1 => random.below(4) << 31 | any & 0x7fff_ffff,
        // A small number.
        2 => any % 70_000,
        // A run of a near place.
        3 => random.below(5) << 32 | random.below(20),
        4 => u64::MAX - random.below(3),
        _ => 0,
    }
}

/// Writes over the memory until it is killed: words where the protocol keeps its own, and some anywhere.
fn scribble(handle: &impl Exposed, seed: u64) -> ! {
    let (base, bytes) = handle.memory();
    // Header, the first rows, then what lies behind all rows: slots (or who uses which side), and the arena's words.
    let places = [(0, 640), (640, 128), (66_176, 1_024)];
    write_over(base, seed, |random| {
        let (start, len) = match random.below(8) {
            at @ 0..3 => places[at as usize],
            3 | 4 => places[2],
            5 if bytes > 80_000 => (69_632, 600),
            6 if bytes > 600_000 => (593_000, 1_500),
            _ => (0, bytes as u64),
        };
        (start + random.below(len)).min(bytes as u64 - 8) as usize
    })
}

/// The same over the roll, but for the words and kinds of the mutexes there: they are all that the kernel tells of a life. Their
/// list pointers are written over.
fn scribble_over_roll(handle: &impl Exposed, seed: u64) -> ! {
    let (base, bytes) = handle.roll();
    write_over(base, seed, |random| {
        let rows = match random.below(4) {
            0 => bytes as u64 / 64 - 1,
            _ => 8,
        };
        match random.below(20) {
            // Its numbers, the range, who was told of it.
            0 => random.below(12) as usize,
            _ => 64 + random.below(rows) as usize * 64 + 24 + random.below(40) as usize,
        }
    })
}

fn write_over(base: NonNull<u8>, seed: u64, mut place: impl FnMut(&mut Random) -> usize) -> ! {
    let mut random = Random::new(seed);
    loop {
        let offset = place(&mut random) & !7;
        // SAFETY: inside the mapping, and aligned; what it breaks is the test.
        let place = unsafe { base.add(offset) }.cast::<u64>();
        // SAFETY: as above.
        unsafe { place.write_volatile(word(&mut random)) };
        if random.below(50) == 0 {
            std::thread::yield_now();
        }
    }
}

/// Runs `act` again and again, and complains about a call that takes too long.
fn keep_busy(until: Instant, mut act: impl FnMut(u64), mut random: Random) {
    while Instant::now() < until {
        let began = Instant::now();
        let what = random.below(u64::MAX);
        act(what);
        assert!(began.elapsed() < HUNG, "call {} hung", what % 8);
    }
}

/// One channel after another, each with a scribbler and two at work on it.
fn run<H: Exposed>(make: impl Fn(u64) -> H, act: impl Fn(&H, u64) + Copy) {
    run_beside(make, act, |handle, seed| scribble(handle, seed));
}

fn run_beside<H: Exposed>(
    make: impl Fn(u64) -> H,
    act: impl Fn(&H, u64) + Copy,
    scribble: impl Fn(&H, u64),
) {
    let mut random = Random::from_environment();
    let end = Instant::now() + Duration::from_secs_f64(seconds());
    let mut channels = 0;
    while Instant::now() < end {
        let handle = make(random.below(u64::MAX));
        let until = Instant::now() + Duration::from_millis(60);
        let workers = [(); 2].map(|()| {
            let seed = random.below(u64::MAX);
            fork(|| keep_busy(until, |what| act(&handle, what), Random::new(seed)))
        });
        let seed = random.below(u64::MAX);
        let scribbler = fork(|| scribble(&handle, seed));
        // A child that dies at work, so that the scribbled memory is tidied up, too.
        let seed = random.below(u64::MAX);
        let victim = fork(|| keep_busy(until + HUNG, |what| act(&handle, what), Random::new(seed)));
        pause(20);
        victim.kill();
        for worker in workers {
            worker.join();
        }
        scribbler.kill();
        // Here as well, on what is left.
        keep_busy(
            Instant::now() + LIMIT,
            |what| act(&handle, what),
            Random::new(seed),
        );
        fork(|| {
            drop(handle);
            exit(0);
        })
        .join();
        channels += 1;
    }
    println!("{channels} channels were scribbled over");
}

/// A pair of ends shows its memory through the first.
macro_rules! exposed {
    ($pair:ident) => {
        impl Exposed for $pair {
            fn memory(&self) -> (NonNull<u8>, usize) {
                self.0.memory()
            }

            fn roll(&self) -> (NonNull<u8>, usize) {
                self.0.roll()
            }

            fn state(&self) -> String {
                self.0.state()
            }
        }
    };
}

struct Plain(Sender<[u64; 3]>, Receiver<[u64; 3]>);

exposed!(Plain);

fn use_plain(Plain(tx, rx): &Plain, what: u64) {
    match what % 8 {
        0 => drop(tx.try_send([what; 3])),
        1 => drop(tx.send_timeout([what; 3], LIMIT)),
        2 => drop(rx.try_recv()),
        3 => drop(rx.recv_timeout(LIMIT)),
        4 => {
            tx.len();
            rx.dropped();
            if what % 1_000 == 4 {
                tx.close();
            }
        }
        5 => drop((tx.clone(), rx.clone())),
        6 => drop(tx.try_send([what; 3])),
        _ => drop(rx.try_recv()),
    }
}

fn scribbles_over_a_channel_give_errors_only() {
    run(
        |any| {
            let capacity = [0, 1, 3, 16, 100][any as usize % 5];
            let (tx, rx) = channel(capacity).unwrap();
            Plain(tx, rx)
        },
        use_plain,
    );
}

struct Bytes(BytesSender, BytesReceiver);

exposed!(Bytes);

fn scribbles_over_messages_give_errors_only() {
    run(
        |any| {
            let capacity = [0, 1, 3, 16][any as usize % 4];
            let builder = Builder::new().capacity(capacity).arena_bytes(20 * 4096);
            let (tx, rx) = builder.build_bytes().unwrap();
            Bytes(tx, rx)
        },
        |Bytes(tx, rx), what| {
            let len = [0, 50, 112, 113, 5_000, 40_000][(what >> 8) as usize % 6];
            match what % 8 {
                0 | 6 => drop(tx.try_send(&[7; 40_000][..len])),
                1 => drop(tx.send_timeout(&[7; 40_000][..len], LIMIT)),
                2 | 7 => drop(rx.try_recv()),
                3 => drop(rx.recv_timeout(LIMIT)),
                4 => {
                    tx.len();
                    tx.arena_used();
                    drop(rx.try_recv_ref().map(|message| message.copied()));
                }
                _ => drop(tx.try_reserve(len)),
            }
        },
    );
}

struct OneToOne(
    RefCell<spsc::Sender<[u64; 3]>>,
    RefCell<spsc::Receiver<[u64; 3]>>,
);

impl Exposed for OneToOne {
    fn memory(&self) -> (NonNull<u8>, usize) {
        self.0.borrow().memory()
    }

    fn roll(&self) -> (NonNull<u8>, usize) {
        self.0.borrow().roll()
    }

    fn state(&self) -> String {
        self.0.borrow().state()
    }
}

fn scribbles_over_one_to_one_give_errors_only() {
    run(
        |any| {
            let capacity = [1, 3, 16, 100][any as usize % 4];
            let (tx, rx) = spsc::channel(capacity).unwrap();
            OneToOne(tx.into(), rx.into())
        },
        |OneToOne(tx, rx), what| {
            let (tx, rx) = (&mut *tx.borrow_mut(), &mut *rx.borrow_mut());
            match what % 8 {
                0 => drop(tx.try_send([what; 3])),
                1 => drop(tx.send_timeout([what; 3], LIMIT)),
                2 => drop(rx.try_recv()),
                3 => drop(rx.recv_timeout(LIMIT)),
                4 => {
                    tx.len();
                    if what % 1_000 == 4 {
                        tx.close();
                    }
                }
                5 => drop(tx.try_reserve().map(|slot| slot.commit())),
                6 => drop(tx.try_send([what; 3])),
                _ => drop(rx.try_recv_ref()),
            }
        },
    );
}

fn scribbles_over_a_pollable_channel_give_errors_only() {
    run(
        |any| {
            let capacity = [0, 1, 3, 16][any as usize % 4];
            let builder = Builder::new().capacity(capacity).pollable(true);
            let (tx, rx) = builder.build().unwrap();
            Plain(tx, rx)
        },
        |pair, what| match what % 4 {
            0 => drop(pair.0.readiness().and_then(|mut readiness| readiness.arm())),
            1 => drop(pair.1.readiness().and_then(|mut readiness| readiness.arm())),
            _ => use_plain(pair, what >> 2),
        },
    );
}

/// In a program of its own, since all channels of a tree share the roll.
fn scribbles_over_the_roll_give_errors_only() {
    const HERE: &str = "MULTI_SCRIBBLE_HERE";
    if std::env::var_os(HERE).is_none() {
        let own = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "scribbles_over_the_roll_give_errors_only"])
            .env(HERE, "1")
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&own.stdout);
        assert!(own.status.success(), "{said}");
        return;
    }
    run_beside(
        |any| {
            let (tx, rx) = channel([0, 1, 3, 16][any as usize % 4]).unwrap();
            Plain(tx, rx)
        },
        use_plain,
        |handle, seed| scribble_over_roll(handle, seed),
    );
}
