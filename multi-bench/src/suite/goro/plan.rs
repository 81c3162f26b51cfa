//! What is measured, by whom, and what is aimed at.

use std::time::Duration;

use crate::peers::{LOCAL, SPREAD};
use crate::report::Unit;
use crate::sheet::Target::*;
use crate::suite::plan::{Part, Variant, figure};

/// Go's name among the contenders; it is not in the build but beside it.
pub(super) const GO: &str = "Go";
/// Contenders that are there without peers. Trouble with one of them is a failure of the run.
pub(super) const OF_THE_HOUSE: &[&str] = &[OURS, STACKLESS, "serial", "std"];
const OURS: &str = "multi";
/// Ours as futures.
const STACKLESS: &str = "multi stackless";

/// What the rounds of one variant may take.
const BUDGET: Duration = Duration::from_millis(1_200);
const NS: &str = crate::job::NS;

/// The names of all parts, as `--only` takes them.
pub const NAMES: &[&str] = &[
    "yield",
    "start",
    "pingpong",
    "stream",
    "select",
    "pipeline",
    "parked",
    "unstarted",
    "join",
    "calls",
    "skew",
    "blocking",
    "timers",
    "sweep",
    "server",
    "ticker",
    "begin",
];

/// Everything, for a machine of `ncpu` processors. A quick run has the small sizes alone.
pub(super) fn parts(quick: bool, ncpu: usize) -> Vec<Part> {
    let small = |sizes: &[u64]| -> Vec<u64> {
        let count = if quick { 1 } else { sizes.len() };
        sizes[..count].to_vec()
    };
    // As many workers as the machine feeds; two where it has more, as the targets were set on two.
    let workers = ncpu.min(2);
    vec![
        yields(),
        start(quick, workers),
        ping_pong(),
        stream(quick),
        select(),
        pipeline(&small(&[100, 10_000, 1_000_000]), workers),
        parked(&small(&[10_000, 100_000, 1_000_000]), workers),
        unstarted(&small(&[10_000, 100_000, 1_000_000, 5_000_000])),
        join(quick, workers),
        calls(quick, workers),
        skew(quick, workers),
        blocking(quick, workers),
        timers(quick, workers),
        sweep(quick),
        server(workers),
        ticker(quick, workers),
        begin(quick, workers),
    ]
}

const TASKS: &[&str] = &["multi", GO, "tokio", "may", "smol"];
const WAITING: &[&str] = &["multi", STACKLESS, GO, "tokio", "may", "smol"];

/// Very many tasks, whose memory is looked at: a process for each sample, and time to fault the pages in, more than twice what the slowest
/// was seen to take while the machine was busy.
fn fresh(variant: Variant, samples: usize) -> Variant {
    let seconds = if samples <= SAMPLES_OF_MILLIONS {
        120
    } else {
        30
    };
    variant.fresh(samples, Duration::from_secs(seconds))
}

fn yields() -> Part {
    let variant = |tasks: u64, ns| {
        let job = format!("yield tasks={tasks} workers=1");
        Variant::new(format!("{tasks} tasks"), job, TASKS)
            .target(NS, TimesBest(1.0 / 6.0))
            .target(NS, AtMost(ns))
    };
    Part {
        name: "yield",
        figures: vec![figure(NS, "one yield, one worker", Unit::Ns)],
        budget: BUDGET,
        variants: vec![variant(2, 20.0), variant(1_000, 30.0)],
    }
}

fn start(quick: bool, workers: usize) -> Part {
    const FEW: &[&str] = &["multi", GO, "tokio", "may", "rayon", "smol", "std"];
    const MANY: &[&str] = &["multi", GO, "tokio", "may", "rayon", "smol"];
    let mut variants: Vec<_> = [1, 4, 1_000, 100_000, 1_000_000]
        .iter()
        .take(if quick { 3 } else { 5 })
        .map(|tasks| {
            let job = format!("start tasks={tasks} workers={workers}");
            let who = if *tasks > 1_000 { MANY } else { FEW };
            let variant = Variant::new(format!("{tasks} at once"), job, who);
            match tasks {
                1 => variant.target(NS, Times(0.5, "smol")),
                _ => variant
                    .target(NS, Times(0.25, GO))
                    .target(NS, Times(0.5, "rayon")),
            }
        })
        .collect();
    let job = format!("start-from-thread tasks=1 workers={workers}");
    let who = &["multi", "tokio", "may", "rayon", "smol", "std"];
    variants.push(Variant::new("1 from a thread", job, who));
    let job = "start-locked tasks=1";
    variants.push(Variant::new(
        "1 with a thread of its own",
        job,
        &["multi", GO, "std"],
    ));
    Part {
        name: "start",
        figures: vec![figure(
            NS,
            "one empty task started and waited for",
            Unit::Ns,
        )],
        budget: BUDGET,
        variants,
    }
}

