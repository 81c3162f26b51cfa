//! A green task receives from another process: `multi_goro::blocking` makes the call on a thread of a pool while the task is parked, so
//! that its worker runs other tasks meanwhile. multi-chan itself knows no runtime.
//!
//! ```text
//! cargo run -p multi-bench --example green_wait
//! ```
#![expect(clippy::print_stdout, reason = "an example shows what it does")]
#![expect(
    unsafe_code,
    reason = "a group that forks is made by an unsafe constructor"
)]

use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use multi_core::Result;
use multi_goro::{Runtime, blocking, sleep};

fn main() -> Result {
    let (tx, rx) = multi_chan::channel::<u32>(4)?;
    // SAFETY: this program has one thread yet; the task uses a channel that is made to be used on both sides of a fork.
    let mut processes = unsafe { multi_proc::Group::new() };
    processes.go(move || {
        for number in 1..=3 {
            std::thread::sleep(Duration::from_millis(20));
            tx.send(number)?;
        }
        Ok(())
    });

    let runtime = Runtime::builder().workers(1).build()?;
    let mut tasks = runtime.group();
    let received = Arc::new(AtomicBool::new(false));
    let all = Arc::clone(&received);
    tasks.go(move || {
        // Ends when the process, the only sender, does.
        while let Ok(number) = blocking(|| rx.recv()) {
            println!("received {number}");
        }
        // Relaxed: a flag, nothing more.
        all.store(true, Relaxed);
        Ok(())
    });
    tasks.go(move || {
        let mut turns = 0;
        // Relaxed: as above.
        while !received.load(Relaxed) {
            sleep(Duration::from_millis(1));
            turns += 1;
        }
        println!("the only worker had {turns} turns for another task");
        Ok(())
    });
    tasks.wait()?;
    processes.wait()?;
    Ok(())
}
