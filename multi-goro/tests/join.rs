//! Fork-join: what `join` promises of results, panics, waiting and stealing.

#![expect(
    clippy::disallowed_types,
    reason = "counts across threads without the crate's help"
)]

mod common;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, mpsc};
use std::thread;
use std::time::Duration;

use common::watchdog;
use multi_goro::{Group, OsThread, Runtime, chan, join, sleep, yield_now};

fn runtime(workers: usize) -> Runtime {
    Runtime::builder()
        .workers(workers)
        .build()
        .expect("workers")
}

fn fib(n: u64) -> u64 {
    if n < 2 {
        return n;
    }
    let (a, b) = join(|| fib(n - 1), || fib(n - 2));
    a + b
}

fn text(panic: Box<dyn std::any::Any + Send>) -> String {
    match panic.downcast::<String>() {
        Ok(text) => *text,
        Err(panic) => (*panic.downcast::<&str>().expect("a text")).to_owned(),
    }
}

/// Says when it is dropped.
struct Counted(Arc<AtomicUsize>);

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.fetch_add(1, SeqCst);
    }
}

/// `join(a, b)` whose `b` is taken by another worker before `a` goes on: `a` keeps its worker from running anything until then.
fn join_stolen<RA: Send, RB: Send>(
    a: impl FnOnce() -> RA + Send,
    b: impl FnOnce() -> RB + Send,
) -> (RA, RB) {
    let (tell, told) = mpsc::channel();
    join(
        move || {
            told.recv().expect("b begins while a waits");
            a()
        },
        move || {
            tell.send(()).expect("a waits for it");
            b()
        },
    )
}

#[test]
fn results_are_right_however_many_workers() {
    let _dog = watchdog(60);
    for workers in [1, 2, 3, 8] {
        let runtime = runtime(workers);
        assert_eq!(runtime.run(|| fib(20)), 6765, "{workers} workers");
        assert_eq!(runtime.num_tasks(), 0);
    }
}

#[test]
fn halves_of_a_borrowed_slice_are_changed_in_place() {
    fn double(numbers: &mut [u64]) {
        if let [one] = numbers {
            *one *= 2;
        } else if !numbers.is_empty() {
            let (left, right) = numbers.split_at_mut(numbers.len() / 2);
            join(|| double(left), || double(right));
        }
    }
    let _dog = watchdog(30);
    let mut numbers: Vec<u64> = (0..10_000).collect();
    runtime(2).run(|| double(&mut numbers));
    assert!(numbers.iter().enumerate().all(|(n, v)| *v == 2 * n as u64));
}

#[test]
fn another_worker_takes_the_second_half_while_the_first_runs() {
    let _dog = watchdog(30);
    let runtime = runtime(2);
    for _ in 0..100 {
        let here = || thread::current().id();
        let (a, b) = runtime.run(|| join_stolen(here, here));
        assert_ne!(a, b);
    }
    assert_eq!(runtime.num_tasks(), 0);
}

#[test]
fn offer_is_found_after_many_that_were_not_worth_it() {
    let _dog = watchdog(60);
    let runtime = runtime(2);
    runtime.run(|| {
        for _ in 0..200_000 {
            join(|| (), || ());
        }
        join_stolen(|| (), || ());
    });
}

#[test]
fn idle_worker_runs_the_second_half_while_the_first_is_parked() {
    let _dog = watchdog(30);
    for workers in [1, 2] {
        let (tx, rx) = chan(0);
        let got = runtime(workers).run(|| join(|| rx.recv(), || tx.send(42)));
        assert_eq!(got, (Ok(42), Ok(())));
    }
}

#[test]
fn halves_may_park() {
    fn work(n: u64) -> u64 {
        if n < 2 {
            if n == 0 {
                sleep(Duration::from_micros(50));
            } else {
                yield_now();
            }
            return n;
        }
        let (a, b) = join(|| work(n - 1), || work(n - 2));
        a + b
    }
    let _dog = watchdog(60);
    for workers in [1, 2, 4] {
        assert_eq!(runtime(workers).run(|| work(13)), 233);
    }
}