fn ping_pong() -> Part {
    const WHO: &[&str] = &["multi", GO, "tokio", "may", "smol", "kanal"];
    const TWO: &[&str] = &["multi", GO, "tokio", "may", "smol", "kanal", "std"];
    let variant = |label, workers, who| {
        let job = format!("pingpong workers={workers}");
        Variant::new(label, job, who)
            .target(NS, Times(1.0 / 6.0, GO))
            .target(NS, TimesBest(0.4))
            .target(NS, AtMost(120.0))
    };
    Part {
        name: "pingpong",
        figures: vec![figure(
            NS,
            "one round trip through two unbuffered channels",
            Unit::Ns,
        )],
        budget: BUDGET,
        variants: vec![variant("1 worker", 1, WHO), variant("2 workers", 2, TWO)],
    }
}

fn stream(quick: bool) -> Part {
    const ONE_TAKER: &[&str] = &["multi", GO, "tokio", "smol", "kanal", "std"];
    const MORE: &[&str] = &["multi", GO, "smol", "kanal", "std"];
    let mut variants = Vec::new();
    for workers in [1, 2] {
        for pairs in [1, 2, 4] {
            for cap in [1, 64, 1_024] {
                let label = format!("{pairs}p{pairs}c, cap {cap}, workers: {workers}");
                let job = format!("stream pairs={pairs} cap={cap} workers={workers}");
                let who = if pairs == 1 { ONE_TAKER } else { MORE };
                let variant = Variant::new(label, job, who);
                variants.push(match cap {
                    1 => variant,
                    _ => variant
                        .target(NS, Times(0.25, GO))
                        .target(NS, Times(1.0, "kanal")),
                });
            }
        }
    }
    if quick {
        variants.truncate(4);
    }
    Part {
        name: "stream",
        figures: vec![figure(
            NS,
            "one message through a buffered channel",
            Unit::Ns,
        )],
        budget: BUDGET,
        variants,
    }
}

fn select() -> Part {
    const FIRST: &str = "2 channels, workers: 1";
    let mut variants = Vec::new();
    for workers in [1, 2] {
        for cases in [2, 4, 8] {
            let label = format!("{cases} channels, workers: {workers}");
            let job = format!("select cases={cases} workers={workers}");
            let who = &["multi", GO, "tokio"];
            let variant = Variant::new(label, job, who).target(NS, Times(0.25, GO));
            variants.push(match (cases, workers) {
                (8, 1) => variant.target(NS, TimesLine(2.0, FIRST)),
                _ => variant,
            });
        }
    }
    Part {
        name: "select",
        figures: vec![figure(
            NS,
            "one message taken from one of several unbuffered channels",
            Unit::Ns,
        )],
        budget: BUDGET,
        variants,
    }
}

/// Fewer samples of what takes seconds each.
fn samples(tasks: u64) -> usize {
    match tasks {
        ..=10_000 => 7,
        10_001..=100_000 => 5,
        _ => SAMPLES_OF_MILLIONS,
    }
}

const SAMPLES_OF_MILLIONS: usize = 3;

