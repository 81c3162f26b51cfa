//! The rules of `SpawnFn`, kept by the smallest thing that runs functions and is no group: a thread for each call.

use multi_core::conformance::FnSubject;
use multi_core::ledger::Ledger;
use multi_core::{
    BuildError, CancelToken, GroupError, GroupOptions, Handle, Progress, Result, SpawnFn,
    TaskOptions, Tasks, ThreadEvent, WaitTimeoutError,
};
use std::panic::Location;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

/// Runs functions. It takes no closures: that is what is tested.
struct Runner(Ledger);

multi_core::tasks_face!(Runner);
multi_core::spawn_fn_face!(Runner, args: [Send + 'static], value: [Send + 'static]);

impl Tasks for Runner {
    fn wait(&mut self) -> Result<(), GroupError> {
        self.0.wait()
    }

    fn wait_timeout(&mut self, timeout: Duration) -> Result<(), WaitTimeoutError> {
        self.0.wait_timeout(timeout)
    }

    fn cancel_token(&self) -> CancelToken {
        self.0.cancel_token()
    }

    fn progress(&self) -> Progress {
        self.0.progress()
    }
}

impl<A: Send + 'static, T: Send + 'static> SpawnFn<A, T> for Runner {
    #[track_caller]
    fn spawn_fn_with(
        &self,
        options: TaskOptions,
        function: fn(A) -> Result<T>,
        args: A,
    ) -> Handle<T> {
        let options = options.started_at(Location::caller());
        let event = Arc::new(ThreadEvent::new());
        self.0.launch_with(options, event, move |ticket, promise| {
            let call = move || {
                ticket.lineage().enter();
                ticket.run_with(promise, || function(args));
            };
            // Nobody joins the thread: its call is settled when it is as good as gone.
            drop(thread::spawn(call));
        })
    }
}

impl Drop for Runner {
    fn drop(&mut self) {
        self.0.abandon();
    }
}

struct Threads;

impl FnSubject for Threads {
    const NAME: &'static str = "functions in threads";
    type Group = Runner;

    fn group(options: GroupOptions) -> Result<Runner, BuildError> {
        let event = Arc::new(ThreadEvent::new());
        Ledger::new("threads", options, event, CancelToken::new).map(Runner)
    }

    fn sleep(duration: Duration) {
        thread::sleep(duration);
    }

    fn with_starts_refused(_while_refused: &mut dyn FnMut()) -> Result<(), &'static str> {
        Err("std has no call that lowers the limit of threads")
    }
}

multi_core::conformance!(functions: Threads);
