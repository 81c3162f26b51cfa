//! Every way for a task to end that is not its own, its parent's included.

use crate::support::{self, Residue, Test, sys};
use crate::{WAYS, Way, groups, tests};
use multi_proc::{CancelToken, Group, Interrupt, Result, TaskErrorKind};
use std::io::{BufRead as _, BufReader};
use std::os::unix::process::CommandExt as _;
use std::path::PathBuf;
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

pub(crate) const TESTS: &[Test] = &tests![
    every_way_to_die_is_named,
    exit_codes_of_every_value_are_kept,
    killed_before_its_function_starts_is_told_apart,
    time_limit_kills_that_task_alone,
    cancelled_tasks_are_ended,
    function_hears_that_it_is_asked_to_stop,
    function_cancels_its_group,
    ctrl_c_stops_functions_in_good_order,
    detached_functions_run_on_and_report_their_failures,
    killed_parent_leaves_neither_task_nor_zygote,
];

pub(crate) const SCENES: &[Test] = &tests![
    drains_by_zygote,
    drains_by_spawn,
    lets_functions_run_on,
    hangs_by_zygote,
    hangs_by_spawn,
    hangs_by_spawn_from_a_thread,
    hangs_deaf_by_spawn_from_a_thread
];

#[expect(unconditional_recursion, reason = "the stack is to overflow")]
fn overflow(depth: u64) -> u64 {
    let room = std::hint::black_box([depth; 64]);
    overflow(depth + 1) + room[usize::try_from(depth % 64).unwrap()]
}

fn every_way_to_die_is_named() {
    type Death = (&'static str, fn(()) -> Result);
    let ways: [Death; 10] = [
        ("left its process with exit code 0 before it ended", |()| {
            std::process::exit(0)
        }),
        ("left its process with exit code 7 before it ended", |()| {
            sys::exit_now(7)
        }),
        ("killed by SIGABRT", |()| std::process::abort()),
        ("killed by SIGSEGV", |()| {
            // The standard library has a handler for this signal; without it the fault ends the process as it stands.
            sys::ignore(11, false);
            sys::segfault();
            Ok(())
        }),
        ("killed by SIGKILL", |()| {
            sys::raise(sys::SIGKILL);
            Ok(())
        }),
        ("killed by SIGTERM", |()| {
            sys::raise(sys::SIGTERM);
            Ok(())
        }),
        ("killed by signal 40", |()| {
            sys::raise(40);
            Ok(())
        }),
        ("the stack of one of its threads overflowed", |()| {
            overflow(0);
            Ok(())
        }),
        ("panicked at ", |()| panic!("on purpose")),
        ("out of luck", |()| Err("out of luck")?),
    ];
    for (name, mut group) in groups() {
        for (expected, way) in ways {
            drop(group.spawn_fn(way, ()));
            let error = group.wait().unwrap_err();
            let (count, error) = (error.failed_count(), error.first().clone());
            let text = error.to_string();
            println!("    {name:8}{expected:52} {:?}", error.kind());
            assert_eq!(count, 1, "{text}");
            assert!(text.contains(expected), "{text}");
            let pid = error.pid().unwrap();
            assert!(
                text.contains(&format!(" ({name}, pid {pid}, started at ")),
                "{text}"
            );
            assert!(!sys::exists(pid), "process {pid} was not collected");
        }
    }
}

fn exit_codes_of_every_value_are_kept() {
    for (name, mut group) in groups() {
        for code in [1, 2, 101, 127, 254, 255] {
            drop(group.spawn_fn(|code| -> Result { sys::exit_now(code) }, code));
            let error = group.wait().unwrap_err();
            assert!(
                matches!(error.first().kind(), TaskErrorKind::Exited(found) if *found == code),
                "{name}: {error}"
            );
        }
    }
}

/// Its arguments are decoded before the function begins.
struct Killer;

impl serde::Serialize for Killer {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_unit()
    }
}

impl<'de> serde::Deserialize<'de> for Killer {
    fn deserialize<D: serde::Deserializer<'de>>(_deserializer: D) -> Result<Self, D::Error> {
        sys::raise(sys::SIGKILL);
        unreachable!("survived SIGKILL")
    }
}

fn killed_before_its_function_starts_is_told_apart() {
    for (name, mut group) in groups() {
        let handle = group.spawn_fn(|_killer: Killer| -> Result { panic!("it began") }, Killer);
        let error = handle.join().unwrap_err();
        assert!(
            matches!(error.kind(), TaskErrorKind::Signaled { signal: 9, .. }),
            "{name}: {error}"
        );
        assert!(group.wait().is_err());
    }
}

