//! What a forked child inherits, loses and must not touch: the rows of the crate's table that no other test is about.

use crate::support::{self, Test, build, group, quick, sys};
use crate::tests;
use multi_proc::{Group, OtherThreads, Output, TaskErrorKind, shared_token};
use std::cell::RefCell;
use std::fs::{self, File};
use std::io::{Read as _, Seek as _, Write as _};
use std::path::PathBuf;
use std::process::Command;
use std::sync::mpsc;
use std::time::Duration;

pub(crate) const TESTS: &[Test] = &tests![
    what_is_registered_for_the_exit_runs_in_the_parent_alone,
    captured_values_are_dropped_on_both_sides,
    panic_hook_of_the_program_does_not_run_in_children,
    panic_payload_that_is_no_text_is_named_so,
    descriptors_are_shared_and_ours_end_at_an_exec,
    signal_mask_is_that_of_the_forking_thread,
    other_handlers_are_copied,
    alarms_are_not_inherited,
    epoll_instances_are_shared_with_the_parent,
    io_uring_rings_are_shared_with_the_parent,
    running_green_runtime_of_the_parent_refuses_in_a_child,
    group_works_from_a_green_task,
    child_makes_thread_pools_of_its_own,
    thread_pools_of_the_parent_are_reported_as_stuck,
    threads_are_denied_where_that_is_asked_for,
    threads_are_warned_of_once,
    child_that_gives_up_privileges_beforehand_still_ends_with_its_parent,
];

pub(crate) const SCENES: &[Test] = &tests![
    registers_for_the_exit,
    has_a_panic_hook,
    uses_the_parents_rayon,
    uses_the_parents_tokio,
    forks_with_a_thread,
];

struct SaysWhenDropped(u32);

impl Drop for SaysWhenDropped {
    fn drop(&mut self) {
        let whose = if self.0 == std::process::id() {
            "parent"
        } else {
            "child"
        };
        sys::say_out(&format!("thread-local of the {whose} dropped\n"));
    }
}

thread_local! {
    static LOCAL: RefCell<Option<SaysWhenDropped>> = const { RefCell::new(None) };
}

/// Runs as the very last in its process.
extern "C" fn at_exit() {
    sys::say_out("at exit\n");
}

fn registers_for_the_exit() {
    sys::at_exit(at_exit);
    sys::c_print(c"begun by the parent");
    let mut group = group();
    let parent = std::process::id();
    // In a thread that ends, so that its destructors run in the parent.
    std::thread::scope(|s| {
        s.spawn(|| {
            LOCAL.set(Some(SaysWhenDropped(parent)));
            group.go(move || {
                assert!(LOCAL.with_borrow(Option::is_some), "copied");
                LOCAL.set(None);
                LOCAL.set(Some(SaysWhenDropped(0)));
                sys::c_print(c"begun by the child");
                Ok(())
            });
        });
    });
    group.wait().unwrap();
}

fn what_is_registered_for_the_exit_runs_in_the_parent_alone() {
    let (stdout, _) = support::printed_by("registers_for_the_exit");
    assert_eq!(stdout.matches("at exit").count(), 1, "{stdout}");
    assert_eq!(stdout.matches("begun by the parent").count(), 1, "{stdout}");
    assert_eq!(stdout.matches("begun by the child").count(), 0, "{stdout}");
    // The parent's at the end of its thread, and the child's copy of it by hand; what the child put there is never dropped.
    let of_parent = stdout.matches("of the parent dropped").count();
    let of_child = stdout.matches("of the child dropped").count();
    assert_eq!((of_parent, of_child), (1, 1), "{stdout}");
}

/// Leaves the number of its process in a file when it is dropped.
struct Signs(PathBuf);

impl Drop for Signs {
    fn drop(&mut self) {
        let mut file = File::options();
        let mut file = file.append(true).create(true).open(&self.0).unwrap();
        writeln!(file, "{}", std::process::id()).unwrap();
    }
}

