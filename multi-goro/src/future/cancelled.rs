//! Waiting for somebody to ask to stop, as a future.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Instant;

use multi_core::{CancelToken, Event};

use crate::sync::{OsMutex, TaskEvent, lock};

/// The future of [`cancelled`].
#[derive(Debug)]
#[must_use = "it waits for nothing before it is polled"]
pub struct Cancelled {
    token: CancelToken,
    /// A child of the token, which is told when the token is cancelled, and what it tells.
    child: Option<(CancelToken, Arc<WakeEvent>)>,
}

/// Resolves once somebody asks to stop: the future of [`CancelToken::wait`].
///
/// ```
/// use multi_goro::{Group, future::cancelled};
///
/// let mut group = Group::new();
/// let token = group.cancel_token();
/// group.go_async(async move {
///     cancelled(&token).await;
///     Ok(())
/// });
/// group.cancel();
/// group.wait()?;
/// # Ok::<(), multi_goro::GroupError>(())
/// ```
///
/// A token that another process cancels, through memory that both share, is seen when this future is polled next.
pub fn cancelled(token: &CancelToken) -> Cancelled {
    Cancelled {
        token: token.clone(),
        child: None,
    }
}

/// An event that wakes a waker.
#[derive(Debug)]
struct WakeEvent {
    waker: OsMutex<Option<Waker>>,
    /// For whoever waits in the common way; nobody has the token to do it.
    others: TaskEvent,
}

impl Event for WakeEvent {
    fn key(&self) -> u64 {
        self.others.key()
    }

    fn wait(&self, key: u64, until: Option<Instant>) {
        self.others.wait(key, until);
    }

    fn notify(&self) {
        self.others.notify();
        let waker = lock(&self.waker).take();
        if let Some(waker) = waker {
            // Anybody's code; should it panic, that is not the business of who cancels.
            drop(multi_core::panic::catch(|| waker.wake()));
        }
    }
}

impl Future for Cancelled {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        let waker = context.waker().clone();
        let before = match &self.child {
            Some((_, event)) => lock(&event.waker).replace(waker),
            None => {
                let event = Arc::new(WakeEvent {
                    waker: OsMutex::new(Some(waker)),
                    others: TaskEvent::new(),
                });
                let child = CancelToken::on(Arc::<WakeEvent>::clone(&event));
                self.token.adopt(&child);
                self.child = Some((child, event));
                None
            }
        };
        drop(before);
        // After the waker is in its place: a cancel before that is seen here, a later one wakes.
        if self.token.is_cancelled() {
            Poll::Ready(())
        } else {
            Poll::Pending
        }
    }
}
