//! Channels passed to programs that are no forked copies.

#![expect(unsafe_code, reason = "descriptors are told by number")]

use crate::support::{self, fork, holdings, huge_memfd, linger, memfd, pause};
use crate::{lent, poll};
use multi_chan::KillPoint::{Bumped, Claimed};
use multi_chan::{
    Builder, BytesReceiver, BytesSender, Chan, Delivery, Descriptors, Error, MessageReceiver,
    MessageSender, Receiver, Select, Sender, kill_at, spsc,
};
use std::fs::File;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::{FileExt, MetadataExt};
use std::os::unix::process::ExitStatusExt;
use std::process::{Child, Command};
use std::{env, io};

crate::tests![
    an_executed_program_takes_part,
    an_executed_programs_death_is_noticed,
    an_executed_program_killed_in_the_middle_of_a_send_holds_up_nobody,
    an_executed_programs_children_take_part,
    who_gave_a_channel_has_no_hand_in_others,
    a_channel_attached_in_the_same_process_is_the_same,
    an_ordinary_channel_has_no_descriptors,
    a_limit_of_file_size_is_an_error,
    what_is_no_such_channel_is_refused,
    a_label_written_over_is_refused,
    an_attached_receiver_redelivers_like_the_others,
    messages_of_any_size_go_to_an_executed_program,
    channels_of_messages_are_told_apart,
    channels_that_can_be_passed_leave_nothing_behind,
    poll_loops_of_two_programs_miss_no_message,
    messages_of_any_size_go_to_another_programs_poll_loop,
    a_poll_loop_hears_of_another_programs_death,
    a_poll_loop_hears_what_another_program_died_of_telling,
    eventfds_that_are_not_the_channels_are_refused,
];

/// Names the part of an executed program, and the numbers of its descriptors.
const PART: &str = "MULTI_CHAN_TEST_PART";

/// In a program executed by one of these tests: plays its part and is done.
pub(crate) fn play_part() {
    let Ok(part) = env::var(PART) else { return };
    let mut words = part.split(' ');
    let name = words.next().unwrap();
    if name == "named" {
        crate::named::double(words.next().unwrap(), words.next().unwrap());
        support::exit(0);
    }
    let mut next = || inherited(words.next().unwrap());
    match name {
        "double" => {
            let rx = Receiver::<u64>::attach(next()).unwrap();
            let mut tx = spsc::Sender::<u64>::attach(next()).unwrap();
            for value in &rx {
                tx.send(2 * value).unwrap();
            }
        }
        "own" => {
            let given = next();
            let roll_of = |given: &Descriptors| {
                let roll = given.as_fds()[1].try_clone_to_owned().unwrap();
                File::from(roll).metadata().unwrap().ino()
            };
            let theirs = roll_of(&given);
            let rx = Receiver::<u64>::attach(given).unwrap();
            let [first, second] = [1, 2].map(|capacity| passable(capacity).0);
            let ours = roll_of(&first.descriptors().unwrap());
            assert_ne!(ours, theirs);
            assert_eq!(ours, roll_of(&second.descriptors().unwrap()));
            assert_eq!(theirs, roll_of(&rx.descriptors().unwrap()));
        }
        "one" => {
            let rx = Receiver::<u64>::attach(next()).unwrap();
            assert_eq!(rx.recv(), Ok(1));
            linger();
        }
        "hold" => {
            let rx = Receiver::<u64>::attach(next()).unwrap();
            let ready = Sender::<u64>::attach(next()).unwrap();
            let message = rx.recv_ref().unwrap();
            ready.send(message.attempts().into()).unwrap();
            linger();
        }
        "letters" => {
            let jobs = MessageReceiver::<Vec<String>>::attach(next()).unwrap();
            let answers = BytesSender::attach(next()).unwrap();
            while let Ok(job) = jobs.recv_ref() {
                answers.send(job.concat().as_bytes()).unwrap();
                if job[0] == "hold" && !job.redelivered() {
                    linger();
                }
            }
        }
        "poll" => {
            let rx = Receiver::<u64>::attach(next()).unwrap();
            let mut tx = spsc::Sender::<u64>::attach(next()).unwrap();
            let tx = tx.shared();
            let mut from = rx.readiness().unwrap();
            let mut to = tx.readiness().unwrap();
            while let Some(value) = poll::next(&rx, &mut from) {
                assert!(lent::send(&tx, &mut to, 2 * value));
            }
        }
        "answer" => {
            let jobs = BytesReceiver::attach(next()).unwrap();
            let answers = BytesSender::attach(next()).unwrap();
            let mut select = Select::new();
            select.recv(&jobs);
            // So that it waits by its descriptors.
            let me = support::pidfd(std::process::id().cast_signed());
            select.readable(&me);
            while let Ok(job) = select.run(|_| jobs.recv_now()) {
                let room = answers.sending(job.len());
                let mut select = Select::new();
                select.send(&room);
                select.readable(&me);
                select.run(|_| answers.send_now(&job)).unwrap();
            }
        }
        "bumped" => {
            let tx = Sender::<u64>::attach(next()).unwrap();
            kill_at(Bumped);
            tx.send(13).unwrap();
        }
        "die" => {
            let tx = Sender::<u64>::attach(next()).unwrap();
            kill_at(Claimed);
            tx.send(13).unwrap();
        }
        "fork" => {
            let tx = Sender::<u64>::attach(next()).unwrap();
            let children = [1, 2].map(|value| {
                fork(|| {
                    pause(20);
                    tx.send(value).unwrap();
                })
            });
            drop(tx);
            children.into_iter().for_each(support::Child::join);
        }
        other => panic!("no part {other}"),
    }
    support::exit(0);
}

