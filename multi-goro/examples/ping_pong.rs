//! Exercise 9.5 of *The Go Programming Language*: two tasks send a value to and fro over two unbuffered channels. How many
//! round trips a second?
//!
//!     cargo run --release -p multi-goro --example ping_pong -- 500
//!
//! The argument is the time for each row, in milliseconds. Two green tasks on one worker switch in user space; a task with an OS
//! thread of its own has to be woken by the kernel.

#![expect(clippy::print_stdout, reason = "prints its result")]

use std::time::{Duration, Instant};

use multi_goro::{Group, Receiver, Result, Runtime, Sender, TaskOptions, chan};

fn main() -> Result {
    let time = match std::env::args().nth(1) {
        Some(text) => Duration::from_millis(text.parse()?),
        None => Duration::from_millis(200),
    };
    for workers in [1, 2] {
        let runtime = Runtime::builder().workers(workers).build()?;
        let rate = per_second(runtime.group(), runtime.group(), time)?;
        print(&format!("green, workers: {workers}"), rate);
    }
    print(
        "one on a thread",
        per_second(Group::new(), Group::locked(), time)?,
    );
    print(
        "both on threads",
        per_second(Group::locked(), Group::locked(), time)?,
    );
    Ok(())
}

/// Round trips a second between a task of each group.
fn per_second(mut a: Group, mut b: Group, time: Duration) -> Result<u64> {
    let (ping, pinged) = chan(0);
    let (pong, ponged) = chan(0);
    let to = b.spawner();
    let server = a.spawn_with(TaskOptions::new().name("server"), move || {
        // From inside a task, so that both begin on one worker.
        to.go_with(TaskOptions::new().name("echo"), move || {
            echo(&pinged, &pong)
        });
        serve(&ping, &ponged, time)
    });
    let trips = server.join()?;
    a.wait()?;
    b.wait()?;
    Ok(trips)
}

fn serve(ping: &Sender<u64>, pong: &Receiver<u64>, time: Duration) -> Result<u64> {
    let start = Instant::now();
    let mut trips = 0;
    while start.elapsed() < time {
        // The clock costs something too.
        for _ in 0..64 {
            ping.send(trips)?;
            trips = pong.recv()?;
        }
    }
    Ok((trips as f64 / start.elapsed().as_secs_f64()) as u64)
}

fn echo(ping: &Receiver<u64>, pong: &Sender<u64>) -> Result {
    for value in ping {
        pong.send(value + 1)?;
    }
    Ok(())
}

fn print(row: &str, rate: u64) {
    println!("{row:18} {rate:>10} round trips/s");
}
