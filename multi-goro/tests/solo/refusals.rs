//! What the system refuses: memory, threads, fences; and a variable that makes no sense.

use super::*;

/// Sets one of this process's own limits, as low as it likes.
#[expect(unsafe_code, reason = "sets a limit")]
pub(super) fn lower_limit(which: libc::__rlimit_resource_t, to: u64) {
    let limit = libc::rlimit {
        rlim_cur: to,
        rlim_max: to,
    };
    // SAFETY: only lowers this process's own limit.
    let code = unsafe { libc::setrlimit(which, &raw const limit) };
    assert_eq!(code, 0);
}

pub(super) fn os_thread_refused() {
    let check = |error: &OsThreadError| {
        assert!(error.is_refused(), "{error}");
        assert!(
            error.to_string().contains("refused by the system"),
            "{error}"
        );
        assert!(std::error::Error::source(error).is_some());
    };
    // Before there is no descriptor to read it by. In pages, of everything that is mapped.
    let statm = std::fs::read_to_string("/proc/self/statm").expect("statm");
    let pages = statm
        .split(' ')
        .next()
        .and_then(|pages| pages.parse::<u64>().ok());
    lower_limit(libc::RLIMIT_NOFILE, 0);
    check(&ThreadLoop::new().expect_err("no descriptor"));
    // No memory for the stack of a thread, but enough for what is said of that.
    lower_limit(libc::RLIMIT_AS, pages.expect("a number") * 4096 + (1 << 20));
    check(&OsThread::spawn("refused").expect_err("no thread"));
}

pub(super) fn works(runtime: &Runtime) {
    let mut group = runtime.group();
    for _ in 0..100 {
        group.go(|| {
            multi_goro::sleep(Duration::from_millis(5));
            Ok(())
        });
    }
    group.wait().expect("nothing fails");
}

pub(super) fn build_where_fences_are_refused() -> Result<Runtime, multi_goro::BuildError> {
    std::thread::spawn(|| {
        seccomp::refuse_membarrier();
        Runtime::builder().workers(2).build()
    })
    .join()
    .expect("no panic")
}

pub(super) fn fences_refused_later() {
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

pub(super) fn fences_refused_first() {
    let first = build_where_fences_are_refused().expect("its fences are its own");
    works(&first);
    let second = Runtime::builder().workers(2).build().expect("two workers");
    works(&second);
    works(&first);
}

pub(super) fn no_memory_for_a_poll() {
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

pub(super) fn no_memory_for_stacks() {
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

pub(super) fn no_memory_for_a_half() {
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
pub(super) fn use_up_stacks(runtime: &Runtime) -> (Group, multi_goro::Sender<()>) {
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

pub(super) fn bad_variable() {
    let error = Group::builder()
        .build()
        .expect_err("the variable is bad")
        .to_string();
    assert!(error.contains("MULTI_WORKERS"), "{error}");
    drop(Group::new());
}
