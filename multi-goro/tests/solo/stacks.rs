//! Stacks: what ends them, how many there can be, what they give back.

use super::*;

#[expect(unconditional_recursion, reason = "overflows on purpose")]
pub(super) fn dive(depth: usize) -> usize {
    let frame = std::hint::black_box([depth; 32]);
    dive(depth + 1) + frame[7]
}

pub(super) fn overflow() {
    let mut group = Group::new();
    group.go_with(multi_goro::TaskOptions::new().name("deep"), || {
        std::hint::black_box(dive(0));
        Ok(())
    });
    drop(group.wait());
}

pub(super) fn overflow_of_a_thread() {
    Group::new().wait().expect("nothing to wait for");
    let thread = std::thread::spawn(|| std::hint::black_box(dive(0)));
    drop(thread.join());
}

pub(super) fn overflow_in_joins() {
    fn dive(depth: usize) -> usize {
        let (a, b) = multi_goro::join(|| dive(depth + 1), || std::hint::black_box(depth));
        a + b
    }
    let mut group = Group::new();
    group.go_with(multi_goro::TaskOptions::new().name("joins"), || {
        std::hint::black_box(dive(0));
        Ok(())
    });
    drop(group.wait());
}

#[expect(unsafe_code, reason = "faults on purpose")]
pub(super) fn wild_access() {
    let mut group = Group::new();
    group.go(|| {
        // SAFETY: none: the fault is the test.
        unsafe { std::ptr::without_provenance::<u8>(64).read_volatile() };
        Ok(())
    });
    drop(group.wait());
}

pub(super) fn overflow_of(bytes: usize) {
    let mut group = Group::builder()
        .stack_bytes(bytes)
        .build()
        .expect("a group");
    group.go(|| {
        std::hint::black_box(dive(0));
        Ok(())
    });
    drop(group.wait());
}

/// Bytes of memory that are there.
pub(super) fn resident() -> usize {
    let status = std::fs::read_to_string("/proc/self/statm").expect("proc");
    let pages = status.split(' ').nth(1).and_then(|n| n.parse().ok());
    4096 * pages.unwrap_or(0_usize)
}

#[cfg(all(target_arch = "x86_64", not(feature = "portable-switch")))]
pub(super) fn deep_and_waiting() {
    const TASKS: usize = 600;
    /// Uses 40 KiB below `top`.
    fn deep(top: usize) -> usize {
        let frame = std::hint::black_box([1_u8; 256]);
        if top - frame.as_ptr().addr() > 40 << 10 {
            return 0;
        }
        deep(top) + usize::from(std::hint::black_box(&frame)[5])
    }
    let runtime = Runtime::builder().workers(1).build().expect("a worker");
    let before = resident();
    let (tx, rx) = chan::<()>(0);
    let mut group = runtime.group();
    let (dived, dives) = std::sync::mpsc::channel();
    for nth in 0..TASKS {
        let (rx, dived) = (rx.clone(), dived.clone());
        group.go(move || {
            let kept = std::hint::black_box([nth; 300]);
            for _ in 0..2 {
                assert!(deep(kept.as_ptr().addr()) > 10);
                dived.send(())?;
                rx.recv()?;
                assert!(kept.iter().all(|word| *word == nth));
            }
            Ok(())
        });
    }
    let per_task = || resident().saturating_sub(before) / TASKS;
    for _ in 0..2 {
        assert_eq!(dives.iter().take(TASKS).count(), TASKS);
        // Of some 44 KiB.
        while per_task() > 16 << 10 {
            std::thread::sleep(Duration::from_millis(20));
        }
        for _ in 0..TASKS {
            tx.send(()).expect("somebody waits");
        }
    }
    group.wait().expect("what the tasks kept is there");
}

pub(super) fn mappings() -> usize {
    let maps = std::fs::read_to_string("/proc/self/maps").expect("proc");
    maps.lines().count()
}

/// Starts tasks with small stacks that wait until the sender is dropped, up to `count` or until one fails.
pub(super) fn crowd(runtime: &Runtime, count: usize) -> (Group, multi_goro::Sender<()>) {
    let group = Group::builder()
        .runtime(runtime)
        .stack_bytes(16 << 10)
        .build()
        .expect("a group");
    let (tx, rx) = chan::<()>(0);
    for _ in 0..count {
        let rx = rx.clone();
        group.go(move || {
            assert!(rx.recv().is_err());
            Ok(())
        });
        if group.progress().failed > 0 {
            break;
        }
    }
    (group, tx)
}

