//! `init`: where it is missing, comes too late, is in the wrong process; and what is executed.

use crate::support::sys::Rights;
use crate::support::{self, Test, sys};
use crate::tests;
use multi_proc::{Group, Pool, Result};
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

pub(crate) const TESTS: &[Test] = &tests![
    missing_init_is_refused_with_the_remedy,
    init_that_comes_too_late_is_named,
    child_that_does_not_come_to_init_is_named,
    child_that_runs_on_before_init_is_ended,
    other_program_is_named,
    copy_of_the_program_serves_and_another_build_does_not,
    replaced_program_is_not_executed,
    mark_without_a_line_is_refused,
    line_of_a_stranger_is_refused,
    privileged_program_takes_no_orders,
    privileged_program_makes_no_group_that_executes_it,
];

/// Scenes of programs that do not call `init` first.
pub(crate) const BEFORE_INIT: &[Test] = &tests![
    never_calls_init,
    calls_init_with_threads,
    child_returns_before_init,
    child_runs_on_before_init
];

pub(crate) const SCENES: &[Test] = &tests![
    replaces_itself,
    prints_around_a_group,
    makes_groups_with_privileges
];

fn never_calls_init() {
    let error = Group::builder().spawn().unwrap_err();
    println!("{error}");
    print!("printed once, ");
    // A zygote does without, as long as there is one thread.
    let mut group = Group::builder().zygote().unwrap();
    let value = group
        .call(
            |n: u8| {
                print!("by a task, ");
                Ok(n)
            },
            7,
        )
        .unwrap();
    println!("{value}");
    group.wait().unwrap();
}

fn missing_init_is_refused_with_the_remedy() {
    let (stdout, _) = support::printed_by("never_calls_init");
    assert!(
        stdout.starts_with("multi_proc::init() was not called, "),
        "{stdout}"
    );
    assert!(
        stdout.ends_with("call it first in main\nprinted once, by a task, 7\n"),
        "{stdout}"
    );
}

fn calls_init_with_threads() {
    std::thread::scope(|s| {
        let (done, is_done) = std::sync::mpsc::channel::<()>();
        s.spawn(move || is_done.recv());
        println!("{}", Group::builder().zygote().unwrap_err());
        multi_proc::init();
        println!("{}", Group::builder().zygote().unwrap_err());
        drop(done);
    });
}

fn init_that_comes_too_late_is_named() {
    let (stdout, _) = support::printed_by("calls_init_with_threads");
    let lines: Vec<_> = stdout.lines().collect();
    let remedy = "and none can be made now that the program has 2 threads, since a fork copies one of them; call multi_proc::init() \
                  first in main";
    assert_eq!(lines[0], format!("there is no zygote, {remedy}"));
    assert_eq!(
        lines[1],
        format!(
            "multi_proc::init() came too late for a zygote, when the program had 2 threads already, {remedy}"
        )
    );
}

/// In the parent a program that calls `init`, in the child one that leaves before.
fn child_returns_before_init() {
    if std::env::args().len() > 1 {
        sys::exit_now(3);
    }
    multi_proc::init();
    let mut group = Group::builder().env_pass(support::SCENE).spawn().unwrap();
    println!("{}", group.call(|()| Ok(()), ()).unwrap_err());
    drop(group.wait());
}

fn child_that_does_not_come_to_init_is_named() {
    let (stdout, _) = support::printed_by("child_returns_before_init");
    assert!(
        stdout.contains(
            "could not start: its process left with exit code 3 before it came to multi_proc::init(); call that first in main, whatever \
             the arguments are"
        ),
        "{stdout}"
    );
}

fn child_runs_on_before_init() {
    if std::env::args().len() > 1 {
        loop {
            std::thread::park();
        }
    }
    multi_proc::init();
    let builder = Group::builder().env_pass(support::SCENE);
    let mut group = builder
        .stuck_after(Duration::from_millis(30))
        .spawn()
        .unwrap();
    println!("{}", group.call(|()| Ok(()), ()).unwrap_err());
    drop(group.wait());
}

