//! Shared buffers: what travels in a pool's jobs without being copied, who may look at it, and when its memory is free again.

use crate::pool::residue;
use crate::support::{Test, build as group_of, group, quick, sys};
use crate::tests;
use multi_proc::{
    Pool, PoolBuilder, Result, SharedBuffer, SharedBufferMut, TaskOptions, shared_token,
};
use std::sync::Mutex;
use std::time::Duration;

pub(crate) const TESTS: &[Test] = &tests![
    buffer_lies_where_it_was_written_on_both_sides,
    buffers_of_any_size_and_type_come_home,
    many_buffers_in_one_job_come_in_order,
    argument_is_as_it_was_after_its_worker_died,
    worker_cannot_write_to_what_others_made,
    job_may_return_its_argument,
    buffer_of_an_earlier_job_is_refused,
    what_a_job_keeps_is_not_written_over,
    value_may_be_the_next_jobs_argument,
    buffer_elsewhere_is_refused_and_says_where_it_may_go,
    decoding_other_bytes_finds_only_buffers_of_the_job,
    room_is_bounded_and_comes_back,
    buffers_of_dead_workers_are_free_again,
    values_that_nobody_takes_are_free_again,
    worker_that_takes_over_leaves_its_predecessors_values_alone,
    memory_of_large_buffers_is_given_back,
    buffer_outlives_its_pool,
    handle_in_a_forked_child_says_whose_it_is,
    thousands_of_buffers_leave_nothing_behind,
    address_space_of_a_pool_is_in_no_core_dump,
];

#[expect(unsafe_code, reason = "pools of forked workers")]
fn build(builder: PoolBuilder) -> Pool {
    // SAFETY: the tests' other threads hold no lock that a job takes.
    unsafe { builder.grace(Duration::from_millis(100)).fork() }.unwrap()
}

fn pool(workers: usize) -> Pool {
    build(Pool::builder().workers(workers))
}

/// Bytes that tell their place and `seed`.
fn pattern(at: usize, seed: usize) -> u8 {
    (at.wrapping_mul(31) ^ at >> 12 ^ seed) as u8
}

fn filled(pool: &Pool, len: usize, seed: usize) -> SharedBuffer {
    let mut buffer = pool.buffer(len).unwrap();
    fill(&mut buffer, seed);
    buffer.freeze()
}

fn fill(bytes: &mut [u8], seed: usize) {
    for (at, byte) in bytes.iter_mut().enumerate() {
        *byte = pattern(at, seed);
    }
}

fn is_filled(bytes: &[u8], seed: usize) -> bool {
    (bytes.iter().enumerate()).all(|(at, byte)| *byte == pattern(at, seed))
}

fn make((len, seed): (usize, usize)) -> Result<SharedBuffer> {
    let mut buffer = SharedBufferMut::new(len)?;
    fill(&mut buffer, seed);
    Ok(buffer.freeze())
}

fn check((buffer, seed): (SharedBuffer, usize)) -> Result<bool> {
    Ok(is_filled(&buffer, seed))
}

fn buffer_lies_where_it_was_written_on_both_sides() {
    let pool = pool(1);
    let argument = filled(&pool, 3_000_000, 1);
    let here = argument.as_ptr().addr();
    // In a forked worker the mapping is where it is in its parent.
    let look = |argument: SharedBuffer| {
        let value = make((argument.len(), 2))?;
        Ok((argument.as_ptr().addr(), value.as_ptr().addr(), value))
    };
    let (there, made, value) = pool.call(look, argument).unwrap();
    assert_eq!(there, here);
    assert_eq!(value.as_ptr().addr(), made);
    assert!(is_filled(&value, 2));
}

