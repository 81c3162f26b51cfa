//! Asking tasks to stop.

use super::tally::Tally;
use super::{Subject, Verdict, group, rule_list, with};
use crate::cancel::CancelToken;
use crate::group::{Group, Spawner, Tasks};
use crate::options::GroupOptions;
use std::time::Duration;

rule_list![
    cancel_reaches_every_task,
    task_that_obeys_is_reported_as_cancelled,
    task_that_ends_well_after_cancel_is_no_failure,
    cancel_by_a_task_reaches_the_others,
    fail_fast_cancels_the_rest,
    without_fail_fast_the_rest_go_on,
    go_after_cancel_is_refused_until_wait,
    go_at_the_limit_obeys_cancel,
    builder_token_outlives_the_round,
    dropped_group_cancels_and_waits,
    dropped_group_during_a_panic_still_waits,
    token_wait_ends_in_time,
];

/// Every task sees the group's request to stop.
fn cancel_reaches_every_task<S: Subject>() -> Verdict {
    let mut group = group::<S>();
    for _ in 0..8 {
        let token = group.cancel_token();
        group.go(move || {
            token.wait();
            Ok(())
        });
    }
    group.cancel();
    assert!(group.wait().is_ok());
    Verdict::Passed
}

/// `token.check()?` ends a task, which is then reported as cancelled and not as failed for a reason of its own.
fn task_that_obeys_is_reported_as_cancelled<S: Subject>() -> Verdict {
    let mut group = group::<S>();
    let token = group.cancel_token();
    group.go(move || {
        token.wait();
        token.check()?;
        Ok(())
    });
    group.cancel();
    let error = group.wait().unwrap_err();
    assert!(
        error.is_cancelled() && error.first().is_cancelled(),
        "{error}"
    );
    Verdict::Passed
}

/// Cancelling is a request: a task that ends well has not failed.
fn task_that_ends_well_after_cancel_is_no_failure<S: Subject>() -> Verdict {
    let tally = Tally::new();
    let mut group = group::<S>();
    let (token, marker) = (group.cancel_token(), tally.marker());
    group.go(move || {
        token.wait();
        marker.mark(b'x');
        Ok(())
    });
    group.cancel();
    assert!(group.wait().is_ok());
    assert_eq!(tally.marks(), b"x");
    Verdict::Passed
}

/// A task may cancel its siblings through the token.
fn cancel_by_a_task_reaches_the_others<S: Subject>() -> Verdict {
    let mut group = group::<S>();
    for n in 0..4 {
        let token = group.cancel_token();
        group.go(move || {
            if n == 3 {
                token.cancel();
            }
            token.wait();
            Ok(())
        });
    }
    let token = group.cancel_token();
    // The first three may have been started after the fourth's request on no account: it is the last.
    assert!(group.wait().is_ok());
    assert!(token.is_cancelled());
    Verdict::Passed
}

/// With `fail_fast` the first failure cancels the group; the failure stays the first.
fn fail_fast_cancels_the_rest<S: Subject>() -> Verdict {
    let mut group = with::<S>(GroupOptions::new().fail_fast(true));
    for _ in 0..3 {
        let token = group.cancel_token();
        group.go(move || {
            token.wait();
            token.check()?;
            Ok(())
        });
    }
    group.go(|| Err("the cause")?);
    let error = group.wait().unwrap_err();
    assert_eq!(error.failed_count(), 4, "{error}");
    assert!(error.first().to_string().ends_with("the cause"), "{error}");
    assert!(
        error.failures()[..3]
            .iter()
            .all(|failure| failure.is_cancelled()),
        "{error}"
    );
    Verdict::Passed
}

/// Without `fail_fast` a failure cancels nothing.
fn without_fail_fast_the_rest_go_on<S: Subject>() -> Verdict {
    let mut group = group::<S>();
    let token = group.cancel_token();
    group.go(|| Err("on purpose")?);
    assert!(group.wait().is_err());
    assert!(!token.is_cancelled());
    Verdict::Passed
}