/// Executes this program in another part.
pub(crate) fn execute(part: &str, channels: &[Descriptors], names: &[&str]) -> Child {
    let mut words = vec![part.to_owned()];
    for descriptors in channels {
        descriptors.keep_on_exec().unwrap();
        let numbers = descriptors.as_fds().into_iter();
        let numbers: Vec<String> = numbers.map(|fd| fd.as_raw_fd().to_string()).collect();
        words.push(numbers.join(","));
    }
    words.extend(names.iter().map(|&name| name.to_owned()));
    Command::new(env::current_exe().unwrap())
        .env(PART, words.join(" "))
        .spawn()
        .unwrap()
}

fn inherited(numbers: &str) -> Descriptors {
    let numbers = numbers.split(',').map(|number| number.parse().unwrap());
    // SAFETY: the test that executed this program left these open for it, and nothing else here has them.
    unsafe { Descriptors::inherited(numbers) }.unwrap()
}

/// The two descriptors of a channel that is not pollable.
fn two(descriptors: Descriptors) -> [OwnedFd; 2] {
    descriptors.into_fds().try_into().unwrap()
}

fn passable(capacity: usize) -> (Sender<u64>, Receiver<u64>) {
    Builder::new()
        .capacity(capacity)
        .in_memfd()
        .build()
        .unwrap()
}

fn an_executed_program_takes_part() {
    let options = Builder::new().capacity(2).in_memfd();
    let (tx, job_rx) = options.build::<u64>().unwrap();
    let (result_tx, mut rx) = options.build_spsc::<u64>().unwrap();
    let mut other = execute(
        "double",
        &[
            job_rx.descriptors().unwrap(),
            result_tx.descriptors().unwrap(),
        ],
        &[],
    );
    for value in 0..1_000 {
        tx.send(value).unwrap();
        assert_eq!(rx.recv(), Ok(2 * value));
    }
    drop((tx, result_tx));
    assert!(rx.recv().unwrap_err().is_disconnected());
    assert!(other.wait().unwrap().success());
}

