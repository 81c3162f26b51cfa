//! Exercise 9.6 of *The Go Programming Language*: a program that computes, on 1, 2, 4 and 8 workers. Where is the optimum, and
//! how many processors are there?
//!
//!     cargo run --release -p multi-goro --example workers_sweep -- 800
//!
//! It paints the Mandelbrot set, a square of that many points a side, one task for each line.

#![expect(clippy::print_stdout, reason = "prints its result")]

use std::time::{Duration, Instant};

use multi_goro::{Result, Runtime, TaskError};

fn main() -> Result {
    let side = match std::env::args().nth(1) {
        Some(text) => text.parse()?,
        None => 200,
    };
    let processors = std::thread::available_parallelism()?;
    println!("{side} tasks, {processors} processors");
    let mut alone = None;
    for workers in [1, 2, 4, 8] {
        let runtime = Runtime::builder().workers(workers).build()?;
        let (inside, time) = paint(&runtime, side)?;
        let (expected, one) = *alone.get_or_insert((inside, time));
        assert_eq!(
            inside, expected,
            "the picture does not depend on the workers"
        );
        let speedup = one.as_secs_f64() / time.as_secs_f64();
        println!("workers: {workers}  {time:>10.2?}  {speedup:.2} times as fast as one");
    }
    Ok(())
}

/// How many points belong to the set, and how long it took to find out.
fn paint(runtime: &Runtime, side: u32) -> Result<(u64, Duration)> {
    let start = Instant::now();
    let inside = runtime.run(|| -> Result<u64, TaskError> {
        let group = runtime.group();
        let lines: Vec<_> = (0..side)
            .map(|y| group.spawn(move || Ok(line(y, side))))
            .collect();
        lines.into_iter().map(|line| line.join()).sum()
    })?;
    Ok((inside, start.elapsed()))
}

fn line(y: u32, side: u32) -> u64 {
    let scale = |n: u32| f64::from(n) * 3.0 / f64::from(side);
    let is_inside = |x: &u32| never_escapes(scale(*x) - 2.0, scale(y) - 1.5);
    (0..side).filter(is_inside).count() as u64
}

fn never_escapes(re: f64, im: f64) -> bool {
    let (mut x, mut y) = (0.0, 0.0);
    for _ in 0..200 {
        if x * x + y * y > 4.0 {
            return false;
        }
        (x, y) = (x * x - y * y + re, 2.0 * x * y + im);
    }
    true
}