fn buffers_of_any_size_and_type_come_home() {
    let pool = pool(2);
    for len in [0, 1, 4_095, 4_097, 65_536, 65_537, 300_000, 1_500_000] {
        let argument = filled(&pool, len, len);
        let value = pool
            .call(
                |(argument, seed): (SharedBuffer, usize)| {
                    assert!(is_filled(&argument, seed));
                    make((argument.len(), seed + 1))
                },
                (argument, len),
            )
            .unwrap();
        assert_eq!(value.len(), len);
        assert!(is_filled(&value, len + 1), "{len} bytes");
    }
    let mut numbers = pool.buffer::<[f32; 3]>(1_000).unwrap();
    numbers.fill([1., 2., 3.]);
    numbers.truncate(10);
    let sum = |rows: SharedBuffer<[f32; 3]>| {
        let mut sums = SharedBufferMut::<f64>::new(3)?;
        sums.fill(0.);
        for row in &*rows {
            for (sum, number) in sums.iter_mut().zip(row) {
                *sum += f64::from(*number);
            }
        }
        Ok(Some(sums.freeze()))
    };
    let sums = pool.call(sum, numbers.freeze()).unwrap().unwrap();
    assert_eq!(*sums, [10., 20., 30.]);
}

fn many_buffers_in_one_job_come_in_order() {
    let pool = pool(1);
    // More than a job's own place can list, and one of them twice.
    let mut buffers: Vec<_> = (0..200).map(|n| filled(&pool, 100, n)).collect();
    buffers.push(buffers[7].clone());
    let back = |buffers: Vec<SharedBuffer>| {
        let right = (0..200).all(|n| is_filled(&buffers[n], n)) && is_filled(&buffers[200], 7);
        let copies = (0..150).map(|n| make((n, n)));
        Ok((right, copies.collect::<Result<Vec<_>>>()?, "x".repeat(900)))
    };
    let (right, copies, text) = pool.call(back, buffers).unwrap();
    assert!(right);
    assert!((0..150).all(|n| is_filled(&copies[n], n) && copies[n].len() == n));
    assert_eq!(text.len(), 900, "at the end of what is read inline");
}

fn argument_is_as_it_was_after_its_worker_died() {
    let first = shared_token().unwrap();
    // Before the workers, so that they have it.
    *GATE.lock().unwrap() = Some(first);
    let pool = build(Pool::builder().workers(1).attempts(3));
    let argument = filled(&pool, 200_000, 5);
    let die_once = |argument: SharedBuffer| {
        let gate = GATE.lock().unwrap().clone().ok_or("no gate")?;
        let is_whole = is_filled(&argument, 5);
        if !gate.is_cancelled() {
            gate.cancel();
            let _made = make((100_000, 6))?;
            sys::raise(sys::SIGKILL);
        }
        Ok((is_whole, argument))
    };
    let (is_whole, back) = pool.call(die_once, argument).unwrap();
    assert!(is_whole && is_filled(&back, 5));
    assert_eq!(pool.status().retried, 1);
}

static GATE: Mutex<Option<multi_proc::CancelToken>> = Mutex::new(None);

#[expect(unsafe_code, reason = "what a stray pointer does")]
fn scribble(at: *const u8) {
    // SAFETY: none: that it ends the process is what is tested, and this is all that it does.
    unsafe { at.cast_mut().write_volatile(99) };
}

fn worker_cannot_write_to_what_others_made() {
    let pool = build(Pool::builder().workers(1).attempts(1));
    let parents = filled(&pool, 100_000, 3);
    let error = pool
        .call(
            |it: SharedBuffer| {
                scribble(it.as_ptr());
                Ok(())
            },
            parents.clone(),
        )
        .unwrap_err();
    assert!(error.to_string().contains("killed by SIGSEGV"), "{error}");
    assert!(is_filled(&parents, 3));
    // Its own it can.
    let own = |()| {
        let made = make((100_000, 4))?;
        scribble(made.as_ptr());
        Ok(made)
    };
    assert_eq!(pool.call(own, ()).unwrap()[0], 99);
}

fn job_may_return_its_argument() {
    let pool = pool(2);
    let argument = filled(&pool, 70_000, 1);
    let here = argument.as_ptr();
    let back = pool
        .call(|it: SharedBuffer| Ok((it.clone(), it)), argument)
        .unwrap();
    assert_eq!((back.0.as_ptr(), back.1.as_ptr()), (here, here));
    assert!(is_filled(&back.0, 1));
}

/// What a worker keeps from one job to the next.
static KEPT: Mutex<Vec<SharedBuffer>> = Mutex::new(Vec::new());

fn keep(buffer: SharedBuffer) -> Result<()> {
    KEPT.lock().unwrap().push(buffer);
    Ok(())
}

fn kept(_: ()) -> Result<Vec<SharedBuffer>> {
    Ok(std::mem::take(&mut *KEPT.lock().unwrap()))
}