fn an_executed_programs_death_is_noticed() {
    let (tx, rx) = passable(1);
    let mut other = execute("one", &[rx.descriptors().unwrap()], &[]);
    tx.send(1).unwrap();
    while !tx.is_empty() {
        pause(1);
    }
    drop(rx);
    let sender = fork(|| {
        while tx.send(2).is_ok() {}
        assert!(tx.send(2).unwrap_err().is_disconnected());
    });
    pause(30);
    other.kill().unwrap();
    sender.join();
    assert_eq!(other.wait().unwrap().signal(), Some(libc::SIGKILL));
}

fn an_executed_program_killed_in_the_middle_of_a_send_holds_up_nobody() {
    let (tx, rx) = passable(2);
    let receiver = fork(|| assert_eq!(rx.recv(), Ok(7)));
    let mut other = execute("die", &[tx.descriptors().unwrap()], &[]);
    assert_eq!(other.wait().unwrap().signal(), Some(libc::SIGKILL));
    tx.send(7).unwrap();
    receiver.join();
    assert!(rx.is_empty());
}

fn an_executed_programs_children_take_part() {
    let (tx, rx) = passable(2);
    let mut other = execute("fork", &[tx.descriptors().unwrap()], &[]);
    let first = rx.recv().unwrap();
    drop(tx);
    assert_eq!(first + rx.recv().unwrap(), 3);
    assert!(rx.recv().unwrap_err().is_disconnected());
    assert!(other.wait().unwrap().success());
}

fn who_gave_a_channel_has_no_hand_in_others() {
    let (_tx, rx) = passable(1);
    let mut other = execute("own", &[rx.descriptors().unwrap()], &[]);
    assert!(other.wait().unwrap().success());
}

fn a_channel_attached_in_the_same_process_is_the_same() {
    let (tx, rx) = passable(3);
    let both = Chan::<u64>::attach(rx.descriptors().unwrap()).unwrap();
    assert_eq!(both.capacity(), 3);
    tx.send(1).unwrap();
    both.send(2).unwrap();
    assert_eq!((both.recv(), rx.recv()), (Ok(1), Ok(2)));
    drop(tx);
    assert!(rx.try_recv().unwrap_err().is_empty());
    drop(both);
    assert!(rx.try_recv().unwrap_err().is_disconnected());
}

fn an_ordinary_channel_has_no_descriptors() {
    let (tx, _rx) = multi_chan::channel::<u64>(1).unwrap();
    let error = tx.descriptors().unwrap_err();
    assert!(error.is_not_passable());
    assert!(error.to_string().contains("Builder::in_memfd"));
}

fn a_limit_of_file_size_is_an_error() {
    fork(|| {
        // A roll is longer, whether this process has one already or not: else the channel is.
        support::limit_file_bytes(100_000);
        let options = Builder::new().capacity(50_000).in_memfd();
        let error = options.build::<u64>().unwrap_err();
        assert!(error.is_memory() || error.is_process(), "{error}");
    })
    .join();
}

#[track_caller]
fn refused<T>(result: Result<T, Error>, why: &str) {
    let Err(error) = result else {
        panic!("attached what should be refused: {why}");
    };
    assert!(error.is_mismatch(), "{error}");
    assert!(error.to_string().contains(why), "{error}");
}