#[test]
fn joins_of_several_tasks_of_one_worker_end_in_any_order() {
    let _dog = watchdog(30);
    let runtime = runtime(1);
    let mut group = runtime.group();
    let (tx, rx) = chan::<usize>(100);
    let mut gates = Vec::new();
    for n in 0..20 {
        let (open, gate) = chan::<()>(1);
        gates.push(open);
        let tx = tx.clone();
        group.go(move || {
            let (a, b) = join(
                || {
                    // Everybody has made its offer before the first takes it back.
                    gate.recv()?;
                    tx.send(n)
                        .map_err(|_| multi_goro::BoxError::from("nobody listens"))
                },
                || fib(8),
            );
            a?;
            assert_eq!(b, 21);
            Ok(())
        });
    }
    sleep(Duration::from_millis(20));
    let order: Vec<usize> = (0..20).map(|n| n * 7 % 20).collect();
    for n in &order {
        gates[*n].send(()).expect("the task waits");
        assert_eq!(rx.recv(), Ok(*n));
    }
    group.wait().expect("all end well");
}

#[test]
fn hundred_thousand_joins_of_several_tasks() {
    let _dog = watchdog(120);
    let runtime = runtime(3);
    let mut group = runtime.group();
    let total = Arc::new(AtomicUsize::new(0));
    for task in 0..10 {
        let total = Arc::clone(&total);
        group.go(move || {
            for n in 0..10_000usize {
                let (a, b) = join(
                    || {
                        if (n + task) % 64 == 0 {
                            yield_now();
                        }
                        n
                    },
                    || join(|| n, || 1),
                );
                assert_eq!((a, b), (n, (n, 1)));
                total.fetch_add(1, SeqCst);
            }
            Ok(())
        });
    }
    group.wait().expect("all end well");
    assert_eq!(total.load(SeqCst), 100_000);
    assert_eq!(runtime.num_tasks(), 0);
}

#[test]
fn panic_of_the_first_half_drops_or_awaits_the_second() {
    let _dog = watchdog(30);
    // One worker, and the first half never parks: nobody takes the second.
    let drops = Arc::new(AtomicUsize::new(0));
    let held = Counted(Arc::clone(&drops));
    let ran = AtomicUsize::new(0);
    let panic = catch_unwind(AssertUnwindSafe(|| {
        runtime(1).run(|| {
            join(
                || panic!("of a"),
                || {
                    let _held = held;
                    ran.fetch_add(1, SeqCst);
                },
            )
        })
    }));
    assert_eq!(text(panic.map(|_| ()).expect_err("it panics")), "of a");
    assert_eq!((ran.load(SeqCst), drops.load(SeqCst)), (0, 1));

    let drops = Arc::new(AtomicUsize::new(0));
    let held = Counted(Arc::clone(&drops));
    let panic = catch_unwind(AssertUnwindSafe(|| {
        runtime(2).run(|| {
            join_stolen(
                || panic!("of a"),
                || {
                    sleep(Duration::from_millis(20));
                    ran.fetch_add(1, SeqCst);
                    held
                },
            )
        })
    }));
    assert_eq!(text(panic.map(|_| ()).expect_err("it panics")), "of a");
    assert_eq!((ran.load(SeqCst), drops.load(SeqCst)), (1, 1));
}

#[test]
fn panic_of_the_second_half_drops_what_the_first_returned() {
    let _dog = watchdog(30);
    for workers in [1, 2] {
        let drops = Arc::new(AtomicUsize::new(0));
        let a = || Counted(Arc::clone(&drops));
        let panic = catch_unwind(AssertUnwindSafe(|| {
            runtime(workers).run(|| match workers {
                1 => join(a, || panic!("of b")),
                _ => join_stolen(a, || panic!("of b")),
            })
        }));
        let panic = panic.map(|_: (Counted, ())| ());
        assert_eq!(text(panic.expect_err("it panics")), "of b");
        assert_eq!(drops.load(SeqCst), 1);
    }
}

#[test]
fn panics_of_both_halves_give_the_first() {
    let _dog = watchdog(30);
    let panic = catch_unwind(|| {
        runtime(2).run(|| {
            join_stolen(
                || panic!("of a"),
                || {
                    sleep(Duration::from_millis(5));
                    panic!("of b")
                },
            )
        })
    });
    let panic = panic.map(|_: ((), ())| ());
    assert_eq!(text(panic.expect_err("it panics")), "of a");
}