fn buffer_of_an_earlier_job_is_refused() {
    let pool = pool(1);
    pool.call(keep, filled(&pool, 1_000, 1)).unwrap();
    let error = pool.call(kept, ()).unwrap_err().to_string();
    assert!(error.contains("came with an earlier job"), "{error}");
    // Nor what the worker made and an earlier job returned.
    let make_and_keep = |()| {
        let made = make((1_000, 1))?;
        keep(made.clone())?;
        Ok(made)
    };
    assert!(is_filled(&pool.call(make_and_keep, ()).unwrap(), 1));
    let error = pool.call(kept, ()).unwrap_err().to_string();
    assert!(error.contains("was returned by one"), "{error}");
    // But what no job returned.
    pool.call(|()| keep(make((1_000, 9))?), ()).unwrap();
    let late = pool.call(kept, ()).unwrap();
    assert!(is_filled(&late[0], 9));
}

fn what_a_job_keeps_is_not_written_over() {
    let pool = build(Pool::builder().workers(1).shared_bytes_max(400_000));
    pool.call(keep, filled(&pool, 100_000, 1)).unwrap();
    let make_and_keep = |()| {
        let made = make((100_000, 2))?;
        keep(made.clone())?;
        Ok(made)
    };
    drop(pool.call(make_and_keep, ()).unwrap());
    // Both ends make as many as there is room for.
    let others: Vec<_> = (0..2).map(|n| filled(&pool, 100_000, 10 + n)).collect();
    let full = |()| {
        Ok((0..5)
            .map_while(|n| make((100_000, n)).ok())
            .collect::<Vec<_>>()
            .len())
    };
    assert_eq!(pool.call(full, ()).unwrap(), 2);
    let are_whole = |()| {
        let kept = KEPT.lock().unwrap();
        Ok(is_filled(&kept[0], 1) && is_filled(&kept[1], 2))
    };
    assert!(pool.call(are_whole, ()).unwrap());
    assert!((0..2).all(|n| is_filled(&others[n], 10 + n)));
    drop(others);
    assert!(pool.buffer::<u8>(300_000).unwrap_err().is_full());
    pool.call(|()| Ok(KEPT.lock().unwrap().drain(..).count()), ())
        .unwrap();
    drop(pool.buffer::<u8>(300_000).unwrap());
    assert_eq!(pool.call(full, ()).unwrap(), 3);
}

fn value_may_be_the_next_jobs_argument() {
    let pool = pool(3);
    let mut buffer = filled(&pool, 70_000, 0);
    for step in 0..50 {
        let next = |(buffer, step): (SharedBuffer, usize)| {
            assert!(is_filled(&buffer, step));
            make((buffer.len(), step + 1))
        };
        buffer = pool.call(next, (buffer, step)).unwrap();
    }
    assert!(is_filled(&buffer, 50));
    // One for several jobs at once.
    let checks = pool.map(check, (0..50).map(|_| (buffer.clone(), 50)));
    assert!(checks.unwrap().into_iter().all(|right| right));
}

fn buffer_elsewhere_is_refused_and_says_where_it_may_go() {
    const WHERE: &str = "travels in the argument or the value of a pool's job alone";
    let (one, other) = (pool(1), pool(1));
    let buffer = filled(&one, 10, 1);
    assert!(postcard::to_stdvec(&buffer).is_err());
    let given = buffer.clone();
    let mut tasks = group();
    let error = tasks
        .spawn(move || Ok(given))
        .join()
        .unwrap_err()
        .to_string();
    assert!(error.contains(WHERE), "{error}");
    drop(tasks.wait());
    let error = other.call(check, (buffer, 1)).unwrap_err().to_string();
    assert!(error.contains("another pool's"), "{error}");
    let error = SharedBufferMut::<u8>::new(1).unwrap_err().to_string();
    assert!(error.contains("no worker of a pool"), "{error}");
    let wrong = one.call(|()| Ok(postcard::to_stdvec(&make((1, 1))?).is_err()), ());
    assert!(wrong.unwrap(), "in a job, but not of it");
}

