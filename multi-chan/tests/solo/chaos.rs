//! Senders and receivers killed (and stopped) at random, and an account of every message.
//!
//! `MULTI_CHAOS_KILLS`, `MULTI_CHAOS_MINUTES` and `MULTI_CHAOS_MODES` (names, with commas) make it long; without them it is two
//! seconds of everything. `MULTI_SEED` gives a printed seed back.

#![expect(clippy::print_stderr, reason = "a line of progress")]

use crate::account::{Eye, LIVES, NUMBERS, account};
use crate::support::{self, Child, End, Random, exit, fork, monotonic, pause_us};
use crate::wires::{self, IN_HAND_MAX};
use std::fmt;
use std::io::{IsTerminal, stderr};
use std::sync::atomic::Ordering::SeqCst;
use std::thread;
use std::time::Duration;

crate::tests![chaos_loses_nothing_and_hangs_nowhere];

const KILLS_PER_ROUND: u64 = 100;
const HUNG: Duration = Duration::from_secs(5);

/// A kind of channel and its operations, as chaos sees them.
pub(crate) trait Wire: Sized {
    /// Processes on each side.
    const CREW: usize;
    /// A survivor takes over from the dead on its side only once there is a new process.
    const ALONE: bool = false;
    /// Messages that a killed receiver may take with it.
    const IN_HAND: u64;

    fn open(random: &mut Random) -> Self;
    fn capacity(&self) -> usize;
    /// Sends messages of `life` from `number` on, in one way or another; how many were sent.
    fn send(&mut self, life: u64, number: u64, random: &mut Random) -> u64;
    /// Receives in one way or another, and shows the eye what it was; false once there will never be more.
    fn recv(&mut self, random: &mut Random, eye: &mut Eye) -> bool;
    fn close(&mut self);

    /// All of the shared state in words, for who has to explain a hang.
    fn state(&self) -> String {
        String::new()
    }
}

/// Sums over all rounds.
#[derive(Default)]
pub(crate) struct Sums {
    kills: u64,
    stops: u64,
    sent: u64,
    received: u64,
    lost: u64,
    with_their_receiver: u64,
    doubled: u64,
    redelivered: u64,
    miscounted: u64,
    torn: u64,
    disordered: u64,
    hangs: u64,
    resumed: Vec<Duration>,
}

impl Sums {
    fn faults(&self) -> u64 {
        self.lost + self.doubled + self.miscounted + self.torn + self.disordered + self.hangs
    }

    fn resumed(&self, part: f64) -> f64 {
        let mut sorted = self.resumed.clone();
        sorted.sort_unstable();
        let index = (sorted.len() as f64 * part) as usize;
        let at = sorted.get(index.min(sorted.len().saturating_sub(1)));
        at.map_or(0.0, |time| time.as_secs_f64() * 1e3)
    }
}

impl fmt::Display for Sums {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} kills, {} stops, {} messages sent, {} received, {} lost, {} doubled, {} torn, {} out of order, {} hangs, \
             {} died with their receiver, {} came again and said so, {} with a wrong count; resumed after p50 {:.2} p99 {:.2} max {:.2} ms",
            self.kills,
            self.stops,
            self.sent,
            self.received,
            self.lost,
            self.doubled,
            self.torn,
            self.disordered,
            self.hangs,
            self.with_their_receiver,
            self.redelivered,
            self.miscounted,
            self.resumed(0.5),
            self.resumed(0.99),
            self.resumed(1.0),
        )
    }
}

/// The children of one round.
struct Crew<'a, W> {
    wire: &'a mut W,
    senders: Vec<Child>,
    receivers: Vec<Child>,
    lives: usize,
}

