//! The switch against corosensei: the same programs, the same traces.

#![expect(unsafe_code, reason = "drives the switch by hand")]

use std::cell::{Cell, RefCell};

use super::{prepare, switch};

type Body = Box<dyn FnOnce(&Talk)>;

/// A stack for one test, with the two ends of a conversation: `inside` runs on it, `outside` is the test's own.
struct Talk {
    memory: Vec<u128>,
    outside: Cell<*mut u8>,
    inside: Cell<*mut u8>,
    body: RefCell<Option<Body>>,
    over: Cell<bool>,
}

extern "C" fn entry(talk: *mut ()) -> ! {
    // SAFETY: `Talk::resume` passes a pointer to itself, and outlives the stack.
    let talk = unsafe { &*talk.cast::<Talk>() };
    let body = talk.body.borrow_mut().take().expect("entered once");
    body(talk);
    talk.over.set(true);
    talk.suspend();
    unreachable!("a finished stack is not resumed");
}

impl Talk {
    fn new(body: impl FnOnce(&Talk) + 'static) -> Box<Self> {
        let talk = Box::new(Self {
            memory: vec![0; 16 * 1024],
            outside: Cell::default(),
            inside: Cell::default(),
            body: RefCell::new(Some(Box::new(body))),
            over: Cell::new(false),
        });
        let top = talk.memory.as_ptr_range().end.cast::<u8>().cast_mut();
        let argument = std::ptr::from_ref(&*talk).cast_mut().cast();
        // SAFETY: `top` ends 256 KiB of our own memory, 16-aligned by its element type.
        talk.inside
            .set(unsafe { prepare(top, size_of_val(&*talk.memory), entry, argument) });
        talk
    }

    fn resume(&self) {
        assert!(!self.over.get());
        // SAFETY: `inside` was left by `suspend` or prepared; one thread.
        unsafe { switch(self.outside.as_ptr(), self.inside.get()) };
    }

    fn suspend(&self) {
        // SAFETY: `outside` was left by `resume`; one thread.
        unsafe { switch(self.inside.as_ptr(), self.outside.get()) };
    }
}

fn step(state: u64) -> u64 {
    let x = state ^ (state << 13);
    let x = x ^ (x >> 7);
    x ^ (x << 17)
}

/// A computation that keeps many values live across each suspension, integers and floats, at varying depth.
fn churn(depth: u32, mut state: u64, pause: &dyn Fn(u64)) -> u64 {
    let (mut a, mut b, mut c, mut d, mut e, mut f) = (1u64, 2u64, 3u64, 5u64, 8u64, 13u64);
    let mut x = 0.5f64;
    for _ in 0..4 {
        state = step(state);
        a = a.wrapping_add(state);
        b ^= a.rotate_left(7);
        c = c.wrapping_mul(b | 1);
        pause(state);
        d = d.wrapping_add(c);
        e ^= d;
        f = f.wrapping_add(e);
        #[expect(clippy::cast_precision_loss, reason = "any number will do")]
        {
            x = x.mul_add(0.75, (f >> 40) as f64);
        }
        if depth > 0 {
            f ^= churn(depth - 1, state, pause);
        }
    }
    a ^ b ^ c ^ d ^ e ^ f ^ x.to_bits()
}

#[test]
fn switch_keeps_what_corosensei_keeps() {
    for seed in 1..20u64 {
        let ours = std::rc::Rc::new(RefCell::new(Vec::new()));
        let trace = std::rc::Rc::clone(&ours);
        let talk = Talk::new(move |talk| {
            let end = churn(3, seed, &|value| {
                trace.borrow_mut().push(value);
                talk.suspend();
            });
            trace.borrow_mut().push(end);
        });
        while !talk.over.get() {
            talk.resume();
        }

        let theirs = std::rc::Rc::new(RefCell::new(Vec::new()));
        let trace = std::rc::Rc::clone(&theirs);
        let mut oracle =
            corosensei::Coroutine::new(move |yielder: &corosensei::Yielder<(), ()>, ()| {
                let end = churn(3, seed, &|value| {
                    trace.borrow_mut().push(value);
                    yielder.suspend(());
                });
                trace.borrow_mut().push(end);
            });
        while oracle.resume(()).as_yield().is_some() {}

        assert_eq!(*ours.borrow(), *theirs.borrow(), "seed {seed}");
        assert!(ours.borrow().len() > 300);
    }
}

#[test]
fn fresh_stack_is_aligned_for_calls() {
    #[inline(never)]
    fn aligned() -> bool {
        #[repr(align(16))]
        struct Wide([u8; 16]);
        let wide = Wide([7; 16]);
        std::hint::black_box(&wide);
        (&raw const wide).addr().is_multiple_of(16) && std::hint::black_box(&wide).0[3] == 7
    }
    let seen = std::rc::Rc::new(Cell::new(false));
    let inside = std::rc::Rc::clone(&seen);
    let talk = Talk::new(move |_| {
        // Formatting and floating point use aligned spills.
        inside.set(aligned() && format!("{:.3}", 1.0f64 / 3.0) == "0.333");
    });
    talk.resume();
    assert!(seen.get());
    assert!(talk.over.get());
}

#[test]
fn panic_unwinds_and_is_caught_on_the_fresh_stack() {
    let seen = std::rc::Rc::new(RefCell::new(String::new()));
    let inside = std::rc::Rc::clone(&seen);
    let talk = Talk::new(move |talk| {
        let caught = std::panic::catch_unwind(|| {
            let _keep = String::from("dropped by the unwinding");
            std::panic::resume_unwind(Box::new("out of here"));
        });
        talk.suspend();
        let payload = caught.expect_err("it panicked");
        *inside.borrow_mut() = (*payload.downcast::<&str>().expect("a str")).to_owned();
    });
    talk.resume();
    talk.resume();
    assert_eq!(*seen.borrow(), "out of here");
}

#[cfg(not(feature = "portable-switch"))]
#[test]
fn backtrace_ends_at_the_root() {
    let seen = std::rc::Rc::new(RefCell::new(String::new()));
    let inside = std::rc::Rc::clone(&seen);
    let talk = Talk::new(move |_| {
        *inside.borrow_mut() = std::backtrace::Backtrace::force_capture().to_string();
    });
    talk.resume();
    let text = seen.borrow();
    let frames: Vec<&str> = text
        .lines()
        .filter(|line| !line.trim_start().starts_with("at "))
        .collect();
    let last = frames.last().expect("some frames");
    assert!(last.contains("x86_64::root"), "ends at {last:?} in\n{text}");
}
