//! What needs a process of its own: overflows that abort, forked children, limits on memory, counts of threads.
//!
//! Each case runs in a child made by re-executing this binary, so that one may end as badly as it likes.

#![expect(clippy::print_stdout, reason = "reports as a test runner does")]

mod common;
#[path = "common/seccomp.rs"]
mod seccomp;

use std::cell::Cell;
use std::future::{Future, poll_fn};
use std::process::{Command, ExitCode, Output};
use std::task::Waker;
use std::time::Duration;

use common::watchdog;
use multi_goro::future::block_on;
use multi_goro::{Group, OsThread, OsThreadError, Runtime, ThreadLoop, chan, yield_now};

/// A case: its name, what the child does, what its end must look like.
struct Case {
    name: &'static str,
    child: fn(),
    check: fn(&Output),
}

const CASES: &[Case] = &[
    Case {
        name: "stack_overflow_names_the_task_its_size_and_the_remedy",
        child: overflow,
        check: |output| {
            let text = stderr(output);
            assert_eq!(signal(output), Some(libc::SIGABRT), "{text}");
            for part in [
                "multi-goro: task \"deep\" started at multi-goro/tests/solo.rs:",
                "has overflowed its stack of 64 KiB",
                "recurse less deeply",
                "ask for more",
            ] {
                assert!(text.contains(part), "{part:?} is not in: {text}");
            }
        },
    },
    Case {
        name: "fault_that_is_no_overflow_goes_to_the_previous_handler",
        child: wild_access,
        check: |output| {
            let text = stderr(output);
            assert_eq!(signal(output), Some(libc::SIGSEGV), "{text}");
            assert!(!text.contains("overflowed its stack"), "{text}");
        },
    },
    Case {
        name: "overflow_of_a_plain_thread_is_still_reported_by_rust",
        child: overflow_of_a_thread,
        check: |output| {
            let text = stderr(output);
            assert_eq!(signal(output), Some(libc::SIGABRT), "{text}");
            assert!(text.contains("has overflowed its stack"), "{text}");
            assert!(!text.contains("multi-goro"), "{text}");
        },
    },
    Case {
        name: "forked_child_gets_errors_and_never_hangs",
        child: forked,
        check: succeeded,
    },
    Case {
        name: "forked_child_of_a_task_gets_errors_and_never_hangs",
        child: forked_from_a_task,
        check: succeeded,
    },
    Case {
        name: "forked_child_of_a_task_keeps_its_values_and_can_lend_its_thread",
        child: forked_from_a_task_with_values,
        check: succeeded,
    },
    Case {
        name: "forked_child_can_build_a_runtime_of_its_own",
        child: runtime_in_a_child,
        check: succeeded,
    },
    Case {
        name: "forked_child_does_not_wait_for_the_parents_tasks",
        child: forked_with_tasks,
        check: succeeded,
    },
    Case {
        name: "wakers_and_futures_in_a_forked_child_do_no_harm",
        child: forked_with_futures,
        check: succeeded,
    },
    Case {
        name: "poll_without_a_stack_is_a_start_error",
        child: no_memory_for_a_poll,
        check: succeeded,
    },
    Case {
        name: "task_without_a_stack_is_a_start_error_and_the_group_goes_on",
        child: no_memory_for_stacks,
        check: succeeded,
    },
    Case {
        name: "forked_child_inside_a_join_runs_the_second_half_or_panics",
        child: forked_in_a_join,
        check: succeeded,
    },
    Case {
        name: "forked_child_whose_task_returns_ends_and_runs_no_other_task",
        child: forked_and_returned,
        check: |output| {
            succeeded(output);
            let text = stderr(output);
            assert!(
                text.contains("a task forked, and in the child it returned"),
                "{text}"
            );
        },
    },
    Case {
        name: "runtime_on_a_thread_that_is_refused_the_fences_of_the_others_is_an_error",
        child: fences_refused_later,
        check: succeeded,
    },
    Case {
        name: "fences_refused_to_the_first_runtime_are_done_without_from_then_on",
        child: fences_refused_first,
        check: succeeded,
    },
    Case {
        name: "start_refused_by_a_closing_runtime_does_not_keep_its_workers",
        child: refused_while_closing,
        check: succeeded,
    },
    Case {
        name: "second_half_that_gets_no_stack_is_run_by_the_caller",
        child: no_memory_for_a_half,
        check: succeeded,
    },
    Case {
        name: "overflow_of_nested_joins_names_the_task_and_the_remedy",
        child: overflow_in_joins,
        check: |output| {
            let text = stderr(output);
            assert_eq!(signal(output), Some(libc::SIGABRT), "{text}");
            for part in ["task \"joins\" started at", "recurse less deeply"] {
                assert!(text.contains(part), "{part:?} is not in: {text}");
            }
        },
    },
    Case {
        name: "deadlock_of_all_threads_is_told_with_the_tasks_in_it",
        child: deadlock,
        check: |output| {
            let text = stderr(output);
            assert_eq!(signal(output), Some(libc::SIGALRM), "{text}");
            for part in [
                "multi-goro: deadlock: 2 threads wait",
                "task \"first\" started at",
                "waits to receive",
            ] {
                assert!(text.contains(part), "{part:?} is not in: {text}");
            }
            assert_eq!(text.matches("deadlock:").count(), 1, "told once: {text}");
        },
    },
    Case {
        name: "deadlock_is_not_told_while_another_thread_may_end_it",
        child: late_sender,
        check: |output| {
            let text = stderr(output);
            assert!(output.status.success(), "{text}");
            assert!(!text.contains("deadlock"), "{text}");
        },
    },
    Case {
        name: "groups_and_runtimes_leave_no_thread_behind",
        child: no_thread_left,
        check: succeeded,
    },
    #[cfg(all(target_arch = "x86_64", not(feature = "portable-switch")))]
    Case {
        name: "deep_stacks_of_waiting_tasks_give_their_pages_back",
        child: deep_and_waiting,
        check: succeeded,
    },
    Case {
        name: "forty_thousand_guarded_stacks_take_few_mappings",
        child: many_guarded_stacks,
        check: succeeded,
    },
    #[cfg(target_arch = "x86_64")]
    Case {
        name: "older_kernels_reach_the_ceiling_of_mappings_with_an_error_that_says_so",
        child: ceiling_of_mappings,
        check: succeeded,
    },
    Case {
        name: "stacks_left_out_of_forks_are_not_in_a_child",
        child: no_stacks_in_forks,
        check: succeeded,
    },
    Case {
        name: "overflow_of_the_smallest_stack_is_reported",
        child: || overflow_of(16 << 10),
        check: |output| {
            let text = stderr(output);
            assert_eq!(signal(output), Some(libc::SIGABRT), "{text}");
            assert!(
                text.contains("has overflowed its stack of 16 KiB"),
                "{text}"
            );
        },
    },
    Case {
        name: "overflow_of_the_largest_stack_is_reported",
        child: || overflow_of(8 << 20),
        check: |output| {
            let text = stderr(output);
            assert_eq!(signal(output), Some(libc::SIGABRT), "{text}");
            assert!(
                text.contains("has overflowed its stack of 8192 KiB"),
                "{text}"
            );
        },
    },
    Case {
        name: "hogs_are_named_on_standard_error",
        child: || hogs(true),
        check: |output| {
            succeeded(output);
            let text = stderr(output);
            for name in ["hog 0", "hog 1"] {
                let start =
                    format!("multi-goro: task \"{name}\" started at multi-goro/tests/solo.rs:");
                let lines: Vec<_> = text.lines().filter(|l| l.starts_with(&start)).collect();
                assert_eq!(lines.len(), 1, "{text}");
                assert!(lines[0].contains("while others wait to start"), "{text}");
                assert!(lines[0].contains("call checkpoint()"), "{text}");
            }
        },
    },
    Case {
        name: "hogs_are_not_named_if_nobody_wants_it",
        child: || hogs(false),
        check: |output| {
            succeeded(output);
            assert_eq!(stderr(output), "");
        },
    },
    Case {
        name: "no_thread_of_an_idle_runtime_wakes_up",
        child: idle_runtime,
        check: succeeded,
    },
    Case {
        name: "bad_workers_variable_is_named",
        child: bad_variable,
        check: |output| {
            assert!(!output.status.success());
            let text = stderr(output);
            assert!(
                text.contains("MULTI_WORKERS=\"many\" is not a number of workers"),
                "{text}"
            );
        },
    },
    Case {
        name: "os_thread_in_a_forked_child_is_an_error_and_never_a_hang",
        child: forked_with_an_os_thread,
        check: succeeded,
    },
    Case {
        name: "os_thread_that_the_system_refuses_is_an_error",
        child: os_thread_refused,
        check: succeeded,
    },
    Case {
        // Rule 1 of the safety page; `tests/task_local.rs` shows the remedies.
        name: "scoped_thread_local_is_wrong_where_its_callback_switches",
        child: scoped_thread_local,
        check: |output| {
            assert_eq!(output.status.code(), Some(101), "{:?}", output.status);
            let text = stderr(output);
            assert!(text.contains("each task sees its own value"), "{text}");
        },
    },
    #[cfg(not(feature = "portable-switch"))]
    Case {
        name: "backtrace_of_a_task_ends_at_its_root",
        child: backtrace,
        check: succeeded,
    },
];

