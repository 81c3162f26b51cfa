//! Arguments on their way out, values and errors on their way home.

use crate::support::{Test, quick};
use crate::{WAYS, groups, tests};
use multi_proc::{Result, TaskErrorKind, TaskOptions};
use std::cell::Cell;

pub(crate) const TESTS: &[Test] = &tests![
    arguments_and_values_of_every_size_come_whole,
    arguments_too_large_or_not_encodable_fail_that_task_alone,
    panic_brings_home_its_message_and_its_place,
    error_brings_home_its_chain_and_its_os_code,
    arguments_are_dropped_at_the_call,
    functions_of_every_kind_are_found,
    group_of_a_task_is_its_own,
    what_a_task_prints_is_printed_once,
];

fn arguments_and_values_of_every_size_come_whole() {
    for (name, mut group) in groups() {
        for len in [0, 1, 900, 960, 961, 5000, 300_000, 3 << 20] {
            let bytes: Vec<u8> = (0..len).map(|n| n as u8).collect();
            let sent = bytes.clone();
            let back = group.call(|bytes: Vec<u8>| Ok((bytes.len(), bytes)), sent);
            assert!(back.unwrap() == (len, bytes), "{name}: {len} bytes");
        }
        assert!(group.wait().is_ok());
        assert_eq!(group.usage().tasks, 8);
    }
}

/// Refuses to be encoded, or panics.
struct Bad(bool);

impl serde::Serialize for Bad {
    fn serialize<S: serde::Serializer>(&self, _serializer: S) -> Result<S::Ok, S::Error> {
        assert!(self.0, "on purpose: encoding");
        Err(serde::ser::Error::custom("no"))
    }
}

impl<'de> serde::Deserialize<'de> for Bad {
    fn deserialize<D: serde::Deserializer<'de>>(_deserializer: D) -> Result<Self, D::Error> {
        Ok(Self(true))
    }
}

fn arguments_too_large_or_not_encodable_fail_that_task_alone() {
    for (name, way) in WAYS {
        let mut group = way(quick().value_bytes_max(1000)).unwrap();
        let large = group.spawn_fn(|bytes: Vec<u8>| Ok(bytes.len()), vec![7; 1000]);
        let refused = group.spawn_fn(|_: Bad| Ok(()), Bad(true));
        let panicked = group.spawn_fn(|_: Bad| Ok(()), Bad(false));
        let fits = group.spawn_fn(|bytes: Vec<u8>| Ok(bytes.len()), vec![7; 998]);
        let error = large.join().unwrap_err();
        assert!(
            error.to_string().contains(
                "went over its limit: its arguments take 1002 bytes on the way to it, where value_bytes_max is 1000"
            ),
            "{name}: {error}"
        );
        let error = refused.join().unwrap_err();
        assert!(error.is_start(), "{error}");
        assert!(
            error.to_string().contains("Bad, cannot be encoded"),
            "{error}"
        );
        let error = panicked.join().unwrap_err();
        assert!(error.is_panicked(), "{error}");
        assert_eq!(fits.join().unwrap(), 998);
        assert_eq!(group.wait().unwrap_err().failed_count(), 3);
    }
}

/// Where the next function panics.
const PANICS_AT: u32 = line!() + 3;

fn panics(n: u8) -> Result {
    panic!("on purpose, {n} times")
}

fn panic_brings_home_its_message_and_its_place() {
    for (_, mut group) in groups() {
        let error = group.call(panics, 3).unwrap_err();
        match error.kind() {
            TaskErrorKind::Panicked {
                message,
                location: Some(location),
                ..
            } => {
                assert_eq!(message, "on purpose, 3 times");
                assert_eq!(
                    (location.file.as_str(), location.line),
                    (file!(), PANICS_AT)
                );
            }
            other => panic!("{other:?}"),
        }
        assert!(group.wait().is_err());
    }
}

fn error_brings_home_its_chain_and_its_os_code() {
    for (_, mut group) in groups() {
        let options = TaskOptions::new().name("loader");
        let task = group.spawn_fn_with(
            options,
            |path: String| Ok(std::fs::read(path)?),
            "/no/such".into(),
        );
        let error = task.join().unwrap_err();
        assert_eq!((error.os_code(), error.name()), (Some(2), Some("loader")));
        assert!(error.started_at().file().ends_with("values.rs"));
        assert!(
            error
                .to_string()
                .ends_with("No such file or directory (os error 2)"),
            "{error}"
        );
        assert!(group.wait().is_err());
    }
}

thread_local! {
    static DROPPED: Cell<u32> = const { Cell::new(0) };
}

#[derive(serde::Serialize, serde::Deserialize)]
struct Counted(u8);

impl Drop for Counted {
    fn drop(&mut self) {
        DROPPED.set(DROPPED.get() + 1);
    }
}

fn arguments_are_dropped_at_the_call() {
    for (name, mut group) in groups() {
        DROPPED.set(0);
        let task = group.spawn_fn(|counted: Counted| Ok(counted.0), Counted(5));
        assert_eq!(DROPPED.get(), 1, "{name}");
        assert_eq!(task.join().unwrap(), 5);
        assert!(group.wait().is_ok());
    }
}

fn generic<T: std::fmt::Debug>(value: T) -> Result<String> {
    Ok(format!("{value:?}"))
}

fn functions_of_every_kind_are_found() {
    for (_, mut group) in groups() {
        assert_eq!(group.call(generic::<u8>, 7).unwrap(), "7");
        assert_eq!(group.call(generic::<Option<String>>, None).unwrap(), "None");
        let pointers: [fn(u64) -> Result<u64>; 2] = [|n| Ok(n + 1), |n| Ok(n * 10)];
        let values = pointers.map(|pointer| group.spawn_fn(pointer, 4));
        assert_eq!(values.map(|value| value.join().unwrap()), [5, 40]);
        assert!(group.wait().is_ok());
    }
}

fn group_of_a_task_is_its_own() {
    for (name, mut group) in groups() {
        let nested = |by_zygote: bool| {
            let builder = multi_proc::Group::builder();
            let mut group = if by_zygote {
                builder.zygote()?
            } else {
                builder.spawn()?
            };
            let value = group.call(|n: u32| Ok(n + 1), 20)?;
            group.wait()?;
            Ok(value)
        };
        for by_zygote in [true, false] {
            assert_eq!(
                group.call(nested, by_zygote).unwrap(),
                21,
                "{name}, {by_zygote}"
            );
        }
        assert!(group.wait().is_ok());
    }
}

fn what_a_task_prints_is_printed_once() {
    let (stdout, _) = crate::support::printed_by("prints_around_a_group");
    assert_eq!(stdout, "in a task\nin a task\nbefore, after\n");
}
