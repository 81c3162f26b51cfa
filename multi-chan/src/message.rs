//! Messages of any size, above the ring: bytes, and values that serde can encode.
//!
//! A slot carries a packet: a small message itself, or the run of chunks in the arena where a large one
//! lies. Who owns a chunk when, what the living do after a death, and why nothing leaks or is freed twice is in
//! `message/README.md`.

pub(crate) mod arena;
#[cfg(not(loom))]
mod bytes;
pub(crate) mod copy;
#[cfg(not(loom))]
mod error;
#[cfg(not(loom))]
mod guard;
#[cfg(not(loom))]
pub(crate) mod link;
mod packet;
pub(crate) mod recover;
#[cfg(not(loom))]
mod sending;
#[cfg(all(not(loom), feature = "serde"))]
mod typed;

#[cfg(all(loom, test))]
mod model;

#[cfg(not(loom))]
pub use bytes::{BytesReceiver, BytesSender, bytes};
#[cfg(not(loom))]
pub use error::{RecvMessageError, SendMessageError};
#[cfg(not(loom))]
pub use guard::{BytesRef, Reserved};
#[cfg(not(loom))]
pub use sending::Sending;
#[cfg(all(not(loom), feature = "serde"))]
pub use typed::{MessageReceiver, MessageRef, MessageSender, messages};
