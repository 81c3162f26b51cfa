//! The first call in `main`: in a child it is the last, too.

#![expect(
    unsafe_code,
    reason = "takes over a descriptor that the process was started with"
)]

use super::order::{self, Order};
use super::zygote;
use crate::sync::{AtomicBool, Ordering};
use crate::sys::socket::{self, Patience};
use crate::sys::{self, exec};
use multi_core::panic;
use std::io;
use std::os::fd::{AsFd as _, OwnedFd};

/// The argument by which a process knows that it was started for a task. An argument, since what the task starts in turn does not inherit it.
pub(super) const MARK: &str = "multi-proc:task";

static WAS_CALLED: AtomicBool = AtomicBool::new(false);

/// Prepares this program for groups whose tasks are functions: call it first in `main`.
///
/// In a process that such a group [executed](crate::Builder::spawn) it calls the function, reports and leaves: it does not return. In any other it
/// forks the [zygote](crate::Builder::zygote), a helper that sleeps until it is needed, if the program has one thread; that is one fork of a program
/// that is still small. Called again it does nothing.
///
/// ```
/// fn main() -> multi_proc::Result {
///     multi_proc::init();
///     let mut group = multi_proc::Group::builder().zygote()?;
///     let half = group.spawn_fn(|n: u32| Ok(n / 2), 42);
///     assert_eq!(half.join()?, 21);
///     Ok(group.wait()?)
/// }
/// ```
///
/// What `main` does before it, every executed child does, too. Threads that are started before it leave the program without a zygote, and
/// [`Builder::zygote`](crate::Builder::zygote) says so. Tests under the standard harness have neither their own `main` nor one thread: tests of such groups
/// are `harness = false`.
///
/// In a program that may do more than whoever executes it, by set-user-ID, set-group-ID or file capabilities, it calls no function that it is told
/// to: anybody could be the one who tells it. Such a program has the zygote, and [`Builder::spawn`](crate::Builder::spawn) refuses.
pub fn init() {
    // Relaxed: a flag on its own.
    if WAS_CALLED.swap(true, Ordering::Relaxed) {
        return;
    }
    if std::env::args_os().nth(1).is_some_and(|mark| mark == MARK) {
        take_over();
    }
    zygote::prepare();
}

/// Whether [`init`] was called here, as it then is in every execution of this program.
pub(super) fn was_called() -> bool {
    // Relaxed: a flag on its own.
    WAS_CALLED.load(Ordering::Relaxed)
}

/// The life of an executed child.
#[expect(
    clippy::exit,
    reason = "the process is its own, and what C libraries registered for its end is to run"
)]
fn take_over() -> ! {
    let (line, parent_pid) = match order_line() {
        Ok(found) => found,
        Err(why) => {
            refuse(&why);
            std::process::exit(2);
        }
    };
    if let Err(why) = follow(&line, parent_pid) {
        // Should nobody listen any more, the exit code tells.
        drop(socket::send(line.as_fd(), why.as_bytes(), &[]));
        std::process::exit(2);
    }
    std::process::exit(0)
}

fn refuse(why: &str) {
    sys::write_stderr(
        format!("multi: argument {MARK} is for tasks that multi-proc starts itself, but {why}\n")
            .as_bytes(),
    );
}

/// The line to the process that started this one, and that process.
fn order_line() -> Result<(OwnedFd, u32), String> {
    // Before all else: the parent of such a process need not be this program, and an order of its making calls what it likes.
    if exec::is_privileged() {
        return Err(
            "this program may do more than whoever executes it (set-user-ID, set-group-ID, file capabilities), and so takes no orders"
                .into(),
        );
    }
    // SAFETY: the mark says that the descriptor was put there for `init`, and `init` comes here once.
    let line = unsafe { socket::take_inherited(exec::ORDER_FD) };
    let line =
        line.map_err(|error| format!("descriptor {} is not open: {error}", exec::ORDER_FD))?;
    let maker = socket::maker_of(line.as_fd())
        .map_err(|error| format!("descriptor {} is no line to it: {error}", exec::ORDER_FD))?;
    let parent = sys::parent_pid();
    if maker.pid != parent || maker.user != socket::user() {
        return Err(format!(
            "the line was made by process {} of user {}, not by this one's parent {parent}, or that is dead",
            maker.pid, maker.user
        ));
    }
    Ok((line, parent))
}

fn follow(line: &OwnedFd, parent_pid: u32) -> Result<(), String> {
    let mut buffer = vec![0; order::BYTES_MAX];
    let received = socket::receive(line.as_fd(), &mut buffer, Patience::None)
        .map_err(|error: io::Error| format!("it found no order: {error}"))?;
    let order = Order::decode(&buffer[..received.len])?;
    if order.is_by_a_passing_thread() {
        // The other end is closed with the parent, which sends nothing more. Should this fail, the signal of `die_with_parent` is left.
        drop(sys::be_signalled_by(line.as_fd()).and_then(|()| sys::kill_by(line.as_fd())));
    }
    sys::note_stack_overflows();
    panic::install_hook();
    order.follow(received.fds, parent_pid, &None)
}
