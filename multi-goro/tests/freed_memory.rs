//! What must not be looked at once it is gone: here freed memory is filled, and never used again.

#![expect(unsafe_code, reason = "an allocator that spoils what is freed")]

mod common;

use std::alloc::{GlobalAlloc, Layout, System};
use std::future::{Future, poll_fn};
use std::task::Poll;

use common::watchdog;
use multi_goro::{OsThread, chan};

struct Spoiling;

// SAFETY: the system's, and nothing is given back to it.
unsafe impl GlobalAlloc for Spoiling {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        // SAFETY: the caller's promise.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, place: *mut u8, layout: Layout) {
        // SAFETY: the caller gives up all of it.
        unsafe { place.write_bytes(0xdd, layout.size()) };
    }
}

#[global_allocator]
static ALLOCATOR: Spoiling = Spoiling;

#[test]
fn receive_that_outlives_its_task_and_runtime_is_bound_to_no_thread() {
    let _dog = watchdog(60);
    let os = OsThread::spawn("short").unwrap();
    let (tx, rx) = chan::<u32>(0);
    let mut group = os.group();
    let receive = group.spawn_async(async move {
        let mut receive = Box::pin(rx.when_recv());
        poll_fn(|context| {
            assert!(receive.as_mut().poll(context).is_pending());
            Poll::Ready(())
        })
        .await;
        // It is in the channel's queue still: a pinned box may go anywhere.
        Ok(receive)
    });
    let receive = receive.join().unwrap();
    group.wait().unwrap();
    drop(group);
    // Joins the thread: the runtime is gone.
    drop(os);
    let error = tx.lock_to_receiver(|| ()).unwrap_err();
    assert!(error.is_receiver_not_locked(), "{error}");
    drop(receive);
}
