//! What happened, in memory that outlives every victim: who sent what, who received it, who dies where.

#![expect(
    clippy::disallowed_types,
    reason = "the tests' own shared words; the channel's are not theirs"
)]

use crate::support::{die, shared};
use std::panic::Location;
use std::process;
use std::sync::OnceLock;
use std::sync::atomic::Ordering::SeqCst;
use std::sync::atomic::{AtomicI64, AtomicU32, AtomicU64, AtomicUsize};
use std::time::Duration;

/// Senders that one run can tell apart, and messages of each.
pub(crate) const SENDERS: usize = 8;
const NUMBERS: usize = 64;
const HALF: usize = NUMBERS / 2;

/// Who sent it, its number, and two words that only this pair has: a torn message does not fit itself.
pub(crate) type Message = [u64; 4];

pub(crate) fn message(who: usize, number: u64) -> Message {
    let mixed = (who as u64 + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ number.rotate_left(17);
    [who as u64, number, mixed, !mixed]
}

/// Whose writes are counted, and after which the process dies.
#[derive(Debug, Default)]
struct Aim {
    /// A pid; the negative of one means every other process.
    at: AtomicI64,
    writes_left: AtomicU32,
    /// The address of the `Location` where it died: the same in every forked process.
    site: AtomicUsize,
    died_ns: AtomicU64,
}

/// The shared record of one run. All zeros is a fresh one.
#[derive(Debug, Default)]
pub(crate) struct Ledger {
    aims: [Aim; 2],
    go: AtomicU32,
    /// The process that keeps this: nobody aims at it.
    keeper: AtomicU32,
    next: [AtomicU64; SENDERS],
    /// A bit per number: tried to send, and sent with `Ok`.
    tried: [AtomicU64; SENDERS],
    sent: [AtomicU64; SENDERS],
    received: [[[AtomicU32; HALF]; 2]; SENDERS],
    torn: AtomicU32,
    disordered: AtomicU32,
}

/// A run's sums. Lost and doubled are for the caller to judge.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Sums {
    pub(crate) sent: u32,
    pub(crate) received: u32,
    pub(crate) lost: u32,
    pub(crate) doubled: u32,
    pub(crate) torn: u32,
    pub(crate) disordered: u32,
}

/// Not shared: each process has its own.
static EXEMPT: AtomicU32 = AtomicU32::new(0);

/// The one ledger of this program.
pub(crate) fn ledger() -> &'static Ledger {
    static LEDGER: OnceLock<&'static Ledger> = OnceLock::new();
    LEDGER.get_or_init(|| {
        multi_chan::watch_writes(wrote);
        shared()
    })
}

/// In a process that an aim at everybody is not meant for.
pub(crate) fn be_exempt() {
    EXEMPT.store(1, SeqCst);
}

/// Called after each write of the protocol, in every process of the tests.
pub(crate) fn wrote(site: &'static Location<'static>) {
    let me = process::id();
    if ledger().keeper.load(SeqCst) == me {
        return;
    }
    for aim in &ledger().aims {
        let left = aim.writes_left.load(SeqCst);
        if left == 0 || !aim.is_at(me.into()) {
            continue;
        }
        aim.writes_left.store(left - 1, SeqCst);
        if left == 1 {
            aim.site
                .store(std::ptr::from_ref(site).expose_provenance(), SeqCst);
            aim.died_ns.store(now_ns(), SeqCst);
            die();
        }
    }
}

pub(crate) fn now_ns() -> u64 {
    let now = crate::support::monotonic();
    u64::try_from(now.as_nanos()).unwrap()
}

impl Aim {
    fn is_at(&self, pid: i64) -> bool {
        let at = self.at.load(SeqCst);
        at == pid || (at < 0 && at != -pid && EXEMPT.load(SeqCst) == 0)
    }
}

