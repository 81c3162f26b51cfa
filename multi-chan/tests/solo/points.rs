//! Every shared write of every operation, with the process that made it killed right after it.
//!
//! Nothing is listed by hand: the channel's atomics tell of each write (`watch_writes`), so the victim of an operation
//! is killed after its first write, in the next run after its second, and so on until it reaches its end.

use crate::plain_ring::{
    a_plain_ring_hangs_where_a_receiver_is_killed_between_claim_and_free,
    a_plain_ring_hangs_where_a_sender_is_killed_between_claim_and_publish,
};
use crate::report;
use crate::scenes::{Ours, recoverers, scenes};
use crate::stage::{Outcome, Scene, Shown, Subject, perform};
use crate::support::Random;
use libtest_mimic::{Failed, Trial};
use std::collections::HashSet;

/// Runs in which a point was not reached before it counts as beyond the end.
const MISSES: u32 = 2;

/// From so many kills on, every pair of deaths is tried.
const THOROUGH: u32 = 10;

/// Kills of each point: `MULTI_KILLS`, else a few.
fn kills() -> u32 {
    let kills = std::env::var("MULTI_KILLS").ok();
    kills.and_then(|kills| kills.parse().ok()).unwrap_or(1)
}

pub(crate) fn trials() -> Vec<Trial> {
    let mut trials: Vec<Trial> = Vec::new();
    for scene in scenes() {
        trials.push(Trial::test(
            format!("kill_points: {}", scene.name),
            move || each_write(&scene, kills(), None, &mut Random::from_environment()),
        ));
    }
    for recoverer in recoverers() {
        trials.push(Trial::test(
            format!(
                "kill_points: {} after each other death, capacity {}",
                recoverer.name, recoverer.capacity
            ),
            move || every_pair(&recoverer),
        ));
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
    if kills() >= THOROUGH {
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
fn every_pair(recoverer: &Scene<Ours>) -> Result<(), Failed> {
    let mut random = Random::from_environment();
    let firsts: Vec<_> = scenes()
        .into_iter()
        .filter(|first| {
            first.sleepers.is_none()
                && !first.at_birth
                && first.capacity == recoverer.capacity
                && first.leaves_something
        })
        .collect();
    if kills() < THOROUGH {
        for _ in 0..2 {
            let first = &firsts[random.below(firsts.len() as u64) as usize];
            let write = 1 + random.below(6) as u32;
            each_write(recoverer, 1, Some((first, write)), &mut random)?;
        }
        return Ok(());
    }
    for first in &firsts {
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
