//! The examples do what they say.

mod common;

use std::process::Command;

use common::watchdog;

/// What an example prints. It must end well.
fn example(name: &str, args: &[&str]) -> String {
    let _dog = watchdog(120);
    let output = Command::new(env!("CARGO"))
        .args(["run", "--quiet", "--package", "multi-goro"])
        .args(["--example", name, "--"])
        .args(args)
        .output()
        .expect("cargo starts");
    let complaints = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{name} {args:?}: {complaints}");
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// The number that follows `label` in a line of `text`.
fn number(text: &str, label: &str) -> u64 {
    text.lines()
        .find_map(|line| line.strip_prefix(label))
        .and_then(|rest| rest.split_whitespace().next())
        .and_then(|number| number.parse().ok())
        .unwrap_or_else(|| panic!("no {label:?} in {text}"))
}

#[test]
fn pipeline_measures_every_stage() {
    for kind in [&[][..], &["--stackless"], &["--go-when"]] {
        let text = example("pipeline", &[&["500"], kind].concat());
        assert!(text.starts_with("500 stages\n"), "{text}");
        for label in [
            "created, first value: ",
            "transit of a value:   ",
            "memory:               ",
        ] {
            assert!(number(&text, label) > 0, "{text}");
        }
    }
}

#[test]
fn tasks_wait_by_the_thousand() {
    for kind in [&[][..], &["--stackful"], &["--own-channels"]] {
        let text = example("million", &[&["2000"], kind].concat());
        assert!(text.starts_with("2000 tasks\n"), "{text}");
        for label in [
            "created and waiting: ",
            "memory:              ",
            "woken and ended:     ",
        ] {
            assert!(number(&text, label) > 0, "{text}");
        }
    }
}

#[test]
fn ping_pong_plays_on_green_tasks_and_on_threads() {
    let text = example("ping_pong", &["5"]);
    for row in [
        "green, workers: 1 ",
        "green, workers: 2 ",
        "one on a thread ",
        "both on threads ",
    ] {
        assert!(number(&text, row) > 0, "{text}");
    }
}

#[test]
fn workers_sweep_paints_the_same_picture_on_all() {
    let text = example("workers_sweep", &["30"]);
    assert!(text.starts_with("30 tasks, "), "{text}");
    let workers: Vec<u64> = text
        .lines()
        .skip(1)
        .map(|line| number(line, "workers: "))
        .collect();
    assert_eq!(workers, [1, 2, 4, 8]);
}

#[test]
fn producers_and_consumers_agree_on_the_count() {
    for args in [["3", "2", "20"], ["1", "0", "3"], ["0", "2", "1"]] {
        let text = example("producer_consumer", &args);
        let [producers, _, parcels] = args.map(|arg| arg.parse::<u64>().unwrap());
        assert!(
            text.starts_with(&format!("{} parcels: ", producers * parcels)),
            "{text}"
        );
    }
}

#[test]
fn sieve_finds_primes() {
    assert_eq!(example("sieve", &["6"]), "2\n3\n5\n7\n11\n13\n");
}

#[test]
fn main_loop_draws_what_tasks_ask_for() {
    let text = example("main_loop", &[]);
    assert!(text.starts_with("136 shapes drawn in "), "{text}");
}

#[test]
fn requests_to_a_thread_are_measured_each_way() {
    let text = example("syscall_server", &["200"]);
    assert!(text.starts_with("ns per request"), "{text}");
    assert_eq!(text.lines().count(), 5, "{text}");
}
