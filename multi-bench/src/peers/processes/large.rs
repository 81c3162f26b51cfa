//! A large argument and a value as large: written, read in the worker, the value written there and read here.

use std::hint::black_box;
use std::time::Instant;

use multi_proc::{SharedBuffer, SharedBufferMut};

use crate::Result;
use crate::forked;
use crate::job::{Job, Lap, Work};

/// In shared buffers, which nobody copies.
pub(super) fn shared(job: &Job) -> Result<Work> {
    let pool = forked::pool(1)?;
    let answer = |text: SharedBuffer| {
        read(&text);
        let mut value = SharedBufferMut::new(text.len())?;
        value.fill(b'v');
        Ok(value.freeze())
    };
    exchange(job, move |bytes| {
        let mut text = pool.buffer(bytes)?;
        text.fill(b'a');
        read(&pool.call(answer, text.freeze())?);
        Ok(())
    })
}

/// As any argument and value, which are encoded, copied out and decoded.
pub(super) fn copied(job: &Job) -> Result<Work> {
    let pool = forked::pool(1)?;
    let answer = |text: String| {
        read(text.as_bytes());
        Ok("v".repeat(text.len()))
    };
    exchange(job, move |bytes| {
        read(pool.call(answer, "a".repeat(bytes))?.as_bytes());
        Ok(())
    })
}

/// The same work without another process.
pub(super) fn alone(job: &Job) -> Result<Work> {
    let bytes = job.count("bytes")?;
    let (mut text, mut value) = (vec![0; bytes], vec![0; bytes]);
    exchange(job, move |_| {
        black_box(&mut text).fill(b'a');
        read(&text);
        black_box(&mut value).fill(b'v');
        read(&value);
        Ok(())
    })
}

/// Looks at every byte.
fn read(bytes: &[u8]) {
    black_box(bytes.iter().map(|byte| u64::from(*byte)).sum::<u64>());
}

fn exchange(job: &Job, mut once: impl FnMut(usize) -> Result + 'static) -> Result<Work> {
    let bytes = job.count("bytes")?;
    // The first one touches the pages.
    once(bytes)?;
    Ok(Work::lap(move |operations| {
        let started = Instant::now();
        for _ in 0..operations {
            once(bytes)?;
        }
        Ok(Lap {
            operations,
            took: started.elapsed(),
        })
    }))
}
