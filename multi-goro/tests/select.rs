//! Select: what each arm means, and what becomes of its value.

mod common;
#[path = "common/everywhere.rs"]
mod everywhere;

use std::sync::Arc;
use std::time::{Duration, Instant};

use everywhere::everywhere;
use multi_goro::chan::RecvError;
use multi_goro::{Receiver, chan, scope, select, sleep};

const SHORT: Duration = Duration::from_millis(5);

#[test]
fn default_is_taken_only_when_nothing_is_ready() {
    everywhere(|| {
        for capacity in [0, 1] {
            let (tx, rx) = chan::<u8>(capacity);
            let taken = select! {
                recv(rx) -> _ => "recv",
                default => "default",
            };
            assert_eq!(taken, "default");
            let taken = select! {
                send(tx, 1) -> sent => { sent.unwrap(); "send" }
                default => "default",
            };
            assert_eq!(taken, ["default", "send"][capacity]);
            let taken = select! {
                recv(rx) -> value => { assert_eq!(value, Ok(1)); "recv" }
                default => "default"
            };
            assert_eq!(taken, ["default", "recv"][capacity]);
        }
    });
}

#[test]
fn time_limit_is_not_early_and_leaves_nobody_in_the_queues() {
    everywhere(|| {
        let (tx, rx) = chan::<u8>(0);
        let (other, _other_end) = chan::<u8>(0);
        let start = Instant::now();
        let mut slot = Some(7);
        for _ in 0..2 {
            select! {
                recv(rx) -> _ => panic!("nobody sends"),
                send(other, in slot) -> _ => panic!("nobody receives"),
                after(SHORT) => {}
            }
        }
        select! {
            recv(rx) -> _ => panic!("nobody sends"),
            default(Duration::ZERO) => {}
        }
        assert!(start.elapsed() >= 2 * SHORT);
        assert_eq!(slot, Some(7), "not sent, not lost");
        assert!(tx.try_send(1).is_err() && other.try_send(1).is_err());
    });
}

#[test]
fn ended_channel_makes_its_arm_ready_with_the_error_and_the_value() {
    everywhere(|| {
        let (tx, rx) = chan::<u8>(2);
        tx.send(1).unwrap();
        tx.close();
        for expected in [Ok(1), Err(RecvError), Err(RecvError)] {
            select! {
                recv(rx) -> got => assert_eq!(got, expected),
                default => panic!("a closed channel is ready"),
            }
        }
        select! {
            send(tx, 9) -> sent => assert_eq!(sent.unwrap_err().into_inner(), 9),
            default => panic!("a closed channel is ready"),
        }
        let mut slot = Some(8);
        select! {
            send(tx, in slot) -> sent => assert_eq!(sent.unwrap_err().into_inner(), 8),
        }
        assert_eq!(slot, None, "it came back in the error");
        // A send without a value is never ready, not even on a closed channel.
        select! {
            send(tx, in slot) -> _ => panic!("sent nothing"),
            default => {}
        }
    });
}

#[test]
fn close_wakes_select() {
    everywhere(|| {
        let ((a_tx, a_rx), (b_tx, b_rx)) = (chan::<u8>(0), chan::<u8>(0));
        let ended = scope(|s| {
            s.go(|| {
                sleep(SHORT);
                b_rx.close();
                Ok(())
            });
            let woken = select! {
                recv(a_rx) -> _ => "a",
                send(b_tx, 5) -> sent => {
                    assert_eq!(sent.unwrap_err().into_inner(), 5);
                    "b"
                }
            };
            assert_eq!(woken, "b");
            s.go(|| {
                sleep(SHORT);
                a_tx.close();
                Ok(())
            });
            select! {
                recv(a_rx) -> got => assert_eq!(got, Err(RecvError)),
                after(Duration::from_secs(30)) => panic!("forgotten"),
            }
        });
        ended.unwrap();
    });
}