fn hang(_: ()) -> Result {
    loop {
        std::thread::park();
    }
}

fn time_limit_kills_that_task_alone() {
    for (name, way) in WAYS {
        let mut group = way(support::quick()).unwrap();
        let limited = multi_proc::TaskOptions::new().timeout(Duration::from_millis(300));
        let late = group.spawn_fn_with(limited, hang, ());
        let other = group.spawn_fn(|n: u32| Ok(n + 1), 1);
        assert!(late.join().unwrap_err().is_timed_out(), "{name}");
        assert_eq!(other.join().unwrap(), 2);
        assert_eq!(group.wait().unwrap_err().failed_count(), 1);
    }
}

fn cancelled_tasks_are_ended() {
    for (name, way) in WAYS {
        let mut group = way(support::quick()).unwrap();
        let tasks: Vec<_> = (0..3).map(|_| group.spawn_fn(hang, ())).collect();
        group.cancel();
        let refused = group.spawn_fn(|()| Ok(()), ());
        for task in tasks.into_iter().chain([refused]) {
            let error = task.join().unwrap_err();
            assert!(error.is_cancelled(), "{name}: {error}");
        }
        assert!(group.wait().unwrap_err().is_cancelled());
        assert_eq!(
            group.call(|n: u8| Ok(n), 7).unwrap(),
            7,
            "the next round works"
        );
        assert!(group.wait().is_ok());
    }
}

fn token() -> Result<CancelToken> {
    Ok(multi_proc::task_token().ok_or("no token")?)
}

fn function_hears_that_it_is_asked_to_stop() {
    assert!(multi_proc::task_token().is_none());
    for (name, way) in WAYS {
        // Only the token can end it in time for the watchdog.
        let mut group = way(Group::builder().grace(Duration::from_secs(600))).unwrap();
        for _ in 0..3 {
            let obeys = |n: u32| {
                token()?.wait();
                Ok(n)
            };
            let tasks = [1, 2].map(|n| group.spawn_fn(obeys, n));
            group.cancel();
            assert_eq!(tasks.map(|task| task.join().unwrap()), [1, 2], "{name}");
            assert!(
                group.wait().is_ok(),
                "the next round has a token of its own"
            );
        }
    }
}

fn function_cancels_its_group() {
    for (name, way) in WAYS {
        let mut group = way(support::quick()).unwrap();
        let hangs = group.spawn_fn(hang, ());
        let cancels = |()| {
            token()?.cancel();
            Ok(token()?.is_cancelled())
        };
        assert!(group.call(cancels, ()).unwrap(), "{name}");
        let error = hangs.join().unwrap_err();
        assert!(error.is_cancelled(), "{name}: {error}");
        assert!(group.wait().is_err());
    }
}

fn drains(way: Way) {
    sys::ignore(sys::SIGINT, false);
    let interrupt = Interrupt::install().unwrap();
    let builder = Group::builder()
        .grace(Duration::from_secs(600))
        .interrupt(&interrupt);
    let mut group = way.1(builder).unwrap();
    let obeys = |n: u32| {
        let token = token()?;
        sys::say("begun\n");
        token.wait();
        Ok(n)
    };
    let tasks = [1, 2].map(|n| group.spawn_fn(obeys, n));
    println!("{:?}", tasks.map(|task| task.join().unwrap()));
    group.wait().unwrap();
    // The zygote was meant as little as the tasks.
    let mut after = way.1(Group::builder()).unwrap();
    println!("{}", after.call(|n: u8| Ok(n), 7).unwrap());
    after.wait().unwrap();
}

fn drains_by_zygote() {
    drains(WAYS[0]);
}

fn drains_by_spawn() {
    drains(WAYS[1]);
}

fn ctrl_c_stops_functions_in_good_order() {
    for scene in ["drains_by_zygote", "drains_by_spawn"] {
        // A process group of its own, as a terminal has its programs.
        let mut program = support::scene(scene)
            .process_group(0)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        // Read no further, and closed: what is printed there when the signal comes is nobody's.
        let lines = BufReader::new(program.stderr.take().unwrap()).lines();
        assert_eq!(
            lines.take(2).map(|line| line.unwrap()).collect::<Vec<_>>(),
            ["begun"; 2]
        );
        sys::kill_group(program.id(), sys::SIGINT);
        let output = program.wait_with_output().unwrap();
        let stdout = String::from_utf8_lossy(&output.stdout);
        assert_eq!(stdout, "[1, 2]\n7\n", "{scene}: {}", output.status);
    }
}

