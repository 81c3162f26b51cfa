//! One thread that all calls have to come from, two ways: a locked task that is sent closures (what one writes in Go), and an OS
//! thread that tasks are bound to. Prints what a request costs, each way, in the same run.
//!
//!     cargo run --release -p multi-goro --example syscall_server [REQUESTS]

#![expect(clippy::print_stdout, reason = "prints its result")]

use std::time::{Duration, Instant};

use multi_goro::{Group, OsThread, Receiver, Result, Sender, chan};

/// Measurements of each kind, taken in turns.
const ROUNDS: usize = 5;

/// What the server is sent: a call, which answers by itself.
type Call = Box<dyn FnOnce() + Send>;

/// A way to ask, in words; the times taken; and how to take one.
type Way<'a> = (&'a str, Vec<Duration>, Box<dyn FnMut() -> Duration + 'a>);

/// What only one thread may touch.
fn library_call(n: u64) -> u64 {
    std::hint::black_box(n + 1)
}

fn main() -> Result {
    let requests = match std::env::args().nth(1) {
        Some(number) => number.parse()?,
        None => 10_000,
    };
    let mut group = Group::new();

    // A locked task that runs what it is sent.
    let (to_locked, calls) = chan::<Call>(0);
    group.go_locked(move || {
        calls.iter().for_each(|call| call());
        Ok(())
    });

    // An OS thread, with a server of its own kind bound to it.
    let thread = OsThread::spawn("library")?;
    let (to_bound, questions) = chan::<u64>(0);
    let (answers, from_bound) = chan::<u64>(0);
    let mut bound = thread.group();
    bound.go(move || serve(&questions, &answers));

    let mut ways: [Way<'_>; 4] = [
        (
            "a closure sent to a locked task, from a green task",
            vec![],
            Box::new(|| in_a_task(|| ask_locked(requests, &to_locked))),
        ),
        (
            "OsThread::run, from a green task",
            vec![],
            Box::new(|| in_a_task(|| timed(requests, |n| thread.run(|| library_call(n))))),
        ),
        (
            "a question to a server bound to the same thread",
            vec![],
            Box::new(|| {
                let there = to_bound.lock_to_receiver(|| {
                    timed(requests, |n| {
                        to_bound.send(n).expect("the server is there");
                        from_bound.recv().expect("the server is there")
                    })
                });
                there.expect("the server is bound")
            }),
        ),
        (
            "OsThread::run, from a task bound to it",
            vec![],
            Box::new(|| thread.run(|| timed(requests, |n| thread.run(|| library_call(n))))),
        ),
    ];
    for _ in 0..ROUNDS {
        for (_, times, way) in &mut ways {
            times.push(way());
        }
    }
    println!("ns per request, median (least .. most) of {ROUNDS} rounds of {requests}:");
    for (what, times, _) in &mut ways {
        times.sort_unstable();
        let each = |time: Duration| time.as_secs_f64() * 1e9 / f64::from(requests);
        let (least, median, most) = (times[0], times[ROUNDS / 2], times[ROUNDS - 1]);
        println!(
            "{:>9.1} ({:.1} .. {:.1})  {what}",
            each(median),
            each(least),
            each(most)
        );
    }
    drop(ways);
    drop((to_locked, to_bound));
    bound.wait()?;
    group.wait()?;
    Ok(())
}

fn serve(questions: &Receiver<u64>, answers: &Sender<u64>) -> Result {
    for question in questions {
        answers.send(library_call(question))?;
    }
    Ok(())
}

/// Runs `f` in a green task and waits for it.
fn in_a_task(f: impl FnOnce() -> Duration + Send) -> Duration {
    let mut time = Duration::ZERO;
    let outcome = multi_goro::scope(|s| {
        s.go(|| {
            time = f();
            Ok(())
        });
    });
    outcome.expect("measuring does not fail");
    time
}

/// How long it takes to have `ask` answer every number with the next one.
fn timed(requests: u32, mut ask: impl FnMut(u64) -> u64) -> Duration {
    let start = Instant::now();
    for n in 0..u64::from(requests) {
        assert_eq!(ask(n), n + 1);
    }
    start.elapsed()
}

fn ask_locked(requests: u32, server: &Sender<Call>) -> Duration {
    let (reply, answer) = chan(1);
    timed(requests, |n| {
        let reply = reply.clone();
        let call = Box::new(move || reply.send(library_call(n)).expect("somebody asked"));
        server.send(call).expect("the server is there");
        answer.recv().expect("the server is there")
    })
}
