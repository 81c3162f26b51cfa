//! The machine the figures are of.

use std::fs;
use std::thread;

/// What a reader needs to know of the machine to judge a figure.
#[derive(Debug, Clone, PartialEq)]
pub struct Machine {
    /// As Rust names it, such as `linux`.
    pub os: &'static str,
    /// As Rust names it, such as `x86_64`.
    pub arch: &'static str,
    /// The processor's name, if the system tells.
    pub cpu: Option<String>,
    /// How many processors this process may use: affinity and the control group's quota count.
    pub ncpu: usize,
    /// The one-minute load average before the run: above 0.5 somebody else was busy.
    pub load_before: Option<f64>,
}

impl Machine {
    /// The machine this runs on, as it is now.
    #[must_use]
    pub fn here() -> Self {
        Self {
            os: std::env::consts::OS,
            arch: std::env::consts::ARCH,
            cpu: fs::read_to_string("/proc/cpuinfo")
                .ok()
                .and_then(|text| cpu_name(&text)),
            ncpu: thread::available_parallelism().map_or(1, usize::from),
            load_before: fs::read_to_string("/proc/loadavg")
                .ok()
                .and_then(|text| text.split(' ').next()?.parse().ok()),
        }
    }
}

fn cpu_name(cpuinfo: &str) -> Option<String> {
    let line = cpuinfo
        .lines()
        .find(|line| line.starts_with("model name"))?;
    Some(line.split_once(':')?.1.trim().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_processor_is_named() {
        assert_eq!(
            cpu_name("processor\t: 0\nmodel name\t: A CPU @ 3 GHz\n").as_deref(),
            Some("A CPU @ 3 GHz")
        );
        assert_eq!(cpu_name(""), None);
    }

    #[test]
    fn there_is_at_least_one_processor() {
        assert!(Machine::here().ncpu >= 1);
    }
}
