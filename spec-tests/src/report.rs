//! What a run found, case by case and suite by suite.

mod junit;
mod table;

use serde::{Deserialize, Serialize};

/// How a case ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Status {
    /// All was as expected.
    Passed,
    /// Something was not.
    Failed,
    /// It was not run, or not to its end.
    Skipped,
}

/// One case.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct CaseReport {
    /// The suite's name.
    pub suite: String,
    /// The file's name within the suite, without its extension; empty if the suite cannot be read.
    pub file: String,
    /// The case's description; empty if the file is the case.
    pub case: String,
    /// How it ended.
    pub status: Status,
    /// Why it was skipped or failed; `None` if it passed.
    pub reason: Option<String>,
    /// How long it took.
    pub seconds: f64,
}

impl CaseReport {
    /// `suite/file: case`, without what is empty.
    #[must_use]
    pub fn full_name(&self) -> String {
        full_name(&self.suite, &self.file, &self.case)
    }
}

/// `suite/file: case`, without what is empty.
pub(crate) fn full_name(suite: &str, file: &str, case: &str) -> String {
    let mut name = suite.to_owned();
    for (separator, part) in [("/", file), (": ", case)] {
        if !part.is_empty() {
            name.push_str(separator);
            name.push_str(part);
        }
    }
    name
}

/// The cases of a suite, counted.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SuiteReport {
    /// The suite's name.
    pub name: String,
    /// How many cases there are.
    pub cases: usize,
    /// How many passed.
    pub passed: usize,
    /// How many failed.
    pub failed: usize,
    /// How many were skipped.
    pub skipped: usize,
}

/// The outcome of a run.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Report {
    /// The suites, in the order of [`crate::suites::SUITES`].
    pub suites: Vec<SuiteReport>,
    /// The cases, by suite, and as the files have them.
    pub cases: Vec<CaseReport>,
}

impl Report {
    /// Counts cases, which are sorted by suite.
    #[must_use]
    pub fn new(cases: Vec<CaseReport>) -> Self {
        let mut suites: Vec<SuiteReport> = Vec::new();
        for case in &cases {
            if suites.last().is_none_or(|suite| suite.name != case.suite) {
                suites.push(SuiteReport::empty(&case.suite));
            }
            if let Some(suite) = suites.last_mut() {
                suite.count(case.status);
            }
        }
        Self { suites, cases }
    }

    /// All suites together.
    #[must_use]
    pub fn total(&self) -> SuiteReport {
        let mut total = SuiteReport::empty("total");
        for case in &self.cases {
            total.count(case.status);
        }
        total
    }

    /// The reasons for skipping a suite's cases, each with how many it holds for, in the order in
    /// which they are first met.
    #[must_use]
    pub fn skips(&self, suite: &str) -> Vec<(&str, usize)> {
        let mut reasons: Vec<(&str, usize)> = Vec::new();
        for case in self.cases.iter().filter(|case| case.suite == suite) {
            let (Status::Skipped, Some(reason)) = (case.status, &case.reason) else {
                continue;
            };
            match reasons.iter_mut().find(|(known, _)| known == reason) {
                Some((_, count)) => *count += 1,
                None => reasons.push((reason, 1)),
            }
        }
        reasons
    }
}

impl SuiteReport {
    fn empty(name: &str) -> Self {
        Self {
            name: name.to_owned(),
            cases: 0,
            passed: 0,
            failed: 0,
            skipped: 0,
        }
    }

    fn count(&mut self, status: Status) {
        self.cases += 1;
        match status {
            Status::Passed => self.passed += 1,
            Status::Failed => self.failed += 1,
            Status::Skipped => self.skipped += 1,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn case(suite: &str, case: &str, status: Status, reason: Option<&str>) -> CaseReport {
        CaseReport {
            suite: suite.to_owned(),
            file: "file".to_owned(),
            case: case.to_owned(),
            status,
            reason: reason.map(str::to_owned),
            seconds: 0.25,
        }
    }

    fn report() -> Report {
        Report::new(vec![
            case("a", "one", Status::Passed, None),
            case("a", "two", Status::Skipped, Some("needs x")),
            case("a", "three", Status::Skipped, Some("needs x")),
            case("b/c", "<&>", Status::Failed, Some("1 is \"not\" 2\u{1b}")),
        ])
    }

    #[test]
    fn cases_are_counted_by_suite_and_skips_by_reason() {
        let report = report();
        let counts: Vec<_> = report
            .suites
            .iter()
            .map(|s| (s.name.as_str(), s.cases, s.passed, s.failed, s.skipped))
            .collect();
        assert_eq!(counts, [("a", 3, 1, 0, 2), ("b/c", 1, 0, 1, 0)]);
        assert_eq!(report.total().cases, 4);
        assert_eq!(report.skips("a"), [("needs x", 2)]);
        assert_eq!(report.skips("b/c"), []);
    }

    #[test]
    fn the_json_has_the_documented_keys() {
        let json = serde_json::to_value(report()).unwrap();
        assert_eq!(
            json["suites"][0],
            serde_json::json!({"name": "a", "cases": 3, "passed": 1, "failed": 0, "skipped": 2})
        );
        assert_eq!(
            json["cases"][1],
            serde_json::json!({"suite": "a", "file": "file", "case": "two", "status": "skipped",
                "reason": "needs x", "seconds": 0.25})
        );
    }

    #[test]
    fn the_junit_file_escapes_what_xml_does_not_bear() {
        let xml = report().junit();
        assert!(
            xml.contains(r#"<testsuites tests="4" failures="1" skipped="2">"#),
            "{xml}"
        );
        assert!(xml.contains(r#"name="file: &lt;&amp;&gt;""#), "{xml}");
        assert!(xml.contains("1 is &quot;not&quot; 2\u{fffd}"), "{xml}");
        assert!(xml.contains(r#"<skipped message="needs x"/>"#), "{xml}");
    }

    #[test]
    fn the_table_names_every_suite_and_reason() {
        let table = report().table();
        let lines: Vec<&str> = table.lines().map(str::trim_end).collect();
        assert_eq!(
            lines,
            [
                "suite  cases  passed  failed  skipped",
                "a          3       1       0        2",
                "         2 x needs x",
                "b/c        1       0       1        0",
                "total      4       1       1        2",
            ]
        );
    }
}
