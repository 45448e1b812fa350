//! `docs/spec-coverage.md`, written from a report.

use std::fmt::Write as _;

use crate::report::{Report, SuiteReport};
use crate::skips::Skips;

/// What stands above the table.
const HEAD: &str = "\
# Coverage of the public specification tests

Written by `cargo xtask spec-tests --coverage docs/spec-coverage.md`; `cargo xtask test` runs the same cases and fails when
this page says anything else. [spec-tests](../spec-tests/README.md) tells how the runner works.

The tests are the pinned ones, from PyMongo's source distribution 4.20.0; `--specs` takes a checkout of
mongodb/specifications. The servers are those that the cases ask for: mongod 6.0.5, and 4.2.6, 4.4.2 or 5.0.4 for cases
about older ones. A case that passes has matched all it expects: results, errors, events, logs, data.

Nothing here is a mongos or a load balancer: cases that ask for one alone pass on a relay before a replica set of one member,
which answers hello as those do and has no shards.

";

/// The page about a run on the pinned set and local servers.
#[must_use]
pub fn page(report: &Report, skips: &Skips) -> String {
    let mut page = HEAD.to_owned();
    page.push_str("| suite | cases | passed | skipped |\n|---|---:|---:|---:|\n");
    for suite in &report.suites {
        row(&mut page, &suite.name, suite);
    }
    row(&mut page, "**total**", &report.total());
    page.push_str("\n## What is skipped, and what it would take\n\n");
    page.push_str("| suite | cases | reason | would need |\n|---|---:|---|---|\n");
    for suite in &report.suites {
        for (reason, count) in report.skips(&suite.name) {
            // What a server lacks names what is needed.
            let needs = skips.needs(reason).unwrap_or("that");
            let (reason, needs) = (cell(reason), cell(needs));
            // Writing to a string cannot fail.
            let _ = writeln!(page, "| {} | {count} | {reason} | {needs} |", suite.name);
        }
    }
    page
}

fn row(page: &mut String, name: &str, suite: &SuiteReport) {
    let SuiteReport {
        cases,
        passed,
        skipped,
        ..
    } = suite;
    let _ = writeln!(page, "| {name} | {cases} | {passed} | {skipped} |");
}

fn cell(text: &str) -> String {
    text.replace('|', "\\|").replace('\n', " ")
}

/// The first difference between the committed page and the one that a run calls for.
#[must_use]
pub fn difference(committed: &str, page: &str) -> Option<String> {
    let (mut old, mut new) = (committed.lines(), page.lines());
    loop {
        match (old.next(), new.next()) {
            (None, None) => return None,
            (old, new) if old == new => {}
            (old, new) => {
                let text = |line: Option<&str>| line.unwrap_or("nothing").to_owned();
                return Some(format!("it says {}, the run {}", text(old), text(new)));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::{CaseReport, Status};

    fn case(status: Status, reason: Option<&str>) -> CaseReport {
        CaseReport {
            suite: "csot".to_owned(),
            file: "f".to_owned(),
            case: "c".to_owned(),
            status,
            reason: reason.map(str::to_owned),
            seconds: 1.0,
        }
    }

    #[test]
    fn the_page_counts_and_says_what_skips_would_need() {
        let skips = Skips::parse("[[area]]\nname = \"GridFS\"\nneeds = \"a | bucket\"").unwrap();
        let report = Report::new(vec![
            case(Status::Passed, None),
            case(Status::Skipped, Some("GridFS")),
            case(Status::Skipped, Some("needs a server of 9.0 or later")),
        ]);
        let page = page(&report, &skips);
        for line in [
            "| csot | 3 | 1 | 2 |",
            "| **total** | 3 | 1 | 2 |",
            "| csot | 1 | GridFS | a \\| bucket |",
            "| csot | 1 | needs a server of 9.0 or later | that |",
        ] {
            assert!(
                page.lines().any(|actual| actual == line),
                "{line} in {page}"
            );
        }
    }

    #[test]
    fn a_page_that_is_out_of_date_is_noticed() {
        assert_eq!(difference("a\nb\n", "a\nb\n"), None);
        for (old, new) in [("a\n", "a\nb\n"), ("a\nb", "a"), ("a\nb", "a\nc")] {
            assert!(difference(old, new).is_some(), "{old:?} {new:?}");
        }
    }
}
