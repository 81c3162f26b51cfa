//! Tasks that are futures: polled by the workers, without a stack while they wait.

#![expect(clippy::disallowed_types, reason = "a test sees what a user sees")]
#![expect(clippy::print_stdout, reason = "the seed has to be seen")]

#[path = "../common/mod.rs"]
mod common;

mod channels;
mod dropped;
mod groups;
mod life;
mod wakers;

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::future::{pending, poll_fn, ready};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::*};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker};
use std::thread;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use common::watchdog;
use futures_util::future::{join_all, select_all};
use futures_util::stream::{FuturesUnordered, StreamExt};
use futures_util::{FutureExt, select};
use multi_goro::chan::RecvError;
use multi_goro::future::{block_on, cancelled, sleep, sleep_until};
use multi_goro::{
    Group, OsThread, Receiver, Result, Runtime, Sender, Spawner, TaskOptions, chan, task_local,
};

fn runtime(workers: usize) -> Runtime {
    Runtime::builder().workers(workers).build().unwrap()
}

/// Gives the others a turn, once.
fn yield_async() -> impl Future<Output = ()> {
    let mut has_yielded = false;
    poll_fn(move |context| {
        if std::mem::replace(&mut has_yielded, true) {
            return Poll::Ready(());
        }
        context.waker().wake_by_ref();
        Poll::Pending
    })
}

/// Counts how often it is dropped.
struct Dropped(Arc<AtomicUsize>);

impl Drop for Dropped {
    fn drop(&mut self) {
        self.0.fetch_add(1, AcqRel);
    }
}

/// Polls once, with a waker that counts.
fn poll_once<F: Future + Unpin>(future: &mut F) -> Poll<F::Output> {
    Pin::new(future).poll(&mut Context::from_waker(Waker::noop()))
}
