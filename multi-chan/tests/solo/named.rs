//! Channels found by name.

use crate::support::{End, fork, linger, pause};
use multi_chan::{Builder, Receiver, Sender, channel, named, spsc};
use std::fs::{self, File, Permissions};
use std::os::unix::fs::{MetadataExt, PermissionsExt};

crate::tests![
    a_channel_is_found_by_its_name,
    a_pollable_channel_gets_no_name,
    a_name_has_one_keeper_at_a_time,
    a_dead_keepers_name_is_given_again,
    of_many_that_take_a_dead_keepers_name_one_has_it,
    a_childs_copy_of_a_name_takes_nothing_away,
    a_signpost_is_private_or_refused,
    names_that_lead_nowhere_are_told,
];

/// A name of this process's own, so that test runs do not meet.
fn own(name: &str) -> String {
    format!("test-{}-{name}", std::process::id())
}

fn file_of(name: &str) -> String {
    format!("/dev/shm/multi-chan.{name}")
}

fn passable(capacity: usize) -> (Sender<u64>, Receiver<u64>) {
    let options = Builder::new().capacity(capacity).in_memfd();
    options.build().unwrap()
}

fn a_channel_is_found_by_its_name() {
    let (jobs, doubled) = (own("jobs"), own("doubled"));
    let (tx, rx) = passable(2);
    let (result_tx, mut results) = Builder::new()
        .capacity(2)
        .in_memfd()
        .build_spsc::<u64>()
        .unwrap();
    let job_name = named::publish(&jobs, rx.descriptors().unwrap()).unwrap();
    let result_name = named::publish(&doubled, result_tx.descriptors().unwrap()).unwrap();
    let mut other = crate::pass::execute("named", &[], &[&jobs, &doubled]);
    for value in 0..100 {
        tx.send(value).unwrap();
        assert_eq!(results.recv(), Ok(2 * value));
    }
    drop((tx, result_tx, job_name, result_name));
    assert!(results.recv().unwrap_err().is_disconnected());
    assert!(other.wait().unwrap().success());
    for name in [jobs, doubled] {
        assert!(!fs::exists(file_of(&name)).unwrap(), "{name} left behind");
    }
}

/// In the executed program.
pub(crate) fn double(jobs: &str, doubled: &str) {
    let rx = Receiver::<u64>::attach(named::find(jobs).unwrap()).unwrap();
    let mut tx = spsc::Sender::<u64>::attach(named::find(doubled).unwrap()).unwrap();
    for value in &rx {
        tx.send(2 * value).unwrap();
    }
}

fn a_pollable_channel_gets_no_name() {
    let builder = Builder::new().capacity(1).in_memfd().pollable(true);
    let (tx, _rx) = builder.build::<u64>().unwrap();
    let error = named::publish(&own("polled"), tx.descriptors().unwrap()).unwrap_err();
    assert!(error.is_unsupported(), "{error}");
    assert!(!fs::exists(file_of(&own("polled"))).unwrap());
}

fn a_name_has_one_keeper_at_a_time() {
    let name = own("one");
    let (tx, rx) = passable(1);
    let first = named::publish(&name, tx.descriptors().unwrap()).unwrap();
    let error = named::publish(&name, tx.descriptors().unwrap()).unwrap_err();
    assert!(error.is_name());
    assert!(error.to_string().contains("a live process keeps the name"));
    drop(first);
    let _second = named::publish(&name, tx.descriptors().unwrap()).unwrap();
    let found = Sender::<u64>::attach(named::find(&name).unwrap()).unwrap();
    found.send(3).unwrap();
    assert_eq!(rx.recv(), Ok(3));
}

