//! Kanal's channels between tasks of Tokio.

use std::future::Future;

use kanal::{AsyncReceiver, AsyncSender};

use super::futures::{self, Runtime};
use super::tokio::Tokio;
use crate::Result;
use crate::job::{Job, Work};

pub(crate) fn perform(job: &Job) -> Result<Work> {
    futures::perform::<Kanal>(job)
}

struct Kanal(Tokio);

impl Runtime for Kanal {
    const NAME: &'static str = "kanal";
    type Task<T: Send + 'static> = <Tokio as Runtime>::Task<T>;
    type Sender = AsyncSender<u64>;
    type Receiver = AsyncReceiver<u64>;
    type Gate = <Tokio as Runtime>::Gate;

    fn new(workers: usize) -> Result<Self> {
        Tokio::new(workers).map(Self)
    }

    fn run<T: Send + 'static>(&self, work: impl Future<Output = T> + Send + 'static) -> T {
        self.0.run(work)
    }

    fn spawn<T: Send + 'static>(work: impl Future<Output = T> + Send + 'static) -> Self::Task<T> {
        Tokio::spawn(work)
    }

    fn detach(task: Self::Task<()>) {
        Tokio::detach(task);
    }

    fn yield_now() -> impl Future<Output = ()> + Send {
        Tokio::yield_now()
    }

    fn sleep(pause: std::time::Duration) -> impl Future<Output = ()> + Send {
        Tokio::sleep(pause)
    }

    fn blocking(call: impl FnOnce() + Send + 'static) -> impl Future<Output = ()> + Send {
        Tokio::blocking(call)
    }

    fn channel(capacity: usize) -> (Self::Sender, Self::Receiver) {
        kanal::bounded_async(capacity)
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
        Tokio::gate()
    }

    fn pass(gate: &Self::Gate) -> impl Future<Output = ()> + Send {
        Tokio::pass(gate)
    }

    fn open(gate: &Self::Gate) {
        Tokio::open(gate);
    }
}
