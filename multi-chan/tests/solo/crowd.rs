//! More participants than one sleeper can watch by itself.

use crate::support::{Child, Random, fork, linger, pause, stay_on_one_processor};
use multi_chan::{Select, channel};
use std::time::{Duration, Instant};

crate::tests![
    a_crowd_sleeps_at_no_cost_and_hears_of_each_death,
    a_sleeper_hears_of_who_came_later_and_died,
    a_killed_process_whose_threads_sleep_is_heard_of,
];

/// More than two blocks of the roll.
const CROWD: usize = 270;

fn a_crowd_sleeps_at_no_cost_and_hears_of_each_death() {
    let mut random = Random::from_environment();
    let (tx, rx) = channel::<u64>(1).unwrap();
    let (awake_tx, awake) = channel::<u64>(1).unwrap();
    let sender = fork(|| {
        let _tx = tx.clone();
        awake_tx.send(0).unwrap();
        linger()
    });
    assert_eq!(awake.recv(), Ok(0));
    let mut crowd: Vec<Child> = (0..CROWD)
        .map(|number| {
            fork(|| {
                awake_tx.send(1).unwrap();
                let error = if number % 2 == 0 {
                    rx.recv().unwrap_err()
                } else {
                    let mut select = Select::new();
                    select.recv(&rx);
                    select.run(|_| rx.recv_now()).unwrap_err()
                };
                assert!(error.is_disconnected());
            })
        })
        .collect();
    drop(tx);
    for _ in 0..CROWD {
        assert_eq!(awake.recv(), Ok(1));
    }
    // All asleep, and no process has left or entered for a while: nobody stirs.
    let quiet = Instant::now();
    let costs = loop {
        pause(300);
        let before: Vec<_> = crowd.iter().map(Child::cost).collect();
        pause(1_000);
        let costs: Vec<_> = crowd.iter().map(Child::cost).zip(before).collect();
        let idle = costs.iter().all(|(after, before)| after.0 - before.0 <= 1);
        if idle || quiet.elapsed() > Duration::from_secs(20) {
            break costs;
        }
    };
    for (after, before) in costs {
        assert!(
            after.0 - before.0 <= 1,
            "{} sleeps in a second",
            after.0 - before.0
        );
        assert!(
            after.1 - before.1 < 2_000_000,
            "{} ns in a second",
            after.1 - before.1
        );
    }
    for _ in 0..CROWD / 20 {
        let victim = crowd.swap_remove(random.below(crowd.len() as u64) as usize);
        victim.kill();
    }
    let start = Instant::now();
    sender.kill();
    crowd.into_iter().for_each(Child::join);
    assert!(
        start.elapsed() < Duration::from_secs(8),
        "told by the belt only"
    );
}

fn a_sleeper_hears_of_who_came_later_and_died() {
    // The last sender is a child that nobody had seen when the receiver went to sleep.
    for others in [0, 3, 60, 130] {
        let (tx, rx) = channel::<u64>(1).unwrap();
        let (awake_tx, awake) = channel::<u64>(1).unwrap();
        let others: Vec<Child> = (0..others).map(|_| fork(|| linger())).collect();
        let receiver = fork(|| {
            awake_tx.send(1).unwrap();
            assert!(rx.recv().unwrap_err().is_disconnected());
        });
        assert_eq!(awake.recv(), Ok(1));
        pause(50);
        let last = fork(|| {
            let _tx = tx.clone();
            awake_tx.send(2).unwrap();
            linger()
        });
        assert_eq!(awake.recv(), Ok(2));
        // These count as senders, too, as they never use the channel.
        others.into_iter().for_each(Child::kill);
        drop((tx, rx));
        pause(50);
        let start = Instant::now();
        last.kill();
        receiver.join();
        assert!(
            start.elapsed() < Duration::from_secs(5),
            "told by the belt only"
        );
    }
}

/// A thread that sleeps may be given the kernel's word of its own process's death, and dies before it can pass it on.
fn a_killed_process_whose_threads_sleep_is_heard_of() {
    // With many on the roll, each process that sleeps has threads that watch it.
    for others in [0, 130] {
        let others: Vec<Child> = (0..others).map(|_| fork(|| linger())).collect();
        for _ in 0..3 {
            let (tx, rx) = channel::<u64>(1).unwrap();
            let (_idle_tx, idle) = channel::<u64>(1).unwrap();
            let (awake_tx, awake) = channel::<u64>(2).unwrap();
            let sender = fork(|| {
                // Its threads end one after another then.
                stay_on_one_processor();
                let _tx = tx.clone();
                std::thread::scope(|scope| {
                    for _ in 0..2 {
                        scope.spawn(|| idle.recv());
                    }
                    pause(20);
                    awake_tx.send(1).unwrap();
                    linger();
                });
            });
            assert_eq!(awake.recv(), Ok(1));
            let receiver = fork(|| {
                awake_tx.send(2).unwrap();
                assert!(rx.recv().unwrap_err().is_disconnected());
            });
            assert_eq!(awake.recv(), Ok(2));
            drop((tx, rx));
            pause(50);
            let start = Instant::now();
            sender.kill();
            receiver.join();
            assert!(
                start.elapsed() < Duration::from_secs(5),
                "told by the belt only"
            );
        }
        others.into_iter().for_each(Child::kill);
    }
}
