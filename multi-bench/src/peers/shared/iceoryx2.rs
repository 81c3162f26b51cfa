//! iceoryx2: messages written into loaned memory and read where they lie. Streams look for the next message without sleeping, as its
//! subscribers do; in a round trip both sides sleep on its events.

use std::hint::spin_loop;
use std::process;
use std::sync::atomic::AtomicU32;
use std::sync::atomic::Ordering::Relaxed;
use std::thread::yield_now;

use iceoryx2::port::listener::Listener;
use iceoryx2::port::notifier::Notifier;
use iceoryx2::port::publisher::Publisher;
use iceoryx2::port::subscriber::Subscriber;
use iceoryx2::prelude::*;

use super::{Put, Shape, Take, ping_pong, read, stream};
use crate::Result;
use crate::crew::Kind;
use crate::job::{Job, Work};

/// What it is to be asked for in each process: ports cannot be taken along through a fork.
#[derive(Debug, Clone)]
struct Channel {
    name: String,
    shape: Shape,
    /// Whether to sleep and wake.
    sleeps: bool,
}

/// The node of a worker, which lives as long as its ports.
type Home = Node<ipc::Service>;

/// The sending end.
struct To {
    publisher: Publisher<ipc::Service, [u64], ()>,
    notifier: Option<Notifier<ipc::Service>>,
    words: usize,
    _home: Home,
}

/// The receiving end.
struct From {
    subscriber: Subscriber<ipc::Service, [u64], ()>,
    listener: Option<Listener<ipc::Service>>,
    _home: Home,
}

impl Channel {
    fn new(shape: Shape, sleeps: bool) -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        // Relaxed: nothing else depends on it.
        let number = COUNT.fetch_add(1, Relaxed);
        let name = format!("multi-bench/{}/{number}", process::id());
        Self {
            name,
            shape,
            sleeps,
        }
    }

    fn home() -> Result<Home> {
        Ok(NodeBuilder::new()
            .signal_handling_mode(SignalHandlingMode::Disabled)
            .create::<ipc::Service>()?)
    }

    fn to(&self) -> Result<To> {
        let home = Self::home()?;
        let service = home
            .service_builder(&ServiceName::new(&self.name)?)
            .publish_subscribe::<[u64]>()
            .enable_safe_overflow(false)
            .subscriber_max_buffer_size(self.shape.slots)
            .open_or_create()?;
        let publisher = service
            .publisher_builder()
            .initial_max_slice_len(self.shape.words())
            .backpressure_strategy(BackpressureStrategy::RetryUntilDelivered)
            .create()?;
        let notifier = if self.sleeps {
            let events = home
                .service_builder(&ServiceName::new(&self.name)?)
                .event()
                .open_or_create()?;
            Some(events.notifier_builder().create()?)
        } else {
            None
        };
        Ok(To {
            publisher,
            notifier,
            words: self.shape.words(),
            _home: home,
        })
    }

    fn from(&self) -> Result<From> {
        let home = Self::home()?;
        let service = home
            .service_builder(&ServiceName::new(&self.name)?)
            .publish_subscribe::<[u64]>()
            .enable_safe_overflow(false)
            .subscriber_max_buffer_size(self.shape.slots)
            .open_or_create()?;
        let subscriber = service.subscriber_builder().create()?;
        let listener = if self.sleeps {
            let events = home
                .service_builder(&ServiceName::new(&self.name)?)
                .event()
                .open_or_create()?;
            Some(events.listener_builder().create()?)
        } else {
            None
        };
        Ok(From {
            subscriber,
            listener,
            _home: home,
        })
    }
}

impl Put for To {
    fn put(&mut self, number: u64) -> Result {
        let loan = self.publisher.loan_slice_uninit(self.words)?;
        loan.write_from_fn(|_| number).send()?;
        if let Some(notifier) = &self.notifier {
            notifier.notify()?;
        }
        Ok(())
    }
}

/// Busy turns before the processor is given away.
const TURNS: u32 = 60;

impl Take for From {
    fn take(&mut self) -> Result<u64> {
        let mut turns = 0;
        loop {
            if let Some(message) = self.subscriber.receive()? {
                return read(message.payload());
            }
            turns += 1;
            match &self.listener {
                Some(listener) => drop(listener.blocking_wait(|_| {})?),
                None if turns < TURNS => spin_loop(),
                None => yield_now(),
            }
        }
    }
}

pub(crate) fn perform(job: &Job) -> Result<Work> {
    let shape = Shape::of(job)?.one_pair("every subscriber gets every message")?;
    if job.workload == "ping" {
        let (to, fro) = (Channel::new(shape, true), Channel::new(shape, true));
        let (to_also, fro_also) = (to.clone(), fro.clone());
        return ping_pong(
            Kind::Processes,
            job,
            move || Ok((to.to()?, fro.from()?)),
            move || Ok((fro_also.to()?, to_also.from()?)),
        );
    }
    let channel = Channel::new(shape, false);
    let also = channel.clone();
    stream(
        Kind::Processes,
        [move || channel.to()],
        [move || also.from()],
    )
}
