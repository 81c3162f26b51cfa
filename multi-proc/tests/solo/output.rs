//! Where what tasks print goes, and where they read from.

use crate::support::{Residue, Test, build, group, quick, sys};
use crate::tests;
use multi_proc::{Group, Input, Limits, Output};
use std::fs::{self, File};
use std::io::{Read as _, Write as _};
use std::sync::{Arc, Mutex};
use std::time::Duration;

pub(crate) const TESTS: &[Test] = &tests![
    tail_of_standard_error_is_in_the_failure,
    tails_of_both_streams_are_kept_in_order,
    lines_come_one_by_one_with_their_task,
    long_lines_and_lines_without_end_come_too,
    task_that_fills_its_pipe_while_nobody_waits_goes_on,
    tasks_that_print_much_at_once_all_come_through,
    function_that_is_passed_lines_may_use_the_group,
    function_that_is_passed_lines_must_not_wait,
    panic_of_a_function_that_is_passed_lines_harms_nobody,
    end_of_a_stream_before_the_task_is_no_busy_wait,
    null_and_files_stand_in_for_streams,
    closed_streams_of_the_parent_do_not_mix_with_pipes,
    captures_leave_no_descriptor_behind,
];

/// What was passed on, in order.
type Lines = Arc<Mutex<Vec<(u64, String)>>>;

fn keeping() -> (Lines, Output) {
    let lines = Lines::default();
    let kept = Arc::clone(&lines);
    let output = Output::lines(move |task, line| {
        kept.lock().unwrap().push((task.index(), line.to_owned()));
    });
    (lines, output)
}

fn tail_of_standard_error_is_in_the_failure() {
    let mut group = group();
    let task = group.task().stderr(Output::tail(20));
    task.go(|| {
        eprintln!("this is long gone when it fails");
        eprintln!("out of paper");
        sys::exit_now(3)
    });
    task.go(|| {
        eprintln!("all is well");
        Ok(())
    });
    task.go(|| panic!("on purpose: in the tail too"));
    task.go(|| Err("quiet")?);
    let error = group.wait().unwrap_err();
    let [exited, panicked, quiet] = error.failures() else {
        panic!("{error}")
    };
    assert_eq!(exited.stderr_tail(), Some(" fails\nout of paper\n"));
    let text = exited.to_string();
    assert!(
        text.ends_with("before it ended; its standard error ends with: fails | out of paper"),
        "{text}"
    );
    assert!(
        panicked
            .stderr_tail()
            .unwrap()
            .ends_with("in the tail too\n")
    );
    assert_eq!(quiet.stderr_tail(), Some(""));
    assert!(quiet.to_string().ends_with("quiet"), "{quiet}");
}

fn tails_of_both_streams_are_kept_in_order() {
    let mut group = group();
    let both = group
        .task()
        .stdout(Output::tail(1000))
        .stderr(Output::tail(10));
    both.go(|| {
        println!("first");
        eprintln!("second");
        println!("third");
        Err("no more")?
    });
    let error = group.wait().unwrap_err();
    let tail = error.first().stderr_tail();
    assert_eq!(tail, Some("first\nsecond\nthird\n"));
}

fn lines_come_one_by_one_with_their_task() {
    let (lines, output) = keeping();
    let mut group = build(Group::builder().stdout(output));
    for n in 0..3 {
        group.go(move || {
            println!("a {n}\n\nb {n}");
            Ok(())
        });
    }
    group.wait().unwrap();
    let lines = lines.lock().unwrap();
    for n in 0..3 {
        let own: Vec<&str> = lines
            .iter()
            .filter(|(task, _)| *task == n)
            .map(|(_, line)| line.as_str())
            .collect();
        assert_eq!(own, [format!("a {n}"), String::new(), format!("b {n}")]);
    }
}

fn long_lines_and_lines_without_end_come_too() {
    let (lines, output) = keeping();
    let mut group = group();
    group.task().stderr(output).go(|| {
        let mut out = std::io::stderr();
        out.write_all(&vec![b'x'; 200 << 10])?;
        out.write_all(b"\n\xffy\nno end")?;
        Ok(())
    });
    group.wait().unwrap();
    let lines: Vec<String> = lines
        .lock()
        .unwrap()
        .iter()
        .map(|(_, line)| line.clone())
        .collect();
    let (short, pieces) = (&lines[lines.len() - 2..], &lines[..lines.len() - 2]);
    assert_eq!(short, ["\u{fffd}y", "no end"]);
    let total: usize = pieces.iter().map(String::len).sum();
    assert_eq!(total, 200 << 10);
    assert!(pieces.iter().all(|piece| piece.len() <= 80 << 10));
}

fn task_that_fills_its_pipe_while_nobody_waits_goes_on() {
    let mut group = build(quick());
    let done = multi_proc::shared_token().unwrap();
    let told = done.clone();
    group.task().stderr(Output::tail(100)).go(move || {
        for n in 0..100_000 {
            eprintln!("line {n}");
        }
        told.cancel();
        Err("that was all")?
    });
    // Nobody waits for the group, but for something that comes after a megabyte.
    assert!(
        done.wait_timeout(Duration::from_secs(50)),
        "it still prints"
    );
    let error = group.wait().unwrap_err();
    let tail = error.first().stderr_tail().unwrap();
    assert!(tail.ends_with("line 99998\nline 99999\n"), "{tail}");
}

fn tasks_that_print_much_at_once_all_come_through() {
    let (lines, output) = keeping();
    let mut group = build(quick().stdout(output));
    for _ in 0..8 {
        group.go(|| {
            for n in 0..2000 {
                println!("{n} {}", "x".repeat(100));
            }
            Ok(())
        });
    }
    group.wait().unwrap();
    let lines = lines.lock().unwrap();
    assert_eq!(lines.len(), 8 * 2000);
    for task in 0..8 {
        let own = lines.iter().filter(|(of, _)| *of == task);
        let is_next = |(n, (_, line)): (usize, &(u64, String))| line.starts_with(&format!("{n} x"));
        assert!(own.enumerate().all(is_next), "task {task}");
    }
}

