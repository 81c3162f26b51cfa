use super::*;
use crate::error::{TaskError, TaskErrorKind};
use crate::event::ThreadEvent;
use crate::task::Lineage;
use std::sync::mpsc;

fn ledger(options: GroupOptions) -> Ledger {
    Ledger::new(
        "test",
        options,
        Arc::new(ThreadEvent::new()),
        CancelToken::new,
    )
    .unwrap()
}

/// Starts a task on a thread of its own, as a backend would.
fn on_thread(ledger: &Ledger, task: impl FnOnce() -> crate::Result + Send + 'static) {
    ledger.launch(TaskOptions::new(), |ticket| {
        std::thread::spawn(move || {
            ticket.lineage().enter();
            ticket.run(task);
        });
    });
}

#[test]
fn failures_come_home_in_start_order_whatever_the_order_of_ending() {
    let ledger = ledger(GroupOptions::new());
    let (tickets, received) = mpsc::channel();
    for _ in 0..3 {
        let tickets = tickets.clone();
        ledger.launch(TaskOptions::new(), move |ticket| {
            tickets.send(ticket).unwrap();
        });
    }
    let mut started: Vec<_> = received.try_iter().collect();
    while let Some(ticket) = started.pop() {
        ticket.settle(Err(TaskErrorKind::Cancelled));
    }
    let error = ledger.wait().unwrap_err();
    let ids: Vec<_> = error
        .failures()
        .iter()
        .map(|failure| failure.id().index())
        .collect();
    assert_eq!(ids, [0, 1, 2]);
    assert_eq!(error.first().id().index(), 2);
}

#[test]
fn dropped_ticket_is_a_lost_task_and_not_a_hang() {
    let ledger = ledger(GroupOptions::new());
    ledger.launch(TaskOptions::new(), drop);
    let error = ledger.wait().unwrap_err();
    assert!(matches!(error.first().kind(), TaskErrorKind::Lost));
}

#[test]
fn dropped_ticket_reaches_the_handle_too() {
    let ledger = ledger(GroupOptions::new());
    let event = ledger.event();
    let handle = ledger.launch_with::<u8>(TaskOptions::new(), event, |ticket, promise| {
        drop((ticket, promise));
    });
    assert!(matches!(
        handle.join().unwrap_err().kind(),
        TaskErrorKind::Lost
    ));
    assert!(ledger.wait().is_err());
}

#[test]
fn withdrawn_task_counts_for_nothing() {
    let ledger = ledger(GroupOptions::new().limit(1));
    ledger.try_admit(TaskOptions::new()).unwrap().withdraw();
    assert_eq!(ledger.progress().started, 0);
    let ticket = ledger.try_admit(TaskOptions::new()).unwrap();
    assert!(matches!(
        ledger.try_admit(TaskOptions::new()),
        Err(TryGoReason::AtLimit)
    ));
    ticket.settle(Ok(()));
    assert!(ledger.wait().is_ok());
}

#[test]
fn task_of_a_full_group_queues_what_it_starts() {
    let ledger = ledger(GroupOptions::new().limit(1));
    let inner = ledger.clone();
    on_thread(&ledger, move || {
        for _ in 0..10 {
            on_thread(&inner, || Ok(()));
        }
        assert_eq!(inner.progress().queued, 10);
        Ok(())
    });
    ledger.wait().unwrap();
    assert_eq!(ledger.progress().finished, 11);
}

#[test]
fn joining_a_queued_task_from_outside_keeps_the_limit() {
    let ledger = ledger(GroupOptions::new().limit(1));
    let (inner, (give, given)) = (ledger.clone(), mpsc::channel());
    let (end, ended) = mpsc::channel::<()>();
    on_thread(&ledger, move || {
        let event = inner.event();
        let start = |ticket: Ticket, promise| {
            std::thread::spawn(move || ticket.run_with(promise, || Ok(7)));
        };
        give.send(inner.launch_with::<i32>(TaskOptions::new(), event, start))?;
        ended.recv()?;
        Ok(())
    });
    let handle = match given
        .recv()
        .unwrap()
        .join_timeout(Duration::from_millis(20))
    {
        Err(crate::JoinTimeoutError::StillRunning(handle)) => handle,
        other => panic!("the queued task was started beyond the limit: {other:?}"),
    };
    assert_eq!(
        (ledger.progress().running, ledger.progress().queued),
        (1, 1)
    );
    end.send(()).unwrap();
    assert_eq!(handle.join().unwrap(), 7);
    ledger.wait().unwrap();
}

