//! What is measured, by whom, and what is aimed at.

use std::time::Duration;

use crate::report::Unit;
use crate::sheet::Target::*;
use crate::suite::plan::{Part, Variant, figure};

/// A contender that is a program beside the build.
pub(super) const EXECUTOR: &str = "Python executor";

/// Contenders that are there without peers.
pub(super) const OF_THE_HOUSE: &[&str] =
    &[FORK, ZYGOTE, SPAWN, POOL, COPYING, RAW, FUTEX, PIPE, ALONE];
/// Ours: a forked process for each task.
const FORK: &str = "multi fork";
/// Processes that are forked by a helper, which has little memory to copy.
const ZYGOTE: &str = "multi zygote";
/// Processes that execute this program again.
const SPAWN: &str = "multi spawn";
/// Workers that are forked once.
const POOL: &str = "multi pool";
/// The same with large values as any others, instead of in shared buffers.
const COPYING: &str = "multi pool copying";
/// The work without another process.
const ALONE: &str = "one process";
/// The bare calls.
const RAW: &str = "fork+waitpid";
const FUTEX: &str = "futex word";
const PIPE: &str = "pipe";
const PROCSPAWN: &str = "procspawn";
const RAYON: &str = "rayon";

/// The names of all parts, as `--only` takes them.
pub const NAMES: &[&str] = &["start", "call", "jobs", "large"];

/// What the rounds of one variant may take.
const BUDGET: Duration = Duration::from_secs(5);
const NS: &str = crate::job::NS;

/// Everything, for a machine of `ncpu` processors. A quick run has the small parents and the short jobs alone.
pub(super) fn parts(quick: bool, ncpu: usize) -> Vec<Part> {
    // As many workers as the machine feeds; two where it has more, as the targets were set on two.
    let workers = ncpu.min(2);
    vec![
        start(quick),
        call(quick),
        jobs(quick, workers),
        large(quick),
    ]
}

fn start(quick: bool) -> Part {
    const WHO: &[&str] = &[FORK, ZYGOTE, SPAWN, RAW, PROCSPAWN];
    const SMALL: &str = "a small parent";
    let variant = |label: &str, mib: u64| {
        let variant = Variant::new(label, format!("begin mib={mib}"), WHO);
        let variant = variant.target(NS, Times(1.1, RAW));
        if mib < 1024 {
            return variant;
        }
        variant
            .target_of(ZYGOTE, NS, Times(1.0 / 20.0, FORK))
            .target_of(ZYGOTE, NS, TimesLine(1.2, SMALL))
            .target_of(SPAWN, NS, TimesLine(1.2, SMALL))
    };
    let mut variants = vec![
        variant(SMALL, 0),
        variant("64 MiB in the parent", 64),
        variant("1 GiB in the parent", 1024),
    ];
    variants.truncate(if quick { 1 } else { 3 });
    Part {
        name: "start",
        figures: vec![figure(
            NS,
            "one empty process, started and waited for",
            Unit::Us,
        )],
        budget: BUDGET,
        variants,
    }
}

fn call(quick: bool) -> Part {
    const WHO: &[&str] = &[
        POOL, FORK, ZYGOTE, SPAWN, RAW, FUTEX, PIPE, PROCSPAWN, EXECUTOR, RAYON,
    ];
    // Without the zygote, which is older than the wish for one processor.
    const WHO_PINNED: &[&str] = &[POOL, FORK, RAW, FUTEX, PIPE, PROCSPAWN, EXECUTOR, RAYON];
    let variant = |label: &str, pinned: u64| {
        let who = if pinned == 0 { WHO } else { WHO_PINNED };
        Variant::new(label, format!("ping pinned={pinned}"), who)
            .target("p50", Times(1.0 / 20.0, RAW))
            .target("p50", Times(2.0, FUTEX))
    };
    let mut variants = vec![
        variant("a processor free", 0),
        variant("both on one processor", 1),
    ];
    variants.truncate(if quick { 1 } else { 2 });
    Part {
        name: "call",
        figures: vec![
            figure("p50", "one call in another process: half of them", Unit::Us),
            figure("p99", "one call in another process: 99 of 100", Unit::Us),
        ],
        budget: BUDGET,
        variants,
    }
}

fn jobs(quick: bool, workers: usize) -> Part {
    const WHO: &[&str] = &[POOL, FORK, ZYGOTE, SPAWN, PROCSPAWN, EXECUTOR, RAYON];
    let variant = |label: &str, us: u64, ms: u64| {
        let job = format!("jobs us={us} workers={workers} ms={ms}");
        Variant::new(label, job, WHO)
            .target(NS, Times(1.0, EXECUTOR))
            .target(NS, Times(1.0, PROCSPAWN))
    };
    let mut variants = vec![
        variant("1 µs", 1, 20),
        variant("100 µs", 100, 20),
        variant("10 ms", 10_000, 200),
    ];
    variants.truncate(if quick { 1 } else { 3 });
    Part {
        name: "jobs",
        figures: vec![figure(
            NS,
            "one of many jobs, handed out and waited for together",
            Unit::Us,
        )],
        budget: BUDGET,
        variants,
    }
}

fn large(quick: bool) -> Part {
    const WHO: &[&str] = &[POOL, COPYING, ALONE];
    let variant = |label: &str, mib: u64| {
        Variant::new(label, format!("large bytes={}", mib << 20), WHO)
            .target(NS, Times(1.15, ALONE))
    };
    let mut variants = vec![variant("1 MiB", 1), variant("16 MiB", 16)];
    variants.truncate(if quick { 1 } else { 2 });
    Part {
        name: "large",
        figures: vec![figure(
            NS,
            "one call with so large an argument and value, each written and read",
            Unit::Us,
        )],
        budget: BUDGET,
        variants,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::suite::plan::check;

    #[test]
    fn plans_are_in_order() {
        for quick in [false, true] {
            check(&parts(quick, 4), NAMES, |name| {
                ["begin", "ping", "jobs", "large"].contains(&name)
            });
        }
    }
}