fn main() -> ExitCode {
    if let Ok(name) = std::env::var("MULTI_GORO_SOLO") {
        let case = CASES
            .iter()
            .find(|case| case.name == name)
            .expect("a case of this file");
        // Those cases count threads, and end by themselves.
        let _dog = (!case.name.starts_with("deadlock")).then(|| watchdog(30));
        (case.child)();
        return ExitCode::SUCCESS;
    }
    // The first argument that is no option is a filter, as in the usual harness.
    let filter = std::env::args()
        .skip(1)
        .find(|arg| !arg.starts_with('-'))
        .unwrap_or_default();
    let chosen = CASES.iter().filter(|case| case.name.contains(&filter));
    let mut failed = 0;
    let mut passed = 0;
    for case in chosen {
        let this = std::env::current_exe().expect("this program has a path");
        let mut command = Command::new(this);
        command
            .env("MULTI_GORO_SOLO", case.name)
            .env_remove("RUST_BACKTRACE");
        if case.name.starts_with("bad_workers") {
            command.env("MULTI_WORKERS", "many");
        }
        let output = command.output().expect("this program runs");
        match std::panic::catch_unwind(|| (case.check)(&output)) {
            Ok(()) => {
                passed += 1;
                println!("test {} ... ok", case.name);
            }
            Err(_) => {
                failed += 1;
                println!("test {} ... FAILED", case.name);
            }
        }
    }
    let verdict = if failed == 0 { "ok" } else { "FAILED" };
    println!(
        "\ntest result: {verdict}. {passed} passed; {failed} failed; 0 ignored; 0 measured; 0 filtered out"
    );
    ExitCode::from(u8::from(failed > 0))
}

fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