#[test]
fn joining_a_queued_task_lends_it_the_room() {
    let ledger = ledger(GroupOptions::new().limit(1));
    let inner = ledger.clone();
    on_thread(&ledger, move || {
        let event = inner.event();
        let start = |ticket: Ticket, promise| {
            std::thread::spawn(move || ticket.run_with(promise, || Ok(7)));
        };
        let handle = inner.launch_with::<i32>(TaskOptions::new(), event, start);
        assert_eq!(handle.join()?, 7);
        Ok(())
    });
    ledger.wait().unwrap();
}

#[test]
fn cancel_refuses_the_queue_and_wakes_a_go_that_waits_for_room() {
    let ledger = ledger(GroupOptions::new().limit(1));
    let token = ledger.cancel_token();
    let in_task = token.clone();
    on_thread(&ledger, move || {
        in_task.wait();
        Ok(())
    });
    let canceller = std::thread::spawn(move || {
        std::thread::sleep(Duration::from_millis(10));
        token.cancel();
    });
    on_thread(&ledger, || panic!("a refused task ran"));
    canceller.join().unwrap();
    let error = ledger.wait().unwrap_err();
    assert!(error.is_cancelled());
    assert_eq!((error.failed_count(), error.task_count()), (1, 2));
    on_thread(&ledger, || Ok(()));
    assert!(ledger.wait().is_ok(), "the next round has a fresh token");
}

#[test]
fn outer_token_outlives_the_round() {
    let outer = CancelToken::new();
    let ledger = ledger(GroupOptions::new().cancel_token(outer.clone()));
    assert!(ledger.wait().is_ok());
    outer.cancel();
    for _ in 0..2 {
        on_thread(&ledger, || Ok(()));
        assert!(ledger.wait().unwrap_err().is_cancelled());
    }
}

#[test]
fn late_task_is_timed_out_however_it_ends() {
    let ledger = ledger(GroupOptions::new());
    for outcome in [Ok(()), Err(TaskErrorKind::Returned("late".into()))] {
        let options = TaskOptions::new().timeout(Duration::from_millis(1));
        ledger.launch(options, |ticket| {
            std::thread::sleep(Duration::from_millis(5));
            ticket.settle(outcome);
        });
    }
    let error = ledger.wait().unwrap_err();
    assert!(error.failures().iter().all(TaskError::is_timed_out));
    assert!(error.failures()[1].to_string().contains("(then: late)"));
}

#[test]
fn deadline_cancels_the_token_and_refuses_what_comes_later() {
    let ledger = ledger(GroupOptions::new().timeout(Duration::from_millis(20)));
    let token = ledger.cancel_token();
    on_thread(&ledger, move || {
        token.wait();
        Ok(())
    });
    assert!(ledger.wait().unwrap_err().first().is_timed_out());
    on_thread(&ledger, || Ok(()));
    assert!(ledger.wait().unwrap_err().first().is_timed_out());
}

#[test]
fn failures_beyond_those_kept_whole_are_counted() {
    let ledger = ledger(GroupOptions::new());
    for _ in 0..100 {
        ledger.launch(TaskOptions::new(), |ticket| {
            ticket.run(|| Err("no".into()));
        });
    }
    let error = ledger.wait().unwrap_err();
    assert_eq!(
        (error.failures().len(), error.failed_count()),
        (GroupError::WHOLE_MAX, 100)
    );
    assert!(ledger.wait().is_ok(), "reported once");
}

