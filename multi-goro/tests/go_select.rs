//! What Go's tests of select by these names check, done anew. More of them, `TestSelectFairness`, `TestSelfSelect`,
//! `TestSelectDuplicateChannel`, `TestNonblockSelectRace` and `TestSelectStress`, are in `select_races.rs`.

mod common;
#[path = "common/deep.rs"]
mod deep;

use std::time::Duration;

use common::watchdog;
use deep::deep;
use multi_goro::{Runtime, chan, scope, select, sleep, yield_now};

/// Runs `program` on a plain thread, and as a task beside one worker, two and four.
fn everywhere(program: impl Fn() + Sync) {
    let _dog = watchdog(60);
    program();
    for workers in [1, 2, 4] {
        let runtime = Runtime::builder().workers(workers).build().unwrap();
        runtime.run(&program);
    }
}

/// Go's `TestNonblockSelectRace2`: of a channel with a value and one that is closed before the value is taken, one is ready at every moment.
#[test]
fn nonblock_select_race_2() {
    everywhere(|| {
        for _ in 0..2_000 {
            let (full, from_full) = chan(1);
            let (end, ended) = chan::<u8>(0);
            full.send(1).unwrap();
            scope(|s| {
                s.go(|| {
                    select! {
                        recv(from_full) -> _value => {},
                        recv(ended) -> _end => {},
                        default => panic!("neither was ready"),
                    }
                    Ok(())
                });
                end.close();
                select! {
                    recv(from_full) -> _value => {},
                    default => {}
                }
            })
            .unwrap();
        }
    });
}

/// Go's `TestPseudoRandomSend`: of two sends on one channel neither is preferred.
#[test]
fn pseudo_random_send() {
    everywhere(|| {
        let count = 400;
        for capacity in [0, count] {
            let (tx, rx) = chan(capacity);
            scope(|s| {
                let zeros = s.spawn(move || {
                    let mut zeros = 0;
                    for _ in 0..count {
                        yield_now();
                        zeros += usize::from(rx.recv()? == 0);
                    }
                    Ok(zeros)
                });
                for _ in 0..count {
                    select! {
                        send(tx, 1) -> sent => sent.unwrap(),
                        send(tx, 0) -> sent => sent.unwrap(),
                    }
                }
                let zeros = zeros.join().unwrap();
                // A fair choice misses this by chance less than once in 10^30 runs.
                assert!((count / 4..=3 * count / 4).contains(&zeros), "{zeros}");
            })
            .unwrap();
        }
    });
}

/// Go's `TestSelectStackAdjust`: values are put into the places of a waiting select, wherever on its stack it is and whatever has used
/// the stack below it.
#[test]
fn select_stack_adjust() {
    everywhere(|| {
        let (one, from_one) = chan::<Box<u64>>(0);
        let (other, from_other) = chan::<Box<u64>>(0);
        let count = 40_u64;
        scope(|s| {
            s.go(|| {
                let mut sum = 0;
                for n in 0..count {
                    let mut take = || {
                        sum += select! {
                            recv(from_one) -> value => *value.unwrap(),
                            recv(from_other) -> value => *value.unwrap(),
                        };
                    };
                    if n % 2 == 0 {
                        deep(40, &mut take);
                    } else {
                        take();
                    }
                }
                assert_eq!(sum, (0..count).sum::<u64>());
                Ok(())
            });
            for n in 0..count {
                if n % 8 == 0 {
                    sleep(Duration::from_millis(1));
                }
                let to = if n % 3 == 0 { &one } else { &other };
                to.send(Box::new(n)).unwrap();
            }
        })
        .unwrap();
    });
}
