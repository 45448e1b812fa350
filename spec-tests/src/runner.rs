//! A run: which cases there are, what each runs against, and what became of it.
//!
//! The cases are sorted by the deployment they run against (`plan`). One kind of deployment
//! follows the other; of each, a few are started that take the cases in turns, for fail points are a
//! server's and not a client's (`lanes`); beside a case that is about time no other is run. `judge`
//! holds what a case did against what may be.

mod judge;
mod lanes;
mod plan;

use std::collections::BTreeSet;

use anyhow::{Result, ensure};

use crate::cmap;
use crate::dir::SpecDir;
use crate::report::{CaseReport, Report};
use crate::servers::{self, KINDS, Kind};
use crate::skips::{Area, Skips};
use crate::suites::{SUITES, Suite};
use crate::unified::{Deployment, ExtraOptions};

/// The suite whose cases have limits of a few milliseconds: nothing else is run beside one.
const TIMED: &str = "csot";

/// What to run, and against what.
#[derive(Debug)]
pub struct Options {
    /// The suites.
    pub suites: Vec<Suite>,
    /// A part of the full name of the cases, `suite/file: description`; all if there is none.
    pub case: Option<String>,
    /// Where the files are.
    pub dir: SpecDir,
    /// What may be skipped.
    pub skips: Skips,
    /// What the cases of the unified test format run against.
    pub target: Target,
    /// What is added to every client's connection string.
    pub extra: ExtraOptions,
    /// How many deployments of a kind are used at once, at least 1.
    pub lanes: usize,
}

/// What the cases of the unified test format run against.
#[derive(Clone, Debug)]
pub enum Target {
    /// What [`KINDS`] start.
    Local {
        /// Whether those with access control are preferred.
        auth: bool,
    },
    /// The deployment that a connection string leads to.
    Uri(String),
}

/// What a run found.
#[derive(Debug)]
pub struct Run {
    /// Case by case.
    pub report: Report,
    /// What is wrong beside the cases that failed.
    pub complaints: Vec<String>,
}

impl Run {
    /// Whether nothing failed and nothing is wrong.
    #[must_use]
    pub fn is_good(&self) -> bool {
        self.report.total().failed == 0 && self.complaints.is_empty()
    }
}

/// What is told while a run goes on, from any of its threads.
#[derive(Debug)]
pub enum Progress<'a> {
    /// So many cases will be run; the others are skipped.
    Planned(usize),
    /// A case was run.
    Done(&'a CaseReport),
}

/// Where cases run.
enum Place {
    /// Wherever; they bring along what they need.
    Anywhere,
    /// On a deployment that is started for them.
    Local(&'static Kind, Box<Deployment>),
    /// On the one that is given.
    Given(Box<Deployment>),
}

impl Place {
    fn deployment(&self) -> Option<&Deployment> {
        match self {
            Self::Anywhere => None,
            Self::Local(_, deployment) | Self::Given(deployment) => Some(deployment),
        }
    }
}

/// Runs everything that the options ask for.
///
/// # Errors
/// No case is chosen, or the deployment that is given cannot be reached. What goes wrong with a
/// suite or a case is in the report.
pub fn run(options: &Options, progress: &(dyn Fn(Progress<'_>) + Sync)) -> Result<Run> {
    let places = places(&options.target)?;
    let plan = plan::make(options, &places);
    ensure!(!plan.known.is_empty(), "no case is chosen");
    let mut complaints = complaints(options, &plan);

    progress(Progress::Planned(plan.jobs.iter().map(Vec::len).sum()));
    let mut finished = plan.settled;
    for (place, jobs) in places.iter().zip(plan.jobs) {
        let (timed, others) = jobs.into_iter().partition(|job| job.name.suite == TIMED);
        finished.extend(lanes::run(options, place, others, options.lanes, progress));
        finished.extend(lanes::run(options, place, timed, 1, progress));
        if let Place::Anywhere = place {
            cmap::stop_server();
        }
    }
    finished.sort_by_key(|(number, _)| *number);
    let cases = finished.into_iter().map(|(_, case)| case).collect();
    let report = Report::new(cases);
    complaints.extend(unused_areas(options, &report));
    Ok(Run { report, complaints })
}

fn places(target: &Target) -> Result<Vec<Place>> {
    let mut places = vec![Place::Anywhere];
    match target {
        Target::Uri(uri) => places.push(Place::Given(Box::new(servers::probe(uri)?))),
        Target::Local { auth } => {
            let mut kinds: Vec<&'static Kind> = KINDS.iter().collect();
            // The sort is stable.
            // Those for a few files alone go before, as no other serves these.
            kinds.sort_by_key(|kind| *auth && !kind.auth && kind.only_for.is_empty());
            for kind in kinds {
                places.push(Place::Local(kind, Box::new(kind.profile()?)));
            }
        }
    }
    Ok(places)
}

/// Lines of `skips.toml` that are about no case. With a part of the cases one cannot tell.
fn complaints(options: &Options, plan: &plan::Plan) -> Vec<String> {
    if options.case.is_some() {
        return Vec::new();
    }
    let suites: Vec<&str> = options.suites.iter().map(|suite| suite.name).collect();
    let known: BTreeSet<(&str, &str, &str)> = plan
        .known
        .iter()
        .map(|name| (name.suite, name.file.as_str(), name.case.as_str()))
        .collect();
    let unmatched = options.skips.unmatched(&suites, &known);
    let complain = |name| format!("skips.toml names a case that is not there: {name}");
    unmatched.into_iter().map(complain).collect()
}

/// Areas of `skips.toml` that no case asks for, which only all cases together can tell.
fn unused_areas(options: &Options, report: &Report) -> Vec<String> {
    if options.case.is_some() || options.suites.len() < SUITES.len() {
        return Vec::new();
    }
    let reasons = report
        .cases
        .iter()
        .filter_map(|case| case.reason.as_deref());
    let reasons: BTreeSet<&str> = reasons.collect();
    let areas = options.skips.areas.iter();
    let unused = areas.filter(|area| !reasons.contains(area.name.as_str()));
    let complain = |area: &Area| {
        format!(
            "skips.toml has an area that no case asks for: {}",
            area.name
        )
    };
    unused.map(complain).collect()
}
