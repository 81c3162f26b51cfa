//! What groups leave behind: nothing.

use super::{Subject, Verdict, group, rule_list, with};
use crate::group::{Group, Tasks};
use crate::options::{GroupOptions, TaskOptions};
use std::fmt;
use std::fs;
use std::time::{Duration, Instant};

rule_list![
    groups_leave_nothing_behind,
    failing_groups_leave_nothing_behind,
    dropped_groups_leave_nothing_behind,
    groups_with_time_limits_leave_nothing_behind
];

/// Mappings that an allocator may keep for later: a heap more per thread it has seen, not one per group.
const MAPPINGS_KEPT_MAX: usize = 64;

/// Groups made before the first count, so that pools, stacks and heaps are there.
const WARM_UP: usize = 50;

/// Thousands of groups leave the process's threads, descriptors, mappings and children as they were.
fn groups_leave_nothing_behind<S: Subject>() -> Verdict {
    compare(S::NAME, S::RESIDUE_GROUPS, || {
        let mut group = group::<S>();
        for _ in 0..4 {
            group.go(|| Ok(()));
        }
        assert!(group.wait().is_ok());
    });
    Verdict::Passed
}

/// Groups whose tasks fail leave nothing either.
fn failing_groups_leave_nothing_behind<S: Subject>() -> Verdict {
    compare(S::NAME, 100, || {
        let mut group = group::<S>();
        group.go(|| Err("on purpose")?);
        group.go(|| std::panic::resume_unwind(Box::new("on purpose, unprinted")));
        assert!(group.wait().is_err());
    });
    Verdict::Passed
}

/// Groups that are dropped while their tasks run leave nothing either.
fn dropped_groups_leave_nothing_behind<S: Subject>() -> Verdict {
    compare(S::NAME, 100, || {
        let group = group::<S>();
        for _ in 0..2 {
            let token = group.cancel_token();
            group.go(move || {
                token.wait();
                Ok(())
            });
        }
        drop(group);
    });
    Verdict::Passed
}

/// Groups with deadlines, timeouts and limits leave nothing either, the clock that keeps them included.
fn groups_with_time_limits_leave_nothing_behind<S: Subject>() -> Verdict {
    compare(S::NAME, 100, || {
        let hour = Duration::from_secs(3600);
        let options = GroupOptions::new()
            .timeout(hour)
            .task_timeout(hour)
            .limit(2);
        let mut group = with::<S>(options);
        for _ in 0..4 {
            group.go_with(TaskOptions::new().cancel_token(S::flag()), || Ok(()));
        }
        assert!(group.wait().is_ok());
    });
    Verdict::Passed
}

#[expect(clippy::print_stdout, reason = "the counts are what the rule is about")]
pub(super) fn compare(backend: &str, groups: usize, one_group: impl Fn()) {
    (0..WARM_UP.min(groups)).for_each(|_| one_group());
    let before = Residue::count();
    (0..groups).for_each(|_| one_group());
    let after = Residue::settle(&before);
    println!("{backend}: {groups} groups; before: {before}; after: {after}");
    assert!(
        after.is_no_more_than(&before),
        "{groups} groups left something: before {before}, after {after}"
    );
}

/// What the system holds for this process; proc(5).
#[derive(Debug)]
struct Residue {
    threads: usize,
    descriptors: usize,
    mappings: usize,
    /// Running or dead and not collected.
    children: usize,
}

impl Residue {
    fn count() -> Self {
        let entries = |path| fs::read_dir(path).map_or(0, Iterator::count);
        let children = |task: fs::DirEntry| {
            fs::read_to_string(task.path().join("children")).unwrap_or_default()
        };
        let tasks = fs::read_dir("/proc/self/task")
            .into_iter()
            .flatten()
            .flatten();
        Self {
            threads: entries("/proc/self/task"),
            descriptors: entries("/proc/self/fd"),
            mappings: fs::read_to_string("/proc/self/maps")
                .unwrap_or_default()
                .lines()
                .count(),
            children: tasks
                .map(|task| children(task).split_whitespace().count())
                .sum(),
        }
    }

    /// Counts until there is no more than `before`, or two seconds: threads that serve several groups linger for a moment.
    fn settle(before: &Self) -> Self {
        let until = Instant::now() + Duration::from_secs(2);
        loop {
            let now = Self::count();
            if now.is_no_more_than(before) || Instant::now() >= until {
                return now;
            }
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    fn is_no_more_than(&self, before: &Self) -> bool {
        self.threads <= before.threads
            && self.descriptors <= before.descriptors
            && self.mappings <= before.mappings + MAPPINGS_KEPT_MAX
            && self.children <= before.children
    }
}

impl fmt::Display for Residue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            threads,
            descriptors,
            mappings,
            children,
        } = self;
        write!(
            f,
            "{threads} threads, {descriptors} descriptors, {mappings} mappings, {children} children"
        )
    }
}
