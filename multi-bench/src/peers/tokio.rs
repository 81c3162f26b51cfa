//! Tokio: its multi-thread runtime, its channels. The smallest capacity of those is 1, which stands in for none at all.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::sync::{Semaphore, mpsc};
use tokio::{select, task, time};

use super::futures::{self, Runtime};
use crate::Result;
use crate::job::{Job, Work};

pub(crate) fn perform(job: &Job) -> Result<Work> {
    futures::perform::<Tokio>(job)
}

pub(super) struct Tokio(tokio::runtime::Runtime);

/// A task whose panic goes on in whoever awaits it.
pub(super) struct Task<T>(task::JoinHandle<T>);

impl<T> Future for Task<T> {
    type Output = T;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<T> {
        Pin::new(&mut self.0)
            .poll(context)
            .map(|outcome| outcome.expect("the task panicked"))
    }
}

impl Runtime for Tokio {
    const NAME: &'static str = "tokio";
    type Task<T: Send + 'static> = Task<T>;
    type Sender = mpsc::Sender<u64>;
    type Receiver = mpsc::Receiver<u64>;
    type Gate = Arc<Semaphore>;

    fn new(workers: usize) -> Result<Self> {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(workers)
            .enable_time()
            .build()?;
        Ok(Self(runtime))
    }

    fn run<T: Send + 'static>(&self, work: impl Future<Output = T> + Send + 'static) -> T {
        self.0.block_on(Task(self.0.spawn(work)))
    }

    fn spawn<T: Send + 'static>(work: impl Future<Output = T> + Send + 'static) -> Task<T> {
        Task(task::spawn(work))
    }

    fn detach(task: Task<()>) {
        drop(task);
    }

    fn yield_now() -> impl Future<Output = ()> + Send {
        task::yield_now()
    }

    fn sleep(pause: Duration) -> impl Future<Output = ()> + Send {
        time::sleep(pause)
    }

    async fn blocking(call: impl FnOnce() + Send + 'static) {
        Task(task::spawn_blocking(call)).await;
    }

    fn channel(capacity: usize) -> (Self::Sender, Self::Receiver) {
        mpsc::channel(capacity.max(1))
    }

    fn share(_receiver: &Self::Receiver) -> Option<Self::Receiver> {
        None
    }

    async fn send(to: &Self::Sender, value: u64) -> bool {
        to.send(value).await.is_ok()
    }

    fn recv(from: &mut Self::Receiver) -> impl Future<Output = Option<u64>> + Send {
        from.recv()
    }

    async fn select(from: &mut [Self::Receiver]) -> Option<u64> {
        match from {
            [a, b] => select! {
                value = a.recv() => value,
                value = b.recv() => value,
            },
            [a, b, c, d] => select! {
                value = a.recv() => value,
                value = b.recv() => value,
                value = c.recv() => value,
                value = d.recv() => value,
            },
            [a, b, c, d, e, f, g, h] => select! {
                value = a.recv() => value,
                value = b.recv() => value,
                value = c.recv() => value,
                value = d.recv() => value,
                value = e.recv() => value,
                value = f.recv() => value,
                value = g.recv() => value,
                value = h.recv() => value,
            },
            _ => None,
        }
    }

    fn gate() -> Self::Gate {
        Arc::new(Semaphore::new(0))
    }

    async fn pass(gate: &Self::Gate) {
        // Closing it is what opens the gate.
        let _closed = gate.acquire().await;
    }

    fn open(gate: &Self::Gate) {
        gate.close();
    }
}
