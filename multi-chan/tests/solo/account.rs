//! The account of a round of chaos: what each sender process has sent, what was received of it, how often and as what.

#![expect(
    clippy::disallowed_types,
    reason = "the tests' own shared words; the channel's are not theirs"
)]

use crate::support::shared;
use std::sync::OnceLock;
use std::sync::atomic::Ordering::SeqCst;
use std::sync::atomic::{AtomicU8, AtomicU32, AtomicU64};

/// Sender processes of one round, one after another, and messages that each may send.
pub(crate) const LIVES: usize = 32 * 8;
pub(crate) const NUMBERS: usize = 64 * 32;

/// What one sender process has sent with `Ok`, and a bit for each of its messages that was received.
#[derive(Default)]
struct Life {
    sent: AtomicU64,
    received: [AtomicU64; NUMBERS / 64],
    /// How often each was handed out, where messages come again.
    handed: [[[AtomicU8; 32]; 32]; NUMBERS / 1024],
}

/// The account of one round.
#[derive(Default)]
pub(crate) struct Account {
    pub(crate) stop: AtomicU32,
    pub(crate) received: AtomicU64,
    /// Receivers killed so far, or about to be.
    pub(crate) killed: AtomicU32,
    pub(crate) doubled: AtomicU64,
    pub(crate) redelivered: AtomicU64,
    pub(crate) miscounted: AtomicU64,
    pub(crate) torn: AtomicU64,
    pub(crate) disordered: AtomicU64,
    lives: [[Life; 32]; LIVES / 32],
}

/// The one account of this program.
pub(crate) fn account() -> &'static Account {
    static ACCOUNT: OnceLock<&'static Account> = OnceLock::new();
    ACCOUNT.get_or_init(shared)
}

impl Account {
    fn life(&self, life: usize) -> &Life {
        &self.lives[life / 32][life % 32]
    }

    pub(crate) fn reset(&self) {
        self.stop.store(0, SeqCst);
        self.killed.store(0, SeqCst);
        for word in [
            &self.received,
            &self.doubled,
            &self.redelivered,
            &self.miscounted,
            &self.torn,
            &self.disordered,
        ] {
            word.store(0, SeqCst);
        }
        for life in self.lives.iter().flatten() {
            // Whoever has sent nothing may still have had its first message received.
            life.sent.store(0, SeqCst);
            for word in &life.received {
                word.store(0, SeqCst);
            }
            for count in life.handed.iter().flatten().flatten() {
                if count.load(SeqCst) != 0 {
                    count.store(0, SeqCst);
                }
            }
        }
    }

    /// Messages that `life` has sent with `Ok`.
    pub(crate) fn sent(&self, life: usize) -> u64 {
        self.life(life).sent.load(SeqCst)
    }

    pub(crate) fn has_sent(&self, life: usize, number: u64) {
        self.life(life).sent.store(number, SeqCst);
    }

    /// Messages sent, and how many of them were never received.
    pub(crate) fn missing(&self) -> (u64, u64) {
        let (mut all, mut missing) = (0, 0);
        for life in self.lives.iter().flatten() {
            let sent = life.sent.load(SeqCst);
            all += sent;
            for number in 0..sent {
                let word = life.received[number as usize / 64].load(SeqCst);
                missing += u64::from(word & 1 << (number % 64) == 0);
            }
        }
        (all, missing)
    }
}

/// What one receiver sees, entered in the account.
pub(crate) struct Eye {
    account: &'static Account,
    last: [u64; LIVES],
}

impl Eye {
    pub(crate) fn new() -> Eye {
        Eye {
            account: account(),
            last: [0; LIVES],
        }
    }

    /// A message that comes once, and in its sender's order.
    pub(crate) fn see(&mut self, message: &[u64]) {
        let Some((life, number)) = self.read(message) else {
            return;
        };
        let account = self.account;
        account
            .doubled
            .fetch_add(u64::from(self.enter(life, number)), SeqCst);
        account
            .disordered
            .fetch_add(u64::from(number < self.last[life]), SeqCst);
        self.last[life] = number + 1;
    }

    /// A message that may have been handed out before, and says how often, this time included.
    pub(crate) fn see_again(&mut self, message: &[u64], attempts: u32) {
        if let Some((life, number)) = self.read(message) {
            self.hand_out(life, number, attempts);
            let doubled = self.enter(life, number);
            let account = self.account;
            account
                .redelivered
                .fetch_add(u64::from(attempts > 1), SeqCst);
            account
                .doubled
                .fetch_add(u64::from(doubled && attempts == 1), SeqCst);
        }
    }

    /// A message that is handed out and will be given back.
    pub(crate) fn glance(&mut self, message: &[u64], attempts: u32) {
        if let Some((life, number)) = self.read(message) {
            self.hand_out(life, number, attempts);
        }
    }

    fn hand_out(&mut self, life: usize, number: u64, attempts: u32) {
        let account = self.account;
        let number = number as usize;
        let count = &account.life(life).handed[number / 1024][number / 32 % 32][number % 32];
        let before = u32::from(count.fetch_add(1, SeqCst));
        // Whoever was killed between being handed a message and saying so was counted by the channel only.
        let most = before + 1 + account.killed.load(SeqCst);
        account
            .miscounted
            .fetch_add(u64::from(attempts <= before || attempts > most), SeqCst);
    }

    /// Enters a message as received; true if it was received before.
    fn enter(&mut self, life: usize, number: u64) -> bool {
        let bit = 1 << (number % 64);
        let word = &self.account.life(life).received[number as usize / 64];
        self.account.received.fetch_add(1, SeqCst);
        word.fetch_or(bit, SeqCst) & bit != 0
    }

    fn read(&self, message: &[u64]) -> Option<(usize, u64)> {
        let (life, number) = (message[0], message[1]);
        if life >= LIVES as u64 || number >= NUMBERS as u64 || !fits(message) {
            self.account.torn.fetch_add(1, SeqCst);
            return None;
        }
        Some((life as usize, number))
    }
}

/// Every word after the first two is made of them: a message that is whole fits itself.
pub(crate) fn fill(message: &mut [u64], life: u64, number: u64) {
    let seed = (life << 32 | number).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    for (n, word) in message.iter_mut().enumerate() {
        *word = match n {
            0 => life,
            1 => number,
            n => seed ^ n as u64,
        };
    }
}

fn fits(message: &[u64]) -> bool {
    let seed = (message[0] << 32 | message[1]).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let mut words = message.iter().enumerate().skip(2);
    words.all(|(n, &word)| word == seed ^ n as u64)
}
