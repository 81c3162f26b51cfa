//! Every shared write of every operation, with the process that made it killed right after it.
//!
//! Nothing is listed by hand: the channel's atomics tell of each write (`watch_writes`), so the victim of an operation
//! is killed after its first write, in the next run after its second, and so on until it reaches its end.

use crate::kinds::{
    Again, Lent, Letters, OneToOne, Polled, Posted, endings, heirs, legacies, loans, operations,
    returns,
};
use crate::plain_ring::{
    a_plain_ring_hangs_where_a_receiver_is_killed_between_claim_and_free,
    a_plain_ring_hangs_where_a_sender_is_killed_between_claim_and_publish,
};
use crate::report;
use crate::scenes::{recoverers, scenes};
use crate::stage::{Outcome, Scene, Shown, Subject, perform};
use crate::support::{Child, Random, fork, is_thorough, linger};
use libtest_mimic::{Failed, Trial};
use multi_chan::channel;
use std::collections::HashSet;
use std::sync::Once;

/// Runs in which a point was not reached before it counts as beyond the end.
const MISSES: u32 = 2;

/// More than fit one call to sleep on.
const CROWD: usize = 130;

/// Kills of each point: `MULTI_KILLS`, else a few.
fn kills() -> u32 {
    let kills = std::env::var("MULTI_KILLS").ok();
    kills.and_then(|kills| kills.parse().ok()).unwrap_or(1)
}

pub(crate) fn trials() -> Vec<Trial> {
    let mut trials: Vec<Trial> = Vec::new();
    trials.extend(scenes().into_iter().map(trial));
    trials.extend(loans().into_iter().map(trial));
    let one_to_one = operations::<OneToOne>([
        "one to one: send, receiver asleep",
        "one to one: send, full",
        "one to one: receive, sender asleep",
        "one to one: receive, empty",
    ]);
    trials.extend(one_to_one.into_iter().map(trial));
    let selected = operations::<Lent<false>>([
        "one to one in a select: send, receiver asleep",
        "one to one in a select: send, full",
        "one to one in a select: receive, sender asleep",
        "one to one in a select: receive, empty",
    ]);
    trials.extend(selected.into_iter().map(trial));
    let polled = operations::<Lent<true>>([
        "one to one in poll loops: send, receiver asleep",
        "one to one in poll loops: send, full",
        "one to one in poll loops: receive, sender asleep",
        "one to one in poll loops: receive, empty",
    ]);
    trials.extend(polled.into_iter().map(trial));
    trials.extend(endings().into_iter().map(trial));
    let polled = operations::<Polled>([
        "poll loops: send, receiver asleep",
        "poll loops: send, full",
        "poll loops: receive, sender asleep",
        "poll loops: receive, empty",
    ]);
    trials.extend(polled.into_iter().map(trial));
    let again = operations::<Again>([
        "at least once: send, receiver asleep",
        "at least once: send, full",
        "at least once: receive, sender asleep",
        "at least once: receive, empty",
    ]);
    trials.extend(again.into_iter().map(trial));
    trials.extend(returns().into_iter().map(trial));
    let small = operations::<Letters<100, false>>([
        "100 bytes: send, receiver asleep",
        "100 bytes: send, full",
        "100 bytes: receive, sender asleep",
        "100 bytes: receive, empty",
    ]);
    trials.extend(small.into_iter().map(trial));
    let large = operations::<Letters<20_000, false>>([
        "20 000 bytes: send, receiver asleep",
        "20 000 bytes: send, full",
        "20 000 bytes: receive, sender asleep",
        "20 000 bytes: receive, empty",
    ]);
    trials.extend(large.into_iter().map(trial));
    let [posted, posted_full, ..] = operations::<Posted<20_000>>([
        "20 000 bytes by a select: send, receiver asleep",
        "20 000 bytes by a select: send, full",
        "",
        "",
    ]);
    trials.extend([posted, posted_full].map(trial));
    let again = operations::<Letters<20_000, true>>([
        "20 000 bytes at least once: send, receiver asleep",
        "20 000 bytes at least once: send, full",
        "20 000 bytes at least once: receive, sender asleep",
        "20 000 bytes at least once: receive, empty",
    ]);
    trials.extend(again.into_iter().map(trial));
    let heirs_of_again = heirs::<Letters<20_000, true>>([
        "20 000 bytes at least once: receive",
        "20 000 bytes at least once: send",
    ]);
    trials.extend(
        heirs_of_again
            .into_iter()
            .map(|heir| pairs(heir, legacies())),
    );
    let heirs_of_letters =
        heirs::<Letters<20_000, false>>(["20 000 bytes: receive", "20 000 bytes: send"]);
    trials.extend(
        heirs_of_letters
            .into_iter()
            .map(|heir| pairs(heir, legacies())),
    );
    let heirs_of_returns =
        heirs::<Again>(["at least once: receive after", "at least once: send after"]);
    trials.extend(heirs_of_returns.into_iter().map(|heir| {
        let mut firsts = legacies();
        firsts.extend(returns().into_iter().take(1));
        pairs(heir, firsts)
    }));
    let heirs_of_one = heirs::<OneToOne>(["one to one: receive", "one to one: send"]);
    trials.extend(heirs_of_one.into_iter().map(|heir| pairs(heir, legacies())));
    for recoverer in recoverers() {
        let firsts = scenes().into_iter().filter(|first| {
            first.sleepers.is_none()
                && !first.at_birth
                && first.capacity == recoverer.capacity
                && first.leaves_something
        });
        let firsts = firsts.collect();
        trials.push(pairs(recoverer, firsts));
    }
    for (name, test) in [
        (
            "a plain ring hangs where a sender is killed between claim and publish",
            a_plain_ring_hangs_where_a_sender_is_killed_between_claim_and_publish as fn(),
        ),
        (
            "a plain ring hangs where a receiver is killed between claim and free",
            a_plain_ring_hangs_where_a_receiver_is_killed_between_claim_and_free,
        ),
    ] {
        trials.push(Trial::test(format!("kill_points: {name}"), move || {
            test();
            Ok(())
        }));
    }
    // A crowd's roll is wide already: nobody is killed while widening it.
    if is_thorough() && !is_crowd() {
        // After all the others: they run one after another.
        trials.push(Trial::test("kill_points: no write was left out", || {
            let missed = report::missed();
            if missed.is_empty() {
                return Ok(());
            }
            Err(format!("nobody was killed after:\n{}", missed.join("\n")).into())
        }));
    }
    trials
}

