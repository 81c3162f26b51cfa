//! A gate that workers pass millions of times and an inspector shuts now and then.
//!
//! A task's cell may be freed only while nobody reads it from another thread. So who ends a task goes through its worker's gate to
//! take the task off the list, and an inspector shuts all gates for the time that it reads.
//!
//! A worker, going through: *say so* (`inside` = 1); *light fence*; *look* at `shut`: open? Through, and `inside` = 0 behind it. Shut?
//! `inside` = 0, wait for the inspector's lock, and try again.
//!
//! An inspector, with the lock: *shut* = 1; *heavy fence*; *wait* for each worker's `inside` to be 0; read; *shut* = 0.
//!
//! **Proof.** Either the worker's *light fence* comes before the *heavy fence*: then the inspector's *wait* sees `inside` = 1, and lasts until
//! the Release store of 0 behind it. Or it comes after: then the worker's *look* sees that the gate is shut, until the inspector is
//! done. Its next passage then sees what the inspector did, by the lock or by the Release store of `shut` = 0.

use crate::sync::{AtomicU32, Ordering::*, OsMutex, Padded, heavy_fence, light_fence, lock, pause};

/// One worker's gate.
#[derive(Debug)]
pub(crate) struct Gate {
    /// Whether the worker goes through just now. Written by it alone.
    inside: AtomicU32,
}

/// What shuts the gates of a runtime.
#[derive(Debug)]
pub(crate) struct Bar {
    /// Read at each passage, hardly ever written.
    shut: Padded<AtomicU32>,
    inspector: OsMutex<()>,
}

impl Gate {
    pub(crate) fn new() -> Self {
        Self {
            inside: AtomicU32::new(0),
        }
    }

    /// Goes through, with `step` in the gate: never while an inspector reads. The worker only; `step` is short and does not panic.
    #[inline]
    pub(crate) fn pass(&self, bar: &Bar, step: impl FnOnce()) {
        loop {
            // Relaxed: ordered by the fence.
            self.inside.store(1, Relaxed);
            // Pairs with the heavy fence in `inspect`.
            light_fence();
            // Acquire: pairs with the Release in `inspect`: its reading is over before our step.
            if bar.shut.0.load(Acquire) == 0 {
                break;
            }
            // Relaxed: we have done nothing that the inspector needs to see.
            self.inside.store(0, Relaxed);
            bar.wait();
        }
        step();
        // Release: pairs with the Acquire in `inspect`: our step is seen.
        self.inside.store(0, Release);
    }
}

impl Bar {
    pub(crate) fn new() -> Self {
        Self {
            shut: Padded(AtomicU32::new(0)),
            inspector: OsMutex::new(()),
        }
    }

    #[cold]
    fn wait(&self) {
        drop(lock(&self.inspector));
        #[cfg(loom)]
        pause();
    }

    /// Reads while no worker is in its gate. `read` is nobody else's code and does not panic.
    pub(crate) fn inspect<'g, R>(
        &self,
        gates: impl Iterator<Item = &'g Gate>,
        read: impl FnOnce() -> R,
    ) -> R {
        let alone = lock(&self.inspector);
        // Relaxed: ordered by the fence.
        self.shut.0.store(1, Relaxed);
        // Pairs with the light fence in `pass`.
        heavy_fence();
        for gate in gates {
            // Acquire: pairs with the Release in `pass`.
            while gate.inside.load(Acquire) != 0 {
                pause();
            }
        }
        let result = read();
        // Release: pairs with the Acquire in `pass`.
        self.shut.0.store(0, Release);
        drop(alone);
        result
    }
}

#[cfg(all(test, loom, not(shuttle)))]
mod models {
    use super::*;
    use loom::cell::UnsafeCell;
    use loom::sync::Arc;
    use loom::thread;

    struct Shared {
        bar: Bar,
        gates: [Gate; 2],
        /// What each worker changes in its gate, and the inspector reads.
        lists: [UnsafeCell<u32>; 2],
    }

    #[expect(unsafe_code, reason = "loom reports a race of the two")]
    fn step(shared: &Shared, worker: usize) {
        shared.gates[worker].pass(&shared.bar, || {
            // SAFETY: loom reports a race here as a failure.
            shared.lists[worker].with_mut(|list| unsafe { *list += 1 });
        });
    }

    #[expect(unsafe_code, reason = "as in `step`")]
    fn read(shared: &Shared) -> u32 {
        shared.bar.inspect(shared.gates.iter(), || {
            let read = |list: &UnsafeCell<u32>| {
                // SAFETY: as in `step`.
                list.with(|list| unsafe { *list })
            };
            shared.lists.iter().map(read).sum()
        })
    }

    fn check(workers: usize, steps: usize, inspectors: usize) {
        let mut bounds = loom::model::Builder::new();
        bounds.preemption_bound = Some(2);
        bounds.check(move || {
            let shared = Arc::new(Shared {
                bar: Bar::new(),
                gates: [Gate::new(), Gate::new()],
                lists: [UnsafeCell::new(0), UnsafeCell::new(0)],
            });
            let threads: Vec<_> = (1..workers)
                .map(|worker| {
                    let shared = Arc::clone(&shared);
                    thread::spawn(move || (0..steps).for_each(|_| step(&shared, worker)))
                })
                .chain((0..inspectors).map(|_| {
                    let shared = Arc::clone(&shared);
                    thread::spawn(move || assert!(read(&shared) as usize <= workers * steps))
                }))
                .collect();
            (0..steps).for_each(|_| step(&shared, 0));
            for thread in threads {
                thread.join().unwrap();
            }
            assert_eq!(read(&shared) as usize, workers * steps);
        });
    }

    /// A worker that passes twice, and an inspector. Bounds: two threads, 2 pre-emptions.
    #[test]
    fn inspector_reads_between_two_steps() {
        check(1, 2, 1);
    }

    /// Two workers and an inspector. Bounds: three threads, one step each, 2 pre-emptions.
    #[test]
    fn inspector_keeps_two_workers_out() {
        check(2, 1, 1);
    }

    /// A worker and two inspectors. Bounds: three threads, one step, 2 pre-emptions.
    #[test]
    fn inspectors_take_turns() {
        check(1, 1, 2);
    }
}