#[test]
fn arms_are_ordinary_code() {
    fn first(rx: &Receiver<u8>) -> Result<u8, RecvError> {
        loop {
            select! {
                recv(rx) -> got => {
                    if got? < 3 {
                        continue;
                    }
                    break;
                }
                default => return Ok(0),
            }
        }
        Ok(3)
    }
    let (tx, rx) = chan(4);
    assert_eq!(first(&rx), Ok(0));
    for n in 0..4 {
        tx.send(n).unwrap();
    }
    assert_eq!(first(&rx), Ok(3));
    drop(tx);
    assert_eq!(first(&rx), Err(RecvError));
    // An arm may give its channel away.
    let (tx, rx) = chan(1);
    tx.send(1).unwrap();
    let rx = select! {
        recv(rx) -> got => { assert_eq!(got, Ok(1)); rx }
        after(SHORT) => rx,
    };
    drop(rx);
    let nothing = select! { default => "nothing" };
    assert_eq!(nothing, "nothing");
}

#[test]
fn values_are_dropped_once_whichever_arm_is_taken() {
    everywhere(|| {
        let value = Arc::new(());
        let ((a_tx, a_rx), (b_tx, b_rx)) = (chan(1), chan::<Arc<()>>(0));
        for _ in 0..100 {
            select! {
                send(a_tx, Arc::clone(&value)) -> sent => sent.unwrap(),
                send(b_tx, Arc::clone(&value)) -> _ => panic!("nobody receives"),
                recv(b_rx.clone()) -> _ => panic!("nobody else sends"),
            }
            assert_eq!(Arc::strong_count(&value), 2, "in the buffer");
            select! {
                recv(a_rx) -> got => drop(got.unwrap()),
                send(b_tx, Arc::clone(&value)) -> _ => panic!("nobody receives"),
            }
            select! {
                send(b_tx, Arc::clone(&value)) -> _ => panic!("nobody receives"),
                after(Duration::from_micros(1)) => {}
            }
            assert_eq!(Arc::strong_count(&value), 1);
        }
        // Handed over by and to a select that waits.
        scope(|s| {
            s.go(|| {
                for _ in 0..100 {
                    select! {
                        send(b_tx, Arc::clone(&value)) -> sent => sent?,
                        recv(a_rx) -> _ => panic!("nobody sends"),
                    }
                }
                Ok(())
            });
            for _ in 0..100 {
                select! {
                    recv(b_rx) -> got => drop(got.unwrap()),
                    recv(a_rx) -> _ => panic!("nobody sends"),
                }
            }
        })
        .unwrap();
        assert_eq!(Arc::strong_count(&value), 1);
    });
}

#[test]
fn as_many_arms_as_the_table_says() {
    let ends: [_; 32] = std::array::from_fn(|_| chan::<usize>(1));
    for n in 0..32 {
        ends[n].0.send(n).unwrap();
        let taken = select! {
            recv(ends[0].1) -> got => (got, 0),
            recv(ends[1].1) -> got => (got, 1),
            recv(ends[2].1) -> got => (got, 2),
            recv(ends[3].1) -> got => (got, 3),
            recv(ends[4].1) -> got => (got, 4),
            recv(ends[5].1) -> got => (got, 5),
            recv(ends[6].1) -> got => (got, 6),
            recv(ends[7].1) -> got => (got, 7),
            recv(ends[8].1) -> got => (got, 8),
            recv(ends[9].1) -> got => (got, 9),
            recv(ends[10].1) -> got => (got, 10),
            recv(ends[11].1) -> got => (got, 11),
            recv(ends[12].1) -> got => (got, 12),
            recv(ends[13].1) -> got => (got, 13),
            recv(ends[14].1) -> got => (got, 14),
            recv(ends[15].1) -> got => (got, 15),
            recv(ends[16].1) -> got => (got, 16),
            recv(ends[17].1) -> got => (got, 17),
            recv(ends[18].1) -> got => (got, 18),
            recv(ends[19].1) -> got => (got, 19),
            recv(ends[20].1) -> got => (got, 20),
            recv(ends[21].1) -> got => (got, 21),
            recv(ends[22].1) -> got => (got, 22),
            recv(ends[23].1) -> got => (got, 23),
            recv(ends[24].1) -> got => (got, 24),
            recv(ends[25].1) -> got => (got, 25),
            recv(ends[26].1) -> got => (got, 26),
            recv(ends[27].1) -> got => (got, 27),
            recv(ends[28].1) -> got => (got, 28),
            recv(ends[29].1) -> got => (got, 29),
            recv(ends[30].1) -> got => (got, 30),
            recv(ends[31].1) -> got => (got, 31),
        };
        assert_eq!(taken, (Ok(n), n));
    }
}
