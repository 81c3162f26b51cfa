//! ipc-channel, by its channel of bytes, which serialises nothing.

use ipc_channel::ipc::{IpcBytesReceiver, IpcBytesSender, bytes_channel};

use super::{Put, Shape, Take, ping_pong, read_bytes, stream, write};
use crate::Result;
use crate::crew::Kind;
use crate::job::{Job, Work};

struct End {
    tx: IpcBytesSender,
    message: Vec<u64>,
}

impl Put for End {
    fn put(&mut self, number: u64) -> Result {
        write(&mut self.message, number);
        Ok(self.tx.send(bytemuck::cast_slice(&self.message))?)
    }
}

impl Take for IpcBytesReceiver {
    fn take(&mut self) -> Result<u64> {
        let message = self.recv().map_err(|error| error.to_string())?;
        read_bytes(&message)
    }
}

pub(crate) fn perform(job: &Job) -> Result<Work> {
    let shape = Shape::of(job)?.one_pair("one receiver")?;
    let (tx, rx) = bytes_channel()?;
    let end = move |tx| End {
        tx,
        message: vec![0; shape.words()],
    };
    if job.workload == "ping" {
        let (tx_back, rx_back) = bytes_channel()?;
        return ping_pong(
            Kind::Processes,
            job,
            move || Ok((end(tx), rx_back)),
            move || Ok((end(tx_back), rx)),
        );
    }
    stream(Kind::Processes, [move || Ok(end(tx))], [move || Ok(rx)])
}