/// A cancelled group starts nothing and says so; after `wait` it works again.
fn go_after_cancel_is_refused_until_wait<S: Subject>() -> Verdict {
    let mut group = group::<S>();
    let spawner = group.spawner();
    group.cancel();
    group.go(|| panic!("a task ran after cancel"));
    spawner.go(|| panic!("a task ran after cancel"));
    let error = group.wait().unwrap_err();
    assert_eq!((error.failed_count(), error.is_cancelled()), (2, true));
    group.go(|| Ok(()));
    assert!(group.wait().is_ok());
    Verdict::Passed
}

/// A `go` that waits for room stops waiting when the group is cancelled.
fn go_at_the_limit_obeys_cancel<S: Subject>() -> Verdict {
    let mut group = with::<S>(GroupOptions::new().limit(1));
    let token = group.cancel_token();
    let flag = S::flag();
    let (outside, told) = (token.clone(), flag.clone());
    group.go(move || {
        told.wait();
        Ok(())
    });
    let canceller = std::thread::spawn(move || {
        std::thread::sleep(Duration::from_millis(20));
        outside.cancel();
    });
    group.go(|| panic!("a task ran after cancel"));
    assert!(token.is_cancelled());
    flag.cancel();
    assert!(group.wait().unwrap_err().is_cancelled());
    canceller.join().expect("the canceller panicked");
    Verdict::Passed
}

/// A token given to the builder cancels every round, not only the present one.
fn builder_token_outlives_the_round<S: Subject>() -> Verdict {
    let outer = CancelToken::new();
    let mut group = with::<S>(GroupOptions::new().cancel_token(outer.clone()));
    let token = group.cancel_token();
    group.go(move || {
        token.wait();
        Ok(())
    });
    outer.cancel();
    assert!(group.wait().is_ok());
    group.go(|| panic!("a task ran after cancel"));
    assert!(group.wait().unwrap_err().is_cancelled());
    Verdict::Passed
}

fn drop_while_running<S: Subject>(group: &S::Group, tally: &Tally) {
    let started = S::flag();
    for _ in 0..4 {
        let (token, marker, started) = (group.cancel_token(), tally.marker(), started.clone());
        group.go(move || {
            started.cancel();
            token.wait();
            marker.mark(b'x');
            Ok(())
        });
    }
    started.wait();
}

/// Dropping a group without `wait` cancels its tasks and returns when they are gone.
fn dropped_group_cancels_and_waits<S: Subject>() -> Verdict {
    let tally = Tally::new();
    let group = group::<S>();
    drop_while_running::<S>(&group, &tally);
    drop(group);
    expect_ended::<S>(tally);
    Verdict::Passed
}

/// A group dropped by a panic of its owner waits as well.
fn dropped_group_during_a_panic_still_waits<S: Subject>() -> Verdict {
    let tally = Tally::new();
    let unwound = crate::panic::catch(|| {
        let group = group::<S>();
        drop_while_running::<S>(&group, &tally);
        panic!("on purpose: the owner of a group");
    });
    assert!(unwound.is_err());
    expect_ended::<S>(tally);
    Verdict::Passed
}

/// The tasks are gone: a task that shares this memory has made its mark, a process may have been told by a signal instead.
fn expect_ended<S: Subject>(tally: Tally) {
    let marks = tally.marks().len();
    assert!(marks == 4 || (S::IS_PROCESS && marks < 4), "{marks} marks");
}

/// Waiting for a token ends with the time given, not earlier.
fn token_wait_ends_in_time<S: Subject>() -> Verdict {
    let mut group = group::<S>();
    let token = group.cancel_token();
    group.go(move || {
        let start = std::time::Instant::now();
        assert!(!token.wait_timeout(Duration::from_millis(15)));
        assert!(start.elapsed() >= Duration::from_millis(15));
        Ok(())
    });
    assert!(group.wait().is_ok());
    Verdict::Passed
}
