//! Where a task's standard streams come from and go to.

use crate::capture::{Pipes, Sink};
use crate::limits::Refused;
use crate::sys;
use multi_core::TaskId;
use serde::{Deserialize, Serialize};
use std::fmt;
use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;

/// Where a task reads its standard input from: [`TaskBuilder::stdin`](crate::TaskBuilder::stdin).
#[derive(Clone, Debug, Default)]
pub struct Input(From);

#[derive(Clone, Debug, Default)]
enum From {
    #[default]
    Parent,
    Null,
    File(Arc<File>),
}

impl Input {
    /// The parent's own, shared with it and with the other tasks. This is how it is unless set.
    #[must_use]
    pub fn inherit() -> Self {
        Self(From::Parent)
    }

    /// Nothing: the first read finds the end.
    #[must_use]
    pub fn null() -> Self {
        Self(From::Null)
    }

    /// A file, or a pipe; tasks that are given the same one share its position.
    #[must_use]
    pub fn file(file: impl Into<File>) -> Self {
        Self(From::File(Arc::new(file.into())))
    }
}

/// Where what a task prints goes to: [`TaskBuilder::stdout`](crate::TaskBuilder::stdout) and
/// [`TaskBuilder::stderr`](crate::TaskBuilder::stderr).
///
/// ```
/// use multi_proc::Output;
///
/// // SAFETY: this program has one thread.
/// let mut group = unsafe { multi_proc::Group::new() };
/// group.task().stderr(Output::tail(2000)).go(|| {
///     eprintln!("the printer is on fire");
///     std::process::abort()
/// });
/// let error = group.wait().unwrap_err();
/// assert_eq!(error.first().stderr_tail(), Some("the printer is on fire\n"));
/// assert!(error.to_string().ends_with("killed by SIGABRT; its standard error ends with: the printer is on fire"));
/// ```
///
/// A task never waits for long with a full pipe: it is emptied by whoever waits for the group and, while nobody does, by the thread that keeps
/// time limits, every few milliseconds. What the task's own processes still print after its end is not waited for.
#[derive(Clone, Debug, Default)]
pub struct Output(To);

/// What a line of a task's is passed on to.
pub(crate) type OnLine = Arc<dyn Fn(TaskId, &str) + Send + Sync>;

#[derive(Clone, Default)]
enum To {
    #[default]
    Parent,
    Null,
    File(Arc<File>),
    Tail(usize),
    Lines(OnLine),
}

impl Output {
    /// Where the parent's own goes. This is how it is unless set.
    #[must_use]
    pub fn inherit() -> Self {
        Self(To::Parent)
    }

    /// Nowhere.
    #[must_use]
    pub fn null() -> Self {
        Self(To::Null)
    }

    /// To a file, or a pipe; tasks that are given the same one share its position.
    #[must_use]
    pub fn file(file: impl Into<File>) -> Self {
        Self(To::File(Arc::new(file.into())))
    }

    /// Nowhere but, if the task fails, into its error: the last `bytes` of it are kept for
    /// [`TaskError::stderr_tail`](multi_core::TaskError::stderr_tail), and shown with the failure. Where both streams are kept, they are kept
    /// together in the order in which they were written, with the larger bound.
    #[must_use]
    pub fn tail(bytes: usize) -> Self {
        Self(To::Tail(bytes))
    }

    /// To `on_line`, line by line, without the line's end, when it comes; bytes that are not UTF-8 are replaced. A line of more than
    /// 64 KiB comes in pieces.
    ///
    /// Called in this process by whoever waits for the group or, while nobody does, by the clock's thread, one line of a task at a time:
    /// it is to be short. It may start tasks and look at the group's progress but must not wait for any group or pool of
    /// processes, and panics if it does. A panic in it is reported by the
    /// panic hook, and the task's further lines are dropped.
    ///
    /// It must not take a lock that somebody holds who waits for the group, or for this task: that wait does not end before the task's last
    /// line is passed on, and the line may be with the clock's thread, which then waits for the lock, and with it every time limit of the program.
    /// Standard output's is such a lock: where `on_line` prints, let go of `io::stdout().lock()` before waiting.
    ///
    /// ```
    /// use multi_proc::Output;
    /// use std::sync::{Arc, Mutex};
    ///
    /// // SAFETY: this program has one thread, but for the one below, which takes no lock that the task takes.
    /// let mut group = unsafe { multi_proc::Group::new() };
    /// let lines = Arc::new(Mutex::new(Vec::new()));
    /// let kept = Arc::clone(&lines);
    /// let task = group.task().stdout(Output::lines(move |_task, line| kept.lock().unwrap().push(line.to_owned())));
    /// task.go(|| {
    ///     println!("one\ntwo");
    ///     Ok(())
    /// });
    /// group.wait()?;
    /// assert_eq!(*lines.lock().unwrap(), ["one", "two"]);
    /// # Ok::<(), multi_core::BoxError>(())
    /// ```
    #[must_use]
    pub fn lines(on_line: impl Fn(TaskId, &str) + Send + Sync + 'static) -> Self {
        Self(To::Lines(Arc::new(on_line)))
    }
}

/// How a process that is not forked from this one finds one of its streams.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Stream {
    /// As it has it.
    #[default]
    Parent,
    Null,
    /// The next of the descriptors that came with its order.
    Passed,
}

