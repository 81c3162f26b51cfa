use super::*;
use crate::slot::{Reach, Region};

const MAX: usize = 1 << 20;

fn round_trip<T: Serialize + DeserializeOwned>(
    returned: Result<T, BoxError>,
    max: usize,
) -> Result<T, TaskErrorKind> {
    let region = Region::new(max, Reach::Forked).unwrap();
    let mut slot = region.take().unwrap();
    write(&mut slot, max, returned);
    read(&slot, &Ending::Vanished, max)
}

#[test]
fn values_of_every_size_come_home() {
    for len in [
        0,
        1,
        900,
        Slot::INLINE_MAX - 2,
        Slot::INLINE_MAX - 1,
        Slot::INLINE_MAX,
        5000,
        300_000,
        MAX - 3,
    ] {
        let value: Vec<u8> = (0..len).map(|i| i as u8).collect();
        assert_eq!(
            round_trip(Ok(value.clone()), MAX).unwrap(),
            value,
            "{len} bytes"
        );
    }
}

#[test]
fn value_too_large_names_its_size_and_the_bound() {
    for (len, max) in [(MAX, MAX), (20_000, 10_000), (100, 50)] {
        match round_trip(Ok(vec![7_u8; len]), max) {
            Err(TaskErrorKind::LimitExceeded(text)) => {
                assert!(
                    text.contains(&format!("value_bytes_max is {max}")),
                    "{text}"
                );
                assert!(
                    text.contains(&(len + if len > 16_383 { 3 } else { 1 }).to_string()),
                    "{text}"
                );
            }
            other => panic!("{len} bytes with {max}: {other:?}"),
        }
    }
}

#[test]
fn failure_longer_than_any_place_is_cut_and_says_so() {
    let long = "ä".repeat(2 * MAX);
    match round_trip::<()>(Err(long.into()), 10) {
        Err(TaskErrorKind::Returned(error)) => {
            assert!(error.to_string().ends_with("bytes more)"), "{error}");
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn chain_and_code_of_a_returned_error_come_home() {
    let error = io::Error::from_raw_os_error(28);
    match round_trip::<u8>(Err(error.into()), MAX) {
        Err(TaskErrorKind::Returned(error)) => {
            assert_eq!(RemoteError::os_code_of(&*error), Some(28));
            assert!(error.to_string().starts_with("No space left"), "{error}");
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn cancelled_stays_cancelled() {
    assert!(matches!(
        round_trip::<()>(Err(Cancelled.into()), MAX),
        Err(TaskErrorKind::Cancelled)
    ));
}

#[test]
fn payload_that_is_no_payload_is_an_error() {
    let region = Region::new(MAX, Reach::Forked).unwrap();
    let mut slot = region.take().unwrap();
    slot.inline_mut()[..4].copy_from_slice(&[0xff; 4]);
    slot.set_payload(Kind::Failure, 4);
    slot.set_stage(Stage::Done);
    match read::<u64>(&slot, &Ending::Vanished, MAX) {
        Err(TaskErrorKind::Returned(error)) => {
            assert!(error.to_string().contains("cannot be decoded"), "{error}");
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn child_that_said_nothing_is_judged_by_its_end() {
    let region = Region::new(MAX, Reach::Forked).unwrap();
    let slot = region.take().unwrap();
    slot.set_stage(Stage::Reporting);
    let code = read::<()>(&slot, &Ending::Collected(Exit::Code(0)), MAX);
    assert!(matches!(code, Err(TaskErrorKind::Exited(0))));
    let signal = read::<()>(
        &slot,
        &Ending::Collected(Exit::Signal {
            signal: 9,
            core_dumped: false,
        }),
        MAX,
    );
    assert!(matches!(
        signal,
        Err(TaskErrorKind::Signaled {
            signal: 9,
            core_dumped: false
        })
    ));
    assert!(matches!(
        read::<()>(&slot, &Ending::Vanished, MAX),
        Err(TaskErrorKind::Lost)
    ));
}