#[test]
fn bad_name_fails_the_task_and_is_quoted() {
    let ledger = ledger(GroupOptions::new());
    ledger.launch(TaskOptions::new().name("a\0b"), |_| panic!("started"));
    let error = ledger.wait().unwrap_err();
    assert!(error.first().is_start());
    assert!(
        error.to_string().contains("contains a NUL; leave it out"),
        "{error}"
    );
}

#[test]
fn wait_timeout_names_who_is_still_running() {
    let ledger = ledger(GroupOptions::new());
    let (keep, kept) = mpsc::channel();
    ledger.launch(TaskOptions::new().name("slow"), move |ticket| {
        keep.send(ticket).unwrap();
    });
    let text = ledger
        .wait_timeout(Duration::from_millis(1))
        .unwrap_err()
        .to_string();
    assert!(
        text.starts_with("1 task still running after 1.000ms: task 0 \"slow\" (started at "),
        "{text}"
    );
    kept.recv().unwrap().settle(Ok(()));
    assert!(ledger.wait_timeout(Duration::MAX).is_ok());
}

#[test]
fn fail_fast_cancels_once_the_failure_is_recorded() {
    let ledger = ledger(GroupOptions::new().fail_fast(true));
    let token = ledger.cancel_token();
    on_thread(&ledger, move || {
        token.wait();
        token.check()?;
        Ok(())
    });
    on_thread(&ledger, || Err("the cause".into()));
    let error = ledger.wait().unwrap_err();
    assert_eq!(error.first().id().index(), 1);
    assert_eq!(error.failed_count(), 2);
    assert!(error.failures()[0].is_cancelled());
}

#[test]
fn cancel_refuses_a_long_queue_without_a_deep_stack() {
    let ledger = ledger(GroupOptions::new().limit(1));
    let inner = ledger.clone();
    on_thread(&ledger, move || {
        for _ in 0..50_000 {
            on_thread(&inner, || panic!("a refused task ran"));
        }
        inner.cancel_token().cancel();
        Ok(())
    });
    let error = ledger.wait().unwrap_err();
    assert_eq!((error.failed_count(), error.is_cancelled()), (50_000, true));
}

#[test]
fn starts_that_fail_out_of_a_long_queue_take_no_deep_stack() {
    let ledger = ledger(GroupOptions::new().limit(1));
    let inner = ledger.clone();
    on_thread(&ledger, move || {
        for _ in 0..50_000 {
            inner.launch(TaskOptions::new(), drop);
        }
        Ok(())
    });
    assert_eq!(ledger.wait().unwrap_err().failed_count(), 50_000);
}

#[test]
fn long_chain_of_tasks_in_a_limited_group_keeps_a_short_lineage() {
    let ledger = ledger(GroupOptions::new().limit(2));
    for _ in 0..100_000 {
        let ticket = ledger.try_admit(TaskOptions::new()).unwrap();
        ticket.lineage().enter();
        ticket.settle(Ok(()));
    }
    assert_eq!(format!("{:?}", Lineage::current()).matches(',').count(), 0);
}

#[test]
fn withdrawn_ticket_passes_its_room_on_to_the_queue() {
    let ledger = ledger(GroupOptions::new().limit(1));
    let ticket = ledger.try_admit(TaskOptions::new()).unwrap();
    ticket.lineage().enter();
    on_thread(&ledger, || Ok(()));
    assert_eq!(ledger.progress().queued, 1);
    ticket.withdraw();
    assert!(ledger.wait_timeout(Duration::from_secs(30)).is_ok());
    assert_eq!(ledger.progress().finished, 1);
}

#[derive(Debug)]
struct Bomb;

impl Drop for Bomb {
    fn drop(&mut self) {
        panic!("on purpose: dropped");
    }
}

#[test]
fn value_that_panics_when_nobody_wants_it_fails_its_task() {
    let ledger = ledger(GroupOptions::new());
    let event = ledger.event();
    let handle = ledger.launch_with(TaskOptions::new(), event, |ticket, promise| {
        std::thread::spawn(move || {
            std::thread::sleep(Duration::from_millis(5));
            ticket.run_with(promise, || Ok(Bomb));
        });
    });
    drop(handle);
    assert!(ledger.wait().unwrap_err().first().is_panicked());
}

