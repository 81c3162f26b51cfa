//! The cell of a task: what the scheduler knows of it, and its closure until it runs.

#![expect(unsafe_code, reason = "tasks are freed by whoever finishes them")]

use std::cell::{Cell, UnsafeCell};
use std::io;
use std::mem::ManuallyDrop;
use std::panic::Location;
use std::ptr::{self, NonNull};
use std::sync::{Arc, OnceLock, Weak};

use multi_core::Lineage;

use super::behind::GroupNumber;
use super::cells::{self, InCell};
use super::current;
use super::locals::{self, Locals};
use super::offers::Offers;
use super::park::{Kind, ParkCell};
use super::shared::Shared;
use super::status::Status;
use crate::proto::inbox::Linked;
use crate::stack::{Class, Stack};
use crate::sync::{AtomicPtr, Ordering::*};

/// What a task does. The three steps let the runtime count a task as ended before anybody who waits for it knows.
pub(crate) trait Job: Send + 'static {
    /// How the task ended.
    type End;

    /// Runs the task, on a stack of its own. Must not panic.
    fn run(self) -> Self::End;

    /// Called instead of `run`, on a worker's own stack, when no stack was to be had. Must not panic.
    fn refuse(self, error: io::Error) -> Self::End;

    /// Tells who waits, once the task no longer counts. Must not panic.
    fn end(end: Self::End);
}

/// What reports say about a task.
#[derive(Debug, Clone, Default)]
pub(crate) struct Info {
    pub(crate) name: Option<Arc<str>>,
    pub(crate) started_at: Option<&'static Location<'static>>,
    /// The limited groups the task runs in.
    pub(crate) lineage: Lineage,
    /// The group that it is one of.
    pub(crate) group: Option<GroupNumber>,
}

/// The part of a task that does not depend on its closure.
///
/// Before it first runs a task is in exactly one queue, and who takes it from there owns it. After that it belongs to
/// its worker: the plain cells are touched on that worker's thread only, but for `worker`, which never changes again.
#[repr(C)]
pub(crate) struct Header {
    /// First, so that who unparks the task finds the rest.
    pub(super) park: ParkCell,
    /// What it does, once it has started.
    pub(super) status: Status,
    /// The group that it is one of, as a number; zero for none.
    group: u32,
    /// The next one in an inbox; while it is parked, behind whom, if that is known: see `behind.rs`.
    link: AtomicPtr<Header>,
    /// Its runtime, alive as long as any task.
    pub(super) shared: NonNull<Shared>,
    /// Where it was left; null before its first run.
    pub(super) sp: Cell<*mut u8>,
    /// Its stack's lowest address while it has one, which is then of its class.
    stack: Cell<Option<NonNull<u8>>>,
    /// The line that started it.
    pub(super) started_at: Option<&'static Location<'static>>,
    /// What few tasks have; null for the others. Made with the task or by the task itself, and freed with it.
    more: AtomicPtr<More>,
    calls: &'static Calls,
}

// Most of what a task costs before it runs.
const _: () = assert!(size_of::<Header>() == 72);

/// What only some tasks have.
#[derive(Default)]
struct More {
    /// These change no more once somebody else can see them.
    name: Option<Arc<str>>,
    lineage: Lineage,
    /// Of a polled task that is bound, its runtime, for who has the task only.
    bound_to: OnceLock<Weak<Shared>>,
    /// Its `task_local!` values, once it has any.
    locals: Cell<Option<Box<Locals>>>,
    /// Its deque while it is in a fork-join.
    offers: Cell<Option<NonNull<Offers>>>,
}

/// Which of a bound worker's tasks go first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Lane {
    Normal,
    /// Runs when nobody else can, and now and then in any case.
    Background,
}

/// What depends on a task's closure, or future.
pub(super) struct Calls {
    pub(super) run: unsafe fn(NonNull<Header>, &dyn Fn()) -> Ran,
    pub(super) refuse: unsafe fn(NonNull<Header>, io::Error, &dyn Fn()),
    pub(super) free: unsafe fn(NonNull<Header>),
    /// Of polled tasks: frees the cell, when the last reference is gone. Of others the same as `free`.
    pub(super) destroy: unsafe fn(NonNull<Header>),
}

