//! The benchmarks, one module each: what they measure, and what they set beside it.

pub mod chan;
pub mod goro;
pub mod groups;
pub mod start;

use std::io::IsTerminal as _;

use indicatif::{ProgressBar, ProgressStyle};

/// A bar on standard error where that is a terminal, otherwise nothing.
#[must_use]
pub fn progress_bar() -> ProgressBar {
    if !std::io::stderr().is_terminal() {
        return ProgressBar::hidden();
    }
    let bar = ProgressBar::new(0);
    if let Ok(style) = ProgressStyle::with_template("{bar:40} {pos}/{len} samples, {eta} left") {
        bar.set_style(style);
    }
    bar
}
