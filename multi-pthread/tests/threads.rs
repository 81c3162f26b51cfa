//! What is particular to threads: names, stacks, CPUs, destructors, scopes.

use multi_pthread::{Group, Scheduling, TaskErrorKind, TaskOptions, scope};
use std::cell::RefCell;
use std::fs;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, mpsc};

fn status(key: &str) -> String {
    let status = fs::read_to_string("/proc/thread-self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix(key));
    line.unwrap_or_default().trim().to_owned()
}

#[test]
fn thread_bears_the_name_of_its_task_cut_to_what_fits() {
    let mut group = Group::new();
    let name = TaskOptions::new().name("resize-thumbnails");
    let seen = group.spawn_with(name, || Ok(fs::read_to_string("/proc/thread-self/comm")?));
    assert_eq!(seen.join().unwrap().trim(), "resize-thumbnai");
    group.wait().unwrap();
}

#[test]
fn each_task_has_a_thread_of_its_own() {
    let mut group = Group::new();
    let main = std::thread::current().id();
    let ids: Vec<_> = (0..4)
        .map(|_| group.spawn(|| Ok(std::thread::current().id())))
        .collect();
    let mut ids: Vec<_> = ids.into_iter().map(|id| id.join().unwrap()).collect();
    ids.push(main);
    let count = ids.len();
    ids.sort_by_key(|id| format!("{id:?}"));
    ids.dedup();
    assert_eq!(ids.len(), count);
    group.wait().unwrap();
}

#[test]
fn threads_keep_to_their_cpus() {
    let mut group = Group::builder().cpus([0]).build().unwrap();
    let seen = group.spawn(|| Ok(status("Cpus_allowed_list:")));
    assert_eq!(seen.join().unwrap(), "0");
    group.wait().unwrap();
}

#[test]
fn cpu_the_machine_lacks_fails_the_task_and_not_the_program() {
    let mut group = Group::builder().cpus([1023]).build().unwrap();
    group.go(|| Ok(()));
    let error = group.wait().unwrap_err();
    assert!(
        matches!(error.first().kind(), TaskErrorKind::Start(_)),
        "{error}"
    );
}

#[test]
fn real_time_policy_is_set_or_refused_never_ignored() {
    let mut group = Group::builder()
        .scheduling(Scheduling::RoundRobin(3))
        .build()
        .unwrap();
    group.go(|| {
        // Fields 40 and 41 of stat: priority and policy; proc(5).
        let stat = fs::read_to_string("/proc/thread-self/stat")?;
        let after_name = stat.rsplit(')').next().unwrap_or_default();
        let fields: Vec<_> = after_name.split_whitespace().collect();
        assert_eq!((fields[37], fields[38]), ("3", "2"));
        Ok(())
    });
    if let Err(error) = group.wait() {
        assert_eq!(error.first().os_code(), Some(1), "{error}");
    }
}

#[test]
fn small_stack_is_enough_for_a_small_task() {
    let mut group = Group::builder().stack_bytes(32 * 1024).build().unwrap();
    for _ in 0..64 {
        group.go(|| Ok(()));
    }
    group.wait().unwrap();
}

#[test]
fn large_stack_holds_deep_recursion() {
    fn sum(n: u64) -> u64 {
        if n == 0 {
            0
        } else {
            std::hint::black_box(n) + sum(n - 1)
        }
    }
    let mut group = Group::builder().stack_bytes(64 << 20).build().unwrap();
    let value = group.spawn(|| Ok(sum(200_000)));
    assert_eq!(value.join().unwrap(), 20_000_100_000);
    group.wait().unwrap();
}

#[test]
fn stack_that_no_memory_holds_fails_the_task_with_its_remedy() {
    let mut group = Group::builder().stack_bytes(1 << 46).build().unwrap();
    group.go(|| Ok(()));
    let error = group.wait().unwrap_err();
    assert!(error.to_string().contains("limit(n)"), "{error}");
}

#[test]
fn thread_local_destructors_have_run_when_wait_returns() {
    struct Counts(Arc<AtomicUsize>);
    impl Drop for Counts {
        fn drop(&mut self) {
            std::thread::sleep(std::time::Duration::from_millis(5));
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }
    thread_local!(static KEPT: RefCell<Option<Counts>> = const { RefCell::new(None) });
    let dropped = Arc::new(AtomicUsize::new(0));
    let mut group = Group::new();
    for _ in 0..4 {
        let dropped = Arc::clone(&dropped);
        group.go(move || {
            KEPT.set(Some(Counts(dropped)));
            Ok(())
        });
    }
    group.wait().unwrap();
    assert_eq!(dropped.load(Ordering::Relaxed), 4);
}

#[test]
fn detached_threads_run_on_after_the_group() {
    let group = Group::new();
    let (tx, rx) = mpsc::channel();
    let (go, gone) = mpsc::channel::<()>();
    group.go(move || {
        gone.recv()?;
        tx.send(7)?;
        Ok(())
    });
    group.detach();
    go.send(()).unwrap();
    assert_eq!(rx.recv(), Ok(7));
}

#[test]
fn scope_waits_for_tasks_that_borrow_even_when_its_closure_panics() {
    let ended = AtomicUsize::new(0);
    let outcome = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        scope(|s| {
            for _ in 0..4 {
                s.go(|| {
                    std::thread::sleep(std::time::Duration::from_millis(10));
                    ended.fetch_add(1, Ordering::Relaxed);
                    Ok(())
                });
            }
            std::panic::resume_unwind(Box::new("on purpose, unprinted"));
        })
    }));
    assert!(outcome.is_err());
    assert_eq!(ended.load(Ordering::Relaxed), 4);
}