fn what_is_no_such_channel_is_refused() {
    let (tx, rx) = passable(1);
    let fds = || tx.descriptors().unwrap();
    refused(Sender::<i64>::attach(fds()), "of another type");
    refused(Sender::<[u8; 8]>::attach(fds()), "of another type");
    refused(Receiver::<u32>::attach(fds()), "of another type");
    refused(spsc::Sender::<u64>::attach(fds()), "another kind");
    let [memory, roll] = two(fds());
    let swapped = Descriptors::from_fds([roll, memory]);
    refused(Sender::<u64>::attach(swapped), "another kind");
    // A table of users, but of other channels'.
    let strange = env::current_exe().and_then(File::open).unwrap();
    let [memory, _roll] = two(fds());
    let mixed = Descriptors::from_fds([memory, strange.into()]);
    refused(Sender::<u64>::attach(mixed), "not a file in memory");
    let [_memory, roll] = two(fds());
    let (reader, _writer) = io::pipe().unwrap();
    let piped = Descriptors::from_fds([reader.into(), roll]);
    refused(Sender::<u64>::attach(piped), "not a file in memory");
    // A file that could be cut off.
    let [memory, roll] = two(fds());
    let memory = File::from(memory);
    let copy = memfd();
    let bytes = memory.metadata().unwrap().len();
    let mut page = [0; 4096];
    memory.read_exact_at(&mut page, bytes - 4096).unwrap();
    copy.set_len(bytes).unwrap();
    copy.write_all_at(&page, bytes - 4096).unwrap();
    let unsealed = Descriptors::from_fds([copy.into(), roll]);
    refused(Sender::<u64>::attach(unsealed), "not sealed");
    // A file whose pages could be taken away, and not be had again.
    match huge_memfd() {
        Some(huge) => {
            let [_memory, roll] = two(fds());
            let huge = Descriptors::from_fds([huge.into(), roll]);
            refused(Sender::<u64>::attach(huge), "huge pages");
        }
        None => println!("no file in huge pages to be had here: not tried"),
    }
    // The size is sealed for those who have the right one, too.
    assert!(memory.set_len(0).is_err() && memory.set_len(bytes * 2).is_err());
    tx.send(5).unwrap();
    assert_eq!(rx.recv(), Ok(5));
}

fn a_label_written_over_is_refused() {
    let (tx, rx) = passable(4);
    let [memory, _roll] = two(tx.descriptors().unwrap());
    let memory = File::from(memory);
    let at = memory.metadata().unwrap().len() - 4096;
    // Every byte of it: magic, version, kind, capacity, size, alignment and name of the values, delivery, arena, roll, eventfds.
    for byte in 0..88 {
        let mut before = [0];
        memory.read_exact_at(&mut before, at + byte).unwrap();
        memory.write_all_at(&[!before[0]], at + byte).unwrap();
        let result = Sender::<u64>::attach(tx.descriptors().unwrap());
        assert!(
            result.is_err_and(|error| error.is_mismatch() || error.is_capacity()),
            "byte {byte}"
        );
        memory.write_all_at(&before, at + byte).unwrap();
    }
    let again = Sender::<u64>::attach(tx.descriptors().unwrap()).unwrap();
    again.send(6).unwrap();
    assert_eq!(rx.recv(), Ok(6));
}

fn an_attached_receiver_redelivers_like_the_others() {
    let builder = Builder::new().capacity(2).in_memfd();
    let builder = builder.delivery(Delivery::AtLeastOnce);
    let (tx, rx) = builder.build::<u64>().unwrap();
    tx.send(4).unwrap();
    // Takes the message and is killed with it in its hands.
    let (ready_tx, ready) = passable(1);
    let channels = [rx.descriptors().unwrap(), ready_tx.descriptors().unwrap()];
    let mut other = execute("hold", &channels, &[]);
    assert_eq!(ready.recv(), Ok(1));
    other.kill().unwrap();
    other.wait().unwrap();
    let attached = Receiver::<u64>::attach(tx.descriptors().unwrap()).unwrap();
    let message = attached.recv_ref().unwrap();
    assert_eq!(*message, 4);
    assert!(message.redelivered());
    message.give_back();
    assert!(rx.recv_delivery().unwrap().redelivered());
}

fn messages_of_any_size_go_to_an_executed_program() {
    let builder = Builder::new().capacity(2).in_memfd().arena_bytes(1 << 20);
    let again = builder.clone().delivery(Delivery::AtLeastOnce);
    let (jobs, jobs_rx) = again.build_messages::<Vec<String>>().unwrap();
    let (answers_tx, answers) = builder.build_bytes().unwrap();
    let channels = [
        jobs_rx.descriptors().unwrap(),
        answers_tx.descriptors().unwrap(),
    ];
    let mut first = execute("letters", &channels, &[]);
    for parts in [1, 3, 1_000] {
        let job = vec!["part".to_owned(); parts];
        jobs.send(&job).unwrap();
        assert_eq!(answers.recv().unwrap(), job.concat().as_bytes());
    }
    // Killed with this one in its hands; the next program gets it, whole.
    let held = vec!["hold".to_owned(); 5_000];
    jobs.send(&held).unwrap();
    assert_eq!(answers.recv().unwrap(), held.concat().as_bytes());
    first.kill().unwrap();
    first.wait().unwrap();
    let mut second = execute("letters", &channels, &[]);
    assert_eq!(answers.recv().unwrap(), held.concat().as_bytes());
    jobs.close();
    assert!(second.wait().unwrap().success());
    assert_eq!((jobs.arena_used(), answers.arena_used()), (0, 0));
}

