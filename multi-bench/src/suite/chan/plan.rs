//! What is measured, by whom, and what is aimed at.

use std::time::Duration;

use crate::report::Unit;
use crate::sheet::Target::*;
use crate::suite::plan::{Part, Variant, figure};

/// Contenders that are programs beside the build.
pub(super) const BOOST: &str = "boost";
pub(super) const QUEUE: &str = "Python Queue";
pub(super) const SIMPLE_QUEUE: &str = "Python SimpleQueue";

/// Contenders that are there without peers.
pub(super) const OF_THE_HOUSE: &[&str] = &[
    OURS,
    SPSC,
    LOANS,
    BYTES,
    BATCH,
    THREADS,
    "std threads",
    "pipe",
    "socketpair",
    "POSIX mq",
    FUTEX,
    "memcpy",
    WRITE_AND_READ,
];
const OURS: &str = "multi-chan";
const SPSC: &str = "multi-chan SPSC";
/// Messages that are written and read where they lie.
const LOANS: &str = "multi-chan loans";
/// Messages of any size, written and read where they lie.
const BYTES: &str = "multi-chan bytes";
const BATCH: &str = "multi-chan batch";
const THREADS: &str = "multi-chan threads";
const CROSSBEAM: &str = "crossbeam threads";
const FUTEX: &str = "futex word";
const ICEORYX: &str = "iceoryx2";
const WRITE_AND_READ: &str = "write+read";

/// The names of all parts, as `--only` takes them.
pub const NAMES: &[&str] = &["8B", "64B", "1KiB", "64KiB", "1MiB", "ping"];

/// Everything. A quick run has fewer shapes.
pub(super) fn parts(quick: bool) -> Vec<Part> {
    vec![
        size(quick, "8B", "one message of 8 bytes", Unit::Ns, 8, 1_024),
        size(quick, "64B", "one message of 64 bytes", Unit::Ns, 64, 1_024),
        size(
            quick,
            "1KiB",
            "one message of 1 KiB",
            Unit::Ns,
            1 << 10,
            256,
        ),
        size(
            quick,
            "64KiB",
            "one message of 64 KiB",
            Unit::Us,
            64 << 10,
            16,
        ),
        size(quick, "1MiB", "one message of 1 MiB", Unit::Us, 1 << 20, 4),
        ping(),
    ]
}

/// A few seconds of it.
pub(super) fn brief(quick: bool) -> Vec<Part> {
    const WHO: &[&str] = &[OURS, SPSC, "std threads", "pipe"];
    const WHO_OF_MANY: &[&str] = &[OURS, "std threads", "pipe"];
    let mut messages = size(
        quick,
        "8B",
        "one message of 8 bytes between processes",
        Unit::Ns,
        8,
        1_024,
    );
    messages.variants.truncate(2);
    let mut trips = ping();
    trips.figures.truncate(1);
    trips.variants.truncate(1);
    let mut parts = vec![messages, trips];
    for part in &mut parts {
        part.budget = BRIEF_BUDGET;
        for variant in &mut part.variants {
            variant.contenders = if variant.label.starts_with("2p") {
                WHO_OF_MANY
            } else {
                WHO
            };
            // Those that are aimed at are not here.
            variant.targets.clear();
        }
    }
    parts
}

const BRIEF_BUDGET: Duration = Duration::from_secs(1);

/// What the rounds of one variant may take: five of them, and more where there is time.
const BUDGET: Duration = Duration::from_secs(5);
/// An answer that takes longer counts as a hang. A sample takes 20 ms, of round trips 100 ms.
const PATIENCE: Duration = Duration::from_secs(10);