fn captured_values_are_dropped_on_both_sides() {
    let name = format!("multi-proc-signed-{}", std::process::id());
    let path = std::env::temp_dir().join(name);
    let (signs, gate) = (Signs(path.clone()), shared_token().unwrap());
    let opened = gate.clone();
    let mut group = group();
    let theirs = group.spawn(move || {
        let _signs = signs;
        opened.wait();
        Ok(std::process::id())
    });
    let own = std::process::id();
    // While the task still has its own.
    assert_eq!(fs::read_to_string(&path).unwrap(), format!("{own}\n"));
    gate.cancel();
    let theirs = theirs.join().unwrap();
    group.wait().unwrap();
    let signed = fs::read_to_string(&path).unwrap();
    assert_eq!(signed, format!("{own}\n{theirs}\n"));
    fs::remove_file(path).unwrap();
}

fn has_a_panic_hook() {
    std::panic::set_hook(Box::new(|_| sys::say_out("the program's hook\n")));
    let mut group = group();
    group.go(|| panic!("on purpose"));
    assert!(group.wait().unwrap_err().first().is_panicked());
    drop(std::panic::catch_unwind(|| {
        panic!("on purpose, in the parent")
    }));
}

fn panic_hook_of_the_program_does_not_run_in_children() {
    let (stdout, stderr) = support::printed_by("has_a_panic_hook");
    assert_eq!(stdout.matches("the program's hook").count(), 1, "{stdout}");
    assert!(stderr.contains("panicked at"), "{stderr}");
}

fn panic_payload_that_is_no_text_is_named_so() {
    let error = support::failure_of(|| std::panic::panic_any(7_u8));
    match error.kind() {
        TaskErrorKind::Panicked {
            message, location, ..
        } => {
            assert_eq!(message, "a panic whose payload is not text");
            assert!(location.is_some());
        }
        other => panic!("{other:?}"),
    }
    let error = support::failure_of(|| std::panic::resume_unwind(Box::new("without the hook")));
    assert!(error.to_string().contains("panicked: without the hook"));
}

fn descriptors_are_shared_and_ours_end_at_an_exec() {
    let path = std::env::temp_dir().join(format!("multi-proc-shared-{}", std::process::id()));
    fs::write(&path, "0123456789").unwrap();
    // What a program is given that is started here: three streams, the folder it reads, what our own parent left open.
    let listed = || Command::new("ls").arg("/proc/self/fd").output();
    let before = listed().unwrap();
    let mut file = File::open(&path).unwrap();
    let mut builder = quick().stderr(Output::tail(100));
    builder = builder.stdout(Output::lines(|_, _| {}));
    let mut group = build(builder);
    let (mut same, elsewhere) = (file.try_clone().unwrap(), group.cancel_token());
    let read = group.spawn(move || {
        let mut four = [0; 4];
        same.read_exact(&mut four)?;
        let there = listed()?;
        drop(elsewhere);
        Ok((four, there.stdout))
    });
    let (four, there) = read.join().unwrap();
    assert_eq!(&four, b"0123");
    assert_eq!(file.stream_position().unwrap(), 4, "one position");
    assert_eq!(there, before.stdout, "and nothing of ours");
    group.wait().unwrap();
    fs::remove_file(path).unwrap();
}