fn a_dead_keepers_name_is_given_again() {
    let name = own("dead");
    let (ready_tx, ready_rx) = channel::<u64>(1).unwrap();
    let keeper = fork(|| {
        let (tx, _rx) = passable(1);
        let _name = named::publish(&name, tx.descriptors().unwrap()).unwrap();
        ready_tx.send(1).unwrap();
        linger()
    });
    assert_eq!(ready_rx.recv(), Ok(1));
    assert!(named::find(&name).is_ok());
    keeper.kill();
    assert!(named::find(&name).unwrap_err().is_name());
    let (tx, rx) = passable(1);
    let _name = named::publish(&name, tx.descriptors().unwrap()).unwrap();
    let found = Sender::<u64>::attach(named::find(&name).unwrap()).unwrap();
    found.send(4).unwrap();
    assert_eq!(rx.recv(), Ok(4));
}

fn of_many_that_take_a_dead_keepers_name_one_has_it() {
    let name = own("many");
    for round in 0..12 {
        let (done_tx, done) = channel::<u64>(8).unwrap();
        let (go_tx, go) = channel::<u64>(8).unwrap();
        let (leave_tx, leave) = channel::<u64>(8).unwrap();
        // Each gives the name to a channel of its own, in which lies its number.
        let takers: Vec<_> = (0..4)
            .map(|number| {
                let (go, leave, done_tx) = (&go, &leave, &done_tx);
                let name = &name;
                fork(move || {
                    let (tx, _rx) = passable(1);
                    tx.send(number).unwrap();
                    go.recv().unwrap();
                    let kept = named::publish(name, tx.descriptors().unwrap());
                    let told = if kept.is_ok() { number } else { 100 };
                    done_tx.send(told).unwrap();
                    // Those of the last round leave by themselves, the others are killed.
                    leave.recv().unwrap();
                })
            })
            .collect();
        go_tx.send_batch(&[0; 4]).unwrap();
        let told: Vec<_> = (0..4).map(|_| done.recv().unwrap()).collect();
        let has_it: Vec<_> = told.into_iter().filter(|&number| number < 100).collect();
        assert_eq!(has_it.len(), 1, "round {round}");
        let found = Receiver::<u64>::attach(named::find(&name).unwrap()).unwrap();
        assert_eq!(found.try_recv(), Ok(has_it[0]));
        if round < 11 {
            takers.into_iter().for_each(crate::support::Child::kill);
        } else {
            leave_tx.send_batch(&[0; 4]).unwrap();
            takers.into_iter().for_each(crate::support::Child::join);
        }
    }
    assert!(!fs::exists(file_of(&name)).unwrap());
}

fn a_childs_copy_of_a_name_takes_nothing_away() {
    let name = own("copy");
    let (tx, _rx) = passable(1);
    let mut kept = Some(named::publish(&name, tx.descriptors().unwrap()).unwrap());
    let child = fork(|| drop(kept.take()));
    assert_eq!(child.wait(), End::Exited(0));
    assert!(named::find(&name).is_ok());
    drop(kept);
    assert!(named::find(&name).unwrap_err().is_name());
}

fn a_signpost_is_private_or_refused() {
    let name = own("private");
    let (tx, _rx) = passable(1);
    let _kept = named::publish(&name, tx.descriptors().unwrap()).unwrap();
    let file = file_of(&name);
    assert_eq!(fs::metadata(&file).unwrap().mode() & 0o777, 0o600);
    fs::set_permissions(&file, Permissions::from_mode(0o666)).unwrap();
    let error = named::find(&name).unwrap_err();
    assert!(error.to_string().contains("open to others"), "{error}");
}

fn names_that_lead_nowhere_are_told() {
    for bad in ["", "a/b", "../x", &"x".repeat(300)] {
        assert!(named::find(bad).unwrap_err().is_name(), "{bad}");
    }
    assert!(named::find(&own("nobody")).unwrap_err().is_name());
    // Left by one who was killed before it had written it.
    let name = own("unwritten");
    let file = File::create(file_of(&name)).unwrap();
    file.set_permissions(Permissions::from_mode(0o600)).unwrap();
    let finder = fork(|| assert!(named::find(&name).unwrap_err().is_name()));
    pause(30);
    file.set_len(32).unwrap();
    finder.join();
    let (tx, _rx) = passable(1);
    let kept = named::publish(&name, tx.descriptors().unwrap()).unwrap();
    assert!(named::find(&name).is_ok());
    drop(kept);
}
