//! Workers with a memory limit each: text that was packed is unpacked, and one of the packets would fill the machine.
//!
//! `cargo run -p multi-proc --example memory_limit`

#![expect(clippy::print_stdout, reason = "an example speaks to its reader")]
#![expect(
    unsafe_code,
    reason = "a group that forks is made by an unsafe constructor"
)]

use multi_proc::{Group, Limits, Output, Result, TaskErrorKind};

/// Unpacks letters with a count before each, `3a2b` as `aaabb`, and returns how many there are. It believes the counts.
fn unpack(packet: &str) -> Result<u64> {
    let (mut text, mut count) = (Vec::new(), 0_usize);
    for byte in packet.bytes() {
        if byte.is_ascii_digit() {
            count = 10 * count + usize::from(byte - b'0');
        } else {
            text.resize(text.len() + count, byte);
            count = 0;
        }
    }
    Ok(text.len() as u64)
}

fn main() -> Result {
    // SAFETY: this program has one thread.
    let mut group = unsafe { Group::new() };
    let worker = group
        .task()
        .limits(Limits::new().memory_bytes_max(64 << 20))
        // What it says last when there is no memory; the error has it, too.
        .stderr(Output::null());
    let packets = [
        ("short", "3a2b"),
        ("long", "9000000a9000000b"),
        ("bomb", "9a8000000000b"),
    ];
    let lengths = packets.map(|(name, packet)| {
        let length = worker.clone().name(name);
        (name, length.spawn_measured(move || unpack(packet)))
    });
    for (name, length) in lengths {
        match length.join() {
            Ok(length) => println!(
                "{name}: {} letters, {} MiB at most",
                length.value,
                length.usage.peak_bytes >> 20
            ),
            Err(error) => match error.kind() {
                TaskErrorKind::LimitExceeded(limit) => println!("{name}: {limit}"),
                _ => println!("{name}: {error}"),
            },
        }
    }
    // Each failure has been told.
    let _told = group.wait();
    Ok(())
}