#[test]
fn scope_reports_every_failure() {
    let words = [String::from("one"), String::from("two")];
    let error = scope(|s| {
        for word in &words {
            s.go(move || Err(word.clone())?);
        }
    })
    .unwrap_err();
    let said: Vec<_> = error.failures().iter().map(ToString::to_string).collect();
    assert!(
        said[0].ends_with("one") && said[1].ends_with("two"),
        "{said:?}"
    );
}

#[test]
fn scoped_task_starts_another_that_borrows_too() {
    let sum = AtomicUsize::new(0);
    scope(|s| {
        s.go(|| {
            s.go(|| {
                sum.fetch_add(20, Ordering::Relaxed);
                Ok(())
            });
            sum.fetch_add(1, Ordering::Relaxed);
            Ok(())
        });
    })
    .unwrap();
    assert_eq!(sum.load(Ordering::Relaxed), 21);
}

#[test]
fn group_dropped_inside_its_own_task_does_not_join_itself() {
    let (tx, rx) = mpsc::channel();
    let group = Group::new();
    let spawner = group.spawner();
    group.go(move || {
        // The last owner of the group's insides may be this thread.
        let _spawner = spawner;
        tx.send(())?;
        Ok(())
    });
    rx.recv().unwrap();
    drop(group);
}

fn thread_count() -> usize {
    fs::read_dir("/proc/self/task").unwrap().count()
}

#[test]
fn go_does_not_wait_for_the_destructors_of_an_earlier_thread() {
    struct Waits(mpsc::Receiver<()>);
    impl Drop for Waits {
        fn drop(&mut self) {
            let _until_told = self.0.recv();
        }
    }
    thread_local!(static KEPT: RefCell<Option<Waits>> = const { RefCell::new(None) });
    let (tell, told) = mpsc::channel();
    let mut group = Group::new();
    group.go(move || {
        KEPT.set(Some(Waits(told)));
        Ok(())
    });
    while group.progress().finished == 0 {
        std::thread::yield_now();
    }
    // Its thread is in the destructor until `tell`, which comes after these.
    group.go(|| Ok(()));
    assert!(
        group
            .wait_timeout(std::time::Duration::from_secs(30))
            .is_ok()
    );
    tell.send(()).unwrap();
    group.wait().unwrap();
}

#[test]
fn short_tasks_from_several_callers_do_not_pile_up_threads() {
    let mut group = Group::new();
    std::thread::scope(|s| {
        for _ in 0..4 {
            let spawner = group.spawner();
            s.spawn(move || {
                for _ in 0..2_000 {
                    spawner.go(|| Ok(()));
                }
            });
        }
    });
    assert!(thread_count() < 1_000, "{} threads", thread_count());
    group.wait().unwrap();
}

#[test]
fn try_go_alone_does_not_pile_up_threads() {
    let mut group = Group::builder().limit(4).build().unwrap();
    let mappings = || {
        fs::read_to_string("/proc/self/maps")
            .unwrap()
            .lines()
            .count()
    };
    let before = mappings();
    let mut started = 0;
    while started < 2_000 {
        match group.try_go(|| Ok(())) {
            Ok(()) => started += 1,
            Err(_at_limit) => std::thread::yield_now(),
        }
    }
    // Two mappings a thread: its stack and its guard.
    assert!(mappings() < before + 1_000, "{} mappings", mappings());
    group.wait().unwrap();
}