fn signal(output: &Output) -> Option<i32> {
    std::os::unix::process::ExitStatusExt::signal(&output.status)
}

fn succeeded(output: &Output) {
    assert!(
        output.status.success(),
        "{:?}: {}",
        output.status,
        stderr(output)
    );
}

#[expect(unconditional_recursion, reason = "overflows on purpose")]
fn dive(depth: usize) -> usize {
    let frame = std::hint::black_box([depth; 32]);
    dive(depth + 1) + frame[7]
}

fn overflow() {
    let mut group = Group::new();
    group.go_with(multi_goro::TaskOptions::new().name("deep"), || {
        std::hint::black_box(dive(0));
        Ok(())
    });
    drop(group.wait());
}

/// Ends the process with SIGALRM after some seconds.
#[expect(unsafe_code, reason = "sets a timer")]
fn end_in(seconds: u32) {
    // SAFETY: only sets a timer.
    unsafe { libc::alarm(seconds) };
}

/// Each task waits for a value that the other is to send, and two threads for the tasks.
fn deadlock() {
    end_in(10);
    let (tx, rx) = chan::<u8>(0);
    let (other_tx, other_rx) = chan::<u8>(0);
    let mut group = Group::new();
    group.go_with(multi_goro::TaskOptions::new().name("first"), move || {
        let value = rx.recv()?;
        Ok(other_tx.send(value)?)
    });
    let second = tx.clone();
    let thread = std::thread::spawn(move || {
        let mut group = Group::new();
        group.go(move || Ok(second.send(other_rx.recv()?)?));
        drop(group.wait());
    });
    drop(group.wait());
    drop((tx, thread.join()));
}

/// A thread that sleeps, and then sends what everybody waits for.
fn late_sender() {
    end_in(20);
    let (tx, rx) = chan::<u8>(0);
    let thread = std::thread::spawn(move || {
        std::thread::sleep(Duration::from_secs(5));
        tx.send(7)
    });
    let mut group = Group::new();
    group.go(move || {
        assert_eq!(rx.recv(), Ok(7));
        Ok(())
    });
    group.wait().expect("it is sent");
    thread.join().expect("no panic").expect("received");
}

fn overflow_of_a_thread() {
    Group::new().wait().expect("nothing to wait for");
    let thread = std::thread::spawn(|| std::hint::black_box(dive(0)));
    drop(thread.join());
}

fn overflow_in_joins() {
    fn dive(depth: usize) -> usize {
        let (a, b) = multi_goro::join(|| dive(depth + 1), || std::hint::black_box(depth));
        a + b
    }
    let mut group = Group::new();
    group.go_with(multi_goro::TaskOptions::new().name("joins"), || {
        std::hint::black_box(dive(0));
        Ok(())
    });
    drop(group.wait());
}

#[expect(unsafe_code, reason = "faults on purpose")]
fn wild_access() {
    let mut group = Group::new();
    group.go(|| {
        // SAFETY: none: the fault is the test.
        unsafe { std::ptr::without_provenance::<u8>(64).read_volatile() };
        Ok(())
    });
    drop(group.wait());
}

fn forked_with_an_os_thread() {
    let os = OsThread::spawn("parent's").expect("a thread");
    let mut group = os.group();
    group.go(|| Ok(()));
    group.wait().expect("the parent has the thread");
    let check = |os: &OsThread| {
        let error = os.try_run(|| ()).expect_err("not here");
        assert!(error.is_in_forked_child(), "{error}");
        assert!(error.to_string().contains("\"parent's\""), "{error}");
        assert!(os.try_go(|| Ok(())).is_err());
        let mut group = os.group();
        group.go(|| Ok(()));
        let text = group.wait().expect_err("not here").to_string();
        assert!(text.contains("forked child does not have"), "{text}");
        let own = OsThread::spawn("child's").expect("a thread of the child's");
        assert_eq!(own.run(|| 7), 7);
    };
    in_a_fork(|| check(&os));
    // From a task of the thread: the child has that task's stack, and nobody to schedule it.
    os.run(|| in_a_fork(|| check(&os)));
    let mut tasks = ThreadLoop::new().expect("a descriptor");
    let thread = tasks.thread();
    thread.go(|| Ok(()));
    in_a_fork(move || {
        assert!(!tasks.run_for(Duration::from_secs(5)));
        drop(tasks);
    });
}

/// Sets one of this process's own limits, as low as it likes.
#[expect(unsafe_code, reason = "sets a limit")]
fn lower_limit(which: libc::__rlimit_resource_t, to: u64) {
    let limit = libc::rlimit {
        rlim_cur: to,
        rlim_max: to,
    };
    // SAFETY: only lowers this process's own limit.
    let code = unsafe { libc::setrlimit(which, &raw const limit) };
    assert_eq!(code, 0);
}

fn os_thread_refused() {
    let check = |error: &OsThreadError| {
        assert!(error.is_refused(), "{error}");
        assert!(
            error.to_string().contains("refused by the system"),
            "{error}"
        );
        assert!(std::error::Error::source(error).is_some());
    };
    lower_limit(libc::RLIMIT_NOFILE, 0);
    check(&ThreadLoop::new().expect_err("no descriptor"));
    // No more memory, and so no stack for a thread.
    lower_limit(libc::RLIMIT_AS, 1 << 20);
    check(&OsThread::spawn("refused").expect_err("no thread"));
}