fn decoding_other_bytes_finds_only_buffers_of_the_job() {
    let pool = pool(1);
    let (given, secret) = (filled(&pool, 10, 1), filled(&pool, 10, 2));
    let forge = |_given: SharedBuffer| {
        let found = (0_u8..=127).filter_map(|n| postcard::from_bytes::<SharedBuffer>(&[n]).ok());
        Ok(found.map(|buffer| is_filled(&buffer, 1)).collect())
    };
    let found: Vec<bool> = pool.call(forge, given).unwrap();
    assert_eq!(found, [true]);
    assert!(postcard::from_bytes::<SharedBuffer>(&[0]).is_err());
    drop(secret);
}

fn room_is_bounded_and_comes_back() {
    let pool = build(Pool::builder().workers(1).shared_bytes_max(1 << 20));
    for _ in 0..3 {
        let whole = pool.buffer::<u8>(1 << 20).unwrap();
        let error = pool.buffer::<u8>(1).unwrap_err();
        assert!(error.is_full(), "{error}");
        assert!(error.to_string().contains("shared_bytes_max is 1048576"));
        drop(whole);
        let some: Vec<_> = (0..16)
            .map(|_| pool.buffer::<u64>(8_192).unwrap())
            .collect();
        assert!(pool.buffer::<u8>(1).unwrap_err().is_full());
        drop(some);
    }
    let error = pool.buffer::<u8>((1 << 20) + 1).unwrap_err();
    assert!(!error.is_full(), "never: {error}");
    assert!(pool.buffer::<u64>(usize::MAX).is_err());
    // A job whose worker has no more room fails, and says so.
    let error = pool.call(make, (2 << 20, 0)).unwrap_err().to_string();
    assert!(error.contains("shared_bytes_max"), "{error}");
    let none = build(Pool::builder().workers(1).shared_bytes_max(0));
    assert!(none.buffer::<u8>(0).is_err());
    assert_eq!(none.call(|n: u8| Ok(n), 7).unwrap(), 7);
}

fn buffers_of_dead_workers_are_free_again() {
    let builder = Pool::builder().workers(2).attempts(1);
    let pool = build(builder.shared_bytes_max(1 << 20));
    for round in 0..20 {
        // Killed with a draft, with its argument, and with what a job before returned.
        let die = |(argument, seed): (SharedBuffer, usize)| -> Result<SharedBuffer> {
            keep(argument)?;
            keep(make((300_000, seed))?)?;
            let _draft = SharedBufferMut::<u8>::new(300_000)?;
            sys::raise(sys::SIGKILL);
            Err("still here".into())
        };
        let value = pool.call(make, (300_000, round)).unwrap();
        let argument = filled(&pool, 1 << 20, round);
        let error = pool.call(die, (argument, round)).unwrap_err();
        assert!(error.to_string().contains("SIGKILL"), "{error}");
        assert!(is_filled(&value, round), "its worker may be dead");
    }
}

fn values_that_nobody_takes_are_free_again() {
    let builder = Pool::builder().workers(1).shared_bytes_max(1 << 20);
    let mut pool = build(builder);
    for round in 0..10 {
        drop(pool.spawn_fn(make, (1 << 20, round)));
        pool.wait().unwrap();
        // A value that cannot be encoded to its end, and one that cannot be decoded to its end.
        let unfit = |()| Ok((make((1 << 20, 0))?, Picky::Unfit));
        assert!(pool.call(unfit, ()).is_err());
        let undone = |()| Ok((make((1 << 20, 0))?, Picky::Undone));
        assert!(pool.call(undone, ()).is_err());
        let panics = |()| Ok((make((1 << 20, 0))?, Picky::Panics));
        assert!(pool.call(panics, ()).is_err());
    }
    // Arguments that do not come to their job.
    for _ in 0..10 {
        let argument = (filled(&pool, 1 << 20, 0), Picky::Unfit);
        assert!(
            pool.call(|_: (SharedBuffer, Picky)| Ok(()), argument)
                .is_err()
        );
    }
}

/// What does not travel well.
enum Picky {
    Unfit,
    Undone,
    Panics,
}

impl serde::Serialize for Picky {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Unfit => Err(serde::ser::Error::custom("unfit")),
            Self::Undone => serializer.serialize_bool(true),
            Self::Panics => panic!("it panics"),
        }
    }
}

impl<'de> serde::Deserialize<'de> for Picky {
    fn deserialize<D: serde::Deserializer<'de>>(_: D) -> Result<Self, D::Error> {
        Err(serde::de::Error::custom("undone"))
    }
}

