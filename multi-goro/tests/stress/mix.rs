//! Random programs over everything at once.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::*};
use std::time::Duration;

use multi_goro::{Receiver, Runtime, Sender, Spawner, chan, select, yield_now};

use crate::harness::{Random, stress};

struct World {
    tx: Sender<u64>,
    rx: Receiver<u64>,
    sent: AtomicUsize,
    received: AtomicUsize,
    ended: AtomicUsize,
    started: AtomicUsize,
}

/// One task: a few random steps, each of which always ends.
fn act(world: &Arc<World>, spawner: &Spawner, mut random: Random, depth: u32) {
    let home = std::thread::current().id();
    for _ in 0..random.below(12) {
        let pause = Duration::from_micros(random.below(200));
        match random.below(10) {
            0 => yield_now(),
            1 => multi_goro::sleep(pause),
            2 | 3 => {
                if world.tx.send_timeout(1, pause).is_ok() {
                    world.sent.fetch_add(1, Relaxed);
                }
            }
            4 | 5 => {
                if world.rx.recv_timeout(pause).is_ok() {
                    world.received.fetch_add(1, Relaxed);
                }
            }
            6 => {
                let n = random.next();
                assert_eq!(multi_goro::blocking(|| n ^ 1), n ^ 1);
            }
            7 => {
                select! {
                    send(world.tx, 1) -> sent => {
                        sent.unwrap();
                        world.sent.fetch_add(1, Relaxed);
                    }
                    recv(world.rx) -> got => {
                        got.unwrap();
                        world.received.fetch_add(1, Relaxed);
                    }
                    after(pause) => {}
                }
            }
            8 if depth < 3 => {
                for _ in 0..random.below(4) {
                    start(world, spawner, random.child(), depth + 1);
                }
            }
            _ => {
                let parts = [random.next() >> 8, random.next() >> 8];
                let sum = multi_goro::scope(|s| {
                    let half = s.spawn(|| Ok(parts[0]));
                    half.join().map(|half| half + parts[1])
                });
                assert_eq!(sum.unwrap().unwrap(), parts[0] + parts[1]);
            }
        }
        assert_eq!(std::thread::current().id(), home);
    }
    world.ended.fetch_add(1, Relaxed);
}

fn start(world: &Arc<World>, spawner: &Spawner, random: Random, depth: u32) {
    world.started.fetch_add(1, Relaxed);
    let (world, to) = (Arc::clone(world), spawner.clone());
    spawner.go(move || {
        act(&world, &to, random, depth);
        Ok(())
    });
}

#[test]
fn random_programs_end_and_keep_their_counts() {
    stress("random programs", |random| {
        let workers = 1 + random.below(4) as usize;
        let runtime = Runtime::builder()
            .report_stuck(false)
            .workers(workers)
            .build()
            .unwrap();
        let (tx, rx) = chan(random.below(4) as usize);
        let world = Arc::new(World {
            tx,
            rx,
            sent: AtomicUsize::new(0),
            received: AtomicUsize::new(0),
            ended: AtomicUsize::new(0),
            started: AtomicUsize::new(0),
        });
        let mut group = runtime.group();
        let spawner = group.spawner();
        for _ in 0..random.below(200) {
            start(&world, &spawner, random.child(), 0);
        }
        group.wait().unwrap();
        assert_eq!(world.started.load(Relaxed), world.ended.load(Relaxed));
        let left = world.rx.try_iter().count();
        assert_eq!(
            world.sent.load(Relaxed),
            world.received.load(Relaxed) + left
        );
        assert_eq!(runtime.num_tasks(), 0);
    });
}
