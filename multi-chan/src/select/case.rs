//! One case of a select: a side of a channel, whatever the type of its values.

use crate::chan::{Chan, Receiver, Sender};
use crate::ends::End;
use crate::layout::Owner;
#[cfg(feature = "serde")]
use crate::message::MessageReceiver;
use crate::message::{BytesReceiver, Sending};
use crate::plain::Plain;
use crate::ring::{Nothing, Refused};
use crate::spsc::{SharedReceiver, SharedSender};
use crate::table::{CLOSED, Core, NO_RECEIVERS, NO_SENDERS, Sides};
use crate::wait::{ALL, Event, Ticket};
use std::cell::Cell;
use std::time::Instant;

/// What a look at a case found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Look {
    /// The operation would end at once, well or with an error.
    Ready,
    /// It would wait.
    Nothing,
    /// It would wait for a few instructions of somebody else, who this is if it can be told; the end of
    /// that need not be posted.
    Soon(Option<Owner>),
}

/// Which operation a case stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Way {
    Recv,
    Send,
}

/// A channel's end as a select sees it.
pub(crate) trait Waitable {
    /// Its part that does not depend on the type of the values.
    fn core(&self) -> &Core;

    /// Whether the operation would end just now.
    fn look(&self, way: Way) -> Look;

    /// True if senders wait for a receiver, and not for room.
    fn is_rendezvous(&self) -> bool;

    /// What is posted when the operation may be possible, as the last look found it.
    fn event(&self, way: Way) -> &Event {
        main_event(self.core(), way)
    }

    /// A second event, where two together make the operation possible.
    fn second_event(&self) -> Option<&Event> {
        None
    }

    /// After a sleep that brought a wake which may have been for somebody else: passes it on if the last look found that it is of no use
    /// here.
    fn pass_on_unused(&self) {}

    /// Passes on a wake that may have been for somebody else, if there is still cause for it.
    fn pass_on(&self, way: Way) {
        let event = main_event(self.core(), way);
        if event.is_armed() && self.look(way) == Look::Ready {
            event.post(if self.is_rendezvous() { ALL } else { 1 });
        }
    }

    /// `Some` if posters make no fence between what they do and their look at the event, so that a ticket is good for a long sleep
    /// only after a moment (`spsc/README.md`).
    fn standing(&self) -> Option<&Standing> {
        None
    }
}

/// The event of a side.
fn main_event(core: &Core, way: Way) -> &Event {
    match way {
        Way::Recv => &core.header().sent.0,
        Way::Send => &core.header().freed.0,
    }
}

/// What the last arming for poll loops of a handle left, where it takes a moment until it is good: its ticket, and since when it
/// stands.
pub(crate) type Standing = Cell<Option<(Ticket, Instant)>>;

/// One operation of a select.
#[derive(Clone, Copy)]
pub(crate) struct Case<'a> {
    pub(crate) end: &'a dyn Waitable,
    pub(crate) way: Way,
}

impl<'a> Case<'a> {
    pub(crate) fn core(self) -> &'a Core {
        self.end.core()
    }

    /// What is posted when the operation may be possible, as the last look found it.
    pub(crate) fn event(self) -> &'a Event {
        self.end.event(self.way)
    }

    /// The event of its side, to which the side's eventfd belongs.
    pub(crate) fn main_event(self) -> &'a Event {
        main_event(self.core(), self.way)
    }

    /// A second event that poll loops arm, too.
    pub(crate) fn second_event(self) -> Option<&'a Event> {
        self.end.second_event()
    }

    pub(crate) fn pass_on_unused(self) {
        self.end.pass_on_unused();
    }

    pub(crate) fn look(self) -> Look {
        self.end.look(self.way)
    }

    pub(crate) fn standing(self) -> Option<&'a Standing> {
        self.end.standing()
    }

    /// True if nobody is left on the other side; then the case is ready.
    pub(crate) fn is_gone(self) -> bool {
        self.core().is_gone(match self.way {
            Way::Recv => Sides::SENDER,
            Way::Send => Sides::RECEIVER,
        })
    }

    /// After arming: tells senders who wait for a receiver that there is one.
    pub(crate) fn announce(self) {
        if self.way == Way::Recv && self.end.is_rendezvous() {
            self.core().announce_receiver();
        }
    }

    pub(crate) fn pass_on(self) {
        self.end.pass_on(self.way);
    }
}

impl<T: Plain> Waitable for End<T> {
    fn core(&self) -> &Core {
        self.parts().1
    }

    fn look(&self, way: Way) -> Look {
        if self.enter().is_err() {
            // The operation will say so.
            return Look::Ready;
        }
        match way {
            Way::Recv => self.look_recv(),
            Way::Send => self.look_send(),
        }
    }

