//! Tasks that borrow, limits met from inside tasks, and ends that panic.

#![expect(clippy::disallowed_types, reason = "a test sees what a user sees")]

mod common;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::*};
use std::thread;
use std::time::Duration;

use common::watchdog;
use multi_goro::{Group, Runtime, TaskOptions, scope, sleep, yield_now};

#[test]
fn scope_waits_for_its_tasks_even_when_it_panics() {
    let _dog = watchdog(60);
    let ended = AtomicUsize::new(0);
    let panic = catch_unwind(AssertUnwindSafe(|| {
        scope(|s| {
            for _ in 0..10 {
                s.go(|| {
                    sleep(Duration::from_millis(5));
                    ended.fetch_add(1, Relaxed);
                    Ok(())
                });
            }
            panic!("on purpose: in the scope");
        })
    }));
    assert!(panic.is_err());
    assert_eq!(ended.load(Relaxed), 10);
}

#[test]
fn error_that_panics_when_dropped_beside_the_scopes_own_panic_is_survived() {
    #[derive(Debug)]
    struct Bomb;
    impl Drop for Bomb {
        fn drop(&mut self) {
            panic!("on purpose: an error nobody asked for");
        }
    }
    impl std::fmt::Display for Bomb {
        fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            f.write_str("a bomb")
        }
    }
    impl std::error::Error for Bomb {}
    let _dog = watchdog(60);
    let panic = catch_unwind(|| {
        scope(|s| {
            s.go(|| Err(Bomb.into()));
            panic!("on purpose: in the scope");
        })
    });
    let panic = panic.unwrap_err();
    assert_eq!(
        panic.downcast_ref::<&str>(),
        Some(&"on purpose: in the scope")
    );
}

#[test]
fn handle_that_is_forgotten_does_not_end_the_scope_early() {
    let _dog = watchdog(60);
    let mut done = false;
    scope(|s| {
        let handle = s.spawn(|| {
            sleep(Duration::from_millis(5));
            done = true;
            Ok(())
        });
        // Never dropped, as if it had been forgotten.
        let _kept = std::mem::ManuallyDrop::new(handle);
    })
    .unwrap();
    assert!(done);
}

/// The scope itself is borrowed by tasks that start others when its closure has returned.
#[test]
fn tasks_start_others_in_their_scope_after_its_closure_has_returned() {
    fn branch<'scope, 'env>(
        s: &'scope multi_goro::Scope<'scope, 'env>,
        depth: u32,
        leaves: &'env AtomicUsize,
    ) {
        if depth == 0 {
            leaves.fetch_add(1, Relaxed);
            return;
        }
        for _ in 0..2 {
            s.go(move || {
                sleep(Duration::from_millis(1));
                branch(s, depth - 1, leaves);
                Ok(())
            });
        }
    }
    let _dog = watchdog(60);
    let in_task = || {
        let leaves = AtomicUsize::new(0);
        // As a value that fills the place of what is gone too early.
        let returned = scope(|s| {
            branch(s, 4, &leaves);
            [usize::MAX; 64]
        });
        assert_eq!(returned.unwrap(), [usize::MAX; 64]);
        leaves.into_inner()
    };
    assert_eq!(in_task(), 16);
    let runtime = Runtime::builder().workers(2).build().unwrap();
    // The second time with the group of the first.
    assert_eq!(runtime.run(|| [in_task(), in_task()]), [16, 16]);
}

#[test]
fn scope_of_a_task_parks_it() {
    let _dog = watchdog(60);
    let runtime = Runtime::builder().workers(1).build().unwrap();
    let sum = runtime.run(|| {
        let numbers = [1, 2, 3];
        scope(|s| {
            let inner = s.spawn(|| {
                scope(|t| t.spawn(|| Ok(numbers[0])).join().map(|n| n + numbers[1]))?
                    .map_err(Into::into)
            });
            inner.join().map(|n| n + numbers[2])
        })
    });
    assert_eq!(sum.unwrap().unwrap(), 6);
}