/// How a run of a task ended.
#[must_use]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Ran {
    /// So did the task.
    Ended,
    /// It is a polled one, and waits without a stack: see `polled::rest`.
    Waits,
}

#[repr(C)]
struct Task<J> {
    header: Header,
    job: UnsafeCell<ManuallyDrop<J>>,
}

/// A task that has not run yet, on its way through queues. Who has it is the one to run it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct TaskRef(pub(super) NonNull<Header>);

// SAFETY: an unstarted task is a `Send` closure and a header that only its holder touches.
unsafe impl Send for TaskRef {}

impl TaskRef {
    /// Its holder only, which has not put it into a queue yet.
    pub(super) fn set_lane(self, lane: Lane) {
        // SAFETY: unstarted and held, so alive and ours.
        unsafe { self.0.as_ref() }.kind().lane.set(lane);
    }

    /// Keeps the runtime for [`Header::bound_to`]. Its holder only, which has not put it into a queue yet.
    pub(super) fn bind(self, runtime: Weak<Shared>) {
        // SAFETY: as in `set_lane`.
        let more = unsafe { self.0.as_ref() }.with_more();
        let _set_once = more.bound_to.set(runtime);
    }

    /// Its holder only.
    pub(super) fn lane(self) -> Lane {
        // SAFETY: as in `set_lane`.
        unsafe { self.0.as_ref() }.lane()
    }
}

impl Header {
    pub(super) fn new(
        shared: NonNull<Shared>,
        class: Class,
        info: Info,
        calls: &'static Calls,
    ) -> Self {
        let Info {
            name,
            started_at,
            lineage,
            group,
        } = info;
        let more = if name.is_some() || lineage.is_some() {
            Box::into_raw(Box::new(More {
                name,
                lineage,
                ..More::default()
            }))
        } else {
            ptr::null_mut()
        };
        Self {
            park: ParkCell::of_task(class),
            link: AtomicPtr::new(ptr::null_mut()),
            shared,
            sp: Cell::new(ptr::null_mut()),
            stack: Cell::new(None),
            status: Status::new(),
            started_at,
            group: GroupNumber::to_word(group),
            more: AtomicPtr::new(more),
            calls,
        }
    }

    fn kind(&self) -> &Kind {
        match &self.park.kind {
            Some(kind) => kind,
            None => unreachable!("a task without a kind"),
        }
    }

    /// Says which worker it starts on.
    pub(super) fn set_home(&self, worker: usize) {
        let worker = u16::try_from(worker).expect("fewer than 65 536 workers");
        // Relaxed: read by who unparks the task, after a wait that it announced under some lock.
        self.kind().worker.store(worker, Relaxed);
    }

    /// The class of its stack.
    pub(super) fn class(&self) -> Class {
        self.kind().class
    }

    pub(super) fn lane(&self) -> Lane {
        self.kind().lane.get()
    }

    fn more(&self) -> Option<&More> {
        // Acquire: pairs with the Release in `with_more`, for who is not the task's own worker.
        let more = self.more.load(Acquire);
        // SAFETY: null, or a box that is freed with the header.
        unsafe { more.as_ref() }
    }

    /// The task's own worker only, or who has made it.
    fn with_more(&self) -> &More {
        if self.more().is_none() {
            let made = Box::into_raw(Box::<More>::default());
            // Release: publishes it whole. Pairs with the Acquire in `more`.
            self.more.store(made, Release);
        }
        self.more().expect("just made")
    }

    /// The task's name.
    pub(super) fn name(&self) -> Option<&Arc<str>> {
        self.more()?.name.as_ref()
    }

    /// The runtime of a polled task that is bound, as long as that is there: who has only the task may ask.
    pub(super) fn bound_to(&self) -> Option<Arc<Shared>> {
        self.more()?.bound_to.get()?.upgrade()
    }

    /// The group that it is one of.
    pub(super) fn group(&self) -> Option<GroupNumber> {
        GroupNumber::from_word(self.group)
    }

    /// Says behind whom the task, which runs and is about to park, is then.
    pub(super) fn set_behind(&self, word: usize) {
        // Relaxed: before the Release with which it parks.
        self.link.store(ptr::without_provenance_mut(word), Relaxed);
    }

