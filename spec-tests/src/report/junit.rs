//! The report as JUnit XML, for what shows test results.

use std::fmt::Write as _;

use super::{CaseReport, Report, Status};

impl Report {
    /// One `testsuite` a suite, one `testcase` a case.
    #[must_use]
    pub fn junit(&self) -> String {
        let mut xml = String::from("<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n");
        let total = self.total();
        // Writing to a string cannot fail.
        let _ = writeln!(
            xml,
            r#"<testsuites tests="{}" failures="{}" skipped="{}">"#,
            total.cases, total.failed, total.skipped
        );
        for suite in &self.suites {
            let _ = writeln!(
                xml,
                r#"  <testsuite name="{}" tests="{}" failures="{}" errors="0" skipped="{}">"#,
                escaped(&suite.name),
                suite.cases,
                suite.failed,
                suite.skipped
            );
            for case in self.cases.iter().filter(|case| case.suite == suite.name) {
                test_case(&mut xml, case);
            }
            xml.push_str("  </testsuite>\n");
        }
        xml.push_str("</testsuites>\n");
        xml
    }
}

fn test_case(xml: &mut String, case: &CaseReport) {
    let name = match (case.file.as_str(), case.case.as_str()) {
        (file, "") => file.to_owned(),
        (file, case) => format!("{file}: {case}"),
    };
    let _ = write!(
        xml,
        r#"    <testcase classname="{}" name="{}" time="{:.3}""#,
        escaped(&case.suite),
        escaped(&name),
        case.seconds
    );
    let reason = case.reason.as_deref().unwrap_or_default();
    let _ = match case.status {
        Status::Passed => writeln!(xml, "/>"),
        Status::Skipped => {
            writeln!(
                xml,
                r#"><skipped message="{}"/></testcase>"#,
                escaped(reason)
            )
        }
        Status::Failed => writeln!(
            xml,
            r#"><failure message="{}">{}</failure></testcase>"#,
            escaped(reason.lines().next().unwrap_or_default()),
            escaped(reason)
        ),
    };
}

/// Escapes the characters of XML; those that it cannot have at all become U+FFFD.
fn escaped(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '&' => escaped.push_str("&amp;"),
            '"' => escaped.push_str("&quot;"),
            '\n' => escaped.push_str("&#10;"),
            '\t' => escaped.push('\t'),
            control if control.is_control() => escaped.push('\u{fffd}'),
            other => escaped.push(other),
        }
    }
    escaped
}
