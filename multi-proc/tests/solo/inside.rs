//! What a task can do in its process, and what it cannot.

use crate::support::{self, Test, build, failure_of, group};
use crate::tests;
use multi_proc::{Group, TryGoReason};
use std::io::Write as _;
use std::time::Duration;

pub(crate) const TESTS: &[Test] = &tests![
    go_inside_a_child_says_whose_group_it_is,
    try_go_inside_a_child_gives_the_task_back,
    join_inside_a_child_says_whose_group_it_is,
    groups_nest,
    group_moved_into_a_task_is_left_alone_there,
    what_was_printed_is_printed_once,
    usage_counts_what_tasks_used,
    detached_tasks_run_on,
];

pub(crate) const SCENES: &[Test] = &tests![prints, detaches];

fn go_inside_a_child_says_whose_group_it_is() {
    let mut outer = group();
    let spawner = outer.spawner();
    let line = line!() + 2;
    outer.go(move || {
        multi_core::Spawner::go(&spawner, || Ok(()));
        Ok(())
    });
    let error = outer.wait().unwrap_err();
    let text = error.to_string();
    let (parent, child) = (std::process::id(), error.first().pid().unwrap());
    let expected = format!(
        "this group belongs to process {parent}, but this is process {child}, forked from it"
    );
    assert!(text.contains(&expected), "{text}");
    assert!(
        text.contains(&format!("panicked at {}:{line}:", file!())),
        "the caller's line: {text}"
    );
}

fn try_go_inside_a_child_gives_the_task_back() {
    let outer: &'static Group = Box::leak(Box::new(group()));
    let says = outer.spawn(move || {
        let refused = outer.try_go(|| Err("came back")?).unwrap_err();
        assert!(matches!(refused.reason(), TryGoReason::Start(_)));
        let text = refused.to_string();
        assert_eq!(refused.into_task()().unwrap_err().to_string(), "came back");
        Ok(text)
    });
    let text = says.join().unwrap();
    assert!(text.contains("this group belongs to process"), "{text}");
}

fn join_inside_a_child_says_whose_group_it_is() {
    let mut outer = group();
    let handle = outer.spawn(|| Ok(1));
    outer.go(move || {
        handle.join()?;
        Ok(())
    });
    let error = outer.wait().unwrap_err();
    assert!(
        error.to_string().contains("this group belongs to process"),
        "{error}"
    );
}

fn groups_nest() {
    fn sum(levels: u32) -> multi_proc::Result<u64> {
        if levels == 0 {
            return Ok(1);
        }
        let mut inner = build(Group::builder().limit(2).timeout(Duration::from_secs(30)));
        let parts: Vec<_> = (0..3)
            .map(|_| inner.spawn(move || sum(levels - 1)))
            .collect();
        let mut total = 0;
        for part in parts {
            total += part.join()?;
        }
        inner.wait()?;
        Ok(total)
    }
    let mut outer = group();
    let total = outer.spawn(|| sum(3));
    assert_eq!(total.join().unwrap(), 27);
    assert!(outer.wait().is_ok());
}

fn group_moved_into_a_task_is_left_alone_there() {
    let mut outer = group();
    let inner = group();
    inner.go(|| Ok(()));
    outer.go(move || {
        drop(inner);
        Ok(())
    });
    assert!(outer.wait().is_ok());
}

fn prints() {
    print!("begun by the parent, ");
    let mut outer = group();
    for n in 0..3 {
        outer.go(move || {
            print!("child {n}, ");
            eprint!("error {n}, ");
            Ok(())
        });
    }
    assert!(outer.wait().is_ok());
    println!("ended by the parent");
    std::io::stdout().flush().unwrap();
}

fn what_was_printed_is_printed_once() {
    let (stdout, stderr) = support::printed_by("prints");
    for part in [
        "begun by the parent, ",
        "child 0, ",
        "child 1, ",
        "child 2, ",
        "ended by the parent",
    ] {
        assert_eq!(stdout.matches(part).count(), 1, "{part:?} in {stdout:?}");
    }
    assert_eq!(stderr.matches("error ").count(), 3, "{stderr}");
}

fn usage_counts_what_tasks_used() {
    let mut outer = group();
    outer.go(|| {
        let mut memory = vec![1_u8; 64 << 20];
        let start = std::time::Instant::now();
        while start.elapsed() < Duration::from_millis(50) {
            memory
                .iter_mut()
                .step_by(4096)
                .for_each(|byte| *byte = byte.wrapping_add(1));
        }
        std::hint::black_box(memory);
        Ok(())
    });
    outer.go(|| Err("usage counts failures too")?);
    let error = outer.wait().unwrap_err();
    let failed = error.first().usage().unwrap();
    assert!(failed.tasks == 1 && failed.peak_bytes > 0, "{failed:?}");
    assert!(failed.peak_bytes < 64 << 20, "{failed:?}");
    let usage = outer.usage();
    assert_eq!(usage.tasks, 2);
    assert!(usage.peak_bytes > 64 << 20, "{usage:?}");
    assert!(
        usage.user + usage.system > Duration::from_millis(10),
        "{usage:?}"
    );
}

fn detaches() {
    let outer = group();
    outer.go(|| {
        std::thread::sleep(Duration::from_millis(50));
        println!("ran on");
        Err("failed unseen")?
    });
    outer.detach();
    std::thread::sleep(Duration::from_millis(500));
    assert_eq!(support::Residue::count().children, 0);
}

fn detached_tasks_run_on() {
    let (stdout, stderr) = support::printed_by("detaches");
    assert_eq!(stdout, "ran on\n");
    assert_eq!(stderr.matches("failed unseen").count(), 1, "{stderr}");
    assert!(failure_of(|| Err("later")?).is_returned());
}