/// Two tasks of one worker, each in a scope of its own in which it yields.
fn scoped_thread_local() {
    thread_local! { static CURRENT: Cell<u32> = const { Cell::new(0) } }
    // As the scoped thread-local crates do it: save, set, call back, restore.
    let scoped = |value| {
        let before = CURRENT.replace(value);
        yield_now();
        let seen = CURRENT.get();
        CURRENT.set(before);
        seen
    };
    let runtime = Runtime::builder().workers(1).build().expect("one worker");
    // Both are there before either runs: their parent has the one worker.
    let seen = runtime.run(move || {
        let group = Group::new();
        let seen = [1, 2].map(|n| group.spawn(move || Ok(scoped(n))));
        seen.map(|seen| seen.join().expect("a number"))
    });
    assert_eq!(seen, [1, 2], "each task sees its own value");
}

/// Runs `child` in a forked child and wants it to exit with 0 within a few seconds.
#[expect(unsafe_code, reason = "forks")]
fn in_a_fork(child: impl FnOnce()) {
    // SAFETY: the child runs `child` and leaves; what it calls must not need other threads, which is what is tested.
    let pid = unsafe { libc::fork() };
    assert!(pid >= 0);
    if pid == 0 {
        // SAFETY: only sets a timer: a hang ends with SIGALRM.
        unsafe { libc::alarm(10) };
        let outcome = std::panic::catch_unwind(std::panic::AssertUnwindSafe(child));
        // SAFETY: leaves at once.
        unsafe { libc::_exit(i32::from(outcome.is_err())) };
    }
    reap(pid);
}

#[expect(unsafe_code, reason = "waits for a child")]
fn reap(pid: libc::pid_t) {
    let mut status = 0;
    // SAFETY: waits for the child just made.
    let reaped = unsafe { libc::waitpid(pid, &raw mut status, 0) };
    assert_eq!(
        (reaped, status),
        (pid, 0),
        "the child failed or hung (14: SIGALRM)"
    );
}

fn expect_foreign(group: &mut Group) {
    group.go(|| Ok(()));
    let text = group.wait().expect_err("no workers here").to_string();
    assert!(text.contains("belongs to process"), "{text}");
    assert!(text.contains("forked child"), "{text}");
}

fn forked() {
    let mut group = Group::new();
    group.go(|| Ok(()));
    group.wait().expect("the parent has workers");
    let parent = std::process::id();
    in_a_fork(move || {
        expect_foreign(&mut group);
        expect_foreign(&mut Group::new());
        assert!(group.try_go(|| Ok(())).is_err());
        let error = multi_goro::scope(|s| s.go(|| Ok(()))).expect_err("no workers here");
        assert!(
            error.to_string().contains(&format!("process {parent}")),
            "{error}"
        );
        multi_goro::sleep(Duration::from_millis(1));
        assert_eq!(multi_goro::blocking(|| 7), 7);
        let (tx, rx) = chan(1);
        tx.send(1).expect("room");
        assert_eq!(rx.recv(), Ok(1));
        assert!(rx.recv_timeout(Duration::from_millis(1)).is_err());
    });
}

fn forked_from_a_task() {
    let runtime = Runtime::builder().workers(2).build().expect("two workers");
    runtime.run(|| {
        in_a_fork(|| {
            expect_foreign(&mut runtime.group());
            yield_now();
            multi_goro::sleep(Duration::from_millis(1));
            assert_eq!(multi_goro::blocking(|| 7), 7);
            let (_tx, rx) = chan::<u8>(0);
            assert!(rx.recv_timeout(Duration::from_millis(1)).is_err());
        });
        yield_now();
    });
}

fn forked_from_a_task_with_values() {
    multi_goro::task_local! { static VALUE: Cell<u32> = Cell::new(0); }
    let runtime = Runtime::builder().workers(1).build().expect("a worker");
    runtime.run(|| {
        VALUE.set(5);
        in_a_fork(|| {
            assert_eq!(VALUE.get(), 5);
            VALUE.set(6);
            // What runs there are tasks of their own, which come back to this one.
            let inside =
                OsThread::main(|thread| thread.run(|| VALUE.with(|value| value.replace(7))));
            assert_eq!((inside, VALUE.get()), (0, 6));
            let mut tasks = ThreadLoop::new().expect("a descriptor");
            let (thread, (tx, rx)) = (tasks.thread(), chan(1));
            thread.go(move || Ok(tx.send(VALUE.get())?));
            assert!(!tasks.run_for(Duration::from_secs(5)));
            assert_eq!((rx.recv(), VALUE.get()), (Ok(0), 6));
        });
        assert_eq!(VALUE.get(), 5);
    });
}

#[expect(unsafe_code, reason = "forks")]
fn forked_and_returned() {
    let runtime = Runtime::builder().workers(1).build().expect("a worker");
    let mut group = runtime.group();
    let parent = std::process::id();
    group.go(|| {
        // SAFETY: the child only returns, which is what is tested; a hang ends with SIGALRM.
        let pid = unsafe { libc::fork() };
        if pid == 0 {
            // SAFETY: only sets a timer.
            unsafe { libc::alarm(10) };
            return Ok(());
        }
        let mut status = 0;
        // SAFETY: waits for the child just made.
        let reaped = unsafe { libc::waitpid(pid, &raw mut status, 0) };
        assert_eq!(reaped, pid);
        assert_eq!(
            status & 0x7f,
            libc::SIGABRT,
            "the child ended with {status:#x}"
        );
        Ok(())
    });
    for _ in 0..3 {
        group.go(move || {
            assert_eq!(std::process::id(), parent, "run in the child");
            Ok(())
        });
    }
    group.wait().expect("the parent goes on");
}

