//! A main thread that has an event loop of its own, as a window system's, and tasks that may only run there: the loop waits for its
//! events and for the tasks' descriptor at once.
//!
//!     cargo run -p multi-goro --example main_loop

#![expect(clippy::print_stdout, reason = "prints its result")]
#![expect(unsafe_code, reason = "poll(2), in the place of a window system")]

use std::cell::Cell;
use std::os::fd::AsRawFd;
use std::time::{Duration, Instant};

use multi_goro::{Group, Result, ThreadLoop, sleep};

/// Time between two frames of the imagined window.
const FRAME: Duration = Duration::from_millis(5);
/// What tasks may take of it before the loop wants its thread back.
const SHARE: Duration = Duration::from_millis(2);

thread_local! {
    /// The window: only the main thread has it.
    static DRAWN: Cell<u32> = const { Cell::new(0) };
}

fn draw(shapes: u32) -> u32 {
    DRAWN.set(DRAWN.get() + shapes);
    DRAWN.get()
}

fn main() -> Result {
    let mut tasks = ThreadLoop::new()?;
    let window = tasks.thread();

    // The program: ordinary tasks compute, and ask for the window where they need it.
    let mut program = Group::new();
    for n in 1..=4 {
        let window = window.clone();
        program.go(move || {
            let shapes = (1..=n).product();
            sleep(Duration::from_millis(2 * u64::from(n)));
            let total = window.run(|| draw(shapes));
            assert!(total >= shapes);
            Ok(())
        });
    }
    // A task of the window's own: it may hold on to what only the main thread has.
    let mut bound = window.group();
    bound.go(|| {
        for _ in 0..3 {
            sleep(Duration::from_millis(3));
            draw(1);
        }
        Ok(())
    });
    // Work for when nothing else is to be done there.
    let mut background = window.background().group();
    background.go(|| {
        for _ in 0..100 {
            multi_goro::yield_now();
        }
        draw(100);
        Ok(())
    });

    let (mut frames, mut calls) = (0, 0);
    let mut next_frame = Instant::now() + FRAME;
    while DRAWN.get() < 1 + 2 + 6 + 24 + 3 + 100 {
        if wait_for(&tasks, next_frame) {
            calls += 1;
            tasks.run_for(SHARE);
        }
        if Instant::now() >= next_frame {
            frames += 1;
            next_frame += FRAME;
        }
    }
    drop(tasks);
    program.wait()?;
    bound.wait()?;
    background.wait()?;
    println!(
        "{} shapes drawn in {frames} frames; the tasks were called {calls} times",
        DRAWN.get()
    );
    Ok(())
}

/// Waits for the tasks' descriptor, at most until the next frame. Returns whether the tasks have something to run.
fn wait_for(tasks: &ThreadLoop, until: Instant) -> bool {
    let left = until.saturating_duration_since(Instant::now());
    let mut entry = libc::pollfd {
        fd: tasks.as_raw_fd(),
        events: libc::POLLIN,
        revents: 0,
    };
    let milliseconds = left.as_millis().try_into().unwrap_or(i32::MAX);
    // SAFETY: one entry, alive for the call.
    let count = unsafe { libc::poll(&raw mut entry, 1, milliseconds) };
    count > 0
}
