//! The zygote in trouble, and in programs that collect what is not theirs.

use crate::death::runs;
use crate::support::{self, Test, sys};
use crate::tests;
use multi_proc::{Group, JoinTimeoutError, Result, TaskErrorKind};
use std::time::Duration;

pub(crate) const TESTS: &[Test] = &tests![
    killed_zygote_loses_its_tasks_and_says_so,
    stray_wait_and_ignored_sigchld_do_not_touch_a_zygotes_tasks,
    stray_wait_loses_an_executed_task_or_keeps_what_it_said,
    zygote_without_descriptors_refuses_and_recovers,
    program_without_descriptors_refuses_and_recovers,
    zygote_is_kept_while_too_many_descriptors_are_on_their_way,
    zygote_killed_at_any_moment_hangs_nobody,
    terminal_signals_leave_the_zygote_alone,
];

pub(crate) const SCENES: &[Test] = &tests![
    kills_its_zygote,
    kills_zygotes_in_flight,
    has_descriptors_on_their_way
];

/// Whose child a task of a zygote is: the zygote.
fn zygote_of(group: &multi_proc::FnGroup) -> u32 {
    group.call(|()| Ok(sys::parent_pid()), ()).unwrap()
}

fn killed_zygote_loses_its_tasks_and_says_so() {
    let (stdout, stderr) = support::printed_by("kills_its_zygote");
    println!("    {}", stdout.replace('\n', "\n    "));
    let lines: Vec<_> = stdout.lines().collect();
    assert!(
        lines[0].contains("lost: what became of it cannot be known"),
        "{stdout}{stderr}"
    );
    assert!(lines[0].ends_with("or end its zygote"), "{stdout}");
    assert!(lines[1].contains("could not start: zygote "), "{stdout}");
    assert!(
        lines[1].ends_with("is gone: it was killed by signal 9"),
        "{stdout}"
    );
    assert!(lines[2].contains("is gone: it was killed by signal 9, and none can be made now that the program has 2 threads"), "{stdout}");
    assert_eq!(lines[3], "a new one: 7");
}

fn kills_its_zygote() {
    let mut group = Group::builder().zygote().unwrap();
    let task = group.spawn_fn(
        |()| -> Result {
            loop {
                std::thread::park();
            }
        },
        (),
    );
    sys::kill(zygote_of(&group), sys::SIGKILL);
    println!("{}", task.join().unwrap_err());
    println!("{}", group.call(|()| Ok(()), ()).unwrap_err());
    assert_eq!(group.wait().unwrap_err().failed_count(), 2);
    std::thread::scope(|s| {
        let (done, is_done) = std::sync::mpsc::channel::<()>();
        s.spawn(move || is_done.recv());
        println!("{}", Group::builder().zygote().unwrap_err());
        drop(done);
    });
    wait_for_one_thread();
    let mut group = Group::builder().zygote().unwrap();
    println!("a new one: {}", group.call(|n: u8| Ok(n), 7).unwrap());
    group.wait().unwrap();
}

fn stray_wait_and_ignored_sigchld_do_not_touch_a_zygotes_tasks() {
    sys::ignore(sys::SIGCHLD, true);
    let mut group = Group::builder().zygote().unwrap();
    for _ in 0..10 {
        let value = group.spawn_fn(|()| Ok(17), ());
        let exit = group.spawn_fn(|()| -> Result { sys::exit_now(5) }, ());
        sys::stray_look();
        assert_eq!(value.join().unwrap(), 17);
        assert!(matches!(
            exit.join().unwrap_err().kind(),
            TaskErrorKind::Exited(5)
        ));
        assert!(group.wait().is_err());
    }
    sys::ignore(sys::SIGCHLD, false);
}

fn stray_wait_loses_an_executed_task_or_keeps_what_it_said() {
    let mut group = Group::builder().spawn().unwrap();
    sys::ignore(sys::SIGCHLD, true);
    for _ in 0..5 {
        let value = group.spawn_fn(|()| Ok(17), ());
        let exit = group.spawn_fn(|()| -> Result { sys::exit_now(5) }, ());
        assert_eq!(value.join().unwrap(), 17);
        let error = exit.join().unwrap_err();
        assert!(matches!(error.kind(), TaskErrorKind::Lost), "{error}");
        assert!(group.wait().is_err());
    }
    sys::ignore(sys::SIGCHLD, false);
}

