//! What is a task's own: `task_local!` and `no_switch`. What happens without them is in `solo.rs`, since it must fail.

#![expect(clippy::disallowed_types, reason = "a test sees what a user sees")]

mod common;

use std::cell::{Cell, RefCell};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::*};
use std::thread;
use std::time::Duration;

use common::watchdog;
use multi_goro::{Group, Runtime, chan, no_switch, sleep, task_local, yield_now};

fn one_worker() -> Runtime {
    Runtime::builder().workers(1).build().unwrap()
}

thread_local! { static CURRENT: Cell<u32> = const { Cell::new(0) } }

/// As the scoped thread-local crates do it: saves, sets, calls back, restores.
fn with_current<R>(value: u32, f: impl FnOnce() -> R) -> R {
    let before = CURRENT.replace(value);
    let result = f();
    CURRENT.set(before);
    result
}

/// Two tasks of one worker, each in a scope of its own that yields: what each sees, and what is left on the thread.
fn two_scopes(scope: fn(u32) -> u32, left: fn() -> u32) -> (Vec<u32>, u32) {
    let runtime = one_worker();
    let mut group = runtime.group();
    let seen: Vec<_> = (1..=2).map(|n| group.spawn(move || Ok(scope(n)))).collect();
    let seen = seen.into_iter().map(|n| n.join().unwrap()).collect();
    group.wait().unwrap();
    (seen, runtime.run(left))
}

#[test]
fn scoped_thread_local_is_right_with_no_switch() {
    let _dog = watchdog(60);
    let scope = |n| {
        no_switch(|| {
            with_current(n, || {
                yield_now();
                sleep(Duration::from_millis(1));
                CURRENT.get()
            })
        })
    };
    assert_eq!(two_scopes(scope, || CURRENT.get()), (vec![1, 2], 0));
}

task_local! {
    static OWN: u32 = 0;
    static COUNT: Cell<u32> = Cell::new(0);
    static LIST: RefCell<Vec<u32>> = RefCell::default();
}

#[test]
fn scope_of_a_task_local_is_right_while_it_switches() {
    let _dog = watchdog(60);
    let scope = |n| {
        OWN.scope(n, || {
            yield_now();
            sleep(Duration::from_millis(1));
            OWN.with(|own| *own)
        })
    };
    assert_eq!(two_scopes(scope, || OWN.with(|own| *own)), (vec![1, 2], 0));
}

#[test]
fn values_are_each_tasks_own_and_are_made_on_first_use() {
    let _dog = watchdog(60);
    let runtime = Runtime::builder().workers(2).build().unwrap();
    let mut group = runtime.group();
    for n in 0..1_000 {
        group.go(move || {
            assert_eq!(COUNT.get(), 0);
            for round in 0..3 {
                COUNT.set(COUNT.get() + n);
                LIST.with_borrow_mut(|list| list.push(n));
                yield_now();
                assert_eq!(COUNT.get(), n * (round + 1));
            }
            LIST.with_borrow(|list| assert_eq!(list, &[n; 3]));
            Ok(())
        });
    }
    group.wait().unwrap();
    assert_eq!(COUNT.get(), 0, "a plain thread has its own");
    COUNT.set(7);
    assert_eq!(thread::spawn(|| COUNT.get()).join().unwrap(), 0);
    assert_eq!(COUNT.get(), 7);
}

static DROPS: AtomicUsize = AtomicUsize::new(0);

struct Counts;

impl Drop for Counts {
    fn drop(&mut self) {
        // Anything goes in a destructor: another value, a wait.
        COUNT.set(1);
        yield_now();
        DROPS.fetch_add(1, SeqCst);
    }
}

task_local! { static COUNTS: Counts = Counts }

#[test]
fn values_are_dropped_before_the_group_knows_that_the_task_has_ended() {
    let _dog = watchdog(60);
    let mut group = Group::new();
    for _ in 0..10 {
        group.go(|| {
            COUNTS.with(|_| ());
            Ok(())
        });
    }
    group.wait().unwrap();
    assert_eq!(DROPS.load(SeqCst), 10);
}

