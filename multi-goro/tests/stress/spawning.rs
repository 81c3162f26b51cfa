//! Storms of new tasks: trees, bursts, many threads that start at once, groups that are dropped.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::*};

use multi_goro::{Group, Runtime, Spawner, scope, yield_now};

use crate::harness::{Random, stress};

fn tree(spawner: &Spawner, ended: &Arc<AtomicUsize>, mut random: Random, depth: u32) -> usize {
    let mut started = 0;
    if depth < 6 {
        for _ in 0..random.below(4) {
            let (to, ended, random) = (spawner.clone(), Arc::clone(ended), random.child());
            // Counted here, in the parent: what a child starts it counts itself, before it ends.
            started += 1;
            spawner.go(move || {
                let started = tree(&to, &ended, random, depth + 1);
                ended.fetch_add(1, Relaxed);
                ended.fetch_sub(started, Relaxed);
                Ok(())
            });
        }
        if random.one_in(3) {
            yield_now();
        }
    }
    started
}

#[test]
fn every_task_of_a_tree_runs_once() {
    stress("trees of tasks", |random| {
        let runtime = Runtime::builder()
            .report_stuck(false)
            .workers(1 + random.count(4))
            .build()
            .unwrap();
        let mut group = runtime.group();
        let ended = Arc::new(AtomicUsize::new(0));
        let mut started = 0;
        for _ in 0..random.below(20) {
            started += tree(&group.spawner(), &ended, random.child(), 0);
        }
        group.wait().unwrap();
        // Each task adds one for itself and takes away what it started.
        assert_eq!(ended.load(Relaxed), started);
        assert_eq!(runtime.num_tasks(), 0);
    });
}

#[test]
fn bursts_from_several_threads_all_end() {
    stress("bursts", |random| {
        let runtime = Runtime::builder()
            .report_stuck(false)
            .workers(1 + random.count(4))
            .build()
            .unwrap();
        let ended = AtomicUsize::new(0);
        let mut expected = 0;
        std::thread::scope(|threads| {
            for _ in 0..1 + random.below(3) {
                let bursts: Vec<_> = (0..random.below(5)).map(|_| random.count(2_000)).collect();
                expected += bursts.iter().sum::<usize>();
                let (runtime, ended) = (&runtime, &ended);
                threads.spawn(move || {
                    for tasks in bursts {
                        runtime.run(|| {
                            scope(|s| {
                                for _ in 0..tasks {
                                    s.go(|| {
                                        ended.fetch_add(1, Relaxed);
                                        Ok(())
                                    });
                                }
                            })
                            .unwrap();
                        });
                    }
                });
            }
        });
        assert_eq!(ended.load(Relaxed), expected);
    });
}

/// Runtimes and groups that come and go, with tasks in every state.
#[test]
fn groups_dropped_with_tasks_in_every_state_take_them_along() {
    stress("dropped groups", |random| {
        let runtime = Runtime::builder()
            .report_stuck(false)
            .workers(1 + random.count(3))
            .build()
            .unwrap();
        let alive = Arc::new(());
        for _ in 0..random.below(10) {
            let group: Group = runtime.group();
            for _ in 0..random.below(50) {
                let (alive, mut random) = (Arc::clone(&alive), random.child());
                let token = group.cancel_token();
                group.go(move || {
                    let _alive = alive;
                    match random.below(3) {
                        0 => yield_now(),
                        1 => {
                            token.wait();
                        }
                        _ => {}
                    }
                    Ok(())
                });
            }
            if random.one_in(2) {
                std::thread::sleep(random.pause(200));
            }
        }
        assert_eq!(runtime.num_tasks(), 0);
        assert_eq!(Arc::strong_count(&alive), 1);
    });
}
