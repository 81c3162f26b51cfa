//! A C library call that can crash, hang and eat memory, on input from who knows whom: each call in a process of its own, so that none
//! of this happens to the program. The call is glibc's `regcomp` and `regexec`, which do all three with patterns that are allowed.
//!
//! `cargo run -p multi-proc --example crash_isolation`

#![expect(clippy::print_stdout, reason = "an example speaks to its reader")]
#![expect(
    unsafe_code,
    reason = "C functions, and a group that forks is made by an unsafe constructor"
)]

use multi_proc::{Group, Limits, Result, TaskOptions};
use std::ffi::{CString, c_char};
use std::mem::MaybeUninit;
use std::time::Duration;

/// Whether a POSIX regular expression matches, by the C library: regcomp(3).
fn matches(pattern: &str, text: &str) -> Result<bool> {
    let (pattern, text) = (CString::new(pattern)?, CString::new(text)?);
    let mut compiled = MaybeUninit::<libc::regex_t>::uninit();
    // SAFETY: a place for the result, and a string that ends with NUL.
    let code =
        unsafe { libc::regcomp(compiled.as_mut_ptr(), pattern.as_ptr(), libc::REG_EXTENDED) };
    if code != 0 {
        return Err(complaint(code).into());
    }
    // SAFETY: regcomp returned 0, so it has written the result.
    let mut compiled = unsafe { compiled.assume_init() };
    // SAFETY: a compiled expression, a string that ends with NUL, and no room for the places of matches.
    let code = unsafe {
        libc::regexec(
            &raw const compiled,
            text.as_ptr(),
            0,
            std::ptr::null_mut(),
            0,
        )
    };
    // SAFETY: compiled above, and not used any more.
    unsafe { libc::regfree(&raw mut compiled) };
    Ok(code == 0)
}

/// What the C library says of its error.
fn complaint(code: i32) -> String {
    let mut text = [0_u8; 100];
    let room = text.as_mut_ptr().cast::<c_char>();
    // SAFETY: writes no more than there is room for, and looks at no expression.
    unsafe { libc::regerror(code, std::ptr::null(), room, text.len()) };
    let bytes = text.iter().take_while(|byte| **byte != 0).copied();
    String::from_utf8_lossy(&bytes.collect::<Vec<_>>()).into_owned()
}

fn main() -> Result {
    let nested = "(".repeat(200_000) + "a" + &")".repeat(200_000);
    let inputs = [
        ("letters", "^[a-z]+$".to_owned()),
        ("digits", "^[0-9]+$".to_owned()),
        // More recursion than there is stack.
        ("nested", nested),
        // More ways to try than there is time.
        ("backtracks", r"(a*)(a*)(a*)(a*)(a*)\1\2\3\4\5b".to_owned()),
        // More states than there is memory.
        ("repeats", "(((a{1,255}){1,255}){1,255})".to_owned()),
    ];
    let limits = Limits::new()
        .memory_bytes_max(32 << 20)
        .cpu_time_max(Duration::from_secs(1));
    let builder = Group::builder().limits(limits);
    // SAFETY: this program has one thread.
    let mut group = unsafe { builder.fork() }?;
    let answers = inputs.map(|(name, pattern)| {
        let options = TaskOptions::new().name(name);
        let text = "a".repeat(100);
        (
            name,
            group.spawn_with(options, move || matches(&pattern, &text)),
        )
    });
    for (name, answer) in answers {
        match answer.join() {
            Ok(is_match) => println!("{name}: {is_match}"),
            Err(error) => println!("{name}: {error}"),
        }
    }
    // Each failure has been told.
    if let Err(error) = group.wait() {
        println!(
            "{} of {} calls failed, and the program goes on",
            error.failed_count(),
            error.task_count()
        );
    }
    Ok(())
}