fn worker_that_takes_over_leaves_its_predecessors_values_alone() {
    let pool = build(Pool::builder().workers(1).recycle_after(3));
    let values: Vec<_> = pool.map(make, (0..30).map(|n| (80_000, n))).unwrap();
    assert!(pool.status().recycled >= 5);
    assert!((0..30).all(|n| is_filled(&values[n], n)));
}

fn memory_of_large_buffers_is_given_back() {
    let shared = || {
        let status = std::fs::read_to_string("/proc/self/status").unwrap();
        let line = status.lines().find(|line| line.starts_with("RssShmem:"));
        let kib = line.unwrap().split_whitespace().nth(1).unwrap();
        kib.parse::<usize>().unwrap() * 1024
    };
    let pool = pool(1);
    let before = shared();
    let mut buffer = pool.buffer::<u8>(200 << 20).unwrap();
    buffer.fill(1);
    assert!(shared() >= before + (200 << 20));
    drop(buffer.freeze());
    assert!(shared() < before + (100 << 20));
}

fn buffer_outlives_its_pool() {
    let pool = pool(1);
    let argument = filled(&pool, 90_000, 1);
    let value = pool.call(make, (90_000, 2)).unwrap();
    pool.shutdown().unwrap();
    assert!(is_filled(&argument, 1) && is_filled(&value, 2));
}

fn handle_in_a_forked_child_says_whose_it_is() {
    let pool = pool(1);
    let buffer = filled(&pool, 10, 1);
    let copy = buffer.clone();
    let mut tasks = group_of(quick());
    tasks.go(move || {
        drop(copy.clone());
        assert_eq!(copy.first(), None, "it panics before that");
        Ok(())
    });
    let error = tasks.wait().unwrap_err().to_string();
    assert!(
        error.contains("this shared buffer belongs to process"),
        "{error}"
    );
    assert!(is_filled(&buffer, 1));
    assert!(pool.call(check, (buffer, 1)).unwrap());
}

fn thousands_of_buffers_leave_nothing_behind() {
    let pool = build(Pool::builder().workers(2).shared_bytes_max(16 << 20));
    let round = |jobs: usize| {
        let argument = |n: usize| {
            let mut buffer = pool.buffer(500 + n % 3 * 30_000).unwrap();
            *buffer.last_mut().unwrap() = n as u64;
            buffer.freeze()
        };
        let jobs = (0..jobs).map(|n| (argument(n), n));
        let work = |(argument, seed): (SharedBuffer<u64>, usize)| {
            assert_eq!(argument.last(), Some(&(seed as u64)));
            make((100, seed))
        };
        for (index, value) in pool.map_unordered(work, jobs) {
            assert!(is_filled(&value.unwrap(), index));
        }
    };
    round(500);
    let before = residue();
    round(10_000);
    assert_eq!(residue(), before);
    // All of it is free, on both sides.
    drop(pool.buffer::<u8>(16 << 20).unwrap());
    let options = TaskOptions::new().name("all of it");
    drop(pool.call_with(options, make, (16 << 20, 1)).unwrap());
}

fn address_space_of_a_pool_is_in_no_core_dump() {
    let pool = pool(1);
    // A dump would make memory of all of it, with every worker that is killed by a fault.
    let dumped = |()| {
        let maps = std::fs::read_to_string("/proc/self/smaps")?;
        let mut lines = maps.lines();
        let mut dumped = Vec::new();
        while let Some(line) = lines.next() {
            let is_shared = line
                .split(' ')
                .nth(1)
                .is_some_and(|rights| rights.ends_with('s'));
            let mut rest = lines.by_ref().skip_while(|line| !line.starts_with("Size:"));
            let kib = rest.next().and_then(|line| line.split_whitespace().nth(1));
            let kib: u64 = kib.ok_or("no size")?.parse()?;
            let flags = lines.by_ref().find(|line| line.starts_with("VmFlags:"));
            if is_shared && kib > 1 << 20 && !flags.is_some_and(|flags| flags.contains(" dd")) {
                dumped.push(line.to_owned());
            }
        }
        Ok(dumped)
    };
    assert_eq!(pool.call(dumped, ()).unwrap(), Vec::<String>::new());
}
