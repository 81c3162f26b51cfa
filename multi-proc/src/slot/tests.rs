use super::*;

#[test]
fn slots_are_reused_and_come_back_empty() {
    let region = Region::new(1000, Reach::Forked).unwrap();
    let mut slot = region.take().unwrap();
    slot.spill_mut()[5] = 7;
    slot.set_payload(Kind::Value, 2000);
    slot.set_stage(Stage::Done);
    assert_eq!(slot.payload().unwrap().1[5], 7);
    drop(slot);
    let slot = region.take().unwrap();
    assert_eq!(slot.stage(), Some(Stage::Forked));
    assert_eq!(slot.payload(), None);
    slot.set_payload(Kind::Value, 2000);
    assert_eq!(slot.payload().unwrap().1[5], 0, "the spill was given back");
}

#[test]
fn more_slots_than_a_chunk_holds_do_not_overlap() {
    let region = Region::new(1, Reach::Forked).unwrap();
    let mut slots: Vec<_> = (0..100).map(|_| region.take().unwrap()).collect();
    for (index, slot) in slots.iter_mut().enumerate() {
        slot.inline_mut().fill(index as u8);
        slot.spill_mut()[..10].fill(index as u8);
    }
    for (index, slot) in slots.iter().enumerate() {
        slot.set_payload(Kind::Value, Slot::INLINE_MAX);
        assert!(
            slot.payload()
                .unwrap()
                .1
                .iter()
                .all(|byte| *byte == index as u8)
        );
    }
}

#[test]
fn words_are_never_used_twice() {
    let region = Region::new(1, Reach::Forked).unwrap();
    for _ in 0..1000 {
        let word = region.take_word().unwrap();
        // Relaxed: one thread.
        assert_eq!(word.word().swap(1, Ordering::Relaxed), 0);
        assert_eq!(word.waiters().load(Ordering::Relaxed), 0);
    }
    assert_eq!(region.take().unwrap().stage(), Some(Stage::Forked));
}

#[test]
fn length_that_cannot_be_is_refused() {
    let region = Region::new(1, Reach::Forked).unwrap();
    let slot = region.take().unwrap();
    slot.set_payload(Kind::Failure, SPILL_BYTES_MIN);
    assert!(slot.payload().is_some());
    slot.set_payload(Kind::Failure, SPILL_BYTES_MIN + 1);
    assert_eq!(slot.payload(), None);
    slot.set_payload(Kind::Failure, usize::MAX);
    assert_eq!(slot.payload(), None);
}

#[test]
fn passed_slot_is_the_same_on_both_sides() {
    let region = Region::new(1, Reach::Passed).unwrap();
    let _other = region.take().unwrap();
    for len in [
        0,
        7,
        Slot::INLINE_MAX,
        Slot::INLINE_MAX + 1,
        SPILL_BYTES_MIN,
    ] {
        let mut here = region.take().unwrap();
        let bytes: Vec<u8> = (0..len).map(|n| n as u8).collect();
        assert!(here.put(&bytes));
        let (file, place) = here.whereabouts().unwrap();
        let mut there = Region::borrow(file.as_fd(), place).unwrap();
        assert_eq!(there.taken(), Some(bytes));
        there.inline_mut()[0] = 9;
        there.spill_mut()[5] = 7;
        there.set_payload(Kind::Value, 2000);
        there.set_stage(Stage::Done);
        assert_eq!(there.taken(), None);
        drop(there);
        assert_eq!(here.stage(), Some(Stage::Done));
        assert_eq!(here.payload().unwrap().1[5], 7);
    }
    assert!(!region.take().unwrap().put(&[0; SPILL_BYTES_MIN + 1]));
}

#[test]
fn whereabouts_that_are_nowhere_are_refused() {
    let region = Region::new(1, Reach::Passed).unwrap();
    let slot = region.take().unwrap();
    let (file, place) = slot.whereabouts().unwrap();
    let wrong = [
        Whereabouts {
            header_at: u64::MAX,
            ..place
        },
        Whereabouts {
            header_at: place.header_at + 1,
            ..place
        },
        Whereabouts {
            spill_at: u64::MAX - 4095,
            ..place
        },
        Whereabouts {
            spill_bytes: 0,
            ..place
        },
        Whereabouts {
            spill_bytes: 1 << 50,
            ..place
        },
    ];
    for place in wrong {
        assert!(Region::borrow(file.as_fd(), place).is_err(), "{place:?}");
    }
    let forked = Region::new(1, Reach::Forked).unwrap().take().unwrap();
    assert!(forked.whereabouts().is_none());
}

#[test]
fn size_beyond_the_address_space_is_an_error() {
    assert!(Region::new(usize::MAX, Reach::Forked).is_err());
    assert!(Region::new(usize::MAX / 64, Reach::Forked).is_err());
}

#[test]
fn passed_word_is_the_same_on_both_sides_and_no_other_is_given() {
    let region = Region::new(1, Reach::Passed).unwrap();
    // More than the first chunk holds.
    for _ in 0..200 {
        let here = region.take_word().unwrap();
        let (file, at) = here.whereabouts().unwrap();
        let there = Region::borrow_word(file.as_fd(), at).unwrap();
        // Relaxed: one thread.
        there.word().store(1, Ordering::Relaxed);
        assert_eq!(here.word().swap(0, Ordering::Relaxed), 1);
        for wrong in [at + 1, 1 << 50, u64::MAX - 7] {
            assert!(Region::borrow_word(file.as_fd(), wrong).is_err(), "{wrong}");
        }
    }
    let forked = Region::new(1, Reach::Forked).unwrap();
    assert!(forked.take_word().unwrap().whereabouts().is_none());
}