fn refused_while_closing() {
    /// The destructor of a closure that takes its time.
    struct Slow;
    impl Drop for Slow {
        fn drop(&mut self) {
            std::thread::sleep(Duration::from_millis(400));
        }
    }
    let runtime = Runtime::builder().workers(2).build().expect("two workers");
    let mut group = runtime.group();
    let spawner = group.spawner();
    group.go(move || {
        drop(runtime);
        std::thread::sleep(Duration::from_millis(200));
        Ok(())
    });
    std::thread::sleep(Duration::from_millis(100));
    // Counted while the workers find nothing more to do and look whether they may leave.
    let slow = Slow;
    spawner.go(move || {
        let _kept = &slow;
        Ok(())
    });
    let text = group.wait().expect_err("refused").to_string();
    assert!(text.contains("has been shut down"), "{text}");
    drop((group, spawner));
    while thread_names().iter().any(|name| name.starts_with("goro-")) {
        // The watchdog ends this if they stay.
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// The names of this process's threads.
fn thread_names() -> Vec<String> {
    let tasks = std::fs::read_dir("/proc/self/task").expect("proc");
    tasks
        .filter_map(|task| std::fs::read_to_string(task.ok()?.path().join("comm")).ok())
        .collect()
}

fn works(runtime: &Runtime) {
    let mut group = runtime.group();
    for _ in 0..100 {
        group.go(|| {
            multi_goro::sleep(Duration::from_millis(5));
            Ok(())
        });
    }
    group.wait().expect("nothing fails");
}

fn build_where_fences_are_refused() -> Result<Runtime, multi_goro::BuildError> {
    std::thread::spawn(|| {
        seccomp::refuse_membarrier();
        Runtime::builder().workers(2).build()
    })
    .join()
    .expect("no panic")
}

fn fences_refused_later() {
    let first = Runtime::builder().workers(2).build().expect("two workers");
    works(&first);
    let error = build_where_fences_are_refused().expect_err("refused");
    assert!(
        error
            .to_string()
            .contains("membarrier(2) worked for the first"),
        "{error}"
    );
    works(&first);
}

fn fences_refused_first() {
    let first = build_where_fences_are_refused().expect("its fences are its own");
    works(&first);
    let second = Runtime::builder().workers(2).build().expect("two workers");
    works(&second);
    works(&first);
}

fn forked_in_a_join() {
    // With one worker nobody takes the second half while the first runs.
    for workers in [1, 2] {
        let runtime = Runtime::builder()
            .workers(workers)
            .build()
            .expect("workers");
        runtime.run(|| fork_in_a_half(workers == 2));
    }
}

/// Forks in the first half of a join, while another worker runs the second half or nobody does.
#[expect(unsafe_code, reason = "forks")]
fn fork_in_a_half(stolen: bool) {
    let (tell, told) = std::sync::mpsc::channel();
    let mut pid = 0;
    let forked = &mut pid;
    let fork = move || {
        if stolen {
            told.recv().expect("another worker begins with it");
        }
        // SAFETY: the child ends the join, and leaves.
        *forked = unsafe { libc::fork() };
        if *forked == 0 {
            // SAFETY: only sets a timer: a hang ends with SIGALRM.
            unsafe { libc::alarm(10) };
        }
    };
    let second = move || {
        if stolen {
            tell.send(()).expect("the first half waits for it");
            std::thread::sleep(Duration::from_millis(100));
        }
        multi_goro::join(|| 3, || 4)
    };
    let joined = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        multi_goro::join(fork, second)
    }));
    if pid == 0 {
        let is_right = match joined {
            Ok(((), (3, 4))) => !stolen,
            Ok(_) => false,
            Err(panic) => {
                let text = panic.downcast_ref::<&str>().expect("a message");
                stolen && text.contains("fork outside of `join`")
            }
        };
        // SAFETY: leaves at once.
        unsafe { libc::_exit(i32::from(!is_right)) };
    }
    assert_eq!(joined.expect("the parent has everything"), ((), (3, 4)));
    reap(pid);
}

fn forked_with_tasks() {
    for mut group in [Group::new(), Group::locked()] {
        let (tx, rx) = chan::<()>(0);
        group.go(move || {
            assert!(rx.recv().is_err());
            Ok(())
        });
        let group = &mut group;
        in_a_fork(|| {
            let panic = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| group.wait()));
            let text = panic.expect_err("the tasks are not here");
            let text = text.downcast_ref::<String>().expect("a message");
            assert!(
                text.contains("a forked child cannot wait for them"),
                "{text}"
            );
            drop(std::mem::replace(group, Group::new()));
        });
        drop(tx);
        group.wait().expect("the parent's task ends");
    }
}

fn forked_with_futures() {
    let runtime = Runtime::builder().workers(2).build().expect("two workers");
    let mut group = runtime.group();
    let (tx, rx) = chan::<u8>(0);
    let (give, wakers) = chan::<Waker>(1);
    group.go_async(async move {
        let mut waiting = Box::pin(rx.recv_async());
        let got = poll_fn(|context| {
            // Full from the second poll on.
            give.try_send(context.waker().clone()).ok();
            waiting.as_mut().poll(context)
        });
        assert_eq!(got.await, Ok(7));
        Ok(())
    });
    let waker = wakers.recv().expect("it was polled");
    let child = || {
        // Of a task that waits in the parent: nobody polls it here.
        for _ in 0..2 {
            waker.wake_by_ref();
            let other = waker.clone();
            other.wake();
        }
        expect_foreign(&mut runtime.group());
        let mut refused = runtime.group();
        refused.go_async(async { Ok(()) });
        assert!(refused.wait().is_err());
        // What a thread needs nobody for works.
        let (tx, rx) = chan(1);
        block_on(tx.send_async(1)).expect("room");
        assert_eq!(block_on(rx.recv_async()), Ok(1));
    };
    in_a_fork(child);
    // From a task, on a worker that the child believes to be.
    runtime.run(|| in_a_fork(child));
    // And from a poll.
    block_on(async { in_a_fork(child) });
    tx.send(7).expect("it waits still");
    group.wait().expect("it was not harmed");
    waker.wake();
}

