//! What a case did, held against what it claims and what `skips.toml` allows.

use super::plan::Name;
use crate::failing;
use crate::report::Status;
use crate::skips::Skips;
use crate::unified::Outcome;

/// What a case of the unified test format is there to show.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Claim {
    /// The client does what it says.
    Passes,
    /// The runner sees that it cannot pass.
    Fails,
}

type Verdict = (Status, Option<String>);

/// A case whose file was not even read.
pub(super) fn refused(claim: Claim, name: &Name, complaint: &str) -> Verdict {
    match claim {
        Claim::Passes => (Status::Failed, Some(complaint.to_owned())),
        Claim::Fails => failed_as_claimed(name, complaint),
    }
}

/// A case that was run.
pub(super) fn unified(claim: Claim, name: &Name, outcome: &Outcome, skips: &Skips) -> Verdict {
    let verdict = match (claim, outcome) {
        (_, Outcome::Skipped(area)) if skips.allows_area(area) => {
            return (Status::Skipped, Some(area.clone()));
        }
        (_, Outcome::Skipped(area)) => {
            let complaint = format!("skipped without a reason in skips.toml: {area}");
            (Status::Failed, Some(complaint))
        }
        (Claim::Passes, Outcome::Passed) => (Status::Passed, None),
        (Claim::Passes, Outcome::Failed(failure)) => (Status::Failed, Some(failure.to_string())),
        (Claim::Fails, Outcome::Passed) => {
            let complaint = "it passed, but is there to fail".to_owned();
            (Status::Failed, Some(complaint))
        }
        (Claim::Fails, Outcome::Failed(failure)) => failed_as_claimed(name, &failure.to_string()),
    };
    with_skips(name, verdict, skips)
}

/// A case that brought along what it runs against, and what was wrong with it.
pub(super) fn alone(name: &Name, problem: Option<String>, skips: &Skips) -> Verdict {
    let verdict = match problem {
        None => (Status::Passed, None),
        Some(problem) => (Status::Failed, Some(problem)),
    };
    with_skips(name, verdict, skips)
}

/// Applies the line of `skips.toml` that a case stands in, if it stands in one. A failure other
/// than the one that the line knows of stays one.
fn with_skips(name: &Name, (status, problem): Verdict, skips: &Skips) -> Verdict {
    let Some(line) = skips.listed(name.suite, &name.file, &name.case) else {
        return (status, problem);
    };
    let problem = problem.unwrap_or_default();
    if status == Status::Failed && failing::says(&problem, &line.fails) {
        return (Status::Skipped, Some(line.reason.clone()));
    }
    let complaint = match status {
        Status::Passed => format!("it passes, but skips.toml says: {}", line.reason),
        _ => format!(
            "skips.toml has it fail with {:?}, but it said: {problem}",
            line.fails
        ),
    };
    (Status::Failed, Some(complaint))
}

fn failed_as_claimed(name: &Name, failure: &str) -> Verdict {
    match failing::check(&name.file, &name.case, failure) {
        Ok(()) => (Status::Passed, None),
        Err(complaint) => (Status::Failed, Some(complaint)),
    }
}
