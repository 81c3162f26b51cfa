//! Chaos over messages of any size: bytes, and values that serde encodes.

use crate::account::{Eye, fill};
use crate::chaos::Wire;
use crate::support::Random;
use crate::wires::goes_on;
use multi_chan::{
    BytesReceiver, BytesSender, Exposed, MessageReceiver, MessageSender, Select, bytes, messages,
};
use std::time::Duration;

/// Sizes that lie in the slot, just so, just not, and in one or several chunks.
fn words(random: &mut Random, life: u64, number: u64) -> Vec<u64> {
    let count = [2, 10, 14, 15, 600, 5_000][random.below(6) as usize];
    let mut message = vec![0; count];
    fill(&mut message, life, number);
    message
}

/// What is no message at all is seen as a torn one.
fn show(words: &[u64], is_whole: bool, eye: &mut Eye) {
    eye.see(if is_whole { words } else { &[u64::MAX; 2] });
}

/// Messages of bytes, from 16 to 40 000.
pub(crate) struct Letters {
    tx: BytesSender,
    rx: BytesReceiver,
}

impl Letters {
    fn read(letter: &[u8], eye: &mut Eye) {
        let words = letter.chunks_exact(8);
        let is_whole = words.remainder().is_empty() && letter.len() >= 16;
        let words: Vec<u64> = words
            .map(|bytes| u64::from_le_bytes(bytes.try_into().unwrap()))
            .collect();
        show(&words, is_whole, eye);
    }
}

impl Wire for Letters {
    const CREW: usize = 2;
    const IN_HAND: u64 = 1;

    fn open(random: &mut Random) -> Self {
        let (tx, rx) = bytes([0, 1, 3, 16][random.below(4) as usize]).unwrap();
        Letters { tx, rx }
    }

    fn capacity(&self) -> usize {
        self.tx.capacity()
    }

    fn send(&mut self, life: u64, number: u64, random: &mut Random) -> u64 {
        let message = words(random, life, number);
        let letter: Vec<u8> = message.iter().flat_map(|word| word.to_le_bytes()).collect();
        let sent = match random.below(6) {
            0 => self.tx.try_send(&letter).is_ok(),
            3 => {
                let room = self.tx.sending(letter.len());
                let mut select = Select::new();
                select.send(&room);
                select.run(|_| self.tx.send_now(&letter)).is_ok()
            }
            1 => {
                let limit = Duration::from_micros(random.below(300));
                self.tx.send_timeout(&letter, limit).is_ok()
            }
            2 => match self.tx.reserve(letter.len()) {
                Ok(mut room) => {
                    room.copy_from_slice(&letter);
                    random.below(8) != 0 && room.commit().is_ok()
                }
                Err(_) => false,
            },
            _ => self.tx.send(&letter).is_ok(),
        };
        u64::from(sent)
    }

    fn recv(&mut self, random: &mut Random, eye: &mut Eye) -> bool {
        match random.below(4) {
            0 => {
                let limit = Duration::from_micros(random.below(300));
                match self.rx.recv_timeout(limit) {
                    Ok(letter) => Letters::read(&letter, eye),
                    Err(error) => return goes_on(error.is_timeout(), error.is_closed(), &error),
                }
            }
            1 => match self.rx.recv_ref() {
                Ok(letter) => Letters::read(&letter, eye),
                Err(error) => return goes_on(false, error.is_closed(), &error),
            },
            _ => match self.rx.recv() {
                Ok(letter) => Letters::read(&letter, eye),
                Err(error) => return goes_on(false, error.is_closed(), &error),
            },
        }
        true
    }

    fn close(&mut self) {
        self.tx.close();
    }

    fn state(&self) -> String {
        self.tx.state()
    }
}

/// Values that serde encodes, of the same sizes.
pub(crate) struct Encoded {
    tx: MessageSender<Vec<u64>>,
    rx: MessageReceiver<Vec<u64>>,
}

impl Wire for Encoded {
    const CREW: usize = 2;
    const IN_HAND: u64 = 1;

    fn open(random: &mut Random) -> Self {
        let (tx, rx) = messages([0, 1, 3, 16][random.below(4) as usize]).unwrap();
        Encoded { tx, rx }
    }

    fn capacity(&self) -> usize {
        self.tx.capacity()
    }

    fn send(&mut self, life: u64, number: u64, random: &mut Random) -> u64 {
        let message = words(random, life, number);
        let sent = match random.below(4) {
            0 => self.tx.try_send(&message).is_ok(),
            1 => {
                let limit = Duration::from_micros(random.below(300));
                self.tx.send_timeout(&message, limit).is_ok()
            }
            _ => self.tx.send(&message).is_ok(),
        };
        u64::from(sent)
    }

    fn recv(&mut self, random: &mut Random, eye: &mut Eye) -> bool {
        let received = match random.below(4) {
            0 => match self.rx.try_recv() {
                Err(error) if error.is_empty() => return true,
                received => received,
            },
            1 => match self
                .rx
                .recv_timeout(Duration::from_micros(random.below(300)))
            {
                Err(error) if error.is_timeout() => return true,
                received => received,
            },
            _ => self.rx.recv(),
        };
        match received {
            Ok(message) => show(&message, message.len() >= 2, eye),
            Err(error) => return goes_on(false, error.is_closed(), &error),
        }
        true
    }

    fn close(&mut self) {
        self.tx.close();
    }
}
