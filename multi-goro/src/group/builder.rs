//! What can be asked of a group of green tasks.

use std::sync::Arc;

use multi_core::{BuildError, GroupOptions};

use super::locked::Threads;
use super::{Group, Place, default_place};
use crate::os_thread::{Hold, OsThread};
use crate::runtime::Runtime;
use crate::sched::{Lane, Placement, Shared};
use crate::stack::Class;

/// Options of a [`Group`], then the group: `Group::builder().limit(8).build()?`.
///
/// ```
/// let mut group = multi_goro::Group::builder().name("hash").limit(2).stack_bytes(256 * 1024).build()?;
/// group.go(|| Ok(()));
/// group.wait()?;
///
/// let error = multi_goro::Group::builder().stack_bytes(5000).build().unwrap_err();
/// assert_eq!(error.to_string(), "a task stack of 5000 bytes is not a multiple of the page size, 4096 bytes");
/// # Ok::<(), multi_goro::BoxError>(())
/// ```
#[derive(Clone)]
#[must_use = "a builder does nothing until `build` is called"]
pub struct Builder {
    options: GroupOptions,
    stack_bytes: Option<usize>,
    placement: Option<Placement>,
    runtime: Option<Arc<Shared>>,
    os_thread: Option<(Arc<Hold>, Lane)>,
    is_locked: bool,
}

multi_core::builder_face!(Builder);

impl Builder {
    pub(super) fn new() -> Self {
        Self {
            options: GroupOptions::new(),
            stack_bytes: None,
            placement: None,
            runtime: None,
            os_thread: None,
            is_locked: false,
        }
    }

    /// Gives each task a stack of `bytes`: a multiple of the page size, 16 KiB to 8 MiB, rounded up to a power of two. Default:
    /// the runtime's, or 2 MiB for the threads of a locked group.
    ///
    /// ```
    /// let mut deep = multi_goro::Group::builder().stack_bytes(1 << 20).build()?;
    /// deep.go(|| {
    ///     let large = std::hint::black_box([1_u8; 500_000]);
    ///     assert_eq!(large.len(), 500_000);
    ///     Ok(())
    /// });
    /// deep.wait()?;
    /// # Ok::<(), multi_goro::BoxError>(())
    /// ```
    pub fn stack_bytes(mut self, bytes: usize) -> Self {
        self.stack_bytes = Some(bytes);
        self
    }

    /// Says on which worker each task begins. Default: the runtime's, which is [`Placement::Any`] unless it was told.
    ///
    /// ```
    /// use multi_goro::{Group, Placement};
    ///
    /// let mut connections = Group::builder().placement(Placement::Spread).build()?;
    /// connections.go(|| Ok(()));
    /// connections.wait()?;
    /// # Ok::<(), multi_goro::BoxError>(())
    /// ```
    pub fn placement(mut self, placement: Placement) -> Self {
        self.placement = Some(placement);
        self
    }

    /// Runs the tasks on `runtime` rather than on the running task's or the global one.
    ///
    /// ```
    /// use multi_goro::{Group, Runtime};
    ///
    /// let runtime = Runtime::builder().workers(2).build()?;
    /// let mut group = Group::builder().runtime(&runtime).limit(4).build()?;
    /// group.go(|| Ok(()));
    /// group.wait()?;
    /// # Ok::<(), multi_goro::BoxError>(())
    /// ```
    pub fn runtime(mut self, runtime: &Runtime) -> Self {
        self.runtime = Some(Arc::clone(runtime.shared()));
        self
    }

    /// Binds the tasks to `thread`, which stays open for as long as the group: see [`OsThread::group`].
    ///
    /// ```
    /// let thread = multi_goro::OsThread::spawn("ui")?;
    /// let mut group = multi_goro::Group::builder().os_thread(&thread).name("draw").limit(2).build()?;
    /// group.go(|| Ok(()));
    /// group.wait()?;
    /// # Ok::<(), multi_goro::BoxError>(())
    /// ```
    pub fn os_thread(mut self, thread: &OsThread) -> Self {
        self.os_thread = Some(thread.parts());
        self
    }

    /// Gives each task an OS thread of its own: see [`Group::locked`].
    ///
    /// ```
    /// let mut group = multi_goro::Group::builder().locked(true).name("decoders").build()?;
    /// group.go(|| Ok(()));
    /// group.wait()?;
    /// # Ok::<(), multi_goro::BoxError>(())
    /// ```
    pub fn locked(mut self, on: bool) -> Self {
        self.is_locked = on;
        self
    }

    /// Makes the group.
    ///
    /// # Errors
    ///
    /// [`BuildError`] for an option that makes no sense, or a global runtime that cannot start.
    pub fn build(self) -> Result<Group, BuildError> {
        let class = self.stack_bytes.map(Class::for_bytes).transpose();
        let class = class.map_err(|error| BuildError::new(error.to_string()))?;
        if self.is_locked {
            let threads = Threads::new(class);
            return Group::with("goro locked", self.options, Place::Locked, threads);
        }
        if let Some((hold, lane)) = self.os_thread {
            let shared = hold.shared();
            let place = Place::Green {
                class: class.unwrap_or(shared.class()),
                lane,
                placement: Placement::Any,
                shared: Arc::clone(shared),
                hold: Some(hold),
            };
            return Group::with("goro", self.options, place, Threads::new(None));
        }
        let place = match self.runtime {
            Some(shared) => Place::on(shared, class, self.placement),
            None => default_place(class, self.placement)?,
        };
        Group::with("goro", self.options, place, Threads::new(None))
    }
}

impl std::fmt::Debug for Builder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Builder")
            .field("options", &self.options)
            .field("stack_bytes", &self.stack_bytes)
            .field("placement", &self.placement)
            .field("is_locked", &self.is_locked)
            .finish_non_exhaustive()
    }
}