fn child_that_runs_on_before_init_is_ended() {
    let (stdout, stderr) = support::printed_by("child_runs_on_before_init");
    assert!(
        stdout.contains("could not start: its process did not come to multi_proc::init() for a long time, and was killed; call that first"),
        "{stdout}"
    );
    assert!(
        stderr.starts_with("multi: task 0 (spawn, pid ")
            && stderr.contains("it has not come to its closure"),
        "{stderr}"
    );
}

fn other_program_is_named() {
    let mut group = Group::builder().program("/bin/true").spawn().unwrap();
    let error = group.call(|()| Ok(()), ()).unwrap_err();
    assert!(error.is_start(), "{error}");
    assert!(
        error
            .to_string()
            .contains("left with exit code 0 before it came to multi_proc::init()"),
        "{error}"
    );
    assert!(group.wait().is_err());

    let mut group = Group::builder().program("/no/such/file").spawn().unwrap();
    let error = group.call(|()| Ok(()), ()).unwrap_err();
    assert!(error.is_start() && error.os_code() == Some(2), "{error}");
    assert!(group.wait().is_err());
}

/// A copy of this program in a folder of its own, which goes with it.
struct Copy(PathBuf);

impl Copy {
    fn new(name: &str) -> Self {
        let folder = std::env::temp_dir().join(format!("multi-proc-{name}-{}", std::process::id()));
        fs::create_dir_all(&folder).unwrap();
        let path = folder.join("program");
        fs::copy("/proc/self/exe", &path).unwrap();
        Self(path)
    }
}

impl Drop for Copy {
    fn drop(&mut self) {
        drop(fs::remove_dir_all(self.0.parent().unwrap()));
    }
}

fn copy_of_the_program_serves_and_another_build_does_not() {
    let copy = Copy::new("copy");
    let mut group = Group::builder().program(&copy.0).spawn().unwrap();
    let name = group.call(|()| Ok(std::env::current_exe()?), ()).unwrap();
    assert_eq!(name, copy.0);

    // The id that the linker wrote, one bit off.
    let mut bytes = fs::read(&copy.0).unwrap();
    let note = b"GNU\0";
    let at = (12..bytes.len() - 40)
        .find(|&at| bytes[at..].starts_with(note) && bytes[at - 4..at] == 3_u32.to_ne_bytes())
        .expect("a program with a build id");
    bytes[at + 4] ^= 1;
    // Not over a file that may just be executed.
    fs::remove_file(&copy.0).unwrap();
    fs::write(&copy.0, bytes).unwrap();
    fs::set_permissions(&copy.0, fs::Permissions::from_mode(0o755)).unwrap();
    let error = group
        .call(|()| -> Result { panic!("it began") }, ())
        .unwrap_err();
    assert!(error.is_start(), "{error}");
    assert!(
        error
            .to_string()
            .contains("could not start: it is another build of the program, "),
        "{error}"
    );
    assert!(group.wait().is_err());

    let pool = Pool::builder().workers(1).program(&copy.0).spawn().unwrap();
    let error = pool
        .call(|()| -> Result { panic!("it began") }, ())
        .unwrap_err();
    assert!(
        error
            .to_string()
            .contains("could not be started: it is another build of the program, "),
        "{error}"
    );
}

/// Plays the scene of a program whose file is replaced while it runs.
fn replaces_itself() {
    let path = std::env::current_exe().unwrap();
    let mut group = Group::builder().spawn().unwrap();
    fs::remove_file(&path).unwrap();
    fs::copy("/bin/false", &path).unwrap();
    let values = [1, 2].map(|n| group.spawn_fn(|n: u32| Ok(n + 1), n));
    println!("{:?}", values.map(|value| value.join().unwrap()));
    group.wait().unwrap();
}

fn replaced_program_is_not_executed() {
    let copy = Copy::new("replaced");
    let output = Command::new(&copy.0)
        .env(support::SCENE, "replaces_itself")
        .output()
        .unwrap();
    assert_eq!(
        String::from_utf8_lossy(&output.stdout),
        "[2, 3]\n",
        "{output:?}"
    );
}

