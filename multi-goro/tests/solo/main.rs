//! What needs a process of its own: overflows that abort, forked children, limits on memory, counts of threads.
//!
//! Each case runs in a child made by re-executing this binary, so that one may end as badly as it likes.

#![expect(clippy::print_stdout, reason = "reports as a test runner does")]

#[path = "../common/mod.rs"]
mod common;
mod forks;
mod refusals;
#[path = "../common/seccomp.rs"]
mod seccomp;
mod stacks;
mod threads;

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
        child: stacks::overflow,
        check: |output| {
            let text = stderr(output);
            assert_eq!(signal(output), Some(libc::SIGABRT), "{text}");
            for part in [
                "multi-goro: task \"deep\" started at multi-goro/tests/solo/",
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
        child: stacks::wild_access,
        check: |output| {
            let text = stderr(output);
            assert_eq!(signal(output), Some(libc::SIGSEGV), "{text}");
            assert!(!text.contains("overflowed its stack"), "{text}");
        },
    },
    Case {
        name: "overflow_of_a_plain_thread_is_still_reported_by_rust",
        child: stacks::overflow_of_a_thread,
        check: |output| {
            let text = stderr(output);
            assert_eq!(signal(output), Some(libc::SIGABRT), "{text}");
            assert!(text.contains("has overflowed its stack"), "{text}");
            assert!(!text.contains("multi-goro"), "{text}");
        },
    },
    Case {
        name: "forked_child_gets_errors_and_never_hangs",
        child: forks::forked,
        check: succeeded,
    },
    Case {
        name: "forked_child_of_a_task_gets_errors_and_never_hangs",
        child: forks::forked_from_a_task,
        check: succeeded,
    },
    Case {
        name: "forked_child_of_a_task_keeps_its_values_and_can_lend_its_thread",
        child: forks::forked_from_a_task_with_values,
        check: succeeded,
    },
    Case {
        name: "forked_child_can_build_a_runtime_of_its_own",
        child: forks::runtime_in_a_child,
        check: succeeded,
    },
    Case {
        name: "forked_child_does_not_wait_for_the_parents_tasks",
        child: forks::forked_with_tasks,
        check: succeeded,
    },
    Case {
        name: "wakers_and_futures_in_a_forked_child_do_no_harm",
        child: forks::forked_with_futures,
        check: succeeded,
    },
    Case {
        name: "sleep_polled_again_in_a_forked_child_does_not_hang",
        child: forks::forked_beside_sleeps,
        check: succeeded,
    },
    Case {
        name: "poll_without_a_stack_is_a_start_error",
        child: refusals::no_memory_for_a_poll,
        check: succeeded,
    },
    Case {
        name: "task_without_a_stack_is_a_start_error_and_the_group_goes_on",
        child: refusals::no_memory_for_stacks,
        check: succeeded,
    },
    Case {
        name: "forked_child_inside_a_join_runs_the_second_half_or_panics",
        child: forks::forked_in_a_join,
        check: succeeded,
    },
    Case {
        name: "forked_child_whose_task_returns_ends_and_runs_no_other_task",
        child: forks::forked_and_returned,
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
        child: refusals::fences_refused_later,
        check: succeeded,
    },
    Case {
        name: "fences_refused_to_the_first_runtime_are_done_without_from_then_on",
        child: refusals::fences_refused_first,
        check: succeeded,
    },
    Case {
        name: "start_refused_by_a_closing_runtime_does_not_keep_its_workers",
        child: threads::refused_while_closing,
        check: succeeded,
    },
    Case {
        name: "second_half_that_gets_no_stack_is_run_by_the_caller",
        child: refusals::no_memory_for_a_half,
        check: succeeded,
    },
    Case {
        name: "overflow_of_nested_joins_names_the_task_and_the_remedy",
        child: stacks::overflow_in_joins,
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
        child: threads::deadlock,
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
        name: "deadlock_of_a_group_is_told_beside_tasks_that_go_on",
        child: threads::held_up,
        check: |output| {
            let text = stderr(output);
            assert!(output.status.success(), "{text}");
            for part in [
                "multi-goro: deadlock: 2 tasks of one group waiting for each other",
                "take locks in the same order",
                "task \"one\" started at multi-goro/tests/solo/threads.rs",
                "waits for a mutex",
                ", behind task \"other\" started at",
            ] {
                assert!(text.contains(part), "{part:?} is not in: {text}");
            }
            assert_eq!(text.matches("deadlock:").count(), 1, "told once: {text}");
        },
    },
    Case {
        name: "deadlock_of_one_task_is_told_among_thousands_that_may_go_on",
        child: threads::waits_for_itself,
        check: |output| {
            let text = stderr(output);
            assert!(output.status.success(), "{text}");
            for part in [
                "multi-goro: deadlock: 1 task of one group waiting for itself",
                "task \"twice\" started at multi-goro/tests/solo/threads.rs",
                ", which it holds itself",
            ] {
                assert!(text.contains(part), "{part:?} is not in: {text}");
            }
            assert_eq!(text.matches("deadlock:").count(), 1, "told once: {text}");
        },
    },
    Case {
        name: "deadlock_is_not_told_while_another_thread_may_end_it",
        child: threads::late_sender,
        check: |output| {
            let text = stderr(output);
            assert!(output.status.success(), "{text}");
            assert!(!text.contains("deadlock"), "{text}");
        },
    },
    Case {
        name: "groups_and_runtimes_leave_no_thread_behind",
        child: threads::no_thread_left,
        check: succeeded,
    },
    #[cfg(all(target_arch = "x86_64", not(feature = "portable-switch")))]
    Case {
        name: "deep_stacks_of_waiting_tasks_give_their_pages_back",
        child: stacks::deep_and_waiting,
        check: succeeded,
    },
    Case {
        name: "forty_thousand_guarded_stacks_take_few_mappings",
        child: stacks::many_guarded_stacks,
        check: succeeded,
    },
    #[cfg(target_arch = "x86_64")]
    Case {
        name: "older_kernels_reach_the_ceiling_of_mappings_with_an_error_that_says_so",
        child: stacks::ceiling_of_mappings,
        check: succeeded,
    },
    Case {
        name: "stacks_left_out_of_forks_are_not_in_a_child",
        child: forks::no_stacks_in_forks,
        check: succeeded,
    },
    Case {
        name: "overflow_of_the_smallest_stack_is_reported",
        child: || stacks::overflow_of(16 << 10),
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
        child: || stacks::overflow_of(8 << 20),
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
        child: || threads::hogs(true),
        check: |output| {
            succeeded(output);
            let text = stderr(output);
            for name in ["hog 0", "hog 1"] {
                let start =
                    format!("multi-goro: task \"{name}\" started at multi-goro/tests/solo/");
                let lines: Vec<_> = text.lines().filter(|l| l.starts_with(&start)).collect();
                assert_eq!(lines.len(), 1, "{text}");
                assert!(lines[0].contains("while others wait to start"), "{text}");
                assert!(lines[0].contains("call checkpoint()"), "{text}");
            }
        },
    },
    Case {
        name: "hogs_are_not_named_if_nobody_wants_it",
        child: || threads::hogs(false),
        check: |output| {
            succeeded(output);
            assert_eq!(stderr(output), "");
        },
    },
    Case {
        name: "no_thread_of_an_idle_runtime_wakes_up",
        child: threads::idle_runtime,
        check: succeeded,
    },
    Case {
        name: "bad_workers_variable_is_named",
        child: refusals::bad_variable,
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
        child: forks::forked_with_an_os_thread,
        check: succeeded,
    },
    Case {
        name: "os_thread_that_the_system_refuses_is_an_error",
        child: refusals::os_thread_refused,
        check: succeeded,
    },
    Case {
        // Rule 1 of the safety page; `tests/task_local.rs` shows the remedies.
        name: "scoped_thread_local_is_wrong_where_its_callback_switches",
        child: threads::scoped_thread_local,
        check: |output| {
            assert_eq!(output.status.code(), Some(101), "{:?}", output.status);
            let text = stderr(output);
            assert!(text.contains("each task sees its own value"), "{text}");
        },
    },
    #[cfg(not(feature = "portable-switch"))]
    Case {
        name: "backtrace_of_a_task_ends_at_its_root",
        child: stacks::backtrace,
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
