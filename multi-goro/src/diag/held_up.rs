//! Tasks that hold each other up for ever: found from whom each is behind, and told of once, on standard error.
//!
//! Certain: tasks that wait for a `Mutex`, a `RwLock` or a group without a limit, each behind one of the others (`sched/behind.rs` says why that is
//! for ever, whatever else the process does). Only suspected, and left to [`Dump::is_stalled`] and to whoever reads a dump: everything
//! that waits in another way, since nobody knows who has the other end of a channel, and all who wait for those.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::time::{Duration, Instant};

use super::{Dump, TaskReport};
use crate::sched::{self, Behind, GroupNumber, Identity, Stamp};
use crate::sync::OsMutex;
use crate::sys;

/// How long a task has waited when it is first looked at, and how long after that it is looked at again: see [`Stamp`].
const SETTLED: Duration = Duration::from_millis(500);

/// Who waits behind whom.
#[derive(Debug, Clone, Copy)]
struct Waiting {
    who: Identity,
    group: Option<GroupNumber>,
    behind: Behind,
}

/// The greatest set of those who each are behind one of the set, as numbers of `all`.
fn hopeless(all: &[Waiting]) -> BTreeSet<usize> {
    let mut of_group: BTreeMap<GroupNumber, usize> = BTreeMap::new();
    let mut known = BTreeSet::new();
    let mut held_up_by: BTreeMap<Behind, Vec<usize>> = BTreeMap::new();
    for (nth, waiting) in all.iter().enumerate() {
        known.insert(waiting.who);
        if let Some(group) = waiting.group {
            *of_group.entry(group).or_default() += 1;
        }
        held_up_by.entry(waiting.behind).or_default().push(nth);
    }
    // How many in the set are in the way of each: with none, it may go on.
    let mut in_the_way: Vec<usize> = all
        .iter()
        .map(|waiting| match waiting.behind {
            Behind::One(who) => usize::from(known.contains(&who)),
            Behind::All(group) => of_group.get(&group).copied().unwrap_or(0),
        })
        .collect();
    let mut leaves: Vec<usize> = (0..all.len()).filter(|nth| in_the_way[*nth] == 0).collect();
    let mut stay: BTreeSet<usize> = (0..all.len()).collect();
    while let Some(nth) = leaves.pop() {
        stay.remove(&nth);
        let gone = &all[nth];
        let as_one = Some(Behind::One(gone.who));
        let as_member = gone.group.map(Behind::All);
        for behind in as_one.into_iter().chain(as_member) {
            for follower in held_up_by.get(&behind).into_iter().flatten() {
                in_the_way[*follower] -= 1;
                if in_the_way[*follower] == 0 {
                    leaves.push(*follower);
                }
            }
        }
    }
    stay
}

/// Those of the tasks that would wait for ever if all had done so at the same time.
fn suspects<'a>(tasks: impl Iterator<Item = &'a TaskReport>) -> Vec<&'a TaskReport> {
    let (reports, waiting): (Vec<_>, Vec<_>) = tasks
        .filter(|task| task.0.lasts >= SETTLED)
        .filter_map(|task| {
            let waiting = Waiting {
                who: task.0.identity,
                group: task.0.group,
                behind: task.behind()?,
            };
            Some((task, waiting))
        })
        .unzip();
    let hopeless = hopeless(&waiting);
    hopeless.into_iter().map(|nth| reports[nth]).collect()
}

/// Those of the tasks that wait for ever: suspected before, at `then`, and now, in the same waits. So all of them waited in between.
fn certain<'a>(
    before: &BTreeMap<Identity, Stamp>,
    then: Instant,
    tasks: impl Iterator<Item = (&'a TaskReport, Instant)>,
) -> Vec<&'a TaskReport> {
    let same = tasks.filter(|(task, now)| {
        task.0.stamp.is_some()
            && task.0.stamp.as_ref() == before.get(&task.0.identity)
            && now.saturating_duration_since(then) >= SETTLED
    });
    suspects(same.map(|(task, _)| task))
}

fn stamps(tasks: &[&TaskReport]) -> BTreeMap<Identity, Stamp> {
    let stamps = tasks
        .iter()
        .filter_map(|task| Some((task.0.identity, task.0.stamp?)));
    stamps.collect()
}

