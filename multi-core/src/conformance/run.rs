//! Runs the rules: one after the other, under a watchdog, each verdict on the record.

use super::{FnSubject, Rule, Subject, Verdict, fn_rules, rules, scenes};
use crate::lock::lock;
use crate::panic;
use libtest_mimic::{Arguments, Failed, Trial};
use std::fs;
use std::io::Write;
use std::process::ExitCode;
use std::sync::{Condvar, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Where verdicts are appended, as lines of JSON.
const REPORT_VARIABLE: &str = "MULTI_CONFORMANCE_REPORT";

/// Time one rule may take: the longest forks ten thousand times in a debug build, on a machine with better things to do.
const RULE_TIME_MAX: Duration = Duration::from_secs(120);

/// The rules of one backend.
#[derive(Debug)]
pub struct Suite {
    name: &'static str,
    rules: Vec<Rule>,
    /// The small programs that some of the rules run in a process of their own.
    play: Option<fn(&str)>,
}

impl Suite {
    /// Every rule, for `S`.
    #[must_use]
    pub fn of<S: Subject>() -> Self {
        let mut rules = rules::<S>();
        rules.extend(fn_rules::<S>());
        Self {
            name: <S as Subject>::NAME,
            rules,
            play: Some(scenes::play::<S>),
        }
    }

    /// The rules of [`SpawnFn`](crate::SpawnFn), for `S`.
    #[must_use]
    pub fn of_functions<S: FnSubject>() -> Self {
        Self {
            name: S::NAME,
            rules: fn_rules::<S>(),
            play: None,
        }
    }
}

/// Runs the suites as a test program does: filters and options are those of `cargo test`.
#[must_use]
pub fn run(suites: &[Suite]) -> ExitCode {
    if let Ok(scene) = std::env::var(scenes::VARIABLE) {
        return play(suites, &scene);
    }
    let mut arguments = Arguments::from_args();
    // On the main thread, one at a time: rules count what the process holds, and some fork.
    arguments.test_threads = Some(1);
    if !arguments.list {
        std::thread::spawn(watch);
    }
    let trials = suites
        .iter()
        .flat_map(|suite| suite.rules.iter().map(|&rule| trial(suite.name, rule)));
    libtest_mimic::run(&arguments, trials.collect()).exit_code()
}

fn play(suites: &[Suite], scene: &str) -> ExitCode {
    for suite in suites {
        let scene = scene.strip_prefix(suite.name);
        if let Some(scene) = scene.and_then(|rest| rest.strip_prefix('/'))
            && let Some(play) = suite.play
        {
            play(scene);
            return ExitCode::SUCCESS;
        }
    }
    ExitCode::FAILURE
}

fn trial(backend: &'static str, rule: Rule) -> Trial {
    Trial::test(format!("{backend}::{}", rule.name), move || {
        let title = format!("{backend}::{}", rule.name);
        *lock(&CURRENT) = Some((title, Instant::now()));
        let outcome = panic::catch(rule.run);
        *lock(&CURRENT) = None;
        let (verdict, reason) = match &outcome {
            Ok(Verdict::Passed) => ("passed", String::new()),
            Ok(Verdict::NotApplicable(reason)) => ("not applicable", (*reason).to_owned()),
            Err(kind) => ("failed", format!("{kind:?}")),
        };
        report(backend, rule, verdict, &reason)?;
        if verdict == "failed" {
            Err(Failed::from(reason))
        } else {
            Ok(())
        }
    })
}

fn report(backend: &str, rule: Rule, verdict: &str, reason: &str) -> Result<(), Failed> {
    let Some(path) = std::env::var_os(REPORT_VARIABLE) else {
        return Ok(());
    };
    let Rule { contract, name, .. } = rule;
    let doc = name.replace('_', " ");
    let line = serde_json::json!({
        "backend": backend, "contract": contract, "rule": name, "verdict": verdict, "reason": reason, "doc": doc,
    });
    let mut file = fs::OpenOptions::new()
        .append(true)
        .create(true)
        .open(path)?;
    writeln!(file, "{line}")?;
    Ok(())
}

/// The rule that runs, and since when.
static CURRENT: Mutex<Option<(String, Instant)>> = Mutex::new(None);
static NEVER: Condvar = Condvar::new();

/// Ends the program when a rule takes longer than any should, and says where each thread waits.
#[expect(
    clippy::print_stderr,
    reason = "the last words of a program that hangs"
)]
fn watch() {
    let mut current = lock(&CURRENT);
    loop {
        current = NEVER
            .wait_timeout(current, Duration::from_millis(500))
            .unwrap_or_else(PoisonError::into_inner)
            .0;
        if let Some((title, since)) = &*current
            && since.elapsed() > RULE_TIME_MAX
        {
            eprintln!("{title} has taken {:?}; its threads:", since.elapsed());
            for task in fs::read_dir("/proc/self/task")
                .into_iter()
                .flatten()
                .flatten()
            {
                let read = |file| fs::read_to_string(task.path().join(file)).unwrap_or_default();
                let (name, wait) = (read("comm"), read("wchan"));
                eprintln!(
                    "  {:?} {} waits in {wait}",
                    task.file_name(),
                    name.trim_end()
                );
            }
            std::process::abort();
        }
    }
}