#[test]
fn failures_in_a_scope_come_home() {
    let _dog = watchdog(60);
    let error = scope(|s| {
        s.go(|| Err("the first")?);
        s.go(|| panic!("on purpose: the second"));
    })
    .unwrap_err();
    assert_eq!(error.failed_count(), 2);
    let text = error.to_string();
    assert!(
        text.contains("the first") && text.contains("tests/scope.rs"),
        "{text}"
    );
}

#[test]
fn task_that_meets_a_limit_parks_and_leaves_its_worker_to_the_group() {
    let _dog = watchdog(60);
    let runtime = Runtime::builder().workers(1).build().unwrap();
    runtime.run(|| {
        let mut group = Group::builder().limit(2).build().unwrap();
        let most = Arc::new((AtomicUsize::new(0), AtomicUsize::new(0)));
        for _ in 0..20 {
            let most = Arc::clone(&most);
            group.go(move || {
                let now = most.0.fetch_add(1, Relaxed) + 1;
                most.1.fetch_max(now, Relaxed);
                yield_now();
                most.0.fetch_sub(1, Relaxed);
                Ok(())
            });
        }
        group.wait().unwrap();
        assert_eq!(most.1.load(Relaxed), 2);
    });
}

#[test]
fn value_that_panics_when_dropped_is_survived() {
    let _dog = watchdog(60);
    struct Bomb;
    impl Drop for Bomb {
        fn drop(&mut self) {
            panic!("on purpose: a value nobody wants");
        }
    }
    for locked in [false, true] {
        let mut group = Group::builder().locked(locked).build().unwrap();
        drop(group.spawn(|| {
            sleep(Duration::from_millis(5));
            Ok(Bomb)
        }));
        let error = group.wait().unwrap_err();
        assert_eq!(error.failed_count(), 1);
        assert!(error.to_string().contains("task 0"), "{error}");
        group.go(|| Ok(()));
        group.wait().unwrap();
    }
}

#[test]
fn token_of_a_group_parks_who_waits_for_it() {
    let _dog = watchdog(60);
    let runtime = Runtime::builder().workers(1).build().unwrap();
    let mut group = runtime.group();
    for _ in 0..10 {
        let token = group.cancel_token();
        group.go(move || {
            token.wait();
            Ok(())
        });
    }
    let canceller = group.cancel_token();
    group.go(move || {
        canceller.cancel();
        Ok(())
    });
    group.wait().unwrap();
}

#[test]
fn scope_waits_for_tasks_with_threads_of_their_own() {
    let _dog = watchdog(60);
    let ended = AtomicUsize::new(0);
    let panic = catch_unwind(AssertUnwindSafe(|| {
        scope(|s| {
            for nth in 0..4 {
                let options = TaskOptions::new().name(format!("locked {nth}"));
                let ended = &ended;
                s.go_locked_with(options, move || {
                    let name = thread::current().name().map(str::to_owned);
                    assert_eq!(name, Some(format!("locked {nth}")));
                    thread::sleep(Duration::from_millis(10));
                    ended.fetch_add(1, Relaxed);
                    Ok(())
                });
            }
            panic!("on purpose: in the scope");
        })
    }));
    assert!(panic.is_err());
    assert_eq!(ended.load(Relaxed), 4);
    let error = scope(|s| s.go_locked(|| Err("on purpose".into()))).unwrap_err();
    assert_eq!(error.failed_count(), 1);
}

/// Scopes that follow each other or lie in each other may use the same group, which must not show.
#[test]
fn scopes_know_nothing_of_those_before() {
    let _dog = watchdog(60);
    let runtime = Runtime::builder().workers(2).build().unwrap();
    runtime.run(|| {
        for round in 0..200 {
            scope(|s| {
                for _ in 0..round % 7 {
                    s.go(|| {
                        yield_now();
                        Ok(())
                    });
                }
                let inner = scope(|s| s.spawn(|| Ok(round)).join());
                assert_eq!(inner.unwrap().unwrap(), round);
            })
            .unwrap();
            let error = scope(|s| {
                s.go(|| Ok(()));
                s.go(move || Err(format!("of round {round}").into()));
            });
            let text = error.unwrap_err().to_string();
            assert!(text.starts_with("task 1 "), "{text}");
            assert!(text.contains(&format!("of round {round}")), "{text}");
        }
    });
}