pub(super) fn many_guarded_stacks() {
    const TASKS: u64 = 40_000;
    let runtime = Runtime::builder().workers(2).build().expect("two workers");
    let before = mappings();
    let (mut group, tx) = crowd(&runtime, TASKS as usize);
    while group.progress().running < TASKS && group.progress().failed == 0 {
        std::thread::sleep(Duration::from_millis(1));
    }
    assert_eq!(group.progress().failed, 0);
    // On kernels without guards inside mappings each is one of its own, and this is above their ceiling.
    assert!(mappings() < before + 100, "{} mappings", mappings());
    drop(tx);
    group.wait().expect("they all end");
}

/// Has the kernel refuse guards inside mappings, one by one or many at a time, as it did before Linux 6.13.
#[cfg(target_arch = "x86_64")]
#[expect(unsafe_code, reason = "installs a filter of system calls")]
pub(super) fn refuse_guards() {
    const GUARD_INSTALL: u32 = 102;
    let code = |code: u32| u16::try_from(code).expect("a code");
    let load = |offset| libc::sock_filter {
        code: code(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS),
        jt: 0,
        jf: 0,
        k: offset,
    };
    let unless = |k, jf| libc::sock_filter {
        code: code(libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K),
        jt: 0,
        jf,
        k,
    };
    let when = |k, jt| libc::sock_filter { jt, ..unless(k, 0) };
    let answer = |k| libc::sock_filter {
        code: code(libc::BPF_RET | libc::BPF_K),
        jt: 0,
        jf: 0,
        k,
    };
    // struct seccomp_data: the number of the call, .., its arguments from byte 16 on.
    let mut filter = [
        load(0),
        when(libc::SYS_process_madvise as u32, 3),
        unless(libc::SYS_madvise as u32, 3),
        load(16 + 2 * 8),
        unless(GUARD_INSTALL, 1),
        answer(libc::SECCOMP_RET_ERRNO | libc::EINVAL as u32),
        answer(libc::SECCOMP_RET_ALLOW),
    ];
    let program = libc::sock_fprog {
        len: filter.len() as u16,
        filter: filter.as_mut_ptr(),
    };
    // SAFETY: takes numbers only.
    let set = unsafe { libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) };
    assert_eq!(set, 0);
    // SAFETY: the program is alive for the call.
    let installed = unsafe {
        libc::prctl(
            libc::PR_SET_SECCOMP,
            libc::SECCOMP_MODE_FILTER,
            &raw const program,
        )
    };
    assert_eq!(installed, 0);
}

#[cfg(target_arch = "x86_64")]
pub(super) fn ceiling_of_mappings() {
    let ceiling = std::fs::read_to_string("/proc/sys/vm/max_map_count").expect("proc");
    let ceiling: usize = ceiling.trim().parse().expect("a number");
    if ceiling > 200_000 {
        // Out of reach here.
        return;
    }
    refuse_guards();
    let runtime = Runtime::builder().workers(2).build().expect("two workers");
    let (mut group, tx) = crowd(&runtime, ceiling);
    while group.progress().failed == 0 {
        std::thread::sleep(Duration::from_millis(1));
    }
    let running = group.progress().running;
    assert!(
        running as usize > ceiling / 2 - 1000,
        "{running} have a stack"
    );
    drop(tx);
    let text = group.wait().expect_err("stacks for all").to_string();
    assert!(
        text.contains("no stack of 16384 bytes for the task"),
        "{text}"
    );
    assert!(text.contains("vm.max_map_count"), "{text}");
    // The stacks of those that ran serve the next.
    for _ in 0..1000 {
        group.go(|| Ok(()));
    }
    group.wait().expect("stacks that are free again");
}

#[cfg(not(feature = "portable-switch"))]
pub(super) fn backtrace() {
    let mut group = Group::new();
    group.go(|| {
        let text = std::backtrace::Backtrace::force_capture().to_string();
        let frames: Vec<_> = text
            .lines()
            .filter(|line| !line.trim_start().starts_with("at "))
            .collect();
        let last = frames.last().expect("some frames");
        assert!(last.contains("root"), "{text}");
        Ok(())
    });
    group.wait().expect("the backtrace ends where it should");
}
