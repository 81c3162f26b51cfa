//! Values on their way home.

use crate::support::{Test, build, group};
use crate::tests;
use multi_proc::{Group, TaskErrorKind};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

pub(crate) const TESTS: &[Test] = &tests![
    values_of_many_sizes_come_home,
    values_of_many_types_come_home,
    value_beyond_the_bound_names_size_and_bound,
    bound_beyond_the_address_space_is_refused,
    value_that_cannot_be_decoded_is_an_error,
    value_that_cannot_be_encoded_is_an_error,
    value_whose_decoding_panics_is_an_error,
    long_error_texts_come_home_whole,
    memory_of_large_values_is_given_back,
];

fn values_of_many_sizes_come_home() {
    let group = group();
    let sizes = [
        0,
        1,
        100,
        950,
        957,
        958,
        959,
        960,
        961,
        4096,
        65_535,
        65_536,
        1 << 20,
        20 << 20,
    ];
    let handles = sizes.map(|size| {
        group.spawn(move || Ok((0..size).map(|i| (i % 251) as u8).collect::<Vec<u8>>()))
    });
    for (handle, size) in handles.into_iter().zip(sizes) {
        let value = handle.join().unwrap();
        assert_eq!(value.len(), size);
        assert!(
            value
                .iter()
                .enumerate()
                .all(|(i, byte)| *byte == (i % 251) as u8),
            "{size} bytes"
        );
    }
}

#[derive(Debug, PartialEq, Serialize, Deserialize)]
enum Shape {
    Point,
    Circle { radius: f64 },
    Named(String, Vec<Option<i64>>),
}

fn values_of_many_types_come_home() {
    let group = group();
    let shapes = group.spawn(|| {
        Ok(vec![
            Shape::Point,
            Shape::Circle { radius: 0.5 },
            Shape::Named("π".into(), vec![None, Some(i64::MIN)]),
        ])
    });
    let map = group.spawn(|| {
        Ok(BTreeMap::from([
            (1_u8, "one".to_owned()),
            (2, String::new()),
        ]))
    });
    let unit = group.spawn(|| Ok(()));
    assert_eq!(
        shapes.join().unwrap(),
        [
            Shape::Point,
            Shape::Circle { radius: 0.5 },
            Shape::Named("π".into(), vec![None, Some(i64::MIN)])
        ]
    );
    assert_eq!(map.join().unwrap()[&1], "one");
    unit.join().unwrap();
}

fn value_beyond_the_bound_names_size_and_bound() {
    let mut group = build(Group::builder().value_bytes_max(10_000));
    let fits = group.spawn(|| Ok(vec![0_u8; 9_998]));
    assert_eq!(fits.join().unwrap().len(), 9_998);
    let too_large = group.spawn(|| Ok(vec![0_u8; 9_999]));
    let error = too_large.join().unwrap_err();
    assert!(
        matches!(error.kind(), TaskErrorKind::LimitExceeded(_)),
        "{error}"
    );
    let text = error.to_string();
    assert!(
        text.contains("takes 10001 bytes on the way home, where value_bytes_max is 10000"),
        "{text}"
    );
    assert!(group.wait().is_err());
}

#[expect(
    unsafe_code,
    reason = "a group that forks is made by an unsafe constructor"
)]
fn bound_beyond_the_address_space_is_refused() {
    for bytes in [usize::MAX, usize::MAX / 64, 1 << 50] {
        // SAFETY: no group is made.
        let error = unsafe { Group::builder().value_bytes_max(bytes).fork() }.unwrap_err();
        let text = error.to_string();
        assert!(
            text.contains(&format!("with value_bytes_max {bytes}: ")) && text.contains("lower it"),
            "{text}"
        );
    }
}

/// Says one thing and understands another.
#[derive(Debug)]
struct Babel;

impl Serialize for Babel {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_u8(7)
    }
}

impl<'de> Deserialize<'de> for Babel {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer).map(|_| Self)
    }
}

fn value_that_cannot_be_decoded_is_an_error() {
    let mut group = group();
    let error = group.spawn(|| Ok(Babel)).join().unwrap_err();
    let text = error.to_string();
    assert!(text.contains("Babel, cannot be decoded: "), "{text}");
    assert!(group.wait().is_err());
}

#[derive(Debug)]
struct Mute;

impl Serialize for Mute {
    fn serialize<S: serde::Serializer>(&self, _serializer: S) -> Result<S::Ok, S::Error> {
        Err(serde::ser::Error::custom("nothing to say"))
    }
}

impl<'de> Deserialize<'de> for Mute {
    fn deserialize<D: serde::Deserializer<'de>>(_deserializer: D) -> Result<Self, D::Error> {
        panic!("on purpose: a value that panics when decoded")
    }
}

fn value_that_cannot_be_encoded_is_an_error() {
    let mut group = group();
    let error = group.spawn(|| Ok(Mute)).join().unwrap_err();
    assert!(
        error.to_string().contains("Mute, cannot be encoded: "),
        "{error}"
    );
    assert!(group.wait().is_err());
}

#[derive(Debug)]
struct Trap;

impl Serialize for Trap {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_unit()
    }
}

impl<'de> Deserialize<'de> for Trap {
    fn deserialize<D: serde::Deserializer<'de>>(_deserializer: D) -> Result<Self, D::Error> {
        panic!("on purpose: a value that panics when decoded")
    }
}

fn value_whose_decoding_panics_is_an_error() {
    let mut group = group();
    let error = group.spawn(|| Ok(Trap)).join().unwrap_err();
    assert!(error.is_panicked(), "{error}");
    assert!(group.wait().is_err());
}

fn long_error_texts_come_home_whole() {
    for len in [900, 960, 5_000, 1 << 20] {
        let text = "x".repeat(len);
        let error = crate::support::failure_of(move || Err(text)?);
        let TaskErrorKind::Returned(error) = error.kind() else {
            panic!("{error:?}")
        };
        assert_eq!(error.to_string().len(), len);
    }
}

fn memory_of_large_values_is_given_back() {
    let shared_kib = || {
        let status = std::fs::read_to_string("/proc/self/status").unwrap();
        let line = status
            .lines()
            .find(|line| line.starts_with("RssShmem:"))
            .unwrap();
        line.split_whitespace()
            .nth(1)
            .unwrap()
            .parse::<u64>()
            .unwrap()
    };
    let group = group();
    let before = shared_kib();
    for _ in 0..3 {
        assert_eq!(
            group
                .spawn(|| Ok(vec![1_u8; 16 << 20]))
                .join()
                .unwrap()
                .len(),
            16 << 20
        );
    }
    let after = shared_kib();
    assert!(
        after < before + 1024,
        "{before} KiB before, {after} KiB after"
    );
}
