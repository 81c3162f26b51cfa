//! ipmpsc: bytes through a ring in a file, whose ends are opened by its path in each process.

use ipmpsc::{Receiver, Sender, SharedRingBuffer};
use serde::{Serialize, Serializer};

use super::{Put, Shape, Take, ping_pong, read_bytes, stream, write};
use crate::Result;
use crate::crew::Kind;
use crate::job::{Job, Work};

/// Bytes as bytes: the default is one by one.
struct Bytes<'a>(&'a [u8]);

impl Serialize for Bytes<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_bytes(self.0)
    }
}

struct End {
    tx: Sender,
    message: Vec<u64>,
}

impl Put for End {
    fn put(&mut self, number: u64) -> Result {
        write(&mut self.message, number);
        Ok(self.tx.send(&Bytes(bytemuck::cast_slice(&self.message)))?)
    }
}

impl Take for Receiver {
    fn take(&mut self) -> Result<u64> {
        let mut context = self.zero_copy_context();
        read_bytes(context.recv::<&[u8]>()?)
    }
}

pub(crate) fn perform(job: &Job) -> Result<Work> {
    let shape = Shape::of(job)?.one_pair("one receiver")?;
    // Beside each message its length, twice.
    let size = u32::try_from(shape.slots.max(4) * (shape.bytes + 16))?;
    let (path, ring) = SharedRingBuffer::create_temp(size)?;
    let put = move |path: String| {
        move || {
            Ok(End {
                tx: Sender::new(SharedRingBuffer::open(&path)?),
                message: vec![0; shape.words()],
            })
        }
    };
    let take = |path: String| move || Ok(Receiver::new(SharedRingBuffer::open(&path)?));
    if job.workload == "ping" {
        let (path_back, ring_back) = SharedRingBuffer::create_temp(size)?;
        let (ping_to, ping_from) = (put(path.clone()), take(path_back.clone()));
        let (pong_to, pong_from) = (put(path_back), take(path));
        let work = ping_pong(
            Kind::Processes,
            job,
            move || Ok((ping_to()?, ping_from()?)),
            move || Ok((pong_to()?, pong_from()?)),
        );
        return Ok(kept(work?, (ring, ring_back)));
    }
    let work = stream(Kind::Processes, [put(path.clone())], [take(path)]);
    Ok(kept(work?, ring))
}

/// The work, with what must stay until it is over: the file goes with the ring that made it.
fn kept<T: 'static>(work: Work, keep: T) -> Work {
    match work {
        Work::Loop(mut work) => Work::lap(move |messages| {
            let _keep = &keep;
            work(messages)
        }),
        Work::Once(mut work) => Work::once(move || {
            let _keep = &keep;
            work()
        }),
    }
}
