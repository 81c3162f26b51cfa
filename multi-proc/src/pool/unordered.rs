//! Values as they come.

use super::hub::Hub;
use super::jobs::Jobs;
use multi_core::{Event as _, Handle, Result, TaskError, TaskOptions};
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::collections::{HashMap, VecDeque};
use std::fmt;
use std::iter::{Enumerate, FusedIterator};
use std::sync::{Arc, Mutex, PoisonError};

/// The values of a function over many items, as they come: index of the item, and what came of it. Made by
/// [`Pool::map_unordered`](crate::Pool::map_unordered).
///
/// It keeps the pool's queue full and takes items only as there is room. It holds twice as many of them as the pool takes jobs at most, values
/// that were not asked for included, so that an endless iterator of items is fine. One that makes it wait for an item makes the values wait.
///
/// Dropping it lets go of the values that have not come; jobs that were given to the pool run on.
#[must_use = "an iterator does nothing until it is asked"]
pub struct MapUnordered<'a, A, T, I> {
    jobs: Jobs<'a>,
    options: TaskOptions,
    function: fn(A) -> Result<T>,
    /// None when it is not to be asked any more.
    items: Option<Enumerate<I>>,
    /// An item for which there was no room.
    next: Option<(usize, A)>,
    handles: HashMap<usize, Handle<T>>,
    finished: Arc<Finished>,
}

/// Items whose jobs have ended and that nobody asked for yet.
#[derive(Default)]
struct Finished(Mutex<VecDeque<usize>>);

/// Says that an item's job has ended, when it is dropped.
pub(super) struct Told {
    finished: Arc<Finished>,
    hub: Arc<Hub>,
    index: usize,
}

impl Drop for Told {
    fn drop(&mut self) {
        let mut finished = self
            .finished
            .0
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        finished.push_back(self.index);
        drop(finished);
        self.hub.notify();
    }
}

impl<'a, A, T, I> MapUnordered<'a, A, T, I>
where
    A: Serialize + DeserializeOwned + Send + 'static,
    T: Serialize + DeserializeOwned + Send + 'static,
    I: Iterator<Item = A>,
{
    pub(super) fn new(
        jobs: Jobs<'a>,
        options: TaskOptions,
        function: fn(A) -> Result<T>,
        items: I,
    ) -> Self {
        jobs.hub().check_owner();
        Self {
            jobs,
            options,
            function,
            items: Some(items.enumerate()),
            next: None,
            handles: HashMap::new(),
            finished: Arc::default(),
        }
    }

    /// Takes no more items.
    pub(super) fn stop(&mut self) {
        self.items = None;
        self.next = None;
    }

    /// Gives the pool as many items as it has room for.
    fn fill(&mut self) {
        // One that the pool refuses, or ends at once, takes no room. Twice: so that values may lie here unasked for and the queue is full.
        let most = 2 * self.jobs.hub().board.jobs;
        while self.handles.len() < most
            && let Some((index, item)) = self.next.take().or_else(|| self.items.as_mut()?.next())
        {
            let told = || Told {
                finished: Arc::clone(&self.finished),
                hub: Arc::clone(self.jobs.hub()),
                index,
            };
            // With nothing of ours in it the pool is full of others' jobs, and no end of ours will make room.
            let may_wait = self.handles.is_empty();
            let options = self.options.clone();
            match self
                .jobs
                .start_one(options, may_wait, self.function, item, told)
            {
                Ok(handle) => {
                    self.handles.insert(index, handle);
                }
                Err(item) => {
                    self.next = Some((index, item));
                    return;
                }
            }
        }
    }

    fn finished(&self) -> Option<usize> {
        let mut finished = self
            .finished
            .0
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        finished.pop_front()
    }
}

impl<A, T, I> Iterator for MapUnordered<'_, A, T, I>
where
    A: Serialize + DeserializeOwned + Send + 'static,
    T: Serialize + DeserializeOwned + Send + 'static,
    I: Iterator<Item = A>,
{
    type Item = (usize, Result<T, TaskError>);

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            self.fill();
            let hub = self.jobs.hub();
            let key = hub.reaper.key();
            if let Some(index) = self.finished() {
                if let Some(handle) = self.handles.remove(&index) {
                    return Some((index, handle.join()));
                }
                continue;
            }
            if self.handles.is_empty() {
                return None;
            }
            hub.wait_for_any(key, None);
        }
    }
}

impl<A, T, I> FusedIterator for MapUnordered<'_, A, T, I>
where
    A: Serialize + DeserializeOwned + Send + 'static,
    T: Serialize + DeserializeOwned + Send + 'static,
    I: FusedIterator<Item = A>,
{
}

impl<A, T, I> fmt::Debug for MapUnordered<'_, A, T, I> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MapUnordered")
            .field("running", &self.handles.len())
            .finish_non_exhaustive()
    }
}