fn is_crowd() -> bool {
    std::env::var_os("MULTI_CROWD").is_some()
}

/// With `MULTI_CROWD` set, as where more processes have been on the roll than one sleeper can watch by itself.
fn be_a_crowd_if_asked() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        if is_crowd() {
            let _channel = channel::<u64>(1).unwrap();
            let crowd: Vec<Child> = (0..CROWD).map(|_| fork(|| linger())).collect();
            crowd.into_iter().for_each(Child::kill);
        }
    });
}

fn trial<S: Subject + 'static>(scene: Scene<S>) -> Trial {
    Trial::test(format!("kill_points: {}", scene.name), move || {
        be_a_crowd_if_asked();
        each_write(&scene, kills(), None, &mut Random::from_environment())
    })
}

fn pairs<S: Subject + 'static>(recoverer: Scene<S>, firsts: Vec<Scene<S>>) -> Trial {
    let name = format!(
        "kill_points: {} after each other death, capacity {}",
        recoverer.name, recoverer.capacity
    );
    Trial::test(name, move || {
        be_a_crowd_if_asked();
        every_pair(&recoverer, &firsts)
    })
}

/// Kills the victim of `scene` after each of its writes, `kills` times.
pub(crate) fn each_write<S: Subject>(
    scene: &Scene<S>,
    kills: u32,
    first: Option<(&Scene<S>, u32)>,
    random: &mut Random,
) -> Result<(), Failed> {
    let mut failures = Vec::new();
    let mut beyond = 0;
    for write in 1.. {
        let (mut killed, mut missed) = (0, 0);
        while killed < kills && missed < MISSES + killed {
            let shown = once_more_if_late(scene, write, first, random);
            if shown.site.is_some() {
                killed += 1;
            } else {
                missed += 1;
            }
            report::enter(scene.name, first.map(|(scene, _)| scene.name), &shown);
            if !matches!(shown.result, Outcome::Whole) {
                failures.push(format!("write {write}: {shown:?}"));
                break;
            }
        }
        beyond = if killed == 0 { beyond + 1 } else { 0 };
        if beyond == 2 || failures.len() > 3 {
            break;
        }
    }
    if failures.is_empty() {
        Ok(())
    } else {
        Err(format!("{}: {}", scene.name, failures.join("\n")).into())
    }
}

/// A busy machine makes a survivor late now and then; a lost wake does so every time.
fn once_more_if_late<S: Subject>(
    scene: &Scene<S>,
    write: u32,
    first: Option<(&Scene<S>, u32)>,
    random: &mut Random,
) -> Shown {
    let mut shown = perform(scene, write, first, random);
    for _ in 0..2 {
        if shown.result != Outcome::Late {
            break;
        }
        shown = perform(scene, write, first, random);
    }
    shown
}

/// Kills `recoverer` after each of its writes while it sees to each death that the plain scenes leave behind; in the
/// quick form, to two of them.
fn every_pair<S: Subject>(recoverer: &Scene<S>, firsts: &[Scene<S>]) -> Result<(), Failed> {
    let mut random = Random::from_environment();
    if !is_thorough() {
        for _ in 0..2 {
            let first = &firsts[random.below(firsts.len() as u64) as usize];
            let write = 1 + random.below(6) as u32;
            each_write(recoverer, 1, Some((first, write)), &mut random)?;
        }
        return Ok(());
    }
    for first in firsts {
        // A second write at the same place leaves nothing new behind.
        let mut sites = HashSet::new();
        for write in 1.. {
            let Some(site) = perform(first, write, None, &mut random).site else {
                break;
            };
            if !sites.insert(site) {
                continue;
            }
            each_write(recoverer, 1, Some((first, write)), &mut random)?;
        }
    }
    Ok(())
}
