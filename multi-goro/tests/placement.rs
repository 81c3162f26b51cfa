//! On which worker tasks begin.

mod common;

use std::collections::HashMap;
use std::sync::mpsc;
use std::thread::{self, ThreadId};

use common::watchdog;
use multi_goro::chan::TryRecvError;
use multi_goro::{Group, Placement, Receiver, Runtime, Sender, chan, yield_now};

const CHILDREN: usize = 200;

fn two_workers() -> Runtime {
    Runtime::builder()
        .workers(2)
        .report_stuck(false)
        .build()
        .unwrap()
}

/// Children that tell where they began, and wait until the gate closes.
struct Children {
    group: Group,
    tell: Sender<ThreadId>,
    told: Receiver<ThreadId>,
    gate: Sender<()>,
    closed: Receiver<()>,
}

impl Children {
    fn of(group: Group) -> Self {
        let (tell, told) = chan(CHILDREN);
        let (gate, closed) = chan(0);
        Self {
            group,
            tell,
            told,
            gate,
            closed,
        }
    }

    fn start(&self) {
        let (tell, closed) = (self.tell.clone(), self.closed.clone());
        self.group.go(move || {
            tell.send(thread::current().id())?;
            let _closed = closed.recv();
            Ok(())
        });
    }

    /// How many of `count` began on each thread.
    fn places(&self, count: usize) -> HashMap<ThreadId, usize> {
        let mut places = HashMap::new();
        for thread in self.told.iter().take(count) {
            *places.entry(thread).or_insert(0) += 1;
        }
        places
    }

    fn end(mut self) {
        drop(self.gate);
        self.group.wait().unwrap();
    }
}

fn placed(placement: Placement) -> Group {
    Group::builder().placement(placement).build().unwrap()
}

#[test]
fn local_children_stay_though_a_worker_is_idle() {
    let _dog = watchdog(20);
    two_workers().run(|| {
        let children = Children::of(placed(Placement::Local));
        (0..CHILDREN).for_each(|_| children.start());
        let places = children.places(CHILDREN);
        let here = thread::current().id();
        assert_eq!(places, HashMap::from([(here, CHILDREN)]));
        children.end();
    });
}

#[test]
fn spread_children_are_dealt_to_all_workers() {
    let _dog = watchdog(20);
    for runs_inside in [true, false] {
        let runtime = two_workers();
        let deal = || {
            let group = Group::builder().runtime(&runtime);
            let children = Children::of(group.placement(Placement::Spread).build().unwrap());
            (0..CHILDREN).for_each(|_| children.start());
            let places = children.places(CHILDREN);
            assert_eq!(places.len(), 2, "{places:?}");
            let (most, least) = (places.values().max(), places.values().min());
            // One that is just beginning is counted nowhere for a moment.
            assert!(most.unwrap() - least.unwrap() <= CHILDREN / 4, "{places:?}");
            children.end();
        };
        if runs_inside {
            runtime.run(deal);
        } else {
            deal();
        }
    }
}

#[test]
fn spread_children_fill_the_worker_that_has_fewer_tasks() {
    let _dog = watchdog(20);
    two_workers().run(|| {
        let here = thread::current().id();
        let local = Children::of(placed(Placement::Local));
        (0..CHILDREN).for_each(|_| local.start());
        assert_eq!(local.places(CHILDREN)[&here], CHILDREN);
        let spread = Children::of(placed(Placement::Spread));
        (0..CHILDREN / 2).for_each(|_| spread.start());
        let places = spread.places(CHILDREN / 2);
        assert_eq!(places.get(&here), None, "{places:?}");
        spread.end();
        local.end();
    });
}

#[test]
fn runtime_chooses_for_groups_that_do_not() {
    let _dog = watchdog(20);
    let runtime = Runtime::builder()
        .workers(2)
        .placement(Placement::Local)
        .build()
        .unwrap();
    runtime.run(|| {
        let children = Children::of(Group::new());
        (0..CHILDREN).for_each(|_| children.start());
        let here = thread::current().id();
        assert_eq!(children.places(CHILDREN)[&here], CHILDREN);
        children.end();
        let spread = Children::of(placed(Placement::Spread));
        (0..CHILDREN).for_each(|_| spread.start());
        assert_eq!(spread.places(CHILDREN).len(), 2);
        spread.end();
    });
}

/// What is for one worker begins elsewhere when that is stuck.
#[test]
fn placed_task_begins_beside_a_hog() {
    let _dog = watchdog(20);
    for placement in [Placement::Local, Placement::Spread] {
        for workers in [1, 2] {
            let runtime = Runtime::builder()
                .workers(workers)
                .report_stuck(false)
                .build()
                .unwrap();
            runtime.run(|| {
                let mut group = placed(placement);
                let (tell, told) = mpsc::channel();
                for _ in 0..2 * workers {
                    let tell = tell.clone();
                    group.go(move || Ok(tell.send(thread::current().id())?));
                }
                // Keeps the worker until all have begun.
                let begun = told.iter().take(2 * workers);
                assert!(begun.filter(|id| *id == thread::current().id()).count() == 0);
                group.wait().unwrap();
            });
        }
    }
}

/// Tasks that always find others of theirs to start leave turns to those that anybody may take, and the other way round.
#[test]
fn neither_kind_of_child_keeps_the_other_from_its_turn() {
    let _dog = watchdog(20);
    for (endless, once) in [
        (Placement::Any, Placement::Local),
        (Placement::Local, Placement::Any),
    ] {
        let runtime = Runtime::builder().workers(1).build().unwrap();
        runtime.run(|| {
            let mut group = Group::builder().placement(endless).build().unwrap();
            let spawner = group.spawner();
            let (stop, stopped) = chan::<()>(1);
            for _ in 0..2 {
                again(&spawner, &stopped);
            }
            let mut other = placed(once);
            other.go(|| Ok(()));
            other.go(|| Ok(()));
            other.wait().unwrap();
            drop(stop);
            group.wait().unwrap();
        });
    }
}

/// Starts a task that starts another like it, until it is told to stop.
fn again(spawner: &multi_goro::Spawner, stopped: &Receiver<()>) {
    let (next, stopped) = (spawner.clone(), stopped.clone());
    spawner.go(move || {
        if matches!(stopped.try_recv(), Err(TryRecvError::Empty)) {
            again(&next, &stopped);
            yield_now();
        }
        Ok(())
    });
}
