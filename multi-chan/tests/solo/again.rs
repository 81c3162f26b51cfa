//! Chaos over channels in which messages come again: nothing is lost, and what comes twice says so.

use crate::account::{Eye, fill};
use crate::chaos::Wire;
use crate::support::{Random, pause_us};
use crate::wires::goes_on;
use multi_chan::{Builder, Delivery, Exposed, Receiver, Sender};
use std::time::Duration;

const WORDS: usize = 16;
type Message = [u64; WORDS];

/// Received in place, and acknowledged or given back: not one may be lost.
pub(crate) struct Lent {
    tx: Sender<Message>,
    rx: Receiver<Message>,
}

impl Wire for Lent {
    const CREW: usize = 2;
    const IN_HAND: u64 = 0;

    fn open(random: &mut Random) -> Self {
        let capacity = [0, 1, 2, 3, 7, 16, 64][random.below(7) as usize];
        let builder = Builder::new()
            .capacity(capacity)
            .delivery(Delivery::AtLeastOnce);
        let (tx, rx) = builder.build().unwrap();
        Lent { tx, rx }
    }

    fn capacity(&self) -> usize {
        self.tx.capacity()
    }

    fn send(&mut self, life: u64, number: u64, random: &mut Random) -> u64 {
        let mut message = [0; WORDS];
        fill(&mut message, life, number);
        let sent = match random.below(4) {
            0 => self.tx.try_send(message).is_ok(),
            1 => {
                let limit = Duration::from_micros(random.below(300));
                self.tx.send_timeout(message, limit).is_ok()
            }
            _ => self.tx.send(message).is_ok(),
        };
        u64::from(sent)
    }

    fn recv(&mut self, random: &mut Random, eye: &mut Eye) -> bool {
        let received = match random.below(4) {
            0 => match self.rx.try_recv_ref() {
                Err(error) if error.is_empty() => return true,
                Err(error) => return goes_on(false, error.is_closed(), &error),
                Ok(message) => message,
            },
            _ => match self.rx.recv_ref() {
                Err(error) => return goes_on(false, error.is_closed(), &error),
                Ok(message) => message,
            },
        };
        let attempts = received.attempts();
        assert_eq!(received.redelivered(), attempts > 1);
        if random.below(8) == 0 {
            eye.glance(&*received, attempts);
            received.give_back();
            return true;
        }
        eye.see_again(&*received, attempts);
        if random.below(8) == 0 {
            pause_us(random.below(100));
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

/// Received by value, beside messages on loan: a receiver may die between its acknowledgement and its account of it.
pub(crate) struct Acknowledged(Lent);

impl Wire for Acknowledged {
    const CREW: usize = 2;
    const IN_HAND: u64 = 1;

    fn open(random: &mut Random) -> Self {
        Acknowledged(Lent::open(random))
    }

    fn capacity(&self) -> usize {
        self.0.capacity()
    }

    fn send(&mut self, life: u64, number: u64, random: &mut Random) -> u64 {
        self.0.send(life, number, random)
    }

    fn recv(&mut self, random: &mut Random, eye: &mut Eye) -> bool {
        if random.below(3) == 0 {
            return self.0.recv(random, eye);
        }
        match self.0.rx.recv_delivery() {
            Ok(received) => eye.see_again(&received.value, received.attempts),
            Err(error) => return goes_on(false, error.is_closed(), &error),
        }
        true
    }

    fn close(&mut self) {
        self.0.close();
    }

    fn state(&self) -> String {
        self.0.state()
    }
}
