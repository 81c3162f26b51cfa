//! Races between the parent's threads, one of them held still. No worker is forked: the test plays it.

use super::Pool;
use super::board::{Board, Post};
use super::books::{Awaits, Ended, Entry, Hand, Terms};
use super::buffers::{Arena, Desk};
use super::hub::{Hub, PoolEvent, Settings};
use super::lanes::Lanes;
use super::word::{Claim, Phase, Wake};
use super::worker::Share;
use crate::function::Key;
use crate::reap::{self, Reaper};
use crate::slot::Reach;
use crate::threads::OtherThreads;
use multi_core::ledger::Ledger;
use multi_core::{Event, GroupOptions, TaskErrorKind};
use std::sync::{Arc, mpsc};
use std::thread;
use std::time::{Duration, Instant};

/// So long without what is waited for: a hang, on whatever machine.
const HUNG: Duration = Duration::from_secs(20);
/// For a thread that is to come to a lock or into a sleep; a test in which it takes longer proves nothing, but does not fail.
const MOMENT: Duration = Duration::from_millis(30);

/// A pool with one place, and a worker that is always about to be forked.
fn hub() -> Arc<Hub> {
    let settings = reap::Settings {
        grace: Duration::ZERO,
        stuck_after: HUNG,
        value_bytes_max: 0,
        in_child: None,
        other_threads: OtherThreads::Allow,
        terms: None,
    };
    let reaper = Reaper::reaching(settings, Reach::Forked).unwrap();
    let settings = Settings {
        args_bytes_max: 64,
        share: Share {
            value_bytes_max: 64,
            jobs: None,
            resident_bytes: None,
        },
        in_worker: None,
        source: None,
    };
    let board = Board::new(1, 1, 64, 64, Reach::Forked).unwrap();
    let (lanes, key) = (
        Lanes::new(1, 1, Reach::Forked).unwrap(),
        Key::new().unwrap(),
    );
    let desk = Desk::of_parent(Arc::new(Arena::new(1, 0, Reach::Forked).unwrap()));
    let maker = Arc::clone(&reaper);
    let event: Arc<dyn Event> = reaper.clone();
    let crew = Ledger::new("pool", GroupOptions::new(), event, move || {
        maker.new_token()
    });
    let hub = Hub::new(board, lanes, desk, key, settings, reaper, crew.unwrap());
    hub.lock().crew.fill(Hand::Hiring);
    Arc::new(hub)
}

fn pool(hub: &Arc<Hub>) -> Pool {
    let ledger = || {
        let event = Arc::new(PoolEvent {
            hub: Arc::clone(hub),
            job: None,
        });
        let maker = Arc::clone(hub);
        Ledger::new("pool", GroupOptions::new(), event, move || {
            maker.new_token()
        })
    };
    Pool::new(Arc::clone(hub), ledger().unwrap(), ledger().unwrap(), 1)
}

/// A job that runs.
fn begin(hub: &Arc<Hub>, entry: Entry) {
    let blank = hub.take().unwrap();
    hub.start(blank, Terms::default(), entry);
    assert_eq!(hub.board.word(0).claim(0), Claim::Yours);
}

/// Says its name when its job is settled.
struct Tells(mpsc::Sender<&'static str>, &'static str);

impl Awaits for Tells {
    fn settle(self: Box<Self>, _: &Hub, _: usize, _: Ended) {
        self.0.send(self.1).unwrap();
    }
}

/// Says why its job failed when that is settled.
struct Reasons(mpsc::Sender<String>);

impl Awaits for Reasons {
    fn settle(self: Box<Self>, _: &Hub, _: usize, ended: Ended) {
        self.0.send(format!("{:?}", ended.verdict)).unwrap();
    }
}

#[test]
fn next_job_of_a_place_is_not_taken_for_the_one_before() {
    let hub = hub();
    let (tell, told) = mpsc::channel();
    let entry = |name| Entry::Handle(Box::new(Tells(tell.clone(), name)));
    begin(&hub, entry("first"));
    assert_eq!(hub.board.word(0).finish(0), Wake::Nobody);
    let mut books = hub.lock();
    let late = thread::spawn({
        let hub = Arc::clone(&hub);
        move || hub.collect(0)
    });
    thread::sleep(MOMENT);
    // Meanwhile the first job was settled, its place given to another one, and a worker has begun that.
    hub.board.wipe(0);
    books.seats[0].serial += 1;
    books.seats[0].entry = entry("second");
    hub.board.word(0).queue();
    assert_eq!(hub.board.word(0).claim(0), Claim::Yours);
    drop(books);
    late.join().unwrap();
    assert!(told.try_recv().is_err());
    let running = Phase::Running { worker: 0 };
    assert_eq!(hub.board.word(0).phase(), running);
    assert!(hub.lock().stock.is_empty());
}