fn no_memory_for_a_poll() {
    let runtime = Runtime::builder().workers(1).build().expect("a worker");
    let (mut full, tx) = use_up_stacks(&runtime);
    let mut group = Group::builder()
        .runtime(&runtime)
        .stack_bytes(8 << 20)
        .build()
        .expect("a group");
    group.go_async(async { Ok(()) });
    let text = group.wait().expect_err("no stack to poll on").to_string();
    assert!(text.contains("no stack of "), "{text}");
    drop(tx);
    full.wait().expect_err("memory for all of them");
    group.go_async(async { Ok(()) });
    group.wait().expect("stacks that are free again");
}

fn runtime_in_a_child() {
    Group::new().wait().expect("nothing to wait for");
    in_a_fork(|| {
        let runtime = Runtime::builder().workers(2).build().expect("two workers");
        let mut group = runtime.group();
        for _ in 0..100 {
            group.go(|| {
                multi_goro::sleep(Duration::from_micros(10));
                Ok(())
            });
        }
        group.wait().expect("this child has workers");
    });
}

fn no_memory_for_stacks() {
    let runtime = Runtime::builder().workers(1).build().expect("a worker");
    let (mut group, tx) = use_up_stacks(&runtime);
    drop(tx);
    let error = group.wait().expect_err("memory for all of them");
    let failed = error.failed_count();
    assert!((1..100).contains(&failed), "{failed} failed");
    let text = error.to_string();
    assert!(
        text.contains("no stack of 8388608 bytes for the task"),
        "{text}"
    );
    assert!(text.contains("start fewer tasks at a time"), "{text}");
    // The stacks of those that ran serve the next.
    for _ in 0..5 {
        group.go(|| Ok(()));
    }
    group.wait().expect("stacks that are free again");
}

fn no_memory_for_a_half() {
    multi_goro::task_local! { static OF_CALLER: Cell<bool> = Cell::new(false) }
    let runtime = Runtime::builder()
        .workers(1)
        .stack_bytes(8 << 20)
        .build()
        .expect("a worker");
    let (a, b) = runtime.run(|| {
        let (mut group, tx) = use_up_stacks(&runtime);
        OF_CALLER.set(true);
        // The worker has nothing else to do meanwhile, and takes the second half.
        let joined = multi_goro::join(
            || multi_goro::sleep(Duration::from_millis(20)),
            || OF_CALLER.get(),
        );
        drop(tx);
        group.wait().expect_err("memory for all of them");
        joined
    });
    assert_eq!((a, b), ((), true));
}

/// Limits the memory, and starts tasks that park until one gets no stack. They end when the sender is dropped.
#[expect(unsafe_code, reason = "sets a resource limit")]
fn use_up_stacks(runtime: &Runtime) -> (Group, multi_goro::Sender<()>) {
    let status = std::fs::read_to_string("/proc/self/statm").expect("proc");
    let pages: u64 = status
        .split(' ')
        .next()
        .and_then(|n| n.parse().ok())
        .expect("a number");
    // Room for some tasks of 8 MiB, not for a hundred.
    let room = 200 << 20;
    let limit = libc::rlimit {
        rlim_cur: pages * 4096 + room,
        rlim_max: libc::RLIM_INFINITY,
    };
    // SAFETY: only lowers this process's own limit.
    let code = unsafe { libc::setrlimit(libc::RLIMIT_AS, &raw const limit) };
    assert_eq!(code, 0);
    let group = Group::builder()
        .runtime(runtime)
        .stack_bytes(8 << 20)
        .build()
        .expect("a group");
    let (tx, rx) = chan::<()>(0);
    for _ in 0..100 {
        let rx = rx.clone();
        group.go(move || {
            assert!(rx.recv().is_err());
            Ok(())
        });
    }
    while group.progress().failed == 0 {
        multi_goro::sleep(Duration::from_millis(1));
    }
    (group, tx)
}

fn overflow_of(bytes: usize) {
    let mut group = Group::builder()
        .stack_bytes(bytes)
        .build()
        .expect("a group");
    group.go(|| {
        std::hint::black_box(dive(0));
        Ok(())
    });
    drop(group.wait());
}

/// Bytes of memory that are there.
fn resident() -> usize {
    let status = std::fs::read_to_string("/proc/self/statm").expect("proc");
    let pages = status.split(' ').nth(1).and_then(|n| n.parse().ok());
    4096 * pages.unwrap_or(0_usize)
}