fn zygote_without_descriptors_refuses_and_recovers() {
    let mut group = Group::builder().zygote().unwrap();
    let zygote = zygote_of(&group);
    let limited = sys::limit_descriptors_of(zygote, 0);
    let error = group.call(|()| Ok(()), ()).unwrap_err();
    assert!(error.is_start(), "{error}");
    assert!(error.to_string().contains("Too many open files"), "{error}");
    drop(limited);
    assert_eq!(group.call(|n: u8| Ok(n), 7).unwrap(), 7);
    assert_eq!(group.wait().unwrap_err().failed_count(), 1);
}

fn program_without_descriptors_refuses_and_recovers() {
    let mut group = support::quick().zygote().unwrap();
    let wait = |()| {
        std::thread::sleep(Duration::from_secs(600));
        Ok(())
    };
    let limited = sys::limit_descriptors(24);
    let mut tasks = Vec::new();
    let refused = loop {
        let task = group.spawn_fn(wait, ());
        match task.join_timeout(Duration::ZERO) {
            Err(JoinTimeoutError::StillRunning(task)) => tasks.push(task),
            other => break other.unwrap_err(),
        }
        assert!(tasks.len() < 24, "more children than descriptors");
    };
    assert!(
        refused.to_string().contains("Too many open files"),
        "{refused}"
    );
    drop(limited);
    assert_eq!(group.call(|n: u8| Ok(n), 7).unwrap(), 7);
    group.cancel();
    for task in tasks {
        assert!(task.join().unwrap_err().is_cancelled());
    }
    assert!(group.wait().is_err());
}

fn has_descriptors_on_their_way() {
    let mut group = Group::builder().zygote().unwrap();
    let zygote = zygote_of(&group);
    // The superuser may have any number.
    sys::become_nobody();
    let limited = sys::limit_descriptors(64);
    let on_their_way = sys::descriptors_on_their_way();
    println!("{}", group.call(|()| Ok(()), ()).unwrap_err());
    drop(on_their_way);
    drop(limited);
    assert_eq!(zygote_of(&group), zygote);
    assert_eq!(group.wait().unwrap_err().failed_count(), 1);
}

fn zygote_is_kept_while_too_many_descriptors_are_on_their_way() {
    let (stdout, _) = support::printed_by("has_descriptors_on_their_way");
    assert!(
        stdout.contains("could not start: Too many references"),
        "{stdout}"
    );
}

fn zygote_killed_at_any_moment_hangs_nobody() {
    let (stdout, _) = support::printed_by("kills_zygotes_in_flight");
    print!("    {stdout}");
}

fn kills_zygotes_in_flight() {
    const ROUNDS: u64 = 40;
    let (mut values, mut failures) = (0, 0);
    for round in 0..ROUNDS {
        let mut group = Group::builder().zygote().unwrap();
        let zygote = zygote_of(&group);
        std::thread::scope(|s| {
            s.spawn(move || {
                std::thread::sleep(Duration::from_micros(round * 150));
                sys::kill(zygote, sys::SIGKILL);
            });
            let tasks: Vec<_> = (0..12_u64)
                .map(|n| group.spawn_fn(|n| Ok(n * n), n))
                .collect();
            for (n, task) in (0..).zip(tasks) {
                match task.join() {
                    Ok(value) => {
                        assert_eq!(value, n * n);
                        values += 1;
                    }
                    Err(error) => {
                        let is_lost = matches!(error.kind(), TaskErrorKind::Lost);
                        assert!(is_lost || error.is_start(), "round {round}: {error}");
                        failures += 1;
                    }
                }
            }
        });
        drop(group.wait());
        // A signal was sent; until it has worked the next group would get this zygote.
        while runs(zygote) {
            std::thread::yield_now();
        }
        wait_for_one_thread();
    }
    println!("{ROUNDS} zygotes killed: {values} values, {failures} failures, no hang");
    assert!(failures > 0, "no zygote was killed in time");
}

/// Threads that were joined may take a moment to be gone.
fn wait_for_one_thread() {
    while std::fs::read_dir("/proc/self/task").unwrap().count() > 1 {
        std::thread::yield_now();
    }
}

fn terminal_signals_leave_the_zygote_alone() {
    let mut group = Group::builder().zygote().unwrap();
    let zygote = zygote_of(&group);
    for signal in [1, sys::SIGINT, 3, sys::SIGTERM, 20] {
        sys::kill(zygote, signal);
    }
    assert_eq!(zygote_of(&group), zygote);
    // A task of it ends by them as any program does.
    let error = group
        .call(
            |()| {
                sys::raise(sys::SIGTERM);
                Ok(())
            },
            (),
        )
        .unwrap_err();
    assert!(
        matches!(error.kind(), TaskErrorKind::Signaled { signal: 15, .. }),
        "{error}"
    );
    assert!(group.wait().is_err());
}