fn prints_around_a_group() {
    // Waits in the buffer, which tasks must not have a copy of.
    print!("before, ");
    for (_, mut group) in crate::groups() {
        group
            .call(
                |()| {
                    println!("in a task");
                    Ok(())
                },
                (),
            )
            .unwrap();
        group.wait().unwrap();
    }
    println!("after");
}

const MARK: &str = "multi-proc:task";

fn mark_without_a_line_is_refused() {
    let output = Command::new(std::env::current_exe().unwrap())
        .arg(MARK)
        .output()
        .unwrap();
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(2), "{stderr}");
    assert!(
        stderr.starts_with("multi: argument multi-proc:task is for tasks that multi-proc starts itself, but descriptor 3 is "),
        "{stderr}"
    );
}

fn line_of_a_stranger_is_refused() {
    // A shell stands between the maker of the line and the child.
    let (ours, theirs) = std::os::unix::net::UnixDatagram::pair().unwrap();
    let program = std::env::current_exe().unwrap();
    let output = Command::new("/bin/sh")
        .args(["-c", "\"$0\" \"$1\" 3<&0; exit $?"])
        .arg(program)
        .arg(MARK)
        .stdin(std::process::Stdio::from(std::os::fd::OwnedFd::from(
            theirs,
        )))
        .output()
        .unwrap();
    drop(ours);
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(2), "{stderr}");
    let maker = format!(
        "but the line was made by process {} of user ",
        std::process::id()
    );
    assert!(stderr.contains(&maker), "{stderr}");
}

/// Runs `command` with these rights, and with one end of a line that this process made; returns what it said there, too. None, with a word about it,
/// where such rights cannot be given.
fn output_with(mut command: Command, rights: Rights) -> Option<(std::process::Output, String)> {
    if !sys::can_give(rights) {
        println!("    not with the rights of another group: only the superuser can give them");
        return None;
    }
    let (ours, theirs) = std::os::unix::net::UnixDatagram::pair().unwrap();
    sys::start_with_line(&mut command, theirs.into(), rights);
    let output = command.output().unwrap();
    ours.set_nonblocking(true).unwrap();
    let mut said = [0; 512];
    let len = ours.recv(&mut said).unwrap_or(0);
    Some((output, String::from_utf8_lossy(&said[..len]).into_owned()))
}

/// The line is in order both times, its parent's, of the same user, and empty: what is refused is the rights.
fn privileged_program_takes_no_orders() {
    let command = || {
        let mut command = Command::new(std::env::current_exe().unwrap());
        command.arg(MARK);
        command
    };
    const REFUSED: &str = "but this program may do more than whoever executes it";
    let (output, said) = output_with(command(), Rights::OfItsCaller).unwrap();
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(2), "{stderr}");
    assert!(said.starts_with("it found no order: "), "{said}; {stderr}");
    assert!(!stderr.contains(REFUSED), "{stderr}");

    let Some((output, said)) = output_with(command(), Rights::OfAnotherGroup) else {
        return;
    };
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(2), "{stderr}");
    assert!(stderr.contains(REFUSED), "{stderr}");
    assert!(stderr.trim_end().ends_with("takes no orders"), "{stderr}");
    assert_eq!(said, "");
}

fn makes_groups_with_privileges() {
    match Group::builder().spawn() {
        Ok(_) => println!("nothing against it"),
        Err(error) => println!("{error}"),
    }
    let mut group = Group::builder().zygote().unwrap();
    println!("{}", group.call(|n: u8| Ok(n), 7).unwrap());
    group.wait().unwrap();
}

fn privileged_program_makes_no_group_that_executes_it() {
    let scene = || support::scene("makes_groups_with_privileges");
    let (output, _) = output_with(scene(), Rights::OfItsCaller).unwrap();
    let stdout = String::from_utf8_lossy(&output.stdout);
    assert_eq!(stdout, "nothing against it\n7\n", "{output:?}");

    let Some((output, _)) = output_with(scene(), Rights::OfAnotherGroup) else {
        return;
    };
    let stdout = String::from_utf8_lossy(&output.stdout);
    assert!(
        stdout.starts_with("this program may do more than whoever executes it"),
        "{output:?}"
    );
    assert!(
        stdout.ends_with("make the group by zygote(), or by fork()\n7\n"),
        "{stdout}"
    );
}