#[cfg(all(target_arch = "x86_64", not(feature = "portable-switch")))]
fn deep_and_waiting() {
    const TASKS: usize = 600;
    /// Uses 40 KiB below `top`.
    fn deep(top: usize) -> usize {
        let frame = std::hint::black_box([1_u8; 256]);
        if top - frame.as_ptr().addr() > 40 << 10 {
            return 0;
        }
        deep(top) + usize::from(std::hint::black_box(&frame)[5])
    }
    let runtime = Runtime::builder().workers(1).build().expect("a worker");
    let before = resident();
    let (tx, rx) = chan::<()>(0);
    let mut group = runtime.group();
    let (dived, dives) = std::sync::mpsc::channel();
    for nth in 0..TASKS {
        let (rx, dived) = (rx.clone(), dived.clone());
        group.go(move || {
            let kept = std::hint::black_box([nth; 300]);
            for _ in 0..2 {
                assert!(deep(kept.as_ptr().addr()) > 10);
                dived.send(())?;
                rx.recv()?;
                assert!(kept.iter().all(|word| *word == nth));
            }
            Ok(())
        });
    }
    let per_task = || resident().saturating_sub(before) / TASKS;
    for _ in 0..2 {
        assert_eq!(dives.iter().take(TASKS).count(), TASKS);
        // Of some 44 KiB.
        while per_task() > 16 << 10 {
            std::thread::sleep(Duration::from_millis(20));
        }
        for _ in 0..TASKS {
            tx.send(()).expect("somebody waits");
        }
    }
    group.wait().expect("what the tasks kept is there");
}

fn mappings() -> usize {
    let maps = std::fs::read_to_string("/proc/self/maps").expect("proc");
    maps.lines().count()
}

/// Starts tasks with small stacks that wait until the sender is dropped, up to `count` or until one fails.
fn crowd(runtime: &Runtime, count: usize) -> (Group, multi_goro::Sender<()>) {
    let group = Group::builder()
        .runtime(runtime)
        .stack_bytes(16 << 10)
        .build()
        .expect("a group");
    let (tx, rx) = chan::<()>(0);
    for _ in 0..count {
        let rx = rx.clone();
        group.go(move || {
            assert!(rx.recv().is_err());
            Ok(())
        });
        if group.progress().failed > 0 {
            break;
        }
    }
    (group, tx)
}

fn many_guarded_stacks() {
    const TASKS: u64 = 40_000;
    let runtime = Runtime::builder().workers(2).build().expect("two workers");
    let before = mappings();
    let (mut group, tx) = crowd(&runtime, TASKS as usize);
    while group.progress().running < TASKS && group.progress().failed == 0 {
        std::thread::sleep(Duration::from_millis(1));
    }
    assert_eq!(group.progress().failed, 0);
    // On kernels without guards inside mappings each is one of its own, and this is above their ceiling.
    assert!(mappings() < before + 100, "{} mappings", mappings());
    drop(tx);
    group.wait().expect("they all end");
}

/// Has the kernel refuse guards inside mappings, as it did before Linux 6.13.
#[cfg(target_arch = "x86_64")]
#[expect(unsafe_code, reason = "installs a filter of system calls")]
fn refuse_guards() {
    const GUARD_INSTALL: u32 = 102;
    let code = |code: u32| u16::try_from(code).expect("a code");
    let load = |offset| libc::sock_filter {
        code: code(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS),
        jt: 0,
        jf: 0,
        k: offset,
    };
    let unless = |k, jf| libc::sock_filter {
        code: code(libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K),
        jt: 0,
        jf,
        k,
    };
    let answer = |k| libc::sock_filter {
        code: code(libc::BPF_RET | libc::BPF_K),
        jt: 0,
        jf: 0,
        k,
    };
    // struct seccomp_data: the number of the call, .., its arguments from byte 16 on.
    let mut filter = [
        load(0),
        unless(libc::SYS_madvise as u32, 3),
        load(16 + 2 * 8),
        unless(GUARD_INSTALL, 1),
        answer(libc::SECCOMP_RET_ERRNO | libc::EINVAL as u32),
        answer(libc::SECCOMP_RET_ALLOW),
    ];
    let program = libc::sock_fprog {
        len: filter.len() as u16,
        filter: filter.as_mut_ptr(),
    };
    // SAFETY: takes numbers only.
    let set = unsafe { libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) };
    assert_eq!(set, 0);
    // SAFETY: the program is alive for the call.
    let installed = unsafe {
        libc::prctl(
            libc::PR_SET_SECCOMP,
            libc::SECCOMP_MODE_FILTER,
            &raw const program,
        )
    };
    assert_eq!(installed, 0);
}

#[cfg(target_arch = "x86_64")]
fn ceiling_of_mappings() {
    let ceiling = std::fs::read_to_string("/proc/sys/vm/max_map_count").expect("proc");
    let ceiling: usize = ceiling.trim().parse().expect("a number");
    if ceiling > 200_000 {
        // Out of reach here.
        return;
    }
    refuse_guards();
    let runtime = Runtime::builder().workers(2).build().expect("two workers");
    let (mut group, tx) = crowd(&runtime, ceiling);
    while group.progress().failed == 0 {
        std::thread::sleep(Duration::from_millis(1));
    }
    let running = group.progress().running;
    assert!(
        running as usize > ceiling / 2 - 1000,
        "{running} have a stack"
    );
    drop(tx);
    let text = group.wait().expect_err("stacks for all").to_string();
    assert!(
        text.contains("no stack of 16384 bytes for the task"),
        "{text}"
    );
    assert!(text.contains("vm.max_map_count"), "{text}");
    // The stacks of those that ran serve the next.
    for _ in 0..1000 {
        group.go(|| Ok(()));
    }
    group.wait().expect("stacks that are free again");
}

