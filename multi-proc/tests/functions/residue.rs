//! What is left when groups of functions are gone: nothing.

use crate::support::{Residue, Test};
use crate::{WAYS, tests};
use multi_proc::Group;

pub(crate) const TESTS: &[Test] =
    &tests![nothing_is_left_of_groups, threads_start_tasks_side_by_side];

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
                drop(group.spawn_fn(|()| -> multi_proc::Result { std::process::abort() }, ()));
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
    // The clock of an earlier test may end meanwhile.
    assert!(
        after.threads <= before.threads && after.mappings <= before.mappings,
        "{before:?}, then {after:?}"
    );
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
            std::thread::sleep(std::time::Duration::from_millis(50));
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
