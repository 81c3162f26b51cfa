//! The plan of a benchmark whose contenders are processes of their own: what is measured, by whom, and what is aimed at.

use std::time::Duration;

use crate::Result;
use crate::report::Unit;
use crate::sheet::Target;

/// One work, in variants.
pub(crate) struct Part {
    /// What `--only` looks at.
    pub(crate) name: &'static str,
    /// A sheet each.
    pub(crate) figures: Vec<Figure>,
    /// What the rounds of one variant may take.
    pub(crate) budget: Duration,
    pub(crate) variants: Vec<Variant>,
}

/// One figure of a sample.
pub(crate) struct Figure {
    pub(crate) name: &'static str,
    pub(crate) title: &'static str,
    pub(crate) unit: Unit,
}

/// A line of each of the part's sheets.
pub(crate) struct Variant {
    pub(crate) label: String,
    /// What the contenders are asked, see [`Job`](crate::job::Job).
    pub(crate) job: String,
    pub(crate) contenders: &'static [&'static str],
    pub(crate) way: Way,
    /// An answer that takes longer counts as a hang.
    pub(crate) patience: Duration,
    /// Figure, contender, target.
    pub(crate) targets: Vec<(&'static str, &'static str, Target)>,
}

/// How samples are taken.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Way {
    /// All samples of a contender from one process, which is warm.
    Turns,
    /// A process for each sample, which has no memory of the ones before; so many samples.
    Fresh(usize),
}

pub(crate) const fn figure(name: &'static str, title: &'static str, unit: Unit) -> Figure {
    Figure { name, title, unit }
}

impl Variant {
    pub(crate) fn new(
        label: impl Into<String>,
        job: impl Into<String>,
        contenders: &'static [&'static str],
    ) -> Self {
        Self {
            label: label.into(),
            job: job.into(),
            contenders,
            way: Way::Turns,
            patience: Duration::from_secs(20),
            targets: vec![],
        }
    }

    /// A target of the first contender, who is ours.
    pub(crate) fn target(self, figure: &'static str, target: Target) -> Self {
        let ours = self.contenders[0];
        self.target_of(ours, figure, target)
    }

    pub(crate) fn target_of(
        mut self,
        who: &'static str,
        figure: &'static str,
        target: Target,
    ) -> Self {
        self.targets.push((figure, who, target));
        self
    }

    /// A process for each of so many samples.
    pub(crate) fn fresh(mut self, samples: usize, patience: Duration) -> Self {
        self.way = Way::Fresh(samples);
        self.patience = patience;
        self
    }

    pub(crate) fn patience(mut self, patience: Duration) -> Self {
        self.patience = patience;
        self
    }
}

/// Keeps the parts whose names contain one of these words; all of them where there is none.
///
/// # Errors
///
/// If none is left.
pub(crate) fn only(parts: &mut Vec<Part>, words: &[String], names: &[&str]) -> Result {
    if !words.is_empty() {
        parts.retain(|part| words.iter().any(|word| part.name.contains(&**word)));
    }
    if parts.is_empty() {
        let names = names.join(", ");
        return Err(format!("no part of that name; there are: {names}").into());
    }
    Ok(())
}

/// What holds of every plan: its parts have the names that are told, their jobs are such `workloads` and can be read, and targets name figures of
/// their part and contenders of their variant.
#[cfg(test)]
pub(crate) fn check(parts: &[Part], names: &[&str], workloads: impl Fn(&str) -> bool) {
    let told: Vec<_> = parts.iter().map(|part| part.name).collect();
    assert_eq!(told, names);
    for part in parts {
        for variant in &part.variants {
            let job: crate::job::Job = variant.job.parse().expect("a job");
            assert!(workloads(&job.workload), "{}: {}", part.name, variant.job);
            for (figure, who, _) in &variant.targets {
                let known = part.figures.iter().any(|known| known.name == *figure);
                assert!(known, "{}: {figure}", part.name);
                assert!(variant.contenders.contains(who), "{}: {who}", part.name);
            }
        }
    }
}
