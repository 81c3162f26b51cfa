use super::*;
use multi_core::TaskErrorKind;
use multi_core::Usage;

#[test]
fn values_that_cannot_be_are_refused_by_name() {
    let cases = [
        (
            Limits::new().memory_bytes_max(1000),
            "memory_bytes_max 1000",
        ),
        (Limits::new().cpu_time_max(Duration::ZERO), "cpu_time_max 0"),
        (Limits::new().nice(20), "nice 20"),
        (Limits::new().nice(-21), "nice -21"),
        (Limits::new().cpus([]), "cpus names no CPU"),
        (Limits::new().cpus([0, 5000]), "CPU 5000"),
        (
            Limits::new().working_directory(""),
            "working_directory \"\"",
        ),
        (
            Limits::new().working_directory("a\0b"),
            "working_directory \"a\\0b\"",
        ),
        (Limits::new().umask(0o1000), "umask 0o1000"),
        (Limits::new().kill_signal(0), "kill_signal 0"),
        (Limits::new().kill_signal(19), "kill_signal 19"),
        (Limits::new().kill_signal(64), "kill_signal 64"),
        (Limits::new().kill_signal(-1), "kill_signal -1"),
    ];
    for (limits, expected) in cases {
        let text = limits.check().unwrap_err().to_string();
        assert!(text.contains(expected), "{text}");
    }
    let fine = Limits::new()
        .memory_bytes_max(u64::MAX)
        .cpu_time_max(Duration::MAX)
        .nice(19)
        .cpus([0])
        .umask(0o777)
        .working_directory("/")
        .kill_signal(9);
    assert!(fine.check().is_ok());
}

#[test]
fn own_limits_stand_before_those_of_the_group() {
    let defaults = Limits::new().nice(5).umask(0o077);
    let own = Limits::new().nice(7).over(&defaults);
    assert_eq!(own, Limits::new().nice(7).umask(0o077));
}

#[test]
fn limits_travel_as_bytes() {
    let limits = Limits::new()
        .memory_bytes_max(1 << 20)
        .cpus([0, 1])
        .working_directory("/tmp")
        .grace(Duration::from_millis(3));
    let bytes = postcard::to_stdvec(&limits).unwrap();
    assert_eq!(postcard::from_bytes::<Limits>(&bytes).unwrap(), limits);
}

#[test]
fn death_is_blamed_on_a_limit_only_where_it_was_reached() {
    let limits = Limits::new()
        .cpu_time_max(Duration::from_secs(1))
        .memory_bytes_max(64 << 20);
    let used = |ms| Some(Usage::of_task(Duration::from_millis(ms), Duration::ZERO, 0));
    let killed_by = |signal| TaskErrorKind::Signaled {
        signal,
        core_dumped: false,
    };
    let is_limit = |signal, is_out_of_memory, usage| {
        let kind = limits.explain(killed_by(signal), is_out_of_memory, usage);
        matches!(kind, TaskErrorKind::LimitExceeded(_))
    };
    assert!(is_limit(sys::SIGXCPU, false, used(1000)));
    assert!(!is_limit(sys::SIGXCPU, false, used(10)), "raised by hand");
    assert!(is_limit(sys::SIGKILL, false, used(2900)));
    assert!(!is_limit(sys::SIGKILL, false, used(10)));
    assert!(is_limit(sys::SIGABRT, true, used(10)));
    assert!(!is_limit(sys::SIGABRT, false, used(10)));
    assert!(!is_limit(sys::SIGXFSZ, false, used(10)), "no such limit");
}

#[test]
fn bytes_are_written_as_people_do() {
    let text = [1 << 30, 64 << 20, 3 << 10, 1000, 0].map(|bytes| Bytes(bytes).to_string());
    assert_eq!(text, ["1 GiB", "64 MiB", "3 KiB", "1000 bytes", "0 bytes"]);
}