/// The signals this thread holds back, as bits.
fn blocked() -> u64 {
    let status = fs::read_to_string("/proc/thread-self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("SigBlk:"));
    u64::from_str_radix(line.unwrap().trim(), 16).unwrap()
}

fn signal_mask_is_that_of_the_forking_thread() {
    let mut group = group();
    let plain = blocked();
    assert_eq!(group.spawn(|| Ok(blocked())).join().unwrap(), plain);
    sys::block(sys::SIGUSR1, true);
    assert_ne!(blocked(), plain);
    let inherited = group.spawn(|| Ok(blocked())).join().unwrap();
    assert_eq!(inherited, blocked());
    // From another thread, where all signals are held back around the fork.
    let spawner = group.spawner();
    let (tell, told) = mpsc::channel();
    std::thread::spawn(move || {
        sys::block(sys::SIGUSR1, false);
        tell.send(spawner.task().spawn(|| Ok(blocked())).join().unwrap())
    });
    assert_eq!(told.recv().unwrap(), plain);
    sys::block(sys::SIGUSR1, false);
    group.wait().unwrap();
}

fn other_handlers_are_copied() {
    sys::interrupt_on(sys::SIGUSR1);
    let mut group = group();
    group.go(|| {
        sys::raise(sys::SIGUSR1);
        Ok(())
    });
    group.wait().unwrap();
    sys::ignore(sys::SIGUSR1, false);
    group.go(|| {
        sys::raise(sys::SIGUSR1);
        Ok(())
    });
    assert!(group.wait().is_err());
}

fn alarms_are_not_inherited() {
    sys::ignore(sys::SIGALRM, true);
    sys::alarm_every(Duration::from_millis(5));
    let mut group = group();
    group.go(|| {
        // It would end at once.
        sys::ignore(sys::SIGALRM, false);
        std::thread::sleep(Duration::from_millis(50));
        Ok(())
    });
    group.wait().unwrap();
    sys::alarm_every(Duration::ZERO);
    sys::ignore(sys::SIGALRM, false);
}

fn epoll_instances_are_shared_with_the_parent() {
    let epoll = sys::Epoll::new();
    let (readable, mut writable) = std::io::pipe().unwrap();
    std::io::Write::write_all(&mut writable, b"x").unwrap();
    assert_eq!(epoll.wait(), None);
    let mut group = group();
    let (theirs, in_child) = (epoll.clone(), readable.try_clone().unwrap());
    group.go(move || {
        // What a child does to its copy happens to the parent's.
        theirs.add(&in_child, 7);
        Ok(())
    });
    group.wait().unwrap();
    assert_eq!(epoll.wait(), Some(7));
}

fn io_uring_rings_are_shared_with_the_parent() {
    let Some(ring) = sys::Ring::new() else {
        println!("    no io_uring here: the system refuses it");
        return;
    };
    let theirs = ring.clone();
    let mut group = group();
    let before = ring.tail();
    group.go(move || {
        theirs.set_tail(before + 1);
        Ok(())
    });
    group.wait().unwrap();
    assert_eq!(ring.tail(), before + 1);
}

fn running_green_runtime_of_the_parent_refuses_in_a_child() {
    let mut green = multi_goro::Group::new();
    let (release, released) = multi_goro::chan::<()>(0);
    green.go(move || {
        let _closed = released.recv();
        Ok(())
    });
    let mut group = build(quick().task_timeout(Duration::from_secs(30)));
    let says = group.spawn(|| {
        let mut inner = multi_goro::Group::new();
        inner.go(|| Ok(()));
        Ok(inner.wait().unwrap_err().to_string())
    });
    let text = says.join().unwrap();
    assert!(text.contains("forked"), "{text}");
    group.wait().unwrap();
    drop(release);
    green.wait().unwrap();
}

fn group_works_from_a_green_task() {
    let mut green = multi_goro::Group::new();
    green.go(|| {
        let mut group = group();
        let value = group.spawn(|| Ok(std::process::id()));
        group.go(|| sys::exit_now(3));
        assert_ne!(multi_goro::blocking(|| value.join())?, std::process::id());
        let error = multi_goro::blocking(|| group.wait()).unwrap_err();
        assert!(matches!(error.first().kind(), TaskErrorKind::Exited(3)));
        Ok(())
    });
    green.wait().unwrap();
}

fn child_makes_thread_pools_of_its_own() {
    let mut group = build(quick().task_timeout(Duration::from_secs(30)));
    let rayon = group.spawn(|| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(2).build()?;
        Ok(pool.install(|| rayon::join(|| 20, || 22)))
    });
    let tokio = group.spawn(|| {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .enable_time()
            .build()?;
        let later = async {
            tokio::time::sleep(Duration::from_millis(1)).await;
            42
        };
        Ok(runtime.block_on(runtime.spawn(later))?)
    });
    assert_eq!(rayon.join().unwrap(), (20, 22));
    assert_eq!(tokio.join().unwrap(), 42);
    group.wait().unwrap();
}

