//! Smol: async-executor on as many threads as there are workers, async-channel, async-io's timers. The smallest capacity of those channels
//! is 1, which stands in for none at all.

use std::future::{Future, pending};
use std::thread;
use std::time::Duration;

use smol::channel::{Receiver, Sender, bounded};
use smol::future::yield_now;
use smol::{Executor, Task, Timer, block_on, unblock};

use super::futures::{self, Runtime};
use crate::Result;
use crate::job::{Job, Work};

pub(crate) fn perform(job: &Job) -> Result<Work> {
    futures::perform::<Smol>(job)
}

/// `smol::spawn` has a global executor, too, but takes the number of its threads from the environment.
static EXECUTOR: Executor<'static> = Executor::new();

struct Smol;

impl Runtime for Smol {
    const NAME: &'static str = "smol";
    type Task<T: Send + 'static> = Task<T>;
    type Sender = Sender<u64>;
    type Receiver = Receiver<u64>;
    /// Opens by being closed.
    type Gate = (Sender<u64>, Receiver<u64>);

    fn new(workers: usize) -> Result<Self> {
        for _ in 0..workers {
            let run = || block_on(EXECUTOR.run(pending::<()>()));
            drop(thread::Builder::new().spawn(run)?);
        }
        Ok(Self)
    }

    fn run<T: Send + 'static>(&self, work: impl Future<Output = T> + Send + 'static) -> T {
        block_on(EXECUTOR.spawn(work))
    }

    fn spawn<T: Send + 'static>(work: impl Future<Output = T> + Send + 'static) -> Task<T> {
        EXECUTOR.spawn(work)
    }

    fn detach(task: Task<()>) {
        task.detach();
    }

    fn yield_now() -> impl Future<Output = ()> + Send {
        yield_now()
    }

    async fn sleep(pause: Duration) {
        Timer::after(pause).await;
    }

    fn blocking(call: impl FnOnce() + Send + 'static) -> impl Future<Output = ()> + Send {
        unblock(call)
    }

    fn channel(capacity: usize) -> (Self::Sender, Self::Receiver) {
        bounded(capacity.max(1))
    }

    fn share(receiver: &Self::Receiver) -> Option<Self::Receiver> {
        Some(receiver.clone())
    }

    async fn send(to: &Self::Sender, value: u64) -> bool {
        to.send(value).await.is_ok()
    }

    async fn recv(from: &mut Self::Receiver) -> Option<u64> {
        from.recv().await.ok()
    }

    async fn select(_from: &mut [Self::Receiver]) -> Option<u64> {
        None
    }

    fn gate() -> Self::Gate {
        bounded(1)
    }

    async fn pass(gate: &Self::Gate) {
        let _closed = gate.1.recv().await;
    }

    fn open(gate: &Self::Gate) {
        gate.0.close();
    }
}