fn lets_functions_run_on() {
    for (name, way) in WAYS {
        let gate = format!("multi-proc-gate-{name}-{}", std::process::id());
        let gate = std::env::temp_dir().join(gate);
        std::fs::write(&gate, "").unwrap();
        let group = way(Group::builder()).unwrap();
        let fails_after = |gate: PathBuf| -> Result {
            while gate.exists() {
                std::thread::sleep(Duration::from_millis(1));
            }
            Err("after all")?
        };
        drop(group.spawn_fn(fails_after, gate.clone()));
        let builder = group.task();
        let threads = Residue::count().threads;
        let await_end = || {
            assert!(Residue::count().threads > threads, "nobody collects it");
            std::fs::remove_file(&gate).unwrap();
            // The thread that collects it ends after that.
            while Residue::count().threads > threads {
                std::thread::sleep(Duration::from_millis(1));
            }
        };
        group.detach();
        await_end();
        // One that is started after that is collected likewise.
        std::fs::write(&gate, "").unwrap();
        drop(builder.spawn_fn(fails_after, gate.clone()));
        await_end();
    }
}

fn detached_functions_run_on_and_report_their_failures() {
    let (_, stderr) = support::printed_by("lets_functions_run_on");
    for (name, _) in WAYS {
        let told = stderr.lines().filter(|line| {
            line.contains(&format!(" ({name}, pid ")) && line.ends_with(": after all")
        });
        assert_eq!(told.count(), 2, "{name}: {stderr}");
    }
}

/// Says whose process it is and whose child, and hangs.
fn say_and_hang(_: ()) -> Result {
    // One write: a line of one process does not mix with another's.
    sys::say(&format!("{} {}\n", std::process::id(), sys::parent_pid()));
    hang(())
}

fn hang_in(group: &mut multi_proc::FnGroup) {
    for _ in 0..2 {
        drop(group.spawn_fn(say_and_hang, ()));
    }
    drop(group.wait());
}

fn hangs_by_zygote() {
    hang_in(&mut Group::builder().zygote().unwrap());
}

fn hangs_by_spawn() {
    hang_in(&mut Group::builder().spawn().unwrap());
}

fn hang_from_a_thread(task: fn(()) -> Result) {
    let mut group = Group::builder().spawn().unwrap();
    std::thread::scope(|s| {
        for _ in 0..2 {
            s.spawn(|| drop(group.spawn_fn(task, ()))).join().unwrap();
        }
    });
    drop(group.wait());
}

fn hangs_by_spawn_from_a_thread() {
    hang_from_a_thread(say_and_hang);
}

fn hangs_deaf_by_spawn_from_a_thread() {
    hang_from_a_thread(|()| {
        sys::block_all();
        say_and_hang(())
    });
}

/// Starts a parent that plays `scene`, and waits until two of its tasks said their process numbers and their parents'.
fn parent(scene: &str) -> (Child, Vec<u32>) {
    let mut parent = support::scene(scene)
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let lines = BufReader::new(parent.stderr.take().unwrap()).lines();
    let mut pids: Vec<u32> = lines
        .take(2)
        .flat_map(|line| {
            let line = line.unwrap();
            let pids: Vec<u32> = line.split(' ').map(|pid| pid.parse().unwrap()).collect();
            pids
        })
        .filter(|pid| *pid != parent.id())
        .collect();
    pids.sort_unstable();
    pids.dedup();
    (parent, pids)
}

/// Whether process `pid` still runs. Dead and not collected is dead: that is up to whoever inherits it.
pub(crate) fn runs(pid: u32) -> bool {
    std::fs::read_to_string(format!("/proc/{pid}/stat")).is_ok_and(|stat| !stat.contains(") Z "))
}

fn killed_parent_leaves_neither_task_nor_zygote() {
    const ROUNDS: usize = 10;
    // By zygote, that is one of those that must end.
    for (scene, others) in [
        ("hangs_by_zygote", 3),
        ("hangs_by_spawn", 2),
        ("hangs_by_spawn_from_a_thread", 2),
        // Every signal is held back that can be.
        ("hangs_deaf_by_spawn_from_a_thread", 2),
    ] {
        for round in 0..ROUNDS {
            let (mut parent, pids) = parent(scene);
            assert_eq!(pids.len(), others, "{scene}: {pids:?}");
            assert!(pids.iter().all(|pid| runs(*pid)));
            parent.kill().unwrap();
            parent.wait().unwrap();
            let start = Instant::now();
            while pids.iter().any(|pid| runs(*pid)) {
                assert!(
                    start.elapsed() < Duration::from_secs(10),
                    "{scene}, round {round}: {pids:?} outlived their parent"
                );
                std::thread::sleep(Duration::from_millis(1));
            }
        }
        println!("    {scene}: {ROUNDS} of {ROUNDS} parents killed, nobody left");
    }
}