#[test]
fn error_that_panics_as_it_is_dropped_harms_nobody() {
    #[derive(Debug)]
    struct Bad(Bomb);
    impl fmt::Display for Bad {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            write!(f, "bad {:?}", self.0)
        }
    }
    impl std::error::Error for Bad {}
    let ledger = ledger(GroupOptions::new());
    for _ in 0..GroupError::WHOLE_MAX {
        ledger.launch(TaskOptions::new(), |ticket| {
            ticket.run(|| Err("no".into()));
        });
    }
    // One too many to be kept: dropped as soon as it is counted.
    ledger.launch(TaskOptions::new(), |ticket| {
        ticket.run(|| Err(Bad(Bomb).into()));
    });
    assert_eq!(
        ledger.wait().unwrap_err().failed_count(),
        GroupError::WHOLE_MAX as u64 + 1
    );
}

#[test]
fn capture_of_a_queued_task_that_panics_as_it_is_dropped_fails_that_task_alone() {
    let ledger = ledger(GroupOptions::new().limit(1));
    let inner = ledger.clone();
    on_thread(&ledger, move || {
        let bomb = Bomb;
        on_thread(&inner, move || {
            let _bomb = bomb;
            Ok(())
        });
        inner.cancel_token().cancel();
        Ok(())
    });
    let error = ledger.wait().unwrap_err();
    assert_eq!((error.failed_count(), error.first().id().index()), (1, 1));
    assert!(error.first().is_panicked(), "{error}");
}

#[test]
fn room_is_free_when_a_join_returns() {
    let ledger = ledger(GroupOptions::new().limit(1));
    for _ in 0..500 {
        let event = ledger.event();
        let handle = ledger.launch_with(TaskOptions::new(), event, |t, p| {
            std::thread::spawn(move || t.run_with(p, || Ok(7)));
        });
        assert_eq!(handle.join().unwrap(), 7);
        let ticket = ledger.try_admit(TaskOptions::new());
        ticket
            .expect("the joined task still takes up room")
            .withdraw();
    }
    ledger.wait().unwrap();
}

#[test]
fn failure_that_cancelled_a_round_is_told_with_that_round() {
    let ledger = ledger(GroupOptions::new().fail_fast(true));
    let stop = Arc::new(std::sync::atomic::AtomicBool::new(false));
    let (outsider, over) = (ledger.clone(), Arc::clone(&stop));
    let outside = std::thread::spawn(move || {
        // Relaxed, here and below: says when to stop, and nothing is read after it.
        while !over.load(Ordering::Relaxed) {
            outsider.launch(TaskOptions::new(), |ticket| {
                ticket.run(|| Err("no".into()));
            });
        }
    });
    for _ in 0..2_000 {
        let token = ledger.cancel_token();
        if ledger.wait().is_err() {
            assert!(
                token.is_cancelled(),
                "the round failed, and its token was not cancelled"
            );
        }
    }
    stop.store(true, Ordering::Relaxed);
    outside.join().unwrap();
    drop(ledger.wait());
}

#[test]
fn own_token_of_a_task_follows_its_group() {
    let ledger = ledger(GroupOptions::new());
    let own = CancelToken::new();
    let options = TaskOptions::new().cancel_token(own.clone());
    ledger.launch(options, |ticket| {
        std::thread::spawn(move || {
            ticket.run(|| {
                own.wait();
                Ok(())
            });
        });
    });
    ledger.abandon();
}

#[test]
fn group_error_of_cancelled_tasks_counts_as_cancelled_further_out() {
    let (outer, inner) = (ledger(GroupOptions::new()), ledger(GroupOptions::new()));
    inner.cancel_token().cancel();
    inner.launch(TaskOptions::new(), drop);
    let error = inner.wait().unwrap_err();
    outer.launch(TaskOptions::new(), |ticket| {
        ticket.run(|| Err(error.into()));
    });
    assert!(outer.wait().unwrap_err().is_cancelled());
}

