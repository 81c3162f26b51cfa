//! What is left when tasks, or groups of functions, are gone: nothing.

use crate::support::{self, Residue, Test, sys};
use crate::{WAYS, tests};
use multi_proc::{Group, Pool, Result};
use std::collections::BTreeSet;
use std::time::Duration;

pub(crate) const TESTS: &[Test] = &tests![
    nothing_is_left_of_groups,
    nothing_is_left_of_tasks,
    threads_start_tasks_side_by_side
];

/// Tasks each way, but a twentieth of them where each executes the program; unless `MULTI_PROC_TASKS` says otherwise, as `cargo xtask
/// forks` does.
const TASKS: u64 = 1_000;
const SPAWN_SHARE: u64 = 20;
/// Before the first count: memory that is kept for the next tasks.
const WARM_UP: u64 = 200;
/// One in so many is killed.
const KILLED_OF: u64 = 50;
const AT_ONCE: usize = 8;

fn nothing_is_left_of_groups() {
    let run = |groups: usize| {
        for (_, way) in WAYS {
            for _ in 0..groups {
                let mut group = way(Group::builder().limit(3)).unwrap();
                let tasks: Vec<_> = (0..5_u32)
                    .map(|n| group.spawn_fn(|n| Ok(n * n), n))
                    .collect();
                let values: Vec<_> = tasks.into_iter().map(|task| task.join().unwrap()).collect();
                assert_eq!(values, [0, 1, 4, 9, 16]);
                drop(group.spawn_fn(|()| -> Result { std::process::abort() }, ()));
                assert!(group.wait().is_err());
            }
        }
    };
    run(2);
    let before = Residue::count();
    run(8);
    let after = Residue::count();
    assert_eq!(
        (after.descriptors, after.children),
        (before.descriptors, before.children)
    );
    // The clock of an earlier test may end meanwhile, and the heap be in pieces.
    assert!(
        after.threads <= before.threads && after.mappings <= before.mappings + 2,
        "{before:?}, then {after:?}"
    );
}

/// A task: every fiftieth is killed in it.
fn task(n: u64) -> Result<u64> {
    if n % KILLED_OF == KILLED_OF - 1 {
        sys::raise(sys::SIGKILL);
    }
    Ok(n)
}

/// What the kernel holds for this process, and for others that are there all the time.
fn residues(others: &[u32]) -> Vec<Residue> {
    let others = others.iter().map(|pid| Residue::of(&pid.to_string()));
    [Residue::count()].into_iter().chain(others).collect()
}

/// Has `run` run so many tasks, and compares what is there before and after: in this process and in those that `others` names.
fn leaves_nothing(name: &str, tasks: u64, run: &mut dyn FnMut(u64), others: &dyn Fn() -> Vec<u32>) {
    run(WARM_UP.min(tasks));
    let before = residues(&others());
    run(tasks);
    let is_as_before = |now: &[Residue]| {
        now.len() == before.len()
            && now.iter().zip(&before).all(|(now, before)| {
                (now.descriptors, now.children) == (before.descriptors, before.children)
                    // The clock of an earlier test may end meanwhile, and the heap be in pieces.
                    && now.threads <= before.threads
                    && now.mappings <= before.mappings + 2
            })
    };
    let after = residues(&others());
    for (before, after) in before.iter().zip(&after) {
        println!("    {name:8}{tasks:6} tasks; before: {before:?}; after: {after:?}");
    }
    assert!(is_as_before(&after), "{name}: {before:?}, then {after:?}");
}

fn nothing_is_left_of_tasks() {
    println!();
    let tasks = std::env::var("MULTI_PROC_TASKS").map_or(TASKS, |text| text.parse().unwrap());
    let failures = |tasks: u64| tasks / KILLED_OF;

    let mut forked = support::build(Group::builder().limit(AT_ONCE));
    let mut run = |tasks: u64| {
        for n in 0..tasks {
            forked.go(move || task(n).map(drop));
        }
        let failed = forked.wait().err().map_or(0, |error| error.failed_count());
        assert_eq!(failed, failures(tasks));
    };
    leaves_nothing("fork", tasks, &mut run, &Vec::new);

    for (name, way) in WAYS {
        let tasks = if name == "spawn" {
            tasks / SPAWN_SHARE
        } else {
            tasks
        };
        let mut group = way(Group::builder().limit(AT_ONCE)).unwrap();
        // The zygote is the parent of its tasks: what they leave is left there.
        let parent = group.call(|()| Ok(sys::parent_pid()), ()).unwrap();
        let others = || Vec::from_iter((parent != std::process::id()).then_some(parent));
        let mut run = |tasks: u64| {
            for n in 0..tasks {
                drop(group.spawn_fn(task, n));
            }
            let failed = group.wait().err().map_or(0, |error| error.failed_count());
            assert_eq!(failed, failures(tasks));
        };
        leaves_nothing(name, tasks, &mut run, &others);
    }

    let builder = Pool::builder().workers(2).attempts(1);
    #[expect(unsafe_code, reason = "a pool of forked workers")]
    // SAFETY: the tests' other threads hold no lock that a job takes.
    let pool = unsafe { builder.fork() }.unwrap();
    let mut run = |tasks: u64| {
        let values = pool.map_unordered(task, 0..tasks);
        let failed = values.filter(|(_, value)| value.is_err()).count() as u64;
        assert_eq!(failed, failures(tasks));
        while pool.status().workers < 2 {
            std::thread::yield_now();
        }
    };
    leaves_nothing("pool", tasks, &mut run, &Vec::new);
    // The same workers all the time, each of which has done something.
    let mut busy = BTreeSet::new();
    while busy.len() < 2 {
        let pid = |()| {
            std::thread::sleep(Duration::from_millis(1));
            Ok(std::process::id())
        };
        busy.extend(pool.map(pid, [(); 8]).unwrap());
    }
    let mut run = |tasks: u64| {
        let values = pool.map(task, (0..tasks).map(|n| n * KILLED_OF));
        assert!(
            values
                .unwrap()
                .iter()
                .zip(0..)
                .all(|(value, n)| *value == n * KILLED_OF)
        );
    };
    leaves_nothing("workers", tasks, &mut run, &|| pool.worker_pids());
}

fn threads_start_tasks_side_by_side() {
    for (name, way) in WAYS {
        let mut group = way(Group::builder().limit(4)).unwrap();
        std::thread::scope(|s| {
            for thread in 0..4_u64 {
                let group = &group;
                s.spawn(move || {
                    for n in 0..8 {
                        let n = thread * 100 + n;
                        assert_eq!(group.call(|n: u64| Ok(n + 1), n).unwrap(), n + 1, "{name}");
                    }
                });
            }
        });
        // Tasks outlive the thread that started them.
        let slow = |n: u64| {
            std::thread::sleep(Duration::from_millis(50));
            Ok(n)
        };
        let tasks: Vec<_> = (0..4)
            .map(|n| std::thread::scope(|s| s.spawn(|| group.spawn_fn(slow, n)).join().unwrap()))
            .collect();
        let values: Vec<_> = tasks.into_iter().map(|task| task.join().unwrap()).collect();
        assert_eq!(values, [0, 1, 2, 3], "{name}");
        assert!(group.wait().is_ok());
    }
}
