//! Every way for a process to end, by its right name, and what the tasks used.
//!
//! `cargo run -p multi-proc --example failures`

#![expect(clippy::print_stdout, reason = "an example speaks to its reader")]
#![expect(
    unsafe_code,
    reason = "a group that forks is made by an unsafe constructor"
)]

use multi_proc::{Group, Result, TaskOptions};
use std::time::Duration;

fn main() -> Result {
    let builder = Group::builder()
        .name("misfortunes")
        .grace(Duration::from_millis(100));
    // SAFETY: this program has one thread.
    let mut group = unsafe { builder.fork() }?;
    let task = |name: &str| TaskOptions::new().name(name);
    group.go_with(task("fine"), || Ok(()));
    group.go_with(task("reads"), || {
        std::fs::read("/no/such/file")?;
        Ok(())
    });
    group.go_with(task("panics"), || panic!("out of range"));
    group.go_with(task("exits"), || std::process::exit(7));
    group.go_with(task("aborts"), || std::process::abort());
    group.go_with(task("hangs").timeout(Duration::from_millis(200)), || {
        std::thread::sleep(Duration::from_secs(3600));
        Ok(())
    });
    let answer = group.spawn_with(task("computes"), || Ok((1..=20_u64).product::<u64>()));
    println!("a value came home: {}", answer.join()?);
    if let Err(error) = group.wait() {
        println!("{error}");
    }
    println!("{:?}", group.usage());
    Ok(())
}