impl<W: Wire> Crew<'_, W> {
    fn add_sender(&mut self, random: &mut Random) {
        let (life, seed) = (self.lives, random.below(u64::MAX));
        self.lives += 1;
        let wire = &mut *self.wire;
        self.senders.push(fork(|| {
            let (account, mut random, mut number) = (account(), Random::new(seed), 0);
            while account.stop.load(SeqCst) == 0 {
                if number + IN_HAND_MAX < NUMBERS as u64 {
                    number += wire.send(life as u64, number, &mut random);
                    account.has_sent(life, number);
                } else {
                    thread::sleep(Duration::from_millis(1));
                }
            }
        }));
    }

    fn add_receiver(&mut self, random: &mut Random) {
        let seed = random.below(u64::MAX);
        let wire = &mut *self.wire;
        self.receivers.push(fork(|| {
            let (mut random, mut eye) = (Random::new(seed), Eye::new());
            while wire.recv(&mut random, &mut eye) {}
        }));
    }
}

/// Runs one channel through its kills, and adds up what came of it.
pub(crate) fn round<W: Wire>(kills: u64, random: &mut Random, sums: &mut Sums) {
    support::arm_watchdog();
    let account = account();
    account.reset();
    let mut wire = W::open(random);
    let mut crew = Crew {
        wire: &mut wire,
        senders: Vec::new(),
        receivers: Vec::new(),
        lives: 0,
    };
    for _ in 0..W::CREW {
        crew.add_sender(random);
        crew.add_receiver(random);
    }
    let mut killed_receivers = 0;
    for _ in 0..kills {
        if crew.lives == LIVES {
            break;
        }
        pause_us(random.below(2_000));
        // Now and then somebody is stopped while another one dies.
        let stopped = (random.below(8) == 0).then(|| {
            let side = if random.below(2) == 0 {
                &crew.senders
            } else {
                &crew.receivers
            };
            let child = &side[random.below(side.len() as u64) as usize];
            child.signal(libc::SIGSTOP);
            sums.stops += 1;
            pause_us(random.below(500));
            child.pid()
        });
        let is_sender = random.below(2) == 0;
        let side = if is_sender {
            &mut crew.senders
        } else {
            &mut crew.receivers
        };
        let victim = side.swap_remove(random.below(side.len() as u64) as usize);
        let was_stopped = stopped == Some(victim.pid());
        // Before it dies: what is handed out from here on may have been its.
        killed_receivers += u64::from(!is_sender);
        account.killed.fetch_add(u32::from(!is_sender), SeqCst);
        victim.kill();
        sums.kills += 1;
        if let Some(pid) = stopped.filter(|_| !was_stopped) {
            let all = crew.senders.iter().chain(&crew.receivers);
            all.filter(|child| child.pid() == pid)
                .for_each(|child| child.signal(libc::SIGCONT));
        }
        if W::ALONE {
            replace(&mut crew, is_sender, random);
        }
        // How long until every slot that the dead can have held has been gone through.
        let lap = crew.wire.capacity() as u64 + 1;
        let (before, died) = (account.received.load(SeqCst), monotonic());
        // Senders that have used up their numbers send no more.
        let used_up = |life| account.sent(life) + IN_HAND_MAX >= NUMBERS as u64;
        while account.received.load(SeqCst) < before + lap {
            let exhausted = (0..crew.lives).any(used_up);
            if exhausted || monotonic() - died > HUNG {
                if !exhausted {
                    sums.hangs += 1;
                    for child in crew.senders.iter().chain(&crew.receivers) {
                        println!("nobody received: {}", child.whereabouts());
                    }
                    println!("{}", crew.wire.state());
                }
                break;
            }
            thread::yield_now();
        }
        sums.resumed.push(monotonic() - died);
        if !W::ALONE {
            replace(&mut crew, is_sender, random);
        }
    }
    account.stop.store(1, SeqCst);
    let Crew {
        senders, receivers, ..
    } = crew;
    let mut hung = all_end(&wire, "sender", senders);
    wire.close();
    hung += all_end(&wire, "receiver", receivers);
    // What the last receivers could not: nobody was killed since.
    if hung == 0 {
        let mut eye = Eye::new();
        while wire.recv(random, &mut eye) {}
    }
    sums.hangs += hung;
    let (sent, missing) = account.missing();
    sums.sent += sent;
    sums.received += account.received.load(SeqCst);
    let in_hand = missing.min(killed_receivers * W::IN_HAND);
    sums.with_their_receiver += in_hand;
    sums.lost += missing - in_hand;
    sums.doubled += account.doubled.load(SeqCst);
    sums.redelivered += account.redelivered.load(SeqCst);
    sums.miscounted += account.miscounted.load(SeqCst);
    sums.torn += account.torn.load(SeqCst);
    sums.disordered += account.disordered.load(SeqCst);
}

