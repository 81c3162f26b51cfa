use super::channel;
use crate::sync::Relaxed;
use crate::sys::FUTEX_CALLS;

#[test]
fn positions_that_no_participant_writes_are_refused() {
    for position in [5, 1 << 40, u64::MAX] {
        let (tx, mut rx) = channel::<u64>(4).unwrap();
        // Relaxed: a test on one thread, here and below.
        tx.end.lane.header().tail.0.store(position, Relaxed);
        assert!(rx.try_recv().unwrap_err().is_corrupt());
        assert!(rx.recv_batch(&mut [0; 2]).unwrap_err().is_corrupt());
    }
    for position in [1, 1 << 40] {
        let (mut tx, _rx) = channel::<u64>(4).unwrap();
        // Relaxed: as above.
        tx.end.lane.header().head.0.store(position, Relaxed);
        assert!(tx.try_send(1).unwrap_err().is_corrupt());
        assert!(tx.len() <= 4);
    }
}

#[test]
fn an_end_before_what_is_there_is_corrupt() {
    let (mut tx, mut rx) = channel::<u64>(4).unwrap();
    tx.send(1).unwrap();
    assert_eq!(rx.recv(), Ok(1));
    // Relaxed: a test on one thread.
    tx.end.lane.users().end.store(1, Relaxed);
    assert!(rx.try_recv().unwrap_err().is_corrupt());
}

#[test]
fn a_stream_without_sleepers_makes_no_system_call() {
    let (mut tx, mut rx) = channel::<u64>(3).unwrap();
    let before = FUTEX_CALLS.get();
    for value in 0..1_000 {
        tx.send(value).unwrap();
        assert_eq!(rx.recv(), Ok(value));
    }
    assert_eq!(FUTEX_CALLS.get(), before);
}

#[test]
fn one_wait_in_vain_costs_one_useless_call() {
    let (mut tx, mut rx) = channel::<u64>(3).unwrap();
    rx.recv_timeout(std::time::Duration::from_millis(1))
        .unwrap_err();
    let before = FUTEX_CALLS.get();
    for value in 0..1_000 {
        tx.send(value).unwrap();
        assert_eq!(rx.recv(), Ok(value));
    }
    assert_eq!(FUTEX_CALLS.get(), before + 1);
}