/// Bytes from which on messages are long.
const LONG: usize = 64 << 10;
/// Any number of senders and receivers.
const MANY: &[&str] = &[
    OURS,
    LOANS,
    BYTES,
    BATCH,
    THREADS,
    CROSSBEAM,
    "std threads",
    "pipe",
    "socketpair",
    "POSIX mq",
    BOOST,
    QUEUE,
    SIMPLE_QUEUE,
];
/// The same of those who carry long messages. What a pipe or a socket has room for is less than one.
const MANY_LONG: &[&str] = &[
    LOANS,
    BYTES,
    OURS,
    THREADS,
    CROSSBEAM,
    BOOST,
    QUEUE,
    SIMPLE_QUEUE,
];
/// One of each.
const ONE: &[&str] = &[
    OURS,
    SPSC,
    LOANS,
    BYTES,
    BATCH,
    THREADS,
    CROSSBEAM,
    "std threads",
    "rtrb threads",
    "pipe",
    "socketpair",
    "POSIX mq",
    "ipc-channel",
    ICEORYX,
    "shmem-ipc",
    "ipmpsc",
    BOOST,
    QUEUE,
    SIMPLE_QUEUE,
    "memcpy",
    WRITE_AND_READ,
];
const ONE_LONG: &[&str] = &[
    LOANS,
    BYTES,
    OURS,
    SPSC,
    THREADS,
    CROSSBEAM,
    "pipe",
    "socketpair",
    "POSIX mq",
    "ipc-channel",
    ICEORYX,
    "shmem-ipc",
    "ipmpsc",
    BOOST,
    QUEUE,
    SIMPLE_QUEUE,
    "memcpy",
    WRITE_AND_READ,
];

fn size(
    quick: bool,
    name: &'static str,
    title: &'static str,
    unit: Unit,
    bytes: usize,
    slots: usize,
) -> Part {
    let variant = |pairs: u64| {
        let job = format!("stream pairs={pairs} bytes={bytes} cap={slots}");
        let who = match (pairs, bytes >= LONG) {
            (1, false) => ONE,
            (1, true) => ONE_LONG,
            (_, false) => MANY,
            (_, true) => MANY_LONG,
        };
        let variant = Variant::new(format!("{pairs}p{pairs}c"), job, who).patience(PATIENCE);
        match (bytes, pairs) {
            (8, 1) => variant
                .target(NS, Times(1.0, CROSSBEAM))
                .target_of(SPSC, NS, AtMost(15.0)),
            (LONG.., 1) => variant
                .target(NS, Times(1.15, WRITE_AND_READ))
                .target(NS, Times(1.0, ICEORYX)),
            (8, _) => variant.target(NS, Times(1.0, CROSSBEAM)),
            _ => variant,
        }
    };
    let shapes: &[u64] = if quick { &[1] } else { &[1, 2, 4] };
    Part {
        name,
        figures: vec![figure(NS, title, unit)],
        budget: BUDGET,
        variants: shapes.iter().map(|pairs| variant(*pairs)).collect(),
    }
}

const NS: &str = crate::job::NS;

fn ping() -> Part {
    const WHO: &[&str] = &[
        OURS,
        SPSC,
        THREADS,
        FUTEX,
        CROSSBEAM,
        "std threads",
        "rtrb threads",
        "pipe",
        "socketpair",
        "POSIX mq",
        "ipc-channel",
        ICEORYX,
        "shmem-ipc",
        "ipmpsc",
        BOOST,
        QUEUE,
        SIMPLE_QUEUE,
    ];
    let variant = |label, pinned: u64| {
        Variant::new(label, format!("ping pinned={pinned}"), WHO).patience(PATIENCE)
    };
    Part {
        name: "ping",
        figures: vec![
            figure(
                "p50",
                "one round trip of 8 bytes between processes: half of them",
                Unit::Us,
            ),
            figure(
                "p99",
                "one round trip of 8 bytes between processes: 99 of 100",
                Unit::Us,
            ),
            figure(
                "mean",
                "one round trip of 8 bytes between processes: the mean",
                Unit::Us,
            ),
        ],
        budget: BUDGET,
        variants: vec![
            variant("a processor free", 0)
                .target("p50", AtMost(500.0))
                .target("p99", TimesBest(1.0)),
            variant("both on one processor", 1)
                .target("p50", Times(1.15, FUTEX))
                .target("p99", TimesBest(1.0)),
        ],
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::suite::plan::check;

    #[test]
    fn plans_are_in_order() {
        for quick in [false, true] {
            check(&parts(quick), NAMES, |name| {
                ["stream", "ping"].contains(&name)
            });
        }
    }
}
