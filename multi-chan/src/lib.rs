//! under construction

#![cfg_attr(
    loom,
    allow(
        dead_code,
        unused_imports,
        reason = "a model checks the ring and the events alone"
    )
)]

#[cfg(not(loom))]
mod chan;
#[cfg(not(loom))]
mod ends;
mod error;
#[cfg(not(loom))]
mod fork;
#[cfg(not(loom))]
mod iter;
mod layout;
#[cfg(not(loom))]
mod map;
mod plain;
mod ring;
#[cfg(not(loom))]
mod robust;
mod sync;
#[cfg(not(loom))]
mod sys;
#[cfg(not(loom))]
mod table;
mod wait;

#[cfg(all(loom, test))]
mod model;

pub use bytemuck;
#[cfg(not(loom))]
pub use chan::{Chan, Receiver, Sender, channel};
pub use error::{
    Error, RecvError, RecvTimeoutError, SendBatchError, SendError, SendTimeoutError, TryRecvError,
    TrySendError,
};
#[cfg(not(loom))]
pub use iter::{IntoIter, Iter};
pub use plain::Plain;
