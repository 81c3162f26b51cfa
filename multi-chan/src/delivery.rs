//! What becomes of a message whose receiver dies with it.

/// What becomes of a message whose receiver dies before it has acknowledged it.
///
/// A message is acknowledged when [`recv`](crate::Receiver::recv) has copied it, or when its
/// [`SlotRef`](crate::SlotRef), [`BytesRef`](crate::BytesRef) or `MessageRef` is dropped.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Delivery {
    /// It is dropped and counted ([`Receiver::dropped`](crate::Receiver::dropped)).
    #[default]
    AtMostOnce,
    /// Another receiver gets it, with the number of [`attempts`](crate::SlotRef::attempts); also if a receiver gives it
    /// back, by hand or by panicking with it in its hands.
    ///
    /// Messages of one sender come in order except for those that come again. A closed channel has ended, and
    /// a channel without senders is disconnected, only when no message is in anybody's hands that could come back: until
    /// then receivers wait. Messages that the waiting thread itself holds do not count.
    ///
    /// # Examples
    /// ```
    /// use multi_chan::{Builder, Delivery};
    ///
    /// let builder = Builder::new().capacity(4).delivery(Delivery::AtLeastOnce);
    /// let (tx, rx) = builder.build::<u64>()?;
    /// tx.send(7)?;
    /// let job = rx.recv_ref()?;
    /// assert!(!job.redelivered());
    /// job.give_back();
    /// let job = rx.recv_ref()?;
    /// assert_eq!((*job, job.attempts()), (7, 2));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    AtLeastOnce,
}

/// A value, and how often it has been handed out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Received<T> {
    /// The value.
    pub value: T,
    /// How often it has been handed out, this time included; see [`SlotRef::attempts`](crate::SlotRef::attempts).
    pub attempts: u32,
}

impl<T> Received<T> {
    /// True if it was handed out before, to a receiver that died or gave it back.
    pub fn redelivered(&self) -> bool {
        self.attempts > 1
    }
}
