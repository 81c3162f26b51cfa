//! Threads: who is left, who wakes up, who is stuck, and what all of them waiting is told as.

use std::sync::Arc;

use multi_goro::sync::Mutex;
use multi_goro::{TaskOptions, sleep};

use super::*;

/// Ends the process with SIGALRM after some seconds.
#[expect(unsafe_code, reason = "sets a timer")]
pub(super) fn end_in(seconds: u32) {
    // SAFETY: only sets a timer.
    unsafe { libc::alarm(seconds) };
}

/// Each task waits for a value that the other is to send, and two threads for the tasks.
pub(super) fn deadlock() {
    end_in(10);
    let (tx, rx) = chan::<u8>(0);
    let (other_tx, other_rx) = chan::<u8>(0);
    let mut group = Group::new();
    group.go_with(TaskOptions::new().name("first"), move || {
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
pub(super) fn late_sender() {
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

/// Two tasks of one worker, each in a scope of its own in which it yields.
pub(super) fn scoped_thread_local() {
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

pub(super) fn refused_while_closing() {
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
pub(super) fn thread_names() -> Vec<String> {
    let tasks = std::fs::read_dir("/proc/self/task").expect("proc");
    tasks
        .filter_map(|task| std::fs::read_to_string(task.ok()?.path().join("comm")).ok())
        .collect()
}

/// Two tasks keep two workers until a third has run.
pub(super) fn hogs(report: bool) {
    let runtime = Runtime::builder()
        .workers(2)
        .report_stuck(report)
        .build()
        .expect("two workers");
    let (begun, begins) = std::sync::mpsc::channel();
    let (end, ends) = std::sync::mpsc::channel::<()>();
    let ends = Arc::new(std::sync::Mutex::new(ends));
    let mut group = runtime.group();
    for nth in 0..2 {
        let (begun, ends) = (begun.clone(), ends.clone());
        let name = format!("hog {nth}");
        group.go_with(TaskOptions::new().name(name), move || {
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
pub(super) fn sleeps() -> u64 {
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

pub(super) fn idle_runtime() {
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

pub(super) fn thread_count() -> usize {
    std::fs::read_dir("/proc/self/task").expect("proc").count()
}

pub(super) fn no_thread_left() {
    let before = thread_count();
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
    assert_eq!(thread_count(), before);
}

/// Two tasks take two locks in two orders, a third goes on, and a fourth sleeps without a stack for longer than anybody waits for a report.
pub(crate) fn held_up() {
    let runtime = Runtime::builder().workers(2).build().unwrap();
    let group = runtime.group();
    let locks = Arc::new([Mutex::new(()), Mutex::new(())]);
    group.go_async(async {
        multi_goro::future::sleep(Duration::from_secs(3_600)).await;
        Ok(())
    });
    for (name, first) in [("one", 0), ("other", 1)] {
        let locks = Arc::clone(&locks);
        group.go_with(TaskOptions::new().name(name), move || {
            let _first = locks[first].lock();
            // The monitor dozes by then, until the sleeper is to be seen to.
            sleep(Duration::from_millis(100));
            let _second = locks[1 - first].lock();
            Ok(())
        });
    }
    let mut others = runtime.group();
    others.go(|| {
        // Long enough for the monitor to look twice.
        for _ in 0..350 {
            sleep(Duration::from_millis(10));
        }
        Ok(())
    });
    others.wait().unwrap();
    // They wait until the process ends.
    group.detach();
    let _kept = std::mem::ManuallyDrop::new(runtime);
}

/// One task that waits for a lock which it holds, among more that wait for a channel than are looked at at once.
pub(crate) fn waits_for_itself() {
    let runtime = Runtime::builder().workers(2).build().unwrap();
    let group = runtime.group();
    let (tx, rx) = chan::<()>(0);
    for _ in 0..5_000 {
        let rx = rx.clone();
        group.go(move || {
            assert!(rx.recv().is_err());
            Ok(())
        });
    }
    group.go_with(TaskOptions::new().name("twice"), || {
        let mutex = Mutex::new(());
        let _once = mutex.lock();
        let _twice = mutex.lock();
        Ok(())
    });
    // Long enough for the monitor to look twice.
    std::thread::sleep(Duration::from_millis(3_500));
    drop(tx);
    // That one waits until the process ends.
    group.detach();
    let _kept = std::mem::ManuallyDrop::new(runtime);
}