fn channels_of_messages_are_told_apart() {
    let builder = Builder::new().capacity(2).in_memfd();
    let (tx, _rx) = builder.build_bytes().unwrap();
    let fds = || tx.descriptors().unwrap();
    refused(MessageReceiver::<u8>::attach(fds()), "another kind");
    refused(Sender::<u8>::attach(fds()), "another kind");
    let (values, values_rx) = builder.build_messages::<String>().unwrap();
    let fds = || values.descriptors().unwrap();
    refused(BytesReceiver::attach(fds()), "another kind");
    refused(MessageSender::<Vec<u8>>::attach(fds()), "of another type");
    let other = MessageSender::<String>::attach(fds()).unwrap();
    other.send(&"x".repeat(9_000)).unwrap();
    assert_eq!(values_rx.recv().unwrap().len(), 9_000);
    let (plain, _rx) = multi_chan::bytes(1).unwrap();
    assert!(plain.descriptors().unwrap_err().is_not_passable());
}

fn channels_that_can_be_passed_leave_nothing_behind() {
    drop(passable(4));
    let before = holdings();
    for value in 0..1_000 {
        let (tx, rx) = passable(4);
        let other = Sender::<u64>::attach(rx.descriptors().unwrap()).unwrap();
        drop(tx);
        other.send(value).unwrap();
        assert_eq!(rx.recv(), Ok(value));
    }
    for value in 0..200 {
        let (tx, rx) = pollable(4).build::<u64>().unwrap();
        let other = Sender::<u64>::attach(rx.descriptors().unwrap()).unwrap();
        drop(tx);
        let mut readiness = rx.readiness().unwrap();
        assert!(readiness.arm().unwrap());
        other.send(value).unwrap();
        assert_eq!(rx.recv(), Ok(value));
    }
    assert_eq!(holdings(), before);
}

fn pollable(capacity: usize) -> Builder {
    let builder = Builder::new().capacity(capacity);
    builder.in_memfd().pollable(true)
}

fn poll_loops_of_two_programs_miss_no_message() {
    let (tx, job_rx) = pollable(2).build::<u64>().unwrap();
    let (result_tx, mut rx) = pollable(1).build_spsc::<u64>().unwrap();
    let channels = [
        job_rx.descriptors().unwrap(),
        result_tx.descriptors().unwrap(),
    ];
    let mut other = execute("poll", &channels, &[]);
    let rx = rx.shared();
    let mut from = rx.readiness().unwrap();
    let mut to = tx.readiness().unwrap();
    for value in 0..400 {
        if value % 16 == 0 {
            pause(value / 100);
        }
        assert!(poll::send(&tx, &mut to, value));
        assert_eq!(lent::next(&rx, &mut from), Some(2 * value));
    }
    drop(to);
    drop((tx, job_rx, result_tx));
    assert_eq!(lent::next(&rx, &mut from), None);
    assert!(other.wait().unwrap().success());
}

