//! What all models have in common: a channel's memory with loom's atomics in the places of the real ones, and how far the
//! models go.

#![expect(unsafe_code, reason = "lays channels out in private memory")]

use crate::layout::{Gate, Header, Line};
use crate::sync::{AtomicU32, AtomicU64};
use crate::wait::Event;
use std::alloc::{Layout, alloc_zeroed, dealloc};
use std::ptr::NonNull;

/// Runs every interleaving of the threads in `body` that has at most so many preemptions.
pub(crate) fn check(preemptions: usize, body: impl Fn() + Send + Sync + 'static) {
    let mut model = loom::model::Builder::new();
    model.preemption_bound = Some(preemptions);
    model.check(body);
}

/// The first bound as a rule, the second where all the time in the world is given (`cargo xtask models --thorough`).
pub(crate) fn bound<B>(quick: B, thorough: B) -> B {
    match std::env::var_os("MULTI_MODELS_THOROUGH") {
        None => quick,
        Some(_) => thorough,
    }
}

/// A mapping's stand-in: zeroed, but for what was put there, which is dropped with it.
pub(crate) struct Memory {
    base: NonNull<u8>,
    layout: Layout,
    contents: Vec<Content>,
}

/// Something that was put into the memory, and what drops it there.
struct Content {
    place: NonNull<u8>,
    drop_at: fn(NonNull<u8>),
}

impl Memory {
    /// `bytes` that begin with the header of a new channel.
    pub(crate) fn new(bytes: usize) -> Memory {
        let layout = Layout::from_size_align(bytes, 4096).unwrap();
        assert!(bytes >= size_of::<Header>());
        // SAFETY: the layout is not empty.
        let base = NonNull::new(unsafe { alloc_zeroed(layout) }).unwrap();
        let mut memory = Memory {
            base,
            layout,
            contents: Vec::new(),
        };
        let header = Header {
            gate: Line(Gate {
                flags: AtomicU32::default(),
                rows_used: AtomicU32::default(),
                returned: AtomicU32::default(),
                dropped: AtomicU64::default(),
                handed: AtomicU64::default(),
            }),
            tail: Line(AtomicU64::default()),
            head: Line(AtomicU64::default()),
            sent: Line(Event::default()),
            freed: Line(Event::default()),
        };
        memory.put(0, header);
        memory
    }

    pub(crate) fn base(&self) -> NonNull<u8> {
        self.base
    }

    /// Writes a value where the layout has one. Nothing else lies there.
    pub(crate) fn put<T>(&mut self, offset: usize, value: T) {
        assert!(offset + size_of::<T>() <= self.layout.size());
        // SAFETY: inside the memory, by the assertion.
        let place = unsafe { self.base.add(offset) };
        assert!(place.cast::<T>().is_aligned());
        // SAFETY: inside, aligned, and not shared yet: `self` is borrowed mutably.
        unsafe { place.cast::<T>().write(value) };
        self.contents.push(Content {
            place,
            // SAFETY: called in `drop`, once, for the place that was written just now.
            drop_at: |place| unsafe { place.cast::<T>().drop_in_place() },
        });
    }

    /// What lies at `offset`.
    ///
    /// # Safety
    /// - a `T` was put there, or its zero bytes are one.
    pub(crate) unsafe fn at<T>(&self, offset: usize) -> &T {
        assert!(offset + size_of::<T>() <= self.layout.size());
        // SAFETY: inside the memory, by the assertion.
        let place = unsafe { self.base.add(offset) };
        // SAFETY: the caller's promise.
        unsafe { place.cast::<T>().as_ref() }
    }
}

impl Drop for Memory {
    fn drop(&mut self) {
        for content in self.contents.drain(..) {
            (content.drop_at)(content.place);
        }
        // SAFETY: allocated in `new` with this layout.
        unsafe { dealloc(self.base.as_ptr(), self.layout) };
    }
}