fn function_that_is_passed_lines_may_use_the_group() {
    let mut group = build(quick());
    let (spawner, seen) = (group.spawner(), Arc::new(Mutex::new(0)));
    let count = Arc::clone(&seen);
    let token = group.cancel_token();
    let output = Output::lines(move |_, line| {
        *count.lock().unwrap() += 1;
        assert!(!token.is_cancelled());
        if line == "more" {
            spawner.go(|| {
                // A task of a task of its own: it has groups, and waits for them.
                let mut inner = crate::support::group();
                inner.go(|| Ok(()));
                inner.wait()?;
                Ok(())
            });
        }
    });
    group.task().stdout(output).go(|| {
        println!("more\nmore");
        Ok(())
    });
    group.wait().unwrap();
    assert_eq!((*seen.lock().unwrap(), group.progress().finished), (2, 3));
}

fn function_that_is_passed_lines_must_not_wait() {
    let mut group = build(quick());
    let said = Arc::new(Mutex::new(String::new()));
    let release = multi_proc::shared_token().unwrap();
    let released = release.clone();
    let handle = group.spawn(move || {
        released.wait();
        Ok(1)
    });
    let (kept, handle) = (Arc::clone(&said), Mutex::new(Some(handle)));
    let output = Output::lines(move |_, _| {
        let handle = handle.lock().unwrap().take().unwrap();
        let waits = std::panic::AssertUnwindSafe(|| handle.join());
        let panic = std::panic::catch_unwind(waits).unwrap_err();
        *kept.lock().unwrap() = (*panic.downcast::<&str>().unwrap()).to_owned();
        release.cancel();
    });
    group.task().stdout(output).go(|| {
        println!("now");
        Ok(())
    });
    group.wait().unwrap();
    let said = said.lock().unwrap();
    assert!(said.contains("must not wait for a group"), "{said:?}");
}

fn panic_of_a_function_that_is_passed_lines_harms_nobody() {
    let mut group = build(quick());
    let output = Output::lines(|_, line| panic!("on purpose: at {line}"));
    group.task().stdout(output).go(|| {
        for n in 0..100_000 {
            println!("line {n}");
        }
        Ok(())
    });
    group.wait().unwrap();
}

fn end_of_a_stream_before_the_task_is_no_busy_wait() {
    let mut group = group();
    group.task().stderr(Output::tail(100)).go(|| {
        eprint!("the last");
        sys::close(2);
        std::thread::sleep(Duration::from_millis(300));
        Err("quiet")?
    });
    let before = sys::cpu_time();
    let error = group.wait().unwrap_err();
    assert_eq!(error.first().stderr_tail(), Some("the last"));
    let used = sys::cpu_time() - before;
    assert!(used < Duration::from_millis(200), "{used:?} of 300 ms busy");
}

fn null_and_files_stand_in_for_streams() {
    let path = std::env::temp_dir().join(format!("multi-proc-streams-{}", std::process::id()));
    fs::write(&path, "to be read").unwrap();
    let out = File::options().append(true).open(&path).unwrap();
    let mut group = group();
    let reads = group.task().stdin(Input::file(File::open(&path).unwrap()));
    let nothing = group
        .task()
        .stdin(Input::null())
        .stdout(Output::null())
        .stderr(Output::null());
    let prints = group.task().stdout(Output::file(out));
    let read_all = || {
        let mut text = String::new();
        std::io::stdin().read_to_string(&mut text)?;
        Ok(text)
    };
    assert_eq!(reads.spawn(read_all).join().unwrap(), "to be read");
    let silent = nothing.spawn(move || {
        println!("nobody reads this");
        eprintln!("nor this");
        read_all()
    });
    assert_eq!(silent.join().unwrap(), "");
    prints.go(|| {
        println!(", and written to");
        Ok(())
    });
    group.wait().unwrap();
    assert_eq!(
        fs::read_to_string(&path).unwrap(),
        "to be read, and written to\n"
    );
    fs::remove_file(path).unwrap();
}

fn closed_streams_of_the_parent_do_not_mix_with_pipes() {
    let mut group = group();
    // In a child of our own, whose streams are not the test runner's.
    group.task().stderr(Output::tail(1000)).go(|| {
        sys::close(0);
        sys::close(1);
        let mut inner = crate::support::group();
        let (lines, output) = keeping();
        let task = inner.task().stdout(output).stdin(Input::null());
        task.go(|| {
            println!("printed");
            let mut text = String::new();
            assert_eq!(std::io::stdin().read_to_string(&mut text)?, 0);
            Ok(())
        });
        inner.wait()?;
        let printed = lines.lock().unwrap().clone();
        assert_eq!(printed, [(0, "printed".to_owned())]);
        Ok(())
    });
    group.wait().unwrap();
}

fn captures_leave_no_descriptor_behind() {
    let round = || {
        let (_, output) = keeping();
        let builder = quick().stdout(output).stderr(Output::tail(10));
        let mut group = build(builder.limits(Limits::new().nice(1)).limit(4));
        for n in 0..50 {
            group.go(move || {
                println!("{n}");
                eprintln!("{n}");
                Ok(())
            });
        }
        group.wait().unwrap();
    };
    round();
    let before = Residue::count();
    round();
    let mut after = Residue::count();
    // The clock's thread may have come or gone.
    (after.threads, after.mappings) = (before.threads, before.mappings);
    assert_eq!(after, before);
}