fn no_stacks_in_forks() {
    for keep in [true, false] {
        let runtime = Runtime::builder()
            .workers(1)
            .stacks_in_forks(keep)
            .build()
            .expect("a worker");
        let (tx, rx) = chan::<()>(0);
        let (tell, told) = std::sync::mpsc::channel();
        let mut group = runtime.group();
        group.go(move || {
            let local = std::hint::black_box(7);
            tell.send((&raw const local).addr())?;
            let _closed = rx.recv();
            Ok(())
        });
        let address = told.recv().expect("the task runs");
        let is_mapped = move || {
            let maps = std::fs::read_to_string("/proc/self/maps").expect("proc");
            maps.lines().any(|line| {
                let range = line
                    .split(' ')
                    .next()
                    .and_then(|range| range.split_once('-'));
                let (start, end) = range.expect("a range");
                let [start, end] =
                    [start, end].map(|n| usize::from_str_radix(n, 16).expect("an address"));
                (start..end).contains(&address)
            })
        };
        assert!(is_mapped());
        in_a_fork(move || assert_eq!(is_mapped(), keep));
        assert!(is_mapped());
        drop(tx);
        group.wait().expect("the parent's task ends");
    }
}

/// Two tasks keep two workers until a third has run.
fn hogs(report: bool) {
    let runtime = Runtime::builder()
        .workers(2)
        .report_stuck(report)
        .build()
        .expect("two workers");
    let (begun, begins) = std::sync::mpsc::channel();
    let (end, ends) = std::sync::mpsc::channel::<()>();
    let ends = std::sync::Arc::new(std::sync::Mutex::new(ends));
    let mut group = runtime.group();
    for nth in 0..2 {
        let (begun, ends) = (begun.clone(), ends.clone());
        let name = format!("hog {nth}");
        group.go_with(multi_goro::TaskOptions::new().name(name), move || {
            begun.send(())?;
            // A lock of std, held and waited for: it keeps the worker.
            let _ended = ends.lock().map(|ends| ends.recv());
            Ok(())
        });
    }
    for _ in 0..2 {
        begins.recv().expect("both begin");
    }
    // Longer than one is stuck, so that both are when the first task waits to start.
    std::thread::sleep(Duration::from_millis(50));
    for _ in 0..6 {
        assert_eq!(runtime.run(|| 7), 7);
        std::thread::sleep(Duration::from_millis(30));
    }
    drop(end);
    group.wait().expect("both end");
}

/// How often threads of runtimes have gone to sleep.
fn sleeps() -> u64 {
    let mut sum = 0;
    for task in std::fs::read_dir("/proc/self/task").expect("proc") {
        let path = task.expect("a thread").path();
        let name = std::fs::read_to_string(path.join("comm")).expect("a name");
        if !name.starts_with("goro-") {
            continue;
        }
        let status = std::fs::read_to_string(path.join("status")).expect("a status");
        let count = status
            .lines()
            .find_map(|line| line.strip_prefix("voluntary_ctxt_switches:"))
            .and_then(|count| count.trim().parse::<u64>().ok());
        sum += count.expect("a count of switches");
    }
    sum
}

fn idle_runtime() {
    let runtime = Runtime::builder().workers(2).build().expect("two workers");
    runtime.run(|| {
        let mut group = Group::new();
        for _ in 0..1000 {
            group.go(|| Ok(()));
        }
        group.wait().expect("fine");
    });
    // A started task that waits keeps nobody awake.
    let (tx, rx) = chan::<()>(0);
    let mut group = runtime.group();
    group.go(move || {
        let _closed = rx.recv();
        Ok(())
    });
    loop {
        std::thread::sleep(Duration::from_millis(100));
        let before = sleeps();
        std::thread::sleep(Duration::from_millis(200));
        if sleeps() == before {
            break;
        }
    }
    drop(tx);
    group.wait().expect("fine");
}

fn threads() -> usize {
    std::fs::read_dir("/proc/self/task").expect("proc").count()
}

fn no_thread_left() {
    let before = threads();
    for _ in 0..100 {
        let runtime = Runtime::builder().workers(2).build().expect("two workers");
        let mut group = runtime.group();
        for _ in 0..4 {
            group.go(|| Ok(()));
        }
        group.wait().expect("fine");
    }
    hogs(false);
    for _ in 0..100 {
        let mut group = Group::locked();
        for _ in 0..4 {
            group.go(|| Ok(()));
        }
        group.wait().expect("fine");
    }
    let descriptors = || std::fs::read_dir("/proc/self/fd").map(Iterator::count);
    let open = descriptors().expect("they are counted");
    for _ in 0..100 {
        let os = OsThread::spawn("short").expect("a thread");
        assert_eq!(os.run(|| 7), 7);
        let mut group = os.group();
        drop(os);
        group.go_locked(|| Ok(()));
        group.go(|| Ok(()));
        group.wait().expect("fine");
        drop(group);
        assert_eq!(OsThread::main(|os| os.run(|| 7)), 7);
        let mut tasks = ThreadLoop::new().expect("a descriptor");
        tasks.thread().go(|| Ok(()));
        tasks.run_ready(2);
    }
    assert_eq!(descriptors().expect("they are counted"), open);
    assert_eq!(threads(), before);
}

fn bad_variable() {
    let error = Group::builder()
        .build()
        .expect_err("the variable is bad")
        .to_string();
    assert!(error.contains("MULTI_WORKERS"), "{error}");
    drop(Group::new());
}

#[cfg(not(feature = "portable-switch"))]
fn backtrace() {
    let mut group = Group::new();
    group.go(|| {
        let text = std::backtrace::Backtrace::force_capture().to_string();
        let frames: Vec<_> = text
            .lines()
            .filter(|line| !line.trim_start().starts_with("at "))
            .collect();
        let last = frames.last().expect("some frames");
        assert!(last.contains("root"), "{text}");
        Ok(())
    });
    group.wait().expect("the backtrace ends where it should");
}