/// A task's three streams.
#[derive(Clone, Debug, Default)]
pub(crate) struct Stdio {
    pub(crate) stdin: Input,
    pub(crate) stdout: Output,
    pub(crate) stderr: Output,
}

impl Stdio {
    /// Whether the child has anything to put in place.
    pub(crate) fn is_changed(&self) -> bool {
        let Self {
            stdin,
            stdout,
            stderr,
        } = self;
        !matches!(
            (&stdin.0, &stdout.0, &stderr.0),
            (From::Parent, To::Parent, To::Parent)
        )
    }

    /// Makes the pipes that are needed, before the fork.
    ///
    /// # Errors
    ///
    /// No descriptors left.
    pub(crate) fn open(&self) -> io::Result<Pipes> {
        let mut pipes = Pipes::default();
        match (&self.stdout.0, &self.stderr.0) {
            (To::Tail(out), To::Tail(err)) => {
                pipes.add(BOTH, Sink::tail(*out.max(err)))?;
            }
            (out, err) => {
                for (to, fds) in [(out, ONLY_OUT), (err, ONLY_ERR)] {
                    match to {
                        To::Tail(bytes) => pipes.add(fds, Sink::tail(*bytes))?,
                        To::Lines(on_line) => pipes.add(fds, Sink::lines(on_line))?,
                        To::Parent | To::Null | To::File(_) => {}
                    }
                }
            }
        }
        Ok(pipes)
    }

    /// What a process that is not forked from this one needs to put its streams in place: how, and the descriptors.
    pub(crate) fn passing<'a>(&'a self, pipes: &'a Pipes) -> ([Stream; 3], Vec<BorrowedFd<'a>>) {
        let mut fds = Vec::new();
        let mut pass = |fd: Option<BorrowedFd<'a>>| match fd {
            Some(fd) => {
                fds.push(fd);
                Stream::Passed
            }
            None => Stream::Parent,
        };
        let stdin = match &self.stdin.0 {
            From::Parent => Stream::Parent,
            From::Null => Stream::Null,
            From::File(file) => pass(Some(file.as_fd())),
        };
        let [stdout, stderr] =
            [(&self.stdout.0, STDOUT), (&self.stderr.0, STDERR)].map(|(to, fd)| match to {
                To::Parent => Stream::Parent,
                To::Null => Stream::Null,
                To::File(file) => pass(Some(file.as_fd())),
                To::Tail(_) | To::Lines(_) => pass(pipes.writer(fd)),
            });
        ([stdin, stdout, stderr], fds)
    }

    /// For such a process: the streams as [`passing`](Self::passing) described them. None where descriptors are missing.
    pub(crate) fn passed(streams: [Stream; 3], fds: Vec<OwnedFd>) -> Option<Self> {
        let mut fds = fds.into_iter().map(File::from);
        let [stdin, stdout, stderr] = streams;
        let stdin = match stdin {
            Stream::Parent => Input::inherit(),
            Stream::Null => Input::null(),
            Stream::Passed => Input::file(fds.next()?),
        };
        let mut output = |stream| {
            Some(match stream {
                Stream::Parent => Output::inherit(),
                Stream::Null => Output::null(),
                Stream::Passed => Output::file(fds.next()?),
            })
        };
        Some(Self {
            stdin,
            stdout: output(stdout)?,
            stderr: output(stderr)?,
        })
    }

    /// For the child: puts its streams in place. `pipes` are those made before the fork.
    ///
    /// # Errors
    ///
    /// What the system refused.
    pub(crate) fn enter(&self, pipes: Pipes) -> Result<(), Refused> {
        match &self.stdin.0 {
            From::Parent => {}
            From::Null => put_null(STDIN)?,
            From::File(file) => put(file.as_fd(), STDIN)?,
        }
        for (to, fd) in [(&self.stdout.0, STDOUT), (&self.stderr.0, STDERR)] {
            match to {
                To::Parent => {}
                To::Null => put_null(fd)?,
                To::File(file) => put(file.as_fd(), fd)?,
                To::Tail(_) | To::Lines(_) => {
                    if let Some(pipe) = pipes.writer(fd) {
                        put(pipe, fd)?;
                    }
                }
            }
        }
        Ok(())
    }
}

const STDIN: i32 = 0;
const STDOUT: i32 = 1;
const STDERR: i32 = 2;
const BOTH: &[i32] = &[STDOUT, STDERR];
const ONLY_OUT: &[i32] = &[STDOUT];
const ONLY_ERR: &[i32] = &[STDERR];

fn put_null(fd: i32) -> Result<(), Refused> {
    let null = OpenOptions::new().read(true).write(true).open("/dev/null");
    let null = null.map_err(|error| Refused {
        what: format!("cannot open /dev/null for its descriptor {fd}"),
        error,
    })?;
    put(null.as_fd(), fd)
}

fn put(source: BorrowedFd<'_>, fd: i32) -> Result<(), Refused> {
    sys::put_in_place(source, fd).map_err(|error| Refused {
        what: format!("cannot set up its descriptor {fd}"),
        error,
    })
}

impl fmt::Debug for To {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Parent => f.write_str("Parent"),
            Self::Null => f.write_str("Null"),
            Self::File(file) => f.debug_tuple("File").field(file).finish(),
            Self::Tail(bytes) => f.debug_tuple("Tail").field(bytes).finish(),
            Self::Lines(_) => f.write_str("Lines"),
        }
    }
}