    fn is_rendezvous(&self) -> bool {
        self.capacity() == 0
    }
}

impl<T: Plain> End<T> {
    fn look_recv(&self) -> Look {
        let (ring, core, hint) = self.parts();
        match ring.peek(hint) {
            Ok(()) | Err(Nothing::Sealed | Nothing::Corrupt) => Look::Ready,
            Err(Nothing::Pending { owner }) => Look::Soon(Some(owner)),
            Err(Nothing::Empty) if core.flags() & CLOSED != 0 => {
                // A sender may have been faster than the close, or a receiver still be busy with the slot.
                if self.has_ended() {
                    Look::Ready
                } else {
                    Look::Soon(None)
                }
            }
            Err(Nothing::Empty) if core.flags() & NO_SENDERS != 0 => {
                if self.others_hold_messages() {
                    Look::Soon(None)
                } else {
                    Look::Ready
                }
            }
            Err(Nothing::Empty) => Look::Nothing,
        }
    }

    pub(crate) fn look_send(&self) -> Look {
        let (ring, core, hint) = self.parts();
        if core.flags() & (CLOSED | NO_RECEIVERS) != 0 {
            return Look::Ready;
        }
        match ring.peek_room(hint) {
            Ok(()) if self.capacity() == 0 && !core.header().sent.0.is_armed() => Look::Nothing,
            Ok(()) | Err(Refused::Sealed | Refused::Corrupt) => Look::Ready,
            Err(Refused::Full { taker: None }) => Look::Nothing,
            Err(Refused::Full { taker }) => Look::Soon(taker),
        }
    }
}

/// What a [`Select`](crate::Select) can receive from: a [`Receiver`], a [`Chan`], a [`BytesReceiver`], a `MessageReceiver` or a
/// [`spsc::SharedReceiver`](crate::spsc::SharedReceiver).
pub trait RecvSide: sealed::Receiving {}

/// What a [`Select`](crate::Select) can send to: a [`Sender`], a [`Chan`], a [`spsc::SharedSender`](crate::spsc::SharedSender), or a
/// [`Sending`] of a channel of messages.
pub trait SendSide: sealed::Sending {}

#[expect(unnameable_types, reason = "seals the traits above")]
pub(crate) mod sealed {
    use super::Case;

    /// One operation, for this crate's eyes.
    #[expect(missing_debug_implementations, reason = "nobody can hold one")]
    pub struct Handle<'a>(pub(crate) Case<'a>);

    pub trait Receiving {
        fn case(&self) -> Handle<'_>;
    }

    pub trait Sending {
        fn case(&self) -> Handle<'_>;
    }
}

macro_rules! side {
    ($name:ident, $side:ident, $sealed:ident, $way:ident, $end:ident) => {
        impl<T: Plain> $side for $name<T> {}

        impl<T: Plain> sealed::$sealed for $name<T> {
            fn case(&self) -> sealed::Handle<'_> {
                sealed::Handle(Case {
                    end: &self.$end,
                    way: Way::$way,
                })
            }
        }
    };
}

impl<T: Plain> RecvSide for SharedReceiver<'_, T> {}

impl<T: Plain> sealed::Receiving for SharedReceiver<'_, T> {
    fn case(&self) -> sealed::Handle<'_> {
        sealed::Handle(Case {
            end: self,
            way: Way::Recv,
        })
    }
}

impl<T: Plain> SendSide for SharedSender<'_, T> {}

impl<T: Plain> sealed::Sending for SharedSender<'_, T> {
    fn case(&self) -> sealed::Handle<'_> {
        sealed::Handle(Case {
            end: self,
            way: Way::Send,
        })
    }
}

impl SendSide for Sending<'_> {}

impl sealed::Sending for Sending<'_> {
    fn case(&self) -> sealed::Handle<'_> {
        sealed::Handle(Case {
            end: self,
            way: Way::Send,
        })
    }
}

impl RecvSide for BytesReceiver {}

impl sealed::Receiving for BytesReceiver {
    fn case(&self) -> sealed::Handle<'_> {
        sealed::Handle(Case {
            end: self.link.end(),
            way: Way::Recv,
        })
    }
}

#[cfg(feature = "serde")]
impl<T> RecvSide for MessageReceiver<T> {}

#[cfg(feature = "serde")]
impl<T> sealed::Receiving for MessageReceiver<T> {
    fn case(&self) -> sealed::Handle<'_> {
        sealed::Handle(Case {
            end: self.link.end(),
            way: Way::Recv,
        })
    }
}

side!(Receiver, RecvSide, Receiving, Recv, end);
side!(Chan, RecvSide, Receiving, Recv, receiver);
side!(Sender, SendSide, Sending, Send, end);
side!(Chan, SendSide, Sending, Send, sender);