/// Runs `task`, which is to get stuck, and expects its time to be up.
fn get_stuck(task: impl FnOnce() -> multi_proc::Result + Send + 'static) {
    let builder = quick()
        .stuck_after(Duration::from_millis(100))
        .task_timeout(Duration::from_millis(500));
    let mut group = build(builder);
    group.task().name("hopeful").go(task);
    let error = group.wait().unwrap_err();
    assert!(error.first().is_timed_out(), "{error}");
}

fn uses_the_parents_rayon() {
    assert_eq!(rayon::join(|| 1, || 2), (1, 2));
    get_stuck(|| {
        rayon::join(|| 1, || 2);
        Ok(())
    });
}

fn uses_the_parents_tokio() {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .build()
        .unwrap();
    assert_eq!(runtime.block_on(runtime.spawn(async { 1 })).unwrap(), 1);
    let handle = runtime.handle().clone();
    get_stuck(move || {
        handle.block_on(handle.spawn(async {}))?;
        Ok(())
    });
}

fn thread_pools_of_the_parent_are_reported_as_stuck() {
    for scene in ["uses_the_parents_rayon", "uses_the_parents_tokio"] {
        let (_, stderr) = support::printed_by(scene);
        assert!(
            stderr.starts_with("multi: task 0 \"hopeful\" (proc, pid "),
            "{scene}: {stderr}"
        );
        assert!(
            stderr.contains("or run a pool's thread"),
            "{scene}: {stderr}"
        );
    }
}

/// Calls `work` while this process has another thread, of that name.
fn with_a_thread<T>(name: &str, work: impl FnOnce() -> T) -> T {
    let (release, released) = mpsc::channel::<()>();
    let (ready, is_ready) = mpsc::channel();
    let thread = std::thread::Builder::new().name(name.into());
    let thread = thread
        .spawn(move || {
            ready.send(()).unwrap();
            let _closed = released.recv();
        })
        .unwrap();
    is_ready.recv().unwrap();
    let value = work();
    drop(release);
    thread.join().unwrap();
    value
}

fn threads_are_denied_where_that_is_asked_for() {
    let mut group = build(Group::builder().other_threads(OtherThreads::Deny));
    with_a_thread("busy bee", || {
        group.task().name("late").go(|| Ok(()));
        assert!(group.try_go(|| Ok(())).is_err());
    });
    let error = group.wait().unwrap_err();
    let text = error.to_string();
    assert!(error.first().is_start(), "{text}");
    // The tests' watchdog is another one.
    assert!(
        text.contains("other threads (") && text.contains("\"busy bee\""),
        "{text}"
    );
    assert!(text.contains("start tasks before threads"), "{text}");
}

fn forks_with_a_thread() {
    let mut group = build(Group::builder().other_threads(OtherThreads::Warn));
    group.go(|| Ok(()));
    group.wait().unwrap();
    with_a_thread("busy bee", || {
        for _ in 0..3 {
            group.go(|| Ok(()));
        }
        group.wait().unwrap();
    });
    // Threads of multi's own are none.
    let mut strict = build(Group::builder().other_threads(OtherThreads::Deny));
    let far = Duration::from_secs(500);
    for _ in 0..3 {
        strict.task().timeout(far).go(|| Ok(()));
    }
    strict.wait().unwrap();
}

fn threads_are_warned_of_once() {
    let (_, stderr) = support::printed_by("forks_with_a_thread");
    assert_eq!(
        stderr,
        "multi: a task is forked while this program has 1 other thread (\"busy bee\"): a lock that one of them holds would be held for \
         ever in the child\n"
    );
}

/// The kernel forgets whom to end a process with when its user changes.
fn child_that_gives_up_privileges_beforehand_still_ends_with_its_parent() {
    let mut group = build(quick().in_child(sys::become_nobody));
    let tied_by = group.spawn(|| Ok(sys::parent_death_signal()));
    assert_ne!(tied_by.join().unwrap(), 0);
    group.wait().unwrap();
}