fn messages_of_any_size_go_to_another_programs_poll_loop() {
    let builder = pollable(1).arena_bytes(8 << 12);
    let (jobs, jobs_rx) = builder.build_bytes().unwrap();
    let (answers_tx, answers) = builder.build_bytes().unwrap();
    let channels = [
        jobs_rx.descriptors().unwrap(),
        answers_tx.descriptors().unwrap(),
    ];
    let mut other = execute("answer", &channels, &[]);
    for number in 0..200 {
        // Several on their way at a time.
        let letter = vec![number as u8; [50, 4_000, 30_000][number % 3]];
        jobs.send(&letter).unwrap();
        if number % 20 == 0 {
            pause(2);
        }
        assert_eq!(answers.recv().unwrap(), letter);
    }
    jobs.close();
    drop(answers_tx);
    assert!(other.wait().unwrap().success() && answers.recv().is_err());
    assert_eq!((jobs.arena_used(), answers.arena_used()), (0, 0));
}

fn a_poll_loop_hears_of_another_programs_death() {
    let (tx, job_rx) = pollable(1).build::<u64>().unwrap();
    let (result_tx, mut rx) = pollable(1).build_spsc::<u64>().unwrap();
    let channels = [
        job_rx.descriptors().unwrap(),
        result_tx.descriptors().unwrap(),
    ];
    // Armed before the other program is there: it is told of its coming.
    let rx = rx.shared();
    let mut from = rx.readiness().unwrap();
    assert!(from.arm().unwrap());
    let mut other = execute("poll", &channels, &[]);
    tx.send(1).unwrap();
    assert_eq!(lent::next(&rx, &mut from), Some(2));
    drop((channels, job_rx, result_tx));
    let killer = fork(|| {
        pause(40);
        support::signal(other.id(), libc::SIGKILL);
    });
    assert_eq!(lent::next(&rx, &mut from), None);
    killer.join();
    assert_eq!(other.wait().unwrap().signal(), Some(libc::SIGKILL));
    let mut to = tx.readiness().unwrap();
    while poll::send(&tx, &mut to, 3) {}
    assert!(tx.send(3).unwrap_err().is_disconnected());
}

fn a_poll_loop_hears_what_another_program_died_of_telling() {
    for _ in 0..5 {
        let (tx, rx) = pollable(1).build::<u64>().unwrap();
        let looping = fork(|| {
            let mut from = rx.readiness().unwrap();
            assert_eq!(poll::next(&rx, &mut from), Some(13));
            assert_eq!(poll::next(&rx, &mut from), None);
        });
        while !looping.is_asleep() {
            pause(1);
        }
        let mut other = execute("bumped", &[tx.descriptors().unwrap()], &[]);
        assert_eq!(other.wait().unwrap().signal(), Some(libc::SIGKILL));
        drop(tx);
        looping.join();
    }
}

fn eventfds_that_are_not_the_channels_are_refused() {
    let (tx, rx) = pollable(2).build::<u64>().unwrap();
    let (other, _rx) = pollable(2).build::<u64>().unwrap();
    let (plain, _rx) = passable(2);
    let fds = || tx.descriptors().unwrap().into_fds();
    let attach = |fds: Vec<OwnedFd>| Sender::<u64>::attach(Descriptors::from_fds(fds));
    let mut swapped = fds();
    swapped.swap(2, 3);
    refused(attach(swapped), "another channel's");
    for place in [2, 3] {
        let mut mixed = fds();
        mixed[place] = other.descriptors().unwrap().into_fds().swap_remove(place);
        refused(attach(mixed), "another channel's");
        let mut piped = fds();
        piped[place] = io::pipe().unwrap().1.into();
        refused(attach(piped), "another channel's");
        // Not a count, but something that has one.
        let mut filed = fds();
        filed[place] = memfd().into();
        refused(attach(filed), "another channel's");
    }
    for count in 0..4 {
        refused(attach(fds().into_iter().take(count).collect()), "takes two");
    }
    let both = fds().into_iter().skip(2);
    let plain_fds = plain.descriptors().unwrap().into_fds();
    refused(attach(plain_fds.into_iter().chain(both).collect()), "two");
    let again = attach(fds()).unwrap();
    again.send(6).unwrap();
    assert_eq!(rx.recv(), Ok(6));
    // SAFETY: no descriptor has this number.
    assert!(unsafe { Descriptors::inherited([-1]) }.is_err());
}