fn pipeline(sizes: &[u64], workers: usize) -> Part {
    let variant = |stages: &u64| {
        let job = format!("pipeline stages={stages} workers={workers}");
        let variant = Variant::new(format!("{stages} stages"), job, WAITING);
        let variant = fresh(variant, samples(*stages))
            .target("transit", Times(1.0 / 6.0, GO))
            .target("create", Times(0.5, GO));
        // The memory of a hundred stages is lost in the noise.
        match stages {
            100 => variant,
            _ => variant.target("bytes", AtMost(4_500.0)).target_of(
                STACKLESS,
                "bytes",
                AtMost(400.0),
            ),
        }
    };
    let stages = sizes[sizes.len() / 2];
    let placed = fresh(
        Variant::new(
            format!("{stages} stages, Placement::Local"),
            format!("pipeline stages={stages} placement={LOCAL} workers={workers}"),
            &[OURS],
        ),
        samples(stages),
    );
    Part {
        name: "pipeline",
        figures: vec![
            figure("create", "pipeline: one stage made and waiting", Unit::Ns),
            figure("transit", "pipeline: a value through one stage", Unit::Ns),
            figure("bytes", "pipeline: memory of one stage", Unit::Bytes),
        ],
        budget: BUDGET,
        variants: sizes.iter().map(variant).chain([placed]).collect(),
    }
}

fn parked(sizes: &[u64], workers: usize) -> Part {
    let variant = |tasks: &u64| {
        let job = format!("parked tasks={tasks} workers={workers}");
        let variant = Variant::new(format!("{tasks} tasks"), job, WAITING);
        let variant = fresh(variant, samples(*tasks))
            .target("bytes", AtMost(4_400.0))
            .target_of(STACKLESS, "bytes", AtMost(300.0));
        match tasks {
            1_000_000 => variant
                .target("create", Times(1.0, GO))
                .target("finish", Times(0.5, GO)),
            _ => variant,
        }
    };
    Part {
        name: "parked",
        figures: vec![
            figure("create", "parked: one task started and waiting", Unit::Ns),
            figure("finish", "parked: one task woken and ended", Unit::Ns),
            figure("bytes", "parked: memory of one task", Unit::Bytes),
        ],
        budget: BUDGET,
        variants: sizes.iter().map(variant).collect(),
    }
}

fn unstarted(sizes: &[u64]) -> Part {
    let variant = |tasks: &u64| {
        let job = format!("unstarted tasks={tasks} workers=1");
        let who: &[_] = match tasks {
            // Go's pre-emption begins them 10 ms later.
            ..=1_000_000 => &["multi", "tokio", "may", "smol"],
            _ => &["multi"],
        };
        fresh(
            Variant::new(format!("{tasks} tasks"), job, who),
            samples(*tasks),
        )
        .target("bytes", AtMost(130.0))
    };
    Part {
        name: "unstarted",
        figures: vec![
            figure("create", "not begun: one task started", Unit::Ns),
            figure("finish", "not begun: one task run to its end", Unit::Ns),
            figure("bytes", "not begun: memory of one task", Unit::Bytes),
        ],
        budget: BUDGET,
        variants: sizes.iter().map(variant).collect(),
    }
}

fn join(quick: bool, workers: usize) -> Part {
    let n = if quick { 15 } else { 30 };
    let job = format!("join n={n} workers={workers}");
    Part {
        name: "join",
        figures: vec![figure("total", "fork and join", Unit::Ms)],
        budget: BUDGET,
        variants: vec![
            Variant::new(format!("fib({n})"), job, &["multi", "serial", "rayon"])
                .target("total", Times(1.0, "rayon")),
        ],
    }
}

fn calls(quick: bool, workers: usize) -> Part {
    let n = if quick { 10 } else { 22 };
    let job = format!("calls n={n} workers={workers}");
    let variant = Variant::new(format!("fib({n})"), job, TASKS).target(NS, Times(0.25, GO));
    Part {
        name: "calls",
        figures: vec![figure(NS, "one call as a task, recursively", Unit::Ns)],
        budget: BUDGET,
        variants: vec![variant],
    }
}

fn skew(quick: bool, workers: usize) -> Part {
    let units = if quick { 1_000_000 } else { 40_000_000 };
    let job = format!("skew tasks=1000 units={units} workers={workers}");
    let who = &["multi", GO, "tokio", "may", "rayon", "smol"];
    Part {
        name: "skew",
        figures: vec![figure("ideal", "very unequal tasks", Unit::Ideal)],
        budget: BUDGET,
        variants: vec![
            Variant::new("1000 tasks", &*job, who).target("ideal", AtMost(1.1)),
            Variant::new(
                "1000 tasks, Placement::Spread",
                format!("{job} placement={SPREAD}"),
                &[OURS],
            ),
        ],
    }
}

