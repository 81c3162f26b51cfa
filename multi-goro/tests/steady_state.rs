//! What a runtime that has warmed up asks of the allocator: nothing.

#![expect(unsafe_code, reason = "an allocator that counts")]
#![expect(clippy::disallowed_types, reason = "counts beside the crate")]

mod common;

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Mutex, PoisonError};

use multi_goro::{Group, Runtime, scope};

struct Counting;

static ALLOCATIONS: AtomicU64 = AtomicU64::new(0);

// SAFETY: passes everything on to the system's.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        // Relaxed: a count.
        ALLOCATIONS.fetch_add(1, Relaxed);
        // SAFETY: the caller's promise.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, place: *mut u8, layout: Layout) {
        // SAFETY: the caller's promise.
        unsafe { System.dealloc(place, layout) };
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// The count is the process's: one test at a time.
static TURN: Mutex<()> = Mutex::new(());

const TASKS: u64 = 1_000;
const ROUNDS: u64 = 100;

fn run(group: &mut Group, rounds: u64) {
    for _ in 0..rounds {
        for number in 0..TASKS {
            // A closure that captures something, as most do.
            group.go(move || {
                std::hint::black_box(number);
                Ok(())
            });
        }
        group.wait().expect("no task fails");
    }
}

fn allocations_of(work: impl FnOnce()) -> u64 {
    // Relaxed, both: everything counted has ended, as `wait` says.
    let before = ALLOCATIONS.load(Relaxed);
    work();
    ALLOCATIONS.load(Relaxed) - before
}

/// Queues and batches may still grow now and then, as luck has it: what is ruled out is an allocation per task, or per hundred.
fn is_steady(allocations: u64) -> bool {
    allocations < TASKS * ROUNDS / 200
}

#[test]
fn warm_runtime_starts_tasks_without_allocating() {
    let _turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    let _dog = common::watchdog(60);
    let runtime = Runtime::builder().workers(2).build().expect("a runtime");
    let mut group = runtime.group();
    run(&mut group, ROUNDS);
    let by_thread = allocations_of(|| run(&mut group, ROUNDS));
    assert!(is_steady(by_thread), "{by_thread} from a thread");
    let mut inner = runtime.group();
    let by_task = group.spawn(move || {
        run(&mut inner, ROUNDS);
        Ok(allocations_of(|| run(&mut inner, ROUNDS)))
    });
    let by_task = by_task.join().expect("a number");
    assert!(is_steady(by_task), "{by_task} from a task");
}

#[test]
fn warm_scopes_cost_an_allocation_for_each_closure() {
    let _turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    let _dog = common::watchdog(60);
    let runtime = Runtime::builder().workers(1).build().expect("a runtime");
    let allocations = runtime.run(|| {
        let run = || {
            for number in 0..TASKS {
                scope(|tasks| {
                    tasks.go(move || {
                        std::hint::black_box(number);
                        Ok(())
                    });
                })
                .expect("no task fails");
            }
        };
        run();
        allocations_of(run)
    });
    assert!(allocations < TASKS + TASKS / 10, "{allocations}");
}
