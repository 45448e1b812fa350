//! The table at the end of a run.

use std::fmt::Write as _;

use super::{Report, SuiteReport};

impl Report {
    /// One line a suite, below it one line a reason for skipping, and the total.
    #[must_use]
    pub fn table(&self) -> String {
        let total = self.total();
        let names = self.suites.iter().map(|suite| suite.name.len());
        let width = names.max().unwrap_or(0).max(total.name.len());
        let mut table = format!("{:width$}  cases  passed  failed  skipped\n", "suite");
        for suite in &self.suites {
            line(&mut table, width, suite);
            for (reason, count) in self.skips(&suite.name) {
                // Writing to a string cannot fail.
                let _ = writeln!(table, "{:>10} x {reason}", count);
            }
        }
        line(&mut table, width, &total);
        table
    }
}

fn line(table: &mut String, width: usize, suite: &SuiteReport) {
    let SuiteReport {
        name,
        cases,
        passed,
        failed,
        skipped,
    } = suite;
    let _ = writeln!(
        table,
        "{name:width$}  {cases:5}  {passed:6}  {failed:6}  {skipped:7}"
    );
}
