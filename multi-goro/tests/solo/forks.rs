//! Forked children: what works there, what is an error, and that nothing hangs.

use std::task::Poll;

use super::*;

pub(super) fn forked_with_an_os_thread() {
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

/// Runs `child` in a forked child and wants it to exit with 0 within a few seconds.
#[expect(unsafe_code, reason = "forks")]
pub(super) fn in_a_fork(child: impl FnOnce()) {
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
pub(super) fn reap(pid: libc::pid_t) {
    let mut status = 0;
    // SAFETY: waits for the child just made.
    let reaped = unsafe { libc::waitpid(pid, &raw mut status, 0) };
    assert_eq!(
        (reaped, status),
        (pid, 0),
        "the child failed or hung (14: SIGALRM)"
    );
}

pub(super) fn expect_foreign(group: &mut Group) {
    group.go(|| Ok(()));
    let text = group.wait().expect_err("no workers here").to_string();
    assert!(text.contains("belongs to process"), "{text}");
    assert!(text.contains("forked child"), "{text}");
}

pub(super) fn forked() {
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

pub(super) fn forked_from_a_task() {
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

pub(super) fn forked_from_a_task_with_values() {
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
pub(super) fn forked_and_returned() {
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

pub(super) fn forked_in_a_join() {
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
pub(super) fn fork_in_a_half(stolen: bool) {
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

pub(super) fn forked_with_tasks() {
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

pub(super) fn forked_with_futures() {
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

pub(super) fn runtime_in_a_child() {
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

pub(super) fn no_stacks_in_forks() {
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

/// A task polls a sleep again in a child that was forked while another thread dropped sleeps of the same worker.
pub(super) fn forked_beside_sleeps() {
    let sleep = |nth: u64| multi_goro::future::sleep(Duration::from_secs(3_600 + nth));
    let runtime = Runtime::builder()
        .workers(1)
        .report_stuck(false)
        .build()
        .expect("a runtime");
    let mut group = runtime.group();
    let (tx, rx) = chan(1);
    group.go_async(async move {
        let mut own = sleep(0);
        let mut others: Vec<_> = (0..100_000).map(sleep).collect();
        poll_fn(|context| {
            let mut poll = |one: &mut multi_goro::future::Sleep| {
                assert!(std::pin::Pin::new(one).poll(context).is_pending());
            };
            others.iter_mut().chain([&mut own]).for_each(&mut poll);
            tx.send(std::mem::take(&mut others)).expect("there is room");
            for _ in 0..10 {
                in_a_fork(|| poll(&mut own));
            }
            Poll::Ready(())
        })
        .await;
        Ok(())
    });
    drop(rx.recv());
    group.wait().expect("the parent goes on");
}