#[test]
fn last_of_many_ends_is_seen_whoever_counts_it() {
    let ledger = ledger(GroupOptions::new());
    let (give, given) = mpsc::channel::<Ticket>();
    let given = Arc::new(Mutex::new(given));
    let enders: Vec<_> = (0..3)
        .map(|_| {
            let given = Arc::clone(&given);
            std::thread::spawn(move || {
                loop {
                    // In batches, so that the threads end tasks side by side.
                    let batch: Vec<_> = lock(&given).iter().take(7).collect();
                    if batch.is_empty() {
                        return;
                    }
                    batch.into_iter().for_each(|ticket| ticket.settle(Ok(())));
                }
            })
        })
        .collect();
    let mut started = 0;
    for round in 0..3_000_u64 {
        let tasks = 7 * (round % 23) + 7;
        for _ in 0..tasks {
            let give = give.clone();
            ledger.launch(TaskOptions::new(), move |ticket| give.send(ticket).unwrap());
        }
        started += tasks;
        if round % 3 == 0 {
            // Waits that give up leave no trace.
            drop(ledger.wait_timeout(Duration::ZERO));
        }
        assert!(ledger.wait_timeout(Duration::from_secs(60)).is_ok(), "lost");
        let progress = ledger.progress();
        assert_eq!((progress.finished, progress.running), (started, 0));
    }
    drop(give);
    enders.into_iter().for_each(|ender| ender.join().unwrap());
}

#[test]
fn books_stay_for_tasks_whose_group_is_gone() {
    let (keep, kept) = mpsc::channel();
    let event = Arc::new(ThreadEvent::new());
    for tasks in [1, 5] {
        let options = GroupOptions::new();
        let ledger = Ledger::new("test", options, event.clone(), CancelToken::new).unwrap();
        for _ in 0..tasks {
            let keep = keep.clone();
            ledger.launch(TaskOptions::new().name("kept"), move |ticket| {
                keep.send(ticket).unwrap();
            });
        }
        let books = Arc::downgrade(&ledger.open.shared);
        ledger.detach();
        drop(ledger);
        for ticket in kept.iter().take(tasks) {
            assert!(books.upgrade().is_some(), "closed too early");
            assert_eq!(ticket.name(), Some("kept"));
            ticket.settle(Ok(()));
        }
        assert!(books.upgrade().is_none(), "open for ever");
    }
}

#[test]
fn ledgers_of_one_thread_use_one_tally_again_and_again() {
    let tallies: std::collections::HashSet<_> = (0..1_000)
        .map(|_| {
            let ledger = ledger(GroupOptions::new());
            ledger.launch(TaskOptions::new(), |ticket| ticket.settle(Ok(())));
            ledger.wait().unwrap();
            std::ptr::from_ref(ledger.open.shared.tally)
        })
        .collect();
    // Other tests of this process take and leave some meanwhile.
    assert!(tallies.len() < 100, "{}", tallies.len());
}

/// An event on which nobody can wait, that counts how often it is told.
#[derive(Debug, Default)]
struct Unbearable(Mutex<usize>);

impl Unbearable {
    fn told(&self) -> usize {
        *lock(&self.0)
    }
}

impl Event for Unbearable {
    fn key(&self) -> u64 {
        0
    }

    fn wait(&self, _key: u64, _until: Option<Instant>) {
        panic!("on purpose: a wait that panics");
    }

    fn notify(&self) {
        *lock(&self.0) += 1;
    }
}

