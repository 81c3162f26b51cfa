//! Each step of the protocol, with the process that took it killed right after it.

use crate::support::{Child, fork, pause};
use multi_chan::KillPoint::{
    self, Armed, Bumped, Buried, Claimed, Freed, HeadMoved, Published, TailMoved, Taken, Undone,
};
use multi_chan::{Exposed, Receiver, Sender, bytes, channel, kill_at};

crate::tests![
    a_sender_killed_at_each_step_holds_up_nobody,
    a_receiver_killed_at_each_step_costs_its_own_message_at_most,
    a_rendezvous_sender_whose_receiver_dies_in_the_middle_keeps_its_value,
    a_survivor_killed_while_burying_is_survived,
    the_state_in_words_shows_what_a_dead_sender_left,
];

const ROUNDS: usize = 10;

fn dying_sender(tx: &Sender<u64>, point: KillPoint, value: u64) -> Child {
    fork(|| {
        kill_at(point);
        tx.send(value).ok();
    })
}

fn dying_receiver(rx: &Receiver<u64>, point: KillPoint) -> Child {
    fork(|| {
        kill_at(point);
        rx.recv().ok();
    })
}

fn a_sender_killed_at_each_step_holds_up_nobody() {
    for point in [Claimed, Published, TailMoved, Bumped] {
        for capacity in [0, 1, 2] {
            let mut kills = 0;
            for _ in 0..ROUNDS {
                let (tx, rx) = channel::<u64>(capacity).unwrap();
                // Two sleepers, so that a wake that dies with the sender is missed by somebody.
                let sleepers = [(); 2].map(|()| fork(|| exit_with(rx.recv().unwrap())));
                pause(8);
                let killed = dying_sender(&tx, point, 1).was_killed();
                // Where nobody slept yet, there was nobody to wake either.
                assert!(killed || point == Bumped);
                kills += u32::from(killed);
                tx.send(2).unwrap();
                if point == Claimed {
                    tx.send(2).unwrap();
                }
                let sum: i32 = sleepers.map(code).iter().sum();
                assert_eq!(
                    sum,
                    if point == Claimed { 4 } else { 3 },
                    "{point:?} {capacity}"
                );
                assert_eq!(rx.dropped(), 0);
            }
            assert!(kills > 0, "{point:?} {capacity}: never reached");
        }
    }
}

fn exit_with(value: u64) {
    crate::support::exit(i32::try_from(value).unwrap())
}

fn code(child: Child) -> i32 {
    match child.wait() {
        crate::support::End::Exited(code) => code,
        other => panic!("{other:?}"),
    }
}

fn a_receiver_killed_at_each_step_costs_its_own_message_at_most() {
    for point in [Taken, Freed, HeadMoved, Bumped, Armed] {
        for capacity in [0, 1, 2] {
            let mut kills = 0;
            for _ in 0..ROUNDS {
                let (tx, rx) = channel::<u64>(capacity).unwrap();
                // Sleeps in send, so that a slot freed by the victim is waited for.
                let sender = fork(|| {
                    for value in 0..6 {
                        tx.send(value).unwrap();
                    }
                });
                if point == Armed {
                    // Nothing is there to take: the victim dies on its way to bed.
                    let (_other_tx, other_rx) = channel::<u64>(1).unwrap();
                    dying_receiver(&other_rx, point).killed();
                    kills += 1;
                } else {
                    pause(8);
                    let killed = dying_receiver(&rx, point).was_killed();
                    assert!(killed || point == Bumped);
                    kills += u32::from(killed);
                }
                drop(tx);
                // In a rendezvous the sender still has what its receiver had not finished taking.
                let kept = capacity == 0 && point == Taken;
                let first = u64::from(point != Armed && !kept);
                let rest: Vec<u64> = rx.iter().collect();
                assert_eq!(rest, (first..6).collect::<Vec<_>>(), "{point:?} {capacity}");
                assert_eq!(rx.dropped(), u64::from(point == Taken && !kept));
                sender.join();
            }
            assert!(kills > 0, "{point:?} {capacity}: never reached");
        }
    }
}

fn a_rendezvous_sender_whose_receiver_dies_in_the_middle_keeps_its_value() {
    for _ in 0..ROUNDS {
        let (tx, rx) = channel::<u64>(0).unwrap();
        let sender = fork(|| {
            tx.send(1).unwrap();
            let error = tx.send(2).unwrap_err();
            assert!(error.is_disconnected());
            assert_eq!(error.into_inner(), 2);
        });
        dying_receiver(&rx, Taken).killed();
        assert_eq!((rx.recv(), rx.dropped()), (Ok(1), 0));
        // Now nobody comes after the one that dies.
        let last = dying_receiver(&rx, Taken);
        drop((tx, rx));
        last.killed();
        sender.join();
    }
    // The same with a message that lies in chunks, which must be there again, and then be freed.
    for _ in 0..ROUNDS {
        let (tx, rx) = bytes(0).unwrap();
        let sender = fork(|| {
            tx.send(&[1; 9_000]).unwrap();
            assert!(tx.send(&[2; 9_000]).unwrap_err().is_disconnected());
            assert_eq!(tx.arena_used(), 0);
        });
        let dying_receiver = || {
            fork(|| {
                kill_at(Taken);
                rx.recv().ok();
            })
        };
        dying_receiver().killed();
        assert_eq!(rx.recv().unwrap(), [1; 9_000]);
        assert_eq!(rx.dropped(), 0);
        let last = dying_receiver();
        drop((tx, rx));
        last.killed();
        sender.join();
    }
}

fn a_survivor_killed_while_burying_is_survived() {
    for point in [Undone, Buried] {
        for capacity in [1, 2] {
            for _ in 0..ROUNDS {
                let (tx, rx) = channel::<u64>(capacity).unwrap();
                // Asleep before the sender dies: a fork after it would bury it, too.
                let survivor = dying_receiver(&rx, point);
                pause(8);
                dying_sender(&tx, Claimed, 1).killed();
                survivor.killed();
                let sender = fork(|| tx.send(2).unwrap());
                assert_eq!(rx.recv(), Ok(2));
                sender.join();
                assert!(rx.is_empty());
            }
        }
    }
}

fn the_state_in_words_shows_what_a_dead_sender_left() {
    let (tx, rx) = channel::<u64>(3).unwrap();
    dying_sender(&tx, Claimed, 1).killed();
    let state = tx.state();
    assert!(state.contains("state: Busy"), "{state}");
    assert!(state.contains("lives: false"), "{state}");
    tx.send(2).unwrap();
    assert_eq!(rx.recv(), Ok(2));
    let state = tx.state();
    assert!(!state.contains("state: Busy"), "{state}");
    assert!(!state.contains("lives: false"), "{state}");
}