    /// What it has said of that, if it is parked and has said so; something else if it is not.
    pub(super) fn behind(&self) -> usize {
        // Relaxed: the caller looks before and afterwards whether it was parked meanwhile.
        self.link.load(Relaxed).addr()
    }

    /// What reports say about the task.
    pub(super) fn info(&self) -> Info {
        let more = self.more();
        Info {
            name: more.and_then(|more| more.name.clone()),
            started_at: self.started_at,
            lineage: more.map_or(Lineage::NONE, |more| more.lineage.clone()),
            group: self.group(),
        }
    }

    /// The limited groups the task runs in.
    pub(super) fn lineage(&self) -> Lineage {
        self.more()
            .map_or(Lineage::NONE, |more| more.lineage.clone())
    }

    /// Takes its `task_local!` values out, if it has any.
    pub(super) fn take_locals(&self) -> Option<Box<Locals>> {
        self.more()?.locals.take()
    }

    pub(super) fn set_locals(&self, locals: Box<Locals>) {
        self.with_more().locals.set(Some(locals));
    }

    /// Its deque while it is in a fork-join.
    pub(super) fn offers(&self) -> Option<NonNull<Offers>> {
        self.more()?.offers.get()
    }

    pub(super) fn set_offers(&self, offers: Option<NonNull<Offers>>) {
        self.with_more().offers.set(offers);
    }

    /// Gives the task its stack, which is of its class.
    pub(super) fn set_stack(&self, stack: Stack) {
        debug_assert_eq!(stack.class(), self.class());
        self.stack.set(Some(stack.into_base()));
    }

    /// Takes the stack back, if the task has one.
    pub(super) fn take_stack(&self) -> Option<Stack> {
        let base = self.stack.take()?;
        // SAFETY: from `into_base` in `set_stack`, of a stack of this class, and taken out once.
        Some(unsafe { Stack::from_base(base, self.class()) })
    }

    /// The stack, which stays the task's.
    pub(super) fn stack(&self) -> Option<ManuallyDrop<Stack>> {
        let base = self.stack.get()?;
        // SAFETY: as in `take_stack`, except that it is looked at only.
        let stack = unsafe { Stack::from_base(base, self.class()) };
        Some(ManuallyDrop::new(stack))
    }

    /// Makes the cell of a task that counts on `shared` staying alive until it has ended.
    pub(super) fn create<J: Job>(
        shared: NonNull<Shared>,
        class: Class,
        info: Info,
        job: J,
    ) -> TaskRef {
        let task = Task {
            header: Self::new(
                shared,
                class,
                info,
                &Calls {
                    run: Task::<J>::run,
                    refuse: Task::<J>::refuse,
                    free: Task::<J>::free,
                    destroy: Task::<J>::free,
                },
            ),
            job: UnsafeCell::new(ManuallyDrop::new(job)),
        };
        let place = match Task::<J>::SIZE {
            Some(size) => current::take_cell(shared, size).cast(),
            None => cells::boxed(),
        };
        // SAFETY: a place for a task of this type, that nobody uses.
        unsafe { place.write(task) };
        TaskRef(place.cast())
    }

    /// Runs the closure to its end, calling `count` between the two halves of the end.
    ///
    /// # Safety
    ///
    /// - `task` came from [`create`](Self::create), is owned by the caller, and is run or refused once; or it is a polled one, taken
    ///   from a queue.
    pub(super) unsafe fn run(task: NonNull<Self>, count: &dyn Fn()) -> Ran {
        // SAFETY: alive, by the caller's promise.
        let run = unsafe { task.as_ref() }.calls.run;
        // SAFETY: `calls` was made for this task's type.
        unsafe { run(task, count) }
    }

    /// As [`run`](Self::run), for a task that cannot have a stack.
    ///
    /// # Safety
    ///
    /// - As for `run`.
    pub(super) unsafe fn refuse(task: NonNull<Self>, error: io::Error, count: &dyn Fn()) {
        // SAFETY: alive, by the caller's promise.
        let refuse = unsafe { task.as_ref() }.calls.refuse;
        // SAFETY: `calls` was made for this task's type.
        unsafe { refuse(task, error, count) };
    }