/// Those of a dump's tasks that wait for ever, by an earlier dump.
pub(super) fn find<'a>(earlier: &Dump, dump: &'a Dump) -> Vec<&'a TaskReport> {
    let before = stamps(&suspects(earlier.tasks()));
    let tasks = dump.tasks().map(|task| (task, dump.begun));
    certain(&before, earlier.ended, tasks)
}

/// What the last look found, and when, and who has been told of.
struct Looks {
    suspects: BTreeMap<Identity, Stamp>,
    at: Option<Instant>,
    told: BTreeSet<Identity>,
}

/// Looks at the tasks of all runtimes, and tells of those that wait for ever for the first time. To be called by a thread that runs no task. Returns
/// whether a second look is needed.
pub(crate) fn look() -> bool {
    static LOOKS: OsMutex<Looks> = OsMutex::new(Looks {
        suspects: BTreeMap::new(),
        at: None,
        told: BTreeSet::new(),
    });
    let Ok(mut looks) = LOOKS.try_lock() else {
        // The monitor of another runtime looks at all.
        return true;
    };
    let runtimes = sched::every_runtime();
    if runtimes.iter().map(|shared| shared.held_up()).sum::<u32>() < 2 {
        // Nobody can be behind one of the set.
        looks.suspects.clear();
        return false;
    }
    let dumps: Vec<_> = runtimes.iter().map(Dump::of_held_up).collect();
    let suspected = suspects(dumps.iter().flat_map(Dump::tasks));
    let found = looks.at.map_or_else(Vec::new, |at| {
        let tasks = dumps
            .iter()
            .flat_map(|dump| dump.tasks().map(|task| (task, dump.begun)));
        certain(&looks.suspects, at, tasks)
    });
    let mut text = String::new();
    for ring in entangled(&found) {
        let (old, news): (Vec<_>, Vec<_>) = ring
            .into_iter()
            .partition(|task| looks.told.contains(&task.0.identity));
        // They never end, so nobody else will have their numbers.
        looks.told.extend(news.iter().map(|task| task.0.identity));
        if !news.is_empty() {
            describe(&mut text, &news, !old.is_empty(), &found);
        }
    }
    looks.suspects = stamps(&suspected);
    looks.at = Some(Instant::now());
    let is_settled = |task: &&TaskReport| looks.told.contains(&task.0.identity);
    let is_open = !suspected.iter().all(is_settled);
    drop(looks);
    if !text.is_empty() {
        sys::write_error(text.as_bytes());
    }
    is_open
}

/// Tasks of which each is connected with the others, if not with the rest.
fn entangled<'a>(found: &[&'a TaskReport]) -> Vec<Vec<&'a TaskReport>> {
    let mut of_group: BTreeMap<GroupNumber, Vec<usize>> = BTreeMap::new();
    let mut by_who = BTreeMap::new();
    for (nth, task) in found.iter().enumerate() {
        by_who.insert(task.0.identity, nth);
        if let Some(group) = task.0.group {
            of_group.entry(group).or_default().push(nth);
        }
    }
    let mut neighbours = vec![Vec::new(); found.len()];
    for (nth, task) in found.iter().enumerate() {
        let others = match task.behind() {
            Some(Behind::One(who)) => by_who.get(&who).map(std::slice::from_ref),
            Some(Behind::All(group)) => of_group.get(&group).map(Vec::as_slice),
            None => None,
        };
        for other in others.unwrap_or_default() {
            neighbours[nth].push(*other);
            neighbours[*other].push(nth);
        }
    }
    let mut is_seen = vec![false; found.len()];
    let mut rings = Vec::new();
    for start in 0..found.len() {
        let mut ring = Vec::new();
        let mut ahead = vec![start];
        while let Some(nth) = ahead.pop() {
            if !std::mem::replace(&mut is_seen[nth], true) {
                ring.push(found[nth]);
                ahead.extend(&neighbours[nth]);
            }
        }
        if !ring.is_empty() {
            rings.push(ring);
        }
    }
    rings
}

/// Most tasks of a deadlock that are listed.
const LISTED_MAX: usize = 20;

