//! `skips.toml`: the cases that may be skipped, and why.
//!
//! A case that the servers at hand cannot serve needs no line there; that is computed from its
//! `runOnRequirements`. Everything else does, in one of two forms:
//!
//! - `[[area]]` is something that the runner refuses by name, wherever a case asks for it. A run of
//!   all cases in which none does is a failure.
//! - `[[case]]` is one case, or a file's cases, that cannot pass. They are run all the same, and one
//!   that passes, or fails with anything else than the line says, is a failure, for its line is not
//!   true.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use anyhow::{Context, Result, ensure};
use serde::Deserialize;

use crate::dir::{Layout, SpecDir};
use crate::report::full_name;

/// The content of `skips.toml`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Skips {
    /// What is refused by name.
    #[serde(default, rename = "area")]
    pub areas: Vec<Area>,
    /// The cases that cannot pass.
    #[serde(default, rename = "case")]
    pub cases: Vec<SkippedCase>,
}

/// Something that the runner refuses.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Area {
    /// What the runner calls it; the reason that reports give.
    pub name: String,
    /// What it would take to run such cases.
    pub needs: String,
    /// Whether such cases are in one edition alone.
    pub only: Option<Edition>,
}

/// Cases that cannot pass.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SkippedCase {
    /// The suite's name.
    pub suite: String,
    /// The file's name within the suite, without its extension.
    pub file: String,
    /// The cases' descriptions; all cases of the file if there is none.
    #[serde(default)]
    pub cases: Vec<String>,
    /// A part of what their failures say, each in its first line.
    pub fails: String,
    /// Why they cannot pass.
    pub reason: String,
    /// What it would take.
    pub needs: String,
    /// Whether the line is about the pinned edition alone, or about a checkout of the specifications.
    pub only: Option<Edition>,
}

/// Which edition of the tests.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Edition {
    /// PyMongo's.
    Pinned,
    /// That of mongodb/specifications.
    Checkout,
}

impl Edition {
    fn of(dir: &SpecDir) -> Self {
        match dir.layout() {
            Layout::PyMongo => Self::Pinned,
            Layout::Specifications => Self::Checkout,
        }
    }
}

impl Skips {
    /// Reads the file of this workspace.
    ///
    /// # Errors
    /// It cannot be read, or says something unknown.
    pub fn load() -> Result<Self> {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("skips.toml");
        let text = fs::read_to_string(&path).with_context(|| path.display().to_string())?;
        Self::parse(&text).with_context(|| path.display().to_string())
    }

    /// Reads the text of such a file.
    ///
    /// # Errors
    /// It is no TOML, has unknown keys, or a reason is empty.
    pub fn parse(text: &str) -> Result<Self> {
        let skips: Self = toml::from_str(text)?;
        for area in &skips.areas {
            ensure!(!area.needs.is_empty(), "area {} needs nothing", area.name);
        }
        for case in &skips.cases {
            let told = [&case.fails, &case.reason, &case.needs];
            let is_told = told.iter().all(|text| !text.is_empty());
            ensure!(is_told, "{}/{} lacks a reason", case.suite, case.file);
        }
        Ok(skips)
    }

    /// Whether the runner may refuse a case with this reason.
    #[must_use]
    pub fn allows_area(&self, reason: &str) -> bool {
        self.areas.iter().any(|area| area.name == reason)
    }

    /// The same without the lines about another edition than this one.
    #[must_use]
    pub fn about(mut self, dir: &SpecDir) -> Self {
        let edition = Edition::of(dir);
        let holds = |only: Option<Edition>| only.is_none_or(|only| only == edition);
        self.areas.retain(|line| holds(line.only));
        self.cases.retain(|line| holds(line.only));
        self
    }

    /// The line that a case stands in.
    #[must_use]
    pub fn listed(&self, suite: &str, file: &str, case: &str) -> Option<&SkippedCase> {
        let holds =
            |line: &&SkippedCase| line.suite == suite && line.file == file && line.names(case);
        self.cases.iter().find(holds)
    }

    /// What would make cases run that are skipped for this reason.
    #[must_use]
    pub fn needs(&self, reason: &str) -> Option<&str> {
        let area = self.areas.iter().find(|area| area.name == reason);
        let case = self.cases.iter().find(|case| case.reason == reason);
        area.map(|area| area.needs.as_str())
            .or(case.map(|case| case.needs.as_str()))
    }

    /// The lines about the suites at hand that name no case which is there. `known` has all cases of
    /// these suites: suite, file, description.
    #[must_use]
    pub fn unmatched(&self, suites: &[&str], known: &BTreeSet<(&str, &str, &str)>) -> Vec<String> {
        let mut unmatched = Vec::new();
        for line in &self.cases {
            if !suites.contains(&line.suite.as_str()) {
                continue;
            }
            let is_known = |case: &str| {
                let holds = |(suite, file, name): &(&str, &str, &str)| {
                    line.suite == *suite && line.file == *file && (case.is_empty() || case == *name)
                };
                known.iter().any(holds)
            };
            let all = [String::new()];
            let names = if line.cases.is_empty() {
                &all
            } else {
                line.cases.as_slice()
            };
            let missing = names.iter().filter(|case| !is_known(case));
            unmatched.extend(missing.map(|case| full_name(&line.suite, &line.file, case)));
        }
        unmatched
    }
}

impl SkippedCase {
    fn names(&self, case: &str) -> bool {
        self.cases.is_empty() || self.cases.iter().any(|name| name == case)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = r#"
        [[area]]
        name = "GridFS"
        needs = "a bucket"

        [[case]]
        suite = "csot"
        file = "f"
        cases = ["one", "two"]
        fails = "no"
        reason = "because"
        needs = "more"
    "#;

    #[test]
    fn a_line_holds_for_the_cases_it_names() {
        let mut skips = Skips::parse(TEXT).unwrap();
        assert!(skips.listed("csot", "f", "two").is_some());
        assert!(skips.listed("csot", "f", "three").is_none());
        assert!(skips.listed("csot", "g", "two").is_none());
        skips.cases[0].cases.clear();
        assert!(skips.listed("csot", "f", "three").is_some());
        assert!(skips.allows_area("GridFS") && !skips.allows_area("GridFs"));
        assert_eq!(skips.needs("because"), Some("more"));
        assert_eq!(skips.needs("GridFS"), Some("a bucket"));
        assert_eq!(skips.needs("needs server 9"), None);
    }

    #[test]
    fn a_line_without_a_reason_or_with_an_unknown_key_is_refused() {
        for wrong in [
            TEXT.replace("\"because\"", "\"\""),
            TEXT.replace("\"no\"", "\"\""),
            TEXT.replace("\"a bucket\"", "\"\""),
            TEXT.replace("file =", "files ="),
        ] {
            assert!(Skips::parse(&wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn the_file_of_this_workspace_is_valid() {
        Skips::load().unwrap();
    }
}