#[test]
fn join_works_after_a_panic_in_a_nested_one() {
    let _dog = watchdog(30);
    let (caught, right) = runtime(2).run(|| {
        let deep = || join(|| join(|| 1, || panic!("deep")), || fib(10));
        let caught = catch_unwind(AssertUnwindSafe(|| {
            let ((_, ()), _): ((i32, ()), u64) = deep();
        }));
        (caught.is_err(), join(|| fib(10), || fib(11)))
    });
    assert!(caught);
    assert_eq!(right, (55, 89));
}

#[test]
fn join_in_a_destructor_of_a_panic_works() {
    struct Last(Arc<AtomicUsize>);
    impl Drop for Last {
        fn drop(&mut self) {
            let (a, b) = join_stolen(|| fib(5), || fib(6));
            self.0.store((a + b) as usize, SeqCst);
        }
    }
    let _dog = watchdog(30);
    let sum = Arc::new(AtomicUsize::new(0));
    let last = Last(Arc::clone(&sum));
    let panic = catch_unwind(AssertUnwindSafe(|| {
        runtime(2).run(|| {
            let _last = last;
            panic!("first");
        });
    }));
    assert_eq!(text(panic.expect_err("it panics")), "first");
    assert_eq!(sum.load(SeqCst), 13);
}

#[test]
fn more_offers_than_a_deque_holds_are_done_in_turn() {
    fn chain(n: u64) -> u64 {
        if n == 0 {
            return 0;
        }
        let (a, b) = join(|| chain(n - 1), || 1);
        a + b
    }
    let _dog = watchdog(30);
    for workers in [1, 2] {
        let runtime = Runtime::builder()
            .workers(workers)
            .stack_bytes(1 << 20)
            .build()
            .expect("workers");
        assert_eq!(runtime.run(|| chain(500)), 500);
    }
}

#[test]
fn call_of_a_plain_thread_moves_to_the_global_runtime() {
    let _dog = watchdog(30);
    let caller = thread::current().id();
    let (a, b) = join(|| thread::current().id(), || fib(15));
    assert_ne!(a, caller);
    assert_eq!(b, 610);
    let panic = catch_unwind(|| join(|| 1, || panic!("of b")));
    assert_eq!(
        text(panic.map(|_: (i32, ())| ()).expect_err("it panics")),
        "of b"
    );
    let mut group = Group::locked();
    group.go(|| {
        assert_eq!(join(|| fib(10), || fib(11)), (55, 89));
        Ok(())
    });
    group.wait().expect("a locked task may join");
}

#[test]
fn tasks_of_an_os_thread_stay_with_it() {
    let _dog = watchdog(30);
    let thread = OsThread::spawn("joiner").expect("a thread");
    let here = || thread::current().id();
    let (a, b) = thread.run(|| join(|| (here(), fib(10)), here));
    assert_eq!(a, (b, 55));
}

#[test]
fn stolen_half_runs_in_the_group_of_the_caller() {
    let _dog = watchdog(30);
    let runtime = runtime(2);
    let mut group = Group::builder()
        .runtime(&runtime)
        .limit(1)
        .build()
        .expect("a group");
    let spawner = group.spawner();
    group.go(move || {
        // A task of a full group that starts another must not wait for itself: the stolen half counts as that task, too.
        join_stolen(|| (), || spawner.go(|| Ok(())));
        Ok(())
    });
    group.wait().expect("both end");
}

/// A stolen half has the stack of the task that offered it, not the runtime's default: it must not matter who was idle.
#[test]
fn stolen_half_has_as_large_a_stack_as_its_task() {
    #[inline(never)]
    fn fill(depth: usize) -> usize {
        let frame = std::hint::black_box([1u8; 4096]);
        if depth == 0 {
            return usize::from(frame[7]);
        }
        fill(depth - 1) + usize::from(frame[depth])
    }
    let _dog = watchdog(60);
    let runtime = runtime(2);
    let mut group = Group::builder()
        .runtime(&runtime)
        .stack_bytes(1 << 20)
        .build()
        .expect("a group");
    let depth = group.spawn(|| Ok(join_stolen(|| 0, || fill(60)).1));
    assert_eq!(depth.join().expect("no failure"), 61);
    group.wait().expect("no failure");
}
