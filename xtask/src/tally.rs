//! Sums of the summaries that test binaries print.

use std::fmt;

/// Starts a line of ours that stands for one failure: a test binary that hung or died.
pub(crate) const COUNTED_AS_FAILED: &str = "xtask: counted as failed: ";

/// Tests passed and failed, over any number of test binaries.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(crate) struct Tally {
    pub(crate) passed: u64,
    pub(crate) failed: u64,
    /// How many `test result:` lines were seen.
    pub(crate) summaries: u64,
    /// Each test and binary that failed, as its line names it.
    pub(crate) failures: Vec<String>,
}

impl Tally {
    /// Counts one line of output; most lines count for nothing.
    pub(crate) fn line(&mut self, line: &str) {
        let line = line.trim_end();
        if let Some(trouble) = line.strip_prefix(COUNTED_AS_FAILED) {
            self.failed += 1;
            self.failures.push(trouble.to_owned());
        } else if let Some(name) = failure(line) {
            self.failures.push(name.to_owned());
        } else if let Some((passed, failed)) = summary(line) {
            self.passed += passed;
            self.failed += failed;
            self.summaries += 1;
        }
    }

    /// Adds what another run counted.
    pub(crate) fn add(&mut self, other: Self) {
        self.passed += other.passed;
        self.failed += other.failed;
        self.summaries += other.summaries;
        self.failures.extend(other.failures);
    }

    pub(crate) fn has_summary(&self) -> bool {
        self.summaries > 0
    }
}

/// The lines that end a run: what failed, and `N passed, N failed`.
impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for failure in &self.failures {
            writeln!(f, "failed: {failure}")?;
        }
        write!(f, "{} passed, {} failed", self.passed, self.failed)
    }
}

/// The name in `test NAME ... FAILED`, as libtest, libtest-mimic and rustdoc print it.
fn failure(line: &str) -> Option<&str> {
    let name = line.strip_prefix("test ")?.strip_suffix("FAILED")?;
    Some(name.trim_end().strip_suffix("...")?.trim_end())
}

/// The counts in `test result: ok. 12 passed; 0 failed; ..`, as libtest, libtest-mimic and rustdoc print it.
fn summary(line: &str) -> Option<(u64, u64)> {
    let counts = line.strip_prefix("test result: ")?.split_once(". ")?.1;
    let count = |what: &str| {
        counts
            .split(';')
            .find_map(|part| part.trim().strip_suffix(what)?.trim_end().parse().ok())
    };
    Some((count("passed")?, count("failed")?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn summaries_and_dead_binaries_add_up() {
        let mut tally = Tally::default();
        for line in [
            "running 2 tests",
            "test pool::a_hung_job   ... FAILED",
            "test result: ok. 12 passed; 0 failed; 0 ignored; 0 measured; 0 filtered out; finished in 0.00s\n",
            "test result: FAILED. 3 passed; 2 failed; 0 ignored; 0 measured; 0 filtered out; finished in 1.00s",
            "xtask: counted as failed: target/debug/deps/fork-1 did not end within 300 s",
            "a test that prints test result: ok. 1000 passed; 0 failed",
            "test result: nonsense",
        ] {
            tally.line(line);
        }
        assert_eq!(
            tally,
            Tally {
                passed: 15,
                failed: 3,
                summaries: 2,
                failures: vec![
                    "pool::a_hung_job".to_owned(),
                    "target/debug/deps/fork-1 did not end within 300 s".to_owned(),
                ],
            }
        );
        assert_eq!(
            tally.to_string(),
            "failed: pool::a_hung_job\nfailed: target/debug/deps/fork-1 did not end within 300 s\n15 passed, 3 failed"
        );
    }
}
