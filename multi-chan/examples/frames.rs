//! Frames of 1 MiB from one process to another without a copy: written where they are read.
//!
//! `cargo run --release -p multi-chan --example frames -- 2000`

#![expect(unsafe_code, reason = "forks by hand, to need no other crate")]
#![expect(clippy::print_stdout, reason = "an example shows its result")]

use multi_chan::{Builder, BytesReceiver, BytesSender};
use std::env;
use std::io;
use std::time::Instant;

const FRAME: usize = 1 << 20;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let count = env::args()
        .nth(1)
        .and_then(|arg| arg.parse().ok())
        .unwrap_or(200);
    // Room for four frames: the camera is at most so far ahead.
    let (tx, rx) = Builder::new()
        .capacity(4)
        .arena_bytes(4 * FRAME)
        .build_bytes()?;
    // SAFETY: this program has one thread, so the child inherits no lock that is held.
    match unsafe { libc::fork() } {
        -1 => return Err(io::Error::last_os_error().into()),
        0 => {
            let filmed = film(&tx, count);
            // SAFETY: takes a number; the child leaves without the parent's destructors.
            unsafe { libc::_exit(i32::from(filmed.is_err())) }
        }
        _ => drop(tx),
    }
    let began = Instant::now();
    let (seen, spoilt) = watch(&rx);
    let seconds = began.elapsed().as_secs_f64();
    println!(
        "{seen} frames of 1 MiB, {spoilt} spoilt, {:.1} GB/s",
        (seen * FRAME) as f64 / seconds / 1e9
    );
    // SAFETY: a null status is allowed; the child is ours.
    while unsafe { libc::wait(std::ptr::null_mut()) } > 0 {}
    if seen == count && spoilt == 0 {
        Ok(())
    } else {
        Err("frames were lost or spoilt".into())
    }
}

/// Draws frames straight into the channel, each with the sum of its pixels in front.
fn film(tx: &BytesSender, count: usize) -> Result<(), multi_chan::SendMessageError> {
    for number in 0..count {
        let mut frame = tx.reserve(FRAME)?;
        let (front, pixels) = frame.split_at_mut(8);
        for (place, pixel) in pixels
            .as_chunks_mut::<8>()
            .0
            .iter_mut()
            .zip(number as u64..)
        {
            *place = pixel.to_le_bytes();
        }
        front.copy_from_slice(&sum(pixels).to_le_bytes());
        frame.commit()?;
    }
    Ok(())
}

/// Looks at the frames where they lie; returns how many there were and how many were not whole.
fn watch(rx: &BytesReceiver) -> (usize, usize) {
    let (mut seen, mut spoilt) = (0, 0);
    while let Ok(frame) = rx.recv_ref() {
        let (front, pixels) = frame.split_at(8);
        seen += 1;
        spoilt += usize::from(front != sum(pixels).to_le_bytes());
    }
    (seen, spoilt)
}

fn sum(pixels: &[u8]) -> u64 {
    let words = pixels.as_chunks::<8>().0.iter();
    words.fold(0, |sum, word| sum.wrapping_add(u64::from_le_bytes(*word)))
}