fn describe(text: &mut String, news: &[&TaskReport], is_more: bool, found: &[&TaskReport]) {
    let groups: BTreeSet<_> = news.iter().map(|task| task.0.group).collect();
    let tasks = match news.len() {
        1 => "1 task".to_owned(),
        count => format!("{count} tasks"),
    };
    let whose = match groups.len() {
        1 => "one group".to_owned(),
        count => format!("{count} groups"),
    };
    let what = match (is_more, news.len()) {
        (true, _) => "hung up behind those of an earlier report, for ever",
        (false, 1) => "waiting for itself, and nothing else can end that",
        (false, _) => "waiting for each other, and nothing else can end that",
    };
    // To a string it does not fail.
    let _ = writeln!(
        text,
        "multi-goro: deadlock: {tasks} of {whose} {what}; take locks in the same order everywhere, and let go of them before \
         waiting for tasks that take them"
    );
    for task in news.iter().take(LISTED_MAX) {
        let _ = writeln!(text, "  {task}{}", behind_whom(task, found));
    }
    if news.len() > LISTED_MAX {
        let _ = writeln!(text, "  and {} more", news.len() - LISTED_MAX);
    }
}

/// What is to be said of who is in a task's way.
fn behind_whom(task: &TaskReport, found: &[&TaskReport]) -> String {
    match task.behind() {
        None => String::new(),
        Some(Behind::One(who)) if who == task.0.identity => ", which it holds itself".to_owned(),
        Some(Behind::One(who)) => found
            .iter()
            .find(|other| other.0.identity == who)
            .map_or_else(String::new, |other| format!(", behind {}", other.title())),
        Some(Behind::All(group)) => found
            .iter()
            .find(|other| other.0.group == Some(group))
            .map_or_else(String::new, |other| {
                format!(", in which is {}", other.title())
            }),
    }
}

#[cfg(test)]
mod tests {
    use std::num::NonZero;

    use super::*;

    fn who(number: usize) -> Identity {
        Identity::new(NonZero::new(number * 64).unwrap())
    }

    fn waits(number: usize, group: Option<GroupNumber>, behind: Behind) -> Waiting {
        Waiting {
            who: who(number),
            group,
            behind,
        }
    }

    fn behind(number: usize, other: usize) -> Waiting {
        waits(number, None, Behind::One(who(other)))
    }

    fn found(all: &[Waiting]) -> Vec<usize> {
        hopeless(all).into_iter().collect()
    }

    #[test]
    fn ring_of_waiters_is_hopeless_with_all_behind_it() {
        assert_eq!(found(&[behind(1, 2), behind(2, 1)]), [0, 1]);
        assert_eq!(found(&[behind(1, 1)]), [0]);
        assert_eq!(
            found(&[behind(3, 1), behind(1, 2), behind(2, 1), behind(4, 3)]),
            [0, 1, 2, 3]
        );
    }

    #[test]
    fn chain_that_ends_with_somebody_who_may_go_on_is_not() {
        // 9 waits for nothing that is known.
        assert!(found(&[behind(1, 2), behind(2, 3), behind(3, 9)]).is_empty());
        assert!(found(&[]).is_empty());
    }

    #[test]
    fn one_hopeless_task_keeps_its_group_from_ending() {
        let group = GroupNumber::next();
        let parent = waits(1, None, Behind::All(group));
        let needs_parent = waits(2, Some(group), Behind::One(who(1)));
        let goes_on = waits(3, Some(group), Behind::One(who(9)));
        assert_eq!(found(&[parent, needs_parent, goes_on]), [0, 1]);
        assert!(found(&[parent, goes_on]).is_empty());
        assert!(
            found(&[parent]).is_empty(),
            "its tasks are not known to wait"
        );
    }

    #[test]
    fn task_that_waits_for_its_own_group_is_hopeless() {
        let group = GroupNumber::next();
        assert_eq!(found(&[waits(1, Some(group), Behind::All(group))]), [0]);
    }

    #[test]
    fn long_queue_is_looked_at_once() {
        let all: Vec<_> = (1..20_000).map(|n| behind(n, n + 1)).collect();
        assert!(found(&all).is_empty());
    }
}
