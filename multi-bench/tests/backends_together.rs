//! Groups of different backends inside each other.

use multi_core::{Group, GroupOptions, Spawner};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

/// A task of the full `outer` group runs a group of another backend, whose task starts one more in `outer`. It must be queued, not
/// wait for room that its own grandparent takes up.
fn task_of_a_nested_group_starts_one_in_the_outer<O, I>(mut outer: O, inner: fn() -> I)
where
    O: Group + Send + 'static,
    I: Group + Send + 'static,
{
    let (tell, told) = mpsc::channel();
    let run = move || {
        let spawner = outer.spawner();
        outer.go(move || {
            let mut group = inner();
            group.go(move || {
                spawner.go(|| Ok(()));
                Ok(())
            });
            group.wait()?;
            Ok(())
        });
        let outcome = outer.wait().map_err(|error| error.to_string());
        let _watchdog_gave_up = tell.send((outcome, outer.progress().finished));
    };
    let runner = thread::spawn(run);
    let ended = told.recv_timeout(Duration::from_secs(30));
    assert_eq!(ended.expect("the groups wait for each other"), (Ok(()), 2));
    runner.join().expect("the runner panicked");
}

fn one_at_a_time() -> GroupOptions {
    GroupOptions::new().limit(1)
}

#[test]
fn thread_inside_a_full_green_group_starts_a_green_task() {
    let outer = multi_goro::Group::builder()
        .options(one_at_a_time())
        .build()
        .expect("a group");
    task_of_a_nested_group_starts_one_in_the_outer(outer, multi_pthread::Group::new);
}

#[test]
fn green_task_inside_a_full_group_of_threads_starts_a_thread() {
    let outer = multi_pthread::Group::builder()
        .options(one_at_a_time())
        .build()
        .expect("a group");
    task_of_a_nested_group_starts_one_in_the_outer(outer, multi_goro::Group::new);
}

#[test]
fn locked_task_inside_a_full_green_group_starts_a_green_task() {
    let outer = multi_goro::Group::builder()
        .options(one_at_a_time())
        .build()
        .expect("a group");
    task_of_a_nested_group_starts_one_in_the_outer(outer, multi_goro::Group::locked);
}