    /// Frees the cell.
    ///
    /// # Safety
    ///
    /// - `task` was run or refused, is owned by the caller and is not used afterwards.
    pub(super) unsafe fn free(task: NonNull<Self>) {
        // SAFETY: alive, by the caller's promise.
        let free = unsafe { task.as_ref() }.calls.free;
        // SAFETY: `calls` was made for this task's type.
        unsafe { free(task) };
    }

    /// Frees the cell of a polled task that has ended.
    ///
    /// # Safety
    ///
    /// - The last reference to it was given up.
    pub(super) unsafe fn destroy(task: NonNull<Self>) {
        // SAFETY: alive, by the caller's promise.
        let destroy = unsafe { task.as_ref() }.calls.destroy;
        // SAFETY: `calls` was made for this task's type.
        unsafe { destroy(task) };
    }

    /// Whether it has a stack, and so stays on its worker.
    pub(super) fn is_started(&self) -> bool {
        !self.sp.get().is_null()
    }

    /// Makes a task that ran, and gave its stack back, an unstarted one.
    pub(super) fn unstart(&self) {
        self.sp.set(ptr::null_mut());
    }

    /// The worker the task started on.
    pub(super) fn home(&self) -> usize {
        // Relaxed: written before the task first ran, and so before any wait that brought the reader here.
        usize::from(self.kind().worker.load(Relaxed))
    }
}

impl<J: Job> Task<J> {
    /// Takes the closure out.
    ///
    /// # Safety
    ///
    /// - `task` is a live `Task<J>` owned by the caller, and its closure has not been taken.
    unsafe fn take(task: NonNull<Header>) -> J {
        // SAFETY: `repr(C)`: the header is where the task is.
        let job = unsafe { task.cast::<Self>().as_ref() }.job.get();
        // SAFETY: owned by the caller.
        let job = unsafe { &mut *job };
        // SAFETY: taken once, by the caller's promise.
        unsafe { ManuallyDrop::take(job) }
    }

    /// # Safety
    ///
    /// - As for `Header::run`, with a `Task<J>`.
    unsafe fn run(task: NonNull<Header>, count: &dyn Fn()) -> Ran {
        // SAFETY: run or refused once.
        let end = unsafe { Self::take(task) }.run();
        // SAFETY: alive, by the caller's promise.
        let header = unsafe { task.as_ref() };
        locals::drop_locals(header);
        count();
        J::end(end);
        // What the end dropped may have used some again.
        locals::drop_locals(header);
        // What destructors have made again and again stays behind: below, nobody may panic or wait.
        header.take_locals().map(Box::leak);
        Ran::Ended
    }

    /// # Safety
    ///
    /// - As for `run`.
    unsafe fn refuse(task: NonNull<Header>, error: io::Error, count: &dyn Fn()) {
        // SAFETY: run or refused once.
        let end = unsafe { Self::take(task) }.refuse(error);
        count();
        J::end(end);
    }

    /// # Safety
    ///
    /// - As for `Header::free`, with a `Task<J>`.
    unsafe fn free(task: NonNull<Header>) {
        // SAFETY: alive, by the caller's promise.
        let shared = unsafe { task.as_ref() }.shared;
        // SAFETY: from `create`; the caller gives it up. The closure is gone, and `ManuallyDrop` lets it be.
        unsafe { task.cast::<Self>().drop_in_place() };
        match Self::SIZE {
            // SAFETY: from `create`, which took it as of this size from this runtime.
            Some(size) => unsafe { current::give_cell(shared, size, task.cast()) },
            // SAFETY: from `create`, which put it into a box of its own.
            None => unsafe { cells::unbox(task.cast::<Self>()) },
        }
    }
}

impl Drop for Header {
    fn drop(&mut self) {
        // Relaxed: whoever wrote it did so before the task came to who frees it.
        let more = self.more.load(Relaxed);
        if !more.is_null() {
            // SAFETY: from `Box::into_raw`, in `new` or `with_more`, and nobody looks any more.
            drop(unsafe { Box::from_raw(more) });
        }
    }
}

// SAFETY: the field `link`, used by inboxes only.
unsafe impl Linked for Header {
    unsafe fn link(item: NonNull<Self>) -> NonNull<AtomicPtr<Self>> {
        // SAFETY: alive, by the caller's promise.
        NonNull::from(&unsafe { item.as_ref() }.link)
    }
}