impl Ledger {
    pub(crate) fn reset(&self) {
        for aim in &self.aims {
            aim.writes_left.store(0, SeqCst);
            aim.site.store(0, SeqCst);
        }
        self.go.store(0, SeqCst);
        self.keeper.store(process::id(), SeqCst);
        self.torn.store(0, SeqCst);
        self.disordered.store(0, SeqCst);
        let per_sender = [&self.next, &self.tried, &self.sent];
        for word in per_sender.into_iter().flatten() {
            word.store(0, SeqCst);
        }
        for count in self.received.iter().flatten().flatten() {
            count.store(0, SeqCst);
        }
    }

    /// Has the process `pid` (or, if negative, every other one) die after its next `writes`.
    pub(crate) fn aim(&self, which: usize, pid: i64, writes: u32) {
        self.aims[which].at.store(pid, SeqCst);
        self.aims[which].writes_left.store(writes, SeqCst);
    }

    /// Has the count go on for every process but `pid`.
    pub(crate) fn aim_at_others(&self, which: usize, pid: u32) {
        self.aims[which].at.store(-i64::from(pid), SeqCst);
    }

    pub(crate) fn spare(&self, which: usize) {
        self.aims[which].writes_left.store(0, SeqCst);
    }

    /// Where the victim died and when, if it died where it was told to.
    pub(crate) fn death(&self, which: usize) -> Option<(&'static Location<'static>, Duration)> {
        let site = self.aims[which].site.load(SeqCst);
        let site = crate::support::location(site)?;
        let died = Duration::from_nanos(self.aims[which].died_ns.load(SeqCst));
        Some((site, died))
    }

    /// Lets those who wait in `await_go` begin.
    pub(crate) fn go(&self) {
        self.go.store(1, SeqCst);
    }

    pub(crate) fn await_go(&self) {
        while self.go.load(SeqCst) != 1 {
            std::thread::yield_now();
        }
    }

    pub(crate) fn has_begun(&self) {
        self.go.store(2, SeqCst);
    }

    pub(crate) fn is_begun(&self) -> bool {
        self.go.load(SeqCst) == 2
    }

    /// The next message of sender `who`, entered as tried.
    pub(crate) fn try_next(&self, who: usize) -> Message {
        let number = self.next[who].fetch_add(1, SeqCst);
        assert!(number < NUMBERS as u64, "a run too long for its ledger");
        self.tried[who].fetch_or(1 << number, SeqCst);
        message(who, number)
    }

    /// The last message of `who` was not sent: its number is the next one's.
    pub(crate) fn has_not_sent(&self, who: usize) {
        self.next[who].fetch_sub(1, SeqCst);
    }

    pub(crate) fn has_sent(&self, [who, number, ..]: Message) {
        self.sent[who as usize].fetch_or(1 << number, SeqCst);
    }

    /// Enters a received message; `last` is this receiver's own record of numbers seen, plus one.
    pub(crate) fn has_received(&self, got: Message, last: &mut [u64; SENDERS]) {
        let [who, number, ..] = got;
        if who >= SENDERS as u64
            || number >= NUMBERS as u64
            || got != message(who as usize, number)
            || self.tried[who as usize].load(SeqCst) & 1 << number == 0
        {
            self.torn.fetch_add(1, SeqCst);
            return;
        }
        let who = who as usize;
        self.received[who][number as usize / HALF][number as usize % HALF].fetch_add(1, SeqCst);
        if number < last[who] {
            self.disordered.fetch_add(1, SeqCst);
        }
        last[who] = number + 1;
    }

    pub(crate) fn sums(&self) -> Sums {
        let mut sums = Sums {
            torn: self.torn.load(SeqCst),
            disordered: self.disordered.load(SeqCst),
            ..Sums::default()
        };
        for who in 0..SENDERS {
            let sent = self.sent[who].load(SeqCst);
            sums.sent += sent.count_ones();
            for (number, count) in self.received[who].iter().flatten().enumerate() {
                let count = count.load(SeqCst);
                sums.received += count;
                sums.doubled += count.saturating_sub(1);
                sums.lost += u32::from(count == 0 && sent & 1 << number != 0);
            }
        }
        sums
    }
}