struct Bomb(Arc<AtomicUsize>);

impl Drop for Bomb {
    fn drop(&mut self) {
        self.0.fetch_add(1, SeqCst);
        panic!("a destructor's panic (expected by this test)");
    }
}

task_local! { static BOMB: RefCell<Option<Bomb>> = RefCell::default() }

#[test]
fn destructor_that_panics_harms_nobody_else() {
    let _dog = watchdog(60);
    let count = Arc::new(AtomicUsize::new(0));
    let bomb = Bomb(Arc::clone(&count));
    let runtime = one_worker();
    let mut group = runtime.group();
    group.go(|| {
        BOMB.with_borrow_mut(|place| *place = Some(bomb));
        Ok(())
    });
    group.go(|| Ok(()));
    group.wait().unwrap();
    assert_eq!(count.load(SeqCst), 1);
    assert_eq!(runtime.run(|| 7), 7);
}

task_local! { static DEEP: u32 = 1 + if COUNT.get() < 3 { COUNT.set(COUNT.get() + 1); DEEP.with(|deep| *deep) } else { 0 } }

#[test]
fn initialiser_may_use_its_own_value_and_wait() {
    let _dog = watchdog(60);
    thread::spawn(|| assert_eq!(DEEP.with(|deep| *deep), 1))
        .join()
        .unwrap();
    one_worker().run(|| {
        assert_eq!(DEEP.with(|deep| *deep), 1, "the innermost came first");
        assert_eq!(COUNT.get(), 3);
    });
}

#[test]
fn scopes_nest_and_end_with_a_panic() {
    let _dog = watchdog(60);
    let check = || {
        OWN.scope(1, || {
            let panic = catch_unwind(|| OWN.scope(2, || panic!("inside {}", OWN.with(|n| *n))));
            let text = panic.unwrap_err();
            assert_eq!(text.downcast_ref::<String>().unwrap(), "inside 2");
            assert_eq!(OWN.with(|n| *n), 1);
        });
        assert_eq!(OWN.with(|n| *n), 0);
    };
    check();
    one_worker().run(check);
}

#[test]
fn wait_in_no_switch_blocks_the_thread_and_ends() {
    let _dog = watchdog(60);
    let runtime = one_worker();
    let (tx, rx) = chan(0);
    let sender = thread::spawn(move || {
        sleep(Duration::from_millis(20));
        tx.send(7)
    });
    let turns = Arc::new(AtomicUsize::new(0));
    let mut group = runtime.group();
    let stop = Arc::new(AtomicUsize::new(0));
    let (counted, ended) = (Arc::clone(&turns), Arc::clone(&stop));
    group.go(move || {
        while ended.load(SeqCst) == 0 {
            counted.fetch_add(1, SeqCst);
            yield_now();
        }
        Ok(())
    });
    group.go(move || {
        yield_now();
        no_switch(|| {
            let before = turns.load(SeqCst);
            no_switch(yield_now);
            yield_now();
            assert_eq!(rx.recv(), Ok(7));
            assert!(rx.recv_timeout(Duration::from_millis(1)).is_err());
            assert_eq!(
                multi_goro::blocking(|| turns.load(SeqCst)),
                before,
                "nobody else ran"
            );
        });
        let before = turns.load(SeqCst);
        yield_now();
        assert!(turns.load(SeqCst) > before, "others run again");
        stop.store(1, SeqCst);
        Ok(())
    });
    group.wait().unwrap();
    sender.join().unwrap().unwrap();
}

#[test]
fn no_switch_ends_with_a_panic() {
    let _dog = watchdog(60);
    one_worker().run(|| {
        let panic = catch_unwind(AssertUnwindSafe(|| no_switch(|| panic!("inside"))));
        assert!(panic.is_err());
        let mut group = Group::new();
        group.go(|| Ok(()));
        group.wait().unwrap();
    });
}