fn replace<W: Wire>(crew: &mut Crew<'_, W>, is_sender: bool, random: &mut Random) {
    if is_sender {
        crew.add_sender(random);
    } else {
        crew.add_receiver(random);
    }
}

/// Waits for children that must come to their end by themselves; how many did not, or not well.
fn all_end(wire: &impl Wire, role: &str, children: Vec<Child>) -> u64 {
    let began = monotonic();
    let mut hung = 0;
    for mut child in children {
        hung += loop {
            match child.ended() {
                Some(End::Exited(0)) => break 0,
                Some(_) => break 1,
                None if monotonic() - began > HUNG => {
                    println!("hung {role}: {}\n{}", child.whereabouts(), wire.state());
                    break 1;
                }
                None => thread::yield_now(),
            }
        };
    }
    hung
}

fn setting(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|value| {
        value.parse().unwrap_or_else(|_| {
            eprintln!("{name}={value} is no number");
            exit(2)
        })
    })
}

fn chaos_loses_nothing_and_hangs_nowhere() {
    let kills = setting("MULTI_CHAOS_KILLS");
    let minutes = setting("MULTI_CHAOS_MINUTES");
    let modes = std::env::var("MULTI_CHAOS_MODES").unwrap_or_default();
    let chosen: Vec<_> = wires::MODES
        .iter()
        .filter(|(name, _)| modes.is_empty() || modes.split(',').any(|mode| mode == *name))
        .collect();
    assert!(!chosen.is_empty(), "no such modes: {modes}");
    let limit = match (minutes, kills) {
        (Some(minutes), _) => Duration::from_secs(60 * minutes),
        (None, Some(_)) => Duration::MAX,
        (None, None) => Duration::from_secs(2),
    };
    let per_round = if limit < Duration::from_secs(60) {
        KILLS_PER_ROUND / 8
    } else {
        KILLS_PER_ROUND
    };
    let kills = kills.unwrap_or(u64::MAX);
    let mut random = Random::from_environment();
    let (mut sums, began) = (Sums::default(), monotonic());
    let mut turn = random.below(chosen.len() as u64) as usize;
    let mut by_mode = vec![0; chosen.len()];
    while sums.kills < kills && monotonic() - began < limit && sums.hangs == 0 {
        let which = turn % chosen.len();
        let (before, faults) = (sums.kills, sums.faults());
        let (name, round) = chosen[which];
        round(per_round.min(kills - before), &mut random, &mut sums);
        by_mode[which] += sums.kills - before;
        if sums.faults() > faults {
            println!("a fault in mode {name}: {sums}");
        }
        turn += 1;
        if stderr().is_terminal() {
            eprint!(
                "\r{} kills, {} faults, {name} \x1b[K",
                sums.kills,
                sums.faults()
            );
        }
    }
    if stderr().is_terminal() {
        eprintln!();
    }
    let by_mode = chosen.iter().zip(by_mode);
    let by_mode: Vec<_> = by_mode
        .map(|((name, _), kills)| format!("{name} {kills}"))
        .collect();
    println!("{}: {sums}", by_mode.join(", "));
    assert_eq!(sums.faults(), 0, "{sums}");
}
