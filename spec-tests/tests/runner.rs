//! The runner on test sets of a few made-up cases.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::fs;
use std::sync::Mutex;

use spec_tests::dir::SpecDir;
use spec_tests::report::{CaseReport, Status};
use spec_tests::runner::{self, Options, Progress, Run, Target};
use spec_tests::skips::Skips;
use spec_tests::suites;
use spec_tests::unified::ExtraOptions;
use tempfile::TempDir;

const SUITE: &str = "connection-string";

/// One case that passes and one that does not: its host is another one.
const CASES: &str = r#"{"tests": [
    {"description": "right", "uri": "mongodb://a:1/", "valid": true, "warning": false,
     "hosts": [{"type": "hostname", "host": "a", "port": 1}], "auth": null, "options": null},
    {"description": "wrong", "uri": "mongodb://a:1/", "valid": true, "warning": false,
     "hosts": [{"type": "hostname", "host": "b", "port": 1}], "auth": null, "options": null}
]}"#;

/// A case that asks for a transaction and for a server that nobody has.
const REFUSED: &str = r#"{"description": "made up", "schemaVersion": "1.0",
    "runOnRequirements": [{"minServerVersion": "99.0"}],
    "tests": [{"description": "commit", "operations": [
        {"name": "commitTransaction", "object": "session0"}
    ]}]
}"#;

/// Runs the suite, whose only file has this content, and returns what was told while it ran, too.
fn run(content: Option<&str>, skips: &str, case: Option<&str>) -> (Run, Vec<CaseReport>) {
    let file = content.map(|content| (SUITE, content));
    run_all(&[SUITE], (file, skips), case)
}

/// Runs these suites, all if there is none, of which one has a file.
fn run_all(
    suites: &[&str],
    (file, skips): (Option<(&str, &str)>, &str),
    case: Option<&str>,
) -> (Run, Vec<CaseReport>) {
    let folder = TempDir::new().unwrap();
    let path = |suite: &str| folder.path().join(format!("{suite}/tests"));
    fs::create_dir_all(path(SUITE)).unwrap();
    if let Some((suite, content)) = file {
        fs::create_dir_all(path(suite)).unwrap();
        fs::write(path(suite).join("made-up.json"), content).unwrap();
    }
    let suites = suites.iter().map(|&name| name.to_owned());
    let options = Options {
        suites: suites::select(&Vec::from_iter(suites)).unwrap(),
        case: case.map(str::to_owned),
        dir: SpecDir::open(folder.path()).unwrap(),
        skips: Skips::parse(skips).unwrap(),
        target: Target::Local { auth: false },
        extra: ExtraOptions::default(),
        lanes: 2,
    };
    let told = Mutex::new(Vec::new());
    let run = runner::run(&options, &|progress| {
        if let Progress::Done(case) = progress {
            told.lock().unwrap().push(case.clone());
        }
    });
    (run.unwrap(), told.into_inner().unwrap())
}

fn statuses(run: &Run) -> Vec<(&str, Status)> {
    let cases = run.report.cases.iter();
    cases
        .map(|case| (case.case.as_str(), case.status))
        .collect()
}

fn skip(case: &str) -> String {
    skip_if(case, "expected")
}

fn skip_if(case: &str, fails: &str) -> String {
    format!(
        "[[case]]\nsuite = \"{SUITE}\"\nfile = \"made-up\"\ncases = [\"{case}\"]\n\
         fails = \"{fails}\"\nreason = \"because\"\nneeds = \"more\"\n"
    )
}

#[test]
fn a_case_that_fails_fails_the_run_and_says_why() {
    let (run, told) = run(Some(CASES), "", None);
    assert_eq!(
        statuses(&run),
        [("right", Status::Passed), ("wrong", Status::Failed)]
    );
    assert!(!run.is_good());
    let reason = run.report.cases[1].reason.as_deref().unwrap();
    assert!(
        reason.contains("expected") && reason.contains("got"),
        "{reason}"
    );
    assert_eq!(told.len(), 2);
}

#[test]
fn a_part_of_a_full_name_chooses_cases() {
    let (run, _) = run(Some(CASES), "", Some("made-up: right"));
    assert_eq!(statuses(&run), [("right", Status::Passed)]);
    assert!(run.is_good());
}

#[test]
fn a_case_that_fails_may_be_listed_with_a_reason() {
    let (run, _) = run(Some(CASES), &skip("wrong"), None);
    assert_eq!(run.report.skips(SUITE), [("because", 1)]);
    assert!(run.is_good());
}

#[test]
fn a_listed_case_that_fails_for_another_reason_is_a_failure() {
    let (run, _) = run(Some(CASES), &skip_if("wrong", "another reason"), None);
    assert_eq!(statuses(&run)[1], ("wrong", Status::Failed));
    let reason = run.report.cases[1].reason.as_deref().unwrap();
    assert!(reason.contains("another reason"), "{reason}");
    assert!(reason.contains("expected"), "{reason}");
}

#[test]
fn a_listed_case_that_passes_is_a_failure() {
    let (run, _) = run(Some(CASES), &(skip("wrong") + &skip("right")), None);
    assert_eq!(statuses(&run)[0], ("right", Status::Failed));
    let reason = run.report.cases[0].reason.as_deref().unwrap();
    assert!(reason.contains("it passes"), "{reason}");
}

#[test]
fn a_listed_case_that_is_not_there_is_a_failure() {
    let (run, _) = run(Some(CASES), &(skip("wrong") + &skip("gone")), None);
    assert_eq!(run.report.total().failed, 0);
    assert_eq!(run.complaints.len(), 1);
    assert!(
        run.complaints[0].contains("made-up: gone"),
        "{:?}",
        run.complaints
    );
    assert!(!run.is_good());
}

fn area(name: &str) -> String {
    format!("[[area]]\nname = \"{name}\"\nneeds = \"more\"\n")
}

#[test]
fn what_is_refused_by_name_is_so_whatever_else_the_case_needs() {
    let file = Some(("sessions", REFUSED));
    let (run, _) = run_all(&["sessions"], (file, &area("transactions")), None);
    assert_eq!(run.report.skips("sessions"), [("transactions", 1)]);
    assert!(run.is_good());
    let (run, _) = run_all(&["sessions"], (file, ""), None);
    assert_eq!(statuses(&run), [("commit", Status::Failed)]);
}

#[test]
fn an_area_that_no_case_asks_for_is_complained_of_if_all_were_run() {
    let skips = area("transactions") + &area("clairvoyance");
    let file = Some(("sessions", REFUSED));
    let (run, _) = run_all(&[], (file, &skips), None);
    assert_eq!(run.complaints.len(), 1, "{:?}", run.complaints);
    assert!(run.complaints[0].contains("clairvoyance"));
    for (suites, case) in [(&["sessions"][..], None), (&[], Some("commit"))] {
        let (run, _) = run_all(suites, (file, &skips), case);
        assert!(run.complaints.is_empty(), "{:?}", run.complaints);
    }
}

#[test]
fn a_suite_without_a_case_is_a_failure() {
    for content in [None, Some(r#"{"tests": []}"#), Some("no JSON")] {
        let (run, _) = run(content, "", None);
        assert_eq!(statuses(&run), [("", Status::Failed)], "{content:?}");
        assert!(!run.is_good());
    }
}

#[test]
fn a_part_of_a_name_does_not_hide_a_suite_that_cannot_be_read() {
    let (run, _) = run(Some("no JSON"), "", Some("made-up: right"));
    assert_eq!(statuses(&run), [("", Status::Failed)]);
    assert!(!run.is_good());
}