fn blocking(quick: bool, workers: usize) -> Part {
    let tasks = if quick { 50 } else { 1_000 };
    let job = format!("blocking tasks={tasks} pause_ms=10 workers={workers}");
    let who = &["multi", GO, "tokio", "smol"];
    Part {
        name: "blocking",
        figures: vec![
            figure("total", "tasks that block 10 ms each, warm", Unit::Ms),
            figure("threads", "threads of that process", Unit::Count),
        ],
        budget: BUDGET,
        variants: vec![
            Variant::new(format!("{tasks} tasks"), job, who).target("total", AtMost(25e6)),
        ],
    }
}

fn timers(quick: bool, workers: usize) -> Part {
    let (tasks, rounds) = if quick { (50, 2) } else { (1_000, 10) };
    let job = format!("timers tasks={tasks} rounds={rounds} workers={workers}");
    Part {
        name: "timers",
        figures: vec![
            figure("p50", "lateness of a sleeper: half of them", Unit::Us),
            figure("p99", "lateness of a sleeper: 99 of 100", Unit::Us),
            figure("max", "lateness of a sleeper: the worst", Unit::Us),
        ],
        budget: BUDGET,
        variants: vec![Variant::new(format!("{tasks} tasks"), job, TASKS)],
    }
}

fn sweep(quick: bool) -> Part {
    let units = if quick { 1_000_000 } else { 80_000_000 };
    let variant = |workers: u64| {
        let job = format!("sweep tasks=64 units={units} workers={workers}");
        let who = &["multi", GO, "tokio", "may", "rayon", "smol"];
        Variant::new(format!("{workers} workers"), job, who)
    };
    Part {
        name: "sweep",
        figures: vec![figure("total", "64 tasks that compute", Unit::Ms)],
        budget: BUDGET,
        variants: [1, 2, 4, 8].into_iter().map(variant).collect(),
    }
}

fn server(workers: usize) -> Part {
    // Go's server is a locked goroutine in all of them.
    let variant = |label, locked, bound| {
        let job = format!("server locked={locked} bound={bound} workers={workers}");
        Variant::new(label, job, &["multi", GO])
    };
    Part {
        name: "server",
        figures: vec![figure(
            NS,
            "one request to what is bound to an OS thread",
            Unit::Us,
        )],
        budget: BUDGET,
        variants: vec![
            variant("a locked task, from a task", 0, 0),
            variant("a locked task, from another", 1, 0),
            variant("OsThread::run, from a task", 0, 1).target(NS, Times(1.0 / 3.0, GO)),
            variant("OsThread::run, from a thread", 1, 1).target(NS, Times(1.0 / 3.0, GO)),
            variant("two tasks of one OsThread", 1, 2).target(NS, AtMost(150.0)),
        ],
    }
}

fn ticker(quick: bool, workers: usize) -> Part {
    let hog_ms = if quick { 20 } else { 200 };
    let numbers = format!("hog_ms={hog_ms} workers={workers}");
    Part {
        name: "ticker",
        figures: vec![figure(
            "late",
            "the latest tick, every worker hogged",
            Unit::Ms,
        )],
        budget: BUDGET,
        variants: vec![
            Variant::new(
                "a task with a thread of its own",
                format!("ticker-locked {numbers}"),
                &["multi", GO],
            )
            .target("late", AtMost(5e6)),
            Variant::new("a started task", format!("ticker {numbers}"), TASKS),
        ],
    }
}

fn begin(quick: bool, workers: usize) -> Part {
    let hog_ms = if quick { 20 } else { 200 };
    let job = format!("begin-beside-hogs hog_ms={hog_ms} workers={workers}");
    Part {
        name: "begin",
        figures: vec![figure(
            "late",
            "a new task begins, every worker hogged",
            Unit::Ms,
        )],
        budget: BUDGET,
        variants: vec![Variant::new("after", job, TASKS).target("late", AtMost(20e6))],
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::suite::plan::check;

    #[test]
    fn plans_are_in_order() {
        for quick in [false, true] {
            check(&parts(quick, 4), NAMES, |name| !name.is_empty());
        }
    }
}
