//! A bounded channel in shared memory: between threads, and between forked processes, at the speed of
//! an in-process channel. Any participant may be killed at any moment, and the rest go on.
//!
//! ```
//! let (tx, rx) = multi_chan::channel::<u32>(2)?;
//! std::thread::scope(|scope| {
//!     for _ in 0..2 {
//!         let tx = tx.clone();
//!         scope.spawn(move || tx.send(42));
//!     }
//! });
//! drop(tx);
//! assert_eq!(rx.iter().collect::<Vec<_>>(), [42, 42]);
//! # Ok::<(), multi_chan::Error>(())
//! ```
//!
//! The channel is one anonymous `MAP_SHARED` mapping: no name, no file, no descriptor unless [`Builder`] is asked for one. Values are plain
//! data ([`Plain`]), copied in and out. While nobody sleeps, a message costs no system call.
//!
//! [`bytes`] makes a channel for messages of any size, [`messages`] one for whatever serde can encode:
//!
//! ```
//! let (tx, rx) = multi_chan::messages::<Vec<String>>(2)?;
//! tx.send(&vec!["of any".into(), "size".into()]).unwrap();
//! assert_eq!(rx.recv().unwrap(), ["of any", "size"]);
//! # Ok::<(), multi_chan::Error>(())
//! ```
//!
//! # Contract
//!
//! - Every value whose `send` returned `Ok` is received once, whole, as long as somebody receives; the
//!   values of one sender come in order. A receiver that dies with a value in its hands takes it with it
//!   ([`Receiver::dropped`]), or another receives it again ([`Delivery::AtLeastOnce`]).
//! - Capacity 0 is a rendezvous: `send` returns only once a receiver has the value. If that one dies before it has, the value is the next
//!   receiver's, or the sender's again.
//! - After [`close`](Sender::close) sends fail and give the value back; receivers drain what is there.
//! - When nobody is left on the other side, in any process, senders get their value back and receivers
//!   drain and then hear of it: `is_disconnected`. It makes no difference whether a process dropped
//!   its handles, exited, or was killed.
//! - Timeouts are on the monotonic clock and never early; signals do not disturb a wait.
//!
//! # Forks
//!
//! A forked child has copies of its parent's handles and may use them at once; it needs to do nothing.
//! Until its first use of a channel it counts for whatever its parent counted for. With its first use that
//! changes: from then on it counts for the sides it has used (by sending, receiving, or cloning a
//! handle), and the other copies it inherited do not count. So a child that only receives does not keep the
//! channel from running out of senders. A child that never touches a channel counts until it ends, as with a pipe.
//! Dropping a handle in the child drops the child's copy only.
//!
//! Fork through the C library's `fork`. A child made by a bare `clone` system call is entered at its
//! first use, and counts as nothing before. A child that replaces itself by `exec` after a plain fork
//! counts until the new program ends.
//!
//! A program that is no forked copy is given a channel by its descriptors: [`Builder::in_memfd`], [`Descriptors`].
//! With the feature `named`, other programs of the same user find it by a name (module `named`).
//!
//! # Trade-offs
//!
//! - With one sender and one receiver, [`spsc`] costs about half as much per message.
//! - A [`Chan`] counts for both sides wherever it is used, so it never disconnects: close it.
//! - A process killed right after the fork, before its first instruction, counts for two seconds.
//! - Receivers that were *killed* are noticed when the channel is full, at the latest: a send into free
//!   room does not look.
//! - A sleeper hears of a death from the kernel. In a tree of more than 120 processes that takes threads: each
//!   process that sleeps has one for every 120. At most 4 096 processes share a channel at one time.
//! - The first channel of a tree of processes makes two small mappings that stay.
//! - Waiting blocks the thread. A green task waits through its runtime's blocking call; a poll loop waits for the
//!   descriptor of a [`Readiness`].
//! - Linux on x86-64 with glibc is what is tested.
//!
//! The protocol, with its proofs, is in `src/README.md`.

#![cfg_attr(
    loom,
    allow(
        dead_code,
        unused_imports,
        reason = "a model checks the ring and the events alone"
    )
)]

mod batch;
#[cfg(not(loom))]
mod builder;
#[cfg(not(loom))]
mod chan;
mod delivery;
#[cfg(not(loom))]
mod ends;
mod error;
#[cfg(all(feature = "kill-points", not(loom)))]
mod expose;
#[cfg(not(loom))]
mod face;
#[cfg(not(loom))]
mod fork;
#[cfg(not(loom))]
mod iter;
mod kill;
mod layout;
#[cfg(not(loom))]
mod loan;
#[cfg(not(loom))]
mod map;
mod message;
#[cfg(all(feature = "named", not(loom)))]
pub mod named;
#[cfg(not(loom))]
mod pass;
#[cfg(not(loom))]
mod patience;
mod peek;
mod plain;
#[cfg(not(loom))]
mod readiness;
mod returned;
mod ring;
#[cfg(not(loom))]
mod robust;
#[cfg(not(loom))]
mod select;
mod slots;
pub mod spsc;
mod sweep;
mod sync;
#[cfg(not(loom))]
mod sys;
#[cfg(not(loom))]
mod table;
mod trail;
#[cfg(not(loom))]
mod vigil;
mod wait;

#[cfg(all(loom, test))]
mod model;
#[cfg(all(loom, test))]
mod model_memory;
#[cfg(all(loom, test))]
#[path = "select/model.rs"]
mod select_model;

#[cfg(not(loom))]
pub use builder::Builder;
pub use bytemuck;
#[cfg(not(loom))]
pub use chan::{Chan, Receiver, Sender, channel};
pub use delivery::{Delivery, Received};
pub use error::{
    Error, RecvError, RecvTimeoutError, SendBatchError, SendError, SendTimeoutError, TryRecvError,
    TrySendError,
};
#[cfg(all(feature = "kill-points", not(loom)))]
#[doc(hidden)]
pub use expose::Exposed;
#[cfg(not(loom))]
pub use iter::{IntoIter, Iter};
#[cfg(all(feature = "kill-points", not(loom)))]
#[doc(hidden)]
pub use kill::{KillPoint, kill_at, watch_writes};
#[cfg(not(loom))]
pub use loan::{SlotMut, SlotRef};
#[cfg(not(loom))]
pub use message::{
    BytesReceiver, BytesRef, BytesSender, RecvMessageError, Reserved, SendMessageError, Sending,
    bytes,
};
#[cfg(all(not(loom), feature = "serde"))]
pub use message::{MessageReceiver, MessageRef, MessageSender, messages};
#[cfg(not(loom))]
pub use pass::Descriptors;
pub use plain::Plain;
#[cfg(not(loom))]
pub use readiness::Readiness;
#[cfg(not(loom))]
pub use select::{RecvSide, Select, SendSide};
#[cfg(all(feature = "kill-points", not(loom)))]
#[doc(hidden)]
pub use sys::without_waitv::{has_futex_waitv, pretend_without_waitv};