#[test]
fn shutdown_hears_of_the_last_place_put_back() {
    let hub = hub();
    let pool = pool(&hub);
    begin(&hub, Entry::Caller);
    assert_eq!(hub.board.word(0).finish(0), Wake::Nobody);
    let (tell, told) = mpsc::channel();
    let main = thread::spawn(move || tell.send(pool.shutdown().is_ok()).unwrap());
    let start = Instant::now();
    while hub.lock().room_waiters == 0 {
        assert!(start.elapsed() < HUNG, "it does not say that it waits");
        thread::yield_now();
    }
    thread::sleep(MOMENT);
    // By a thread that has taken the job's value and takes its time.
    hub.put_back(0);
    assert_eq!(told.recv_timeout(HUNG), Ok(true));
    main.join().unwrap();
}

fn killed() -> TaskErrorKind {
    TaskErrorKind::Signaled {
        signal: 9,
        core_dumped: false,
    }
}

#[test]
fn workers_that_cannot_wait_for_jobs_are_given_up() {
    let hub = hub();
    let (tell, told) = mpsc::channel();
    let blank = hub.take().unwrap();
    let entry = Entry::Handle(Box::new(Tells(tell, "the job")));
    hub.start(blank, Terms::default(), entry);
    let row = hub.board.row(0);
    row.set_post(Post::Ready);
    hub.bury(0, Err(killed()), false);
    assert!(hub.lock().hire_at.is_none(), "killed while it waited");
    while told.try_recv().is_err() {
        assert!(hub.lock().false_starts < 40, "for ever");
        row.clear();
        row.set_post(Post::Ready);
        let why = TaskErrorKind::Returned("the lane is spoilt".into());
        hub.bury(0, Err(why), false);
        assert!(hub.lock().hire_at.is_some(), "at once, again and again");
        hub.sweep();
    }
}

#[test]
fn job_of_a_worker_that_scribbled_its_row_is_found() {
    let hub = hub();
    let (tell, told) = mpsc::channel();
    begin(&hub, Entry::Handle(Box::new(Tells(tell, "the job"))));
    hub.board.row(0).set_post(Post::Starting);
    hub.bury(0, Err(killed()), false);
    hub.sweep();
    assert_eq!(told.try_recv(), Ok("the job"));
    assert!(hub.lock().hire_at.is_none(), "it had come to a job");
}

#[test]
fn job_whose_word_was_written_over_is_an_error_at_once() {
    // As its worker finds it when it has ended it: free, for somebody else to take, or with a worker that cannot be.
    let scribbles: [fn(&Hub); 3] = [
        |hub| hub.board.word(0).clear(),
        |hub| hub.board.word(0).queue(),
        |hub| {
            hub.board.word(0).queue();
            assert_eq!(hub.board.word(0).claim(7), Claim::Yours);
        },
    ];
    for scribble in scribbles {
        let hub = hub();
        let (tell, told) = mpsc::channel();
        begin(&hub, Entry::Handle(Box::new(Reasons(tell))));
        hub.board.set_run(0, 1, 0);
        scribble(&hub);
        assert_eq!(hub.board.word(0).finish(0), Wake::Nobody);
        hub.board.announce(0, || ());
        hub.sweep();
        let reason = told.try_recv().unwrap();
        assert!(reason.contains("was overwritten"), "{reason}");
        assert_eq!(hub.lock().stock, [0]);
        hub.sweep();
        assert!(told.try_recv().is_err());
    }
}

#[test]
fn cancel_and_time_limit_end_a_job_whose_word_was_written_over() {
    for is_cancel in [false, true] {
        let hub = hub();
        let (tell, told) = mpsc::channel();
        let blank = hub.take().unwrap();
        let terms = Terms {
            timeout: Some(HUNG),
            ..Terms::default()
        };
        hub.start(blank, terms, Entry::Handle(Box::new(Reasons(tell))));
        hub.end_late_jobs();
        assert!(told.try_recv().is_err(), "it waits, as it should");
        hub.board.word(0).clear();
        if is_cancel {
            hub.cancel_jobs();
        } else {
            hub.end_late_jobs();
        }
        hub.sweep();
        assert!(told.try_recv().unwrap().contains("was overwritten"));
    }
}

#[test]
fn job_that_another_worker_takes_over_is_not_taken_for_written_over() {
    let hub = hub();
    let (tell, told) = mpsc::channel();
    let blank = hub.take().unwrap();
    let terms = Terms {
        attempts: 2,
        ..Terms::default()
    };
    hub.start(blank, terms, Entry::Handle(Box::new(Reasons(tell))));
    assert_eq!(hub.board.word(0).claim(0), Claim::Yours);
    hub.board.set_run(0, 1, 0);
    hub.bury(0, Err(killed()), false);
    assert_eq!(hub.board.word(0).phase(), Phase::Queued);
    // The bit of a worker that was slow to set it.
    hub.board.announce(0, || ());
    hub.sweep();
    assert!(told.try_recv().is_err());
    assert_eq!(hub.board.word(0).phase(), Phase::Queued);
}