#[test]
fn wait_for_room_that_panics_leaves_nobody_to_be_told() {
    let event = Arc::new(Unbearable::default());
    let ledger = Ledger::new(
        "test",
        GroupOptions::new().limit(2),
        Arc::<Unbearable>::clone(&event),
        CancelToken::new,
    )
    .unwrap();
    let (tickets, received) = mpsc::channel();
    for _ in 0..2 {
        let tickets = tickets.clone();
        ledger.launch(TaskOptions::new(), move |ticket| {
            tickets.send(ticket).unwrap();
        });
    }
    let third = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        ledger.launch(TaskOptions::new(), drop);
    }));
    assert!(third.is_err());
    let told = event.told();
    received.recv().unwrap().settle(Ok(()));
    assert_eq!(event.told(), told, "somebody is thought to wait for room");
    received.recv().unwrap().settle(Ok(()));
    assert_eq!(event.told(), told + 1);
    ledger.detach();
}

#[test]
fn renewed_books_know_nothing_of_their_last_use() {
    let mut ledger = ledger(GroupOptions::new());
    for _ in 0..3 {
        assert_eq!(ledger.progress().started, 0);
        for _ in 0..5 {
            on_thread(&ledger, || Ok(()));
        }
        ledger.wait().unwrap();
        // The task that ended last lets go of the books in a moment.
        while !ledger.renew() {
            std::thread::yield_now();
        }
    }
    on_thread(&ledger, || Err("late".into()));
    let error = ledger.wait().unwrap_err();
    assert_eq!(error.failures()[0].id(), TaskId(0));
    assert!(error.to_string().starts_with("task 0 "), "{error}");
}

#[test]
fn books_that_somebody_still_knows_are_not_renewed() {
    let mut plain = ledger(GroupOptions::new());
    assert!(plain.renew());
    let clone = plain.clone();
    assert!(!plain.renew(), "a clone");
    drop(clone);
    let token = plain.cancel_token();
    assert!(!plain.renew(), "a token");
    let child = token.child();
    drop(token);
    assert!(!plain.renew(), "a token that hears of a cancel");
    drop(child);
    plain.launch(TaskOptions::new(), |ticket| {
        ticket.settle(Err(TaskErrorKind::Cancelled));
    });
    assert!(!plain.renew(), "a failure that nobody was told of");
    plain.wait().unwrap_err();
    assert!(!plain.renew(), "a count of failures");

    let (keep, kept) = mpsc::channel();
    let mut busy = ledger(GroupOptions::new());
    busy.launch(TaskOptions::new(), move |ticket| keep.send(ticket).unwrap());
    assert!(!busy.renew(), "a task");
    kept.recv().unwrap().settle(Ok(()));
    busy.wait().unwrap();
    assert!(busy.renew());
    busy.cancel_token().cancel();
    assert!(!busy.renew(), "cancelled");

    for options in [
        GroupOptions::new().name("named"),
        GroupOptions::new().limit(1),
        GroupOptions::new().timeout(Duration::from_secs(60)),
    ] {
        assert!(!ledger(options).renew());
    }
}

#[test]
fn task_of_a_backend_with_a_queue_is_judged_by_when_it_began() {
    let ledger = ledger(GroupOptions::new());
    let second = Duration::from_secs(1);
    let options = TaskOptions::new().timeout(second);
    let long_ago = Instant::now() - 2 * second;
    let mut ticket = ledger.try_admit(options).expect("there is room");
    assert_eq!(ticket.timeout(), Some(second));
    ticket.began_at(long_ago);
    ticket.set_attempts(3);
    let error = ticket.settle_here(Ok(7)).expect_err("it is late");
    assert!(error.is_timed_out() && error.attempts() == 3);
    assert!(
        error.to_string().contains(", the last of 3 attempts; "),
        "{error}"
    );
    let mut ticket = ledger
        .try_admit(TaskOptions::new().timeout(100 * second))
        .expect("there is room");
    ticket.began_at(Instant::now());
    assert_eq!(ticket.settle_here(Ok(7)).expect("in time"), 7);
    let ticket = ledger.try_admit(TaskOptions::new()).expect("there is room");
    assert_eq!(ticket.settle_here(Ok(8)).expect("a value"), 8);
    let error = ledger.wait().expect_err("one failed");
    assert_eq!((error.failed_count(), error.task_count()), (1, 3));
    assert_eq!(error.first().attempts(), 3);
}
