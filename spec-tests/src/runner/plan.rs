//! Which cases there are, and where each runs.

use std::sync::Arc;

use anyhow::{Context, Result, ensure};

use super::judge::{self, Claim};
use super::{Options, Place};
use crate::case::{Case, Loader};
use crate::dir::SpecFile;
use crate::json::{field, text};
use crate::report::{CaseReport, Status, full_name};
use crate::suites::{Format, Suite};
use crate::unified::{Outcome, UnifiedFile};

/// A case's names.
#[derive(Clone, Debug)]
pub(super) struct Name {
    pub(super) suite: &'static str,
    pub(super) file: String,
    pub(super) case: String,
}

impl Name {
    /// What the report says of it.
    pub(super) fn report(&self, status: Status, reason: Option<String>) -> CaseReport {
        CaseReport {
            suite: self.suite.to_owned(),
            file: self.file.clone(),
            case: self.case.clone(),
            status,
            reason,
            seconds: 0.0,
        }
    }
}

/// A case that is to be run.
pub(super) struct Job {
    /// Its place in the report.
    pub(super) number: usize,
    pub(super) name: Name,
    pub(super) work: Work,
}

/// What running it means.
pub(super) enum Work {
    Alone(Case),
    Unified(UnifiedCase),
}

/// A case of the unified test format.
pub(super) struct UnifiedCase {
    pub(super) file: Arc<UnifiedFile>,
    pub(super) index: usize,
    pub(super) claim: Claim,
}

/// All cases, sorted by where they run.
pub(super) struct Plan {
    /// The jobs of each place, in the order of the places.
    pub(super) jobs: Vec<Vec<Job>>,
    /// What is settled without running, each with its place in the report.
    pub(super) settled: Vec<(usize, CaseReport)>,
    /// The names of all cases.
    pub(super) known: Vec<Name>,
}

/// Finds the cases that the options ask for and a place for each.
pub(super) fn make(options: &Options, places: &[Place]) -> Plan {
    let mut planner = Planner {
        options,
        places,
        plan: Plan {
            jobs: places.iter().map(|_| Vec::new()).collect(),
            settled: Vec::new(),
            known: Vec::new(),
        },
    };
    for suite in &options.suites {
        planner.suite(suite);
    }
    planner.plan
}

struct Planner<'a> {
    options: &'a Options,
    places: &'a [Place],
    plan: Plan,
}

impl Planner<'_> {
    fn suite(&mut self, suite: &Suite) {
        if !self.options.dir.carries(suite) {
            return;
        }
        let before = self.plan.known.len();
        let loaded = match suite.format {
            Format::Alone(load) => self.alone(suite.name, load),
            Format::Unified => self.unified(suite.name, Claim::Passes),
            Format::UnifiedFailing => self.unified(suite.name, Claim::Fails),
        };
        let found = self.plan.known.len() > before || self.options.case.is_some();
        let complaint = match loaded {
            Err(error) => format!("{error:#}"),
            Ok(()) if !found => "the suite is empty".to_owned(),
            Ok(()) => return,
        };
        let (file, case) = (String::new(), String::new());
        let name = Name {
            suite: suite.name,
            file,
            case,
        };
        // Nobody can tell whether the cases that are asked for are in what cannot be read.
        let report = name.report(Status::Failed, Some(complaint));
        let number = self.count(&name);
        self.plan.settled.push((number, report));
    }

    /// The next place in the report, unless the case is not asked for.
    fn number(&mut self, name: &Name) -> Option<usize> {
        let Name { suite, file, case } = name;
        if let Some(part) = &self.options.case
            && !full_name(suite, file, case).contains(part)
        {
            return None;
        }
        Some(self.count(name))
    }

    fn count(&mut self, name: &Name) -> usize {
        self.plan.known.push(name.clone());
        self.plan.known.len()
    }

    fn settle(&mut self, name: &Name, status: Status, reason: Option<String>) {
        if let Some(number) = self.number(name) {
            let report = name.report(status, reason);
            self.plan.settled.push((number, report));
        }
    }

    fn queue(&mut self, place: usize, name: Name, work: Work) {
        if let Some(number) = self.number(&name) {
            self.plan.jobs[place].push(Job { number, name, work });
        }
    }

    fn alone(&mut self, suite: &'static str, load: Loader) -> Result<()> {
        for case in load(&self.options.dir, suite)? {
            let name = Name {
                suite,
                file: case.file.clone(),
                case: case.name.clone(),
            };
            self.queue(0, name, Work::Alone(case));
        }
        Ok(())
    }

    fn unified(&mut self, suite: &'static str, claim: Claim) -> Result<()> {
        for file in self.options.dir.files(suite)? {
            self.unified_file(suite, &file, claim)
                .with_context(|| file.path.display().to_string())?;
        }
        Ok(())
    }

    fn unified_file(&mut self, suite: &'static str, file: &SpecFile, claim: Claim) -> Result<()> {
        let json = file.json()?;
        let tests = field(&json, "tests")?.as_array().context("tests")?;
        ensure!(!tests.is_empty(), "the file holds no case");
        let parsed = UnifiedFile::parse(&json).map(Arc::new);
        for (index, test) in tests.iter().enumerate() {
            let name = Name {
                suite,
                file: file.name.clone(),
                case: text(test, "description")?.to_owned(),
            };
            match &parsed {
                Err(error) => {
                    let (status, reason) =
                        judge::refused(claim, &name, &format!("the file is refused: {error}"));
                    self.settle(&name, status, reason);
                }
                Ok(file) => {
                    let case = UnifiedCase {
                        file: Arc::clone(file),
                        index,
                        claim,
                    };
                    self.unified_case(name, case);
                }
            }
        }
        Ok(())
    }

    fn unified_case(&mut self, name: Name, case: UnifiedCase) {
        let UnifiedCase { file, index, .. } = &case;
        if let Some(reason) = file.skip_reason(*index) {
            let reason = format!("the case says: {reason}");
            return self.settle(&name, Status::Skipped, Some(reason));
        }
        if let Some(area) = file.refused(*index) {
            let outcome = Outcome::Skipped(area.to_owned());
            let (status, reason) = judge::unified(case.claim, &name, &outcome, &self.options.skips);
            return self.settle(&name, status, reason);
        }
        let suits = |place: &Place| {
            let is_for = match place {
                Place::Local(kind, _) => kind.is_for(name.suite, &name.file),
                Place::Anywhere | Place::Given(_) => true,
            };
            let deployment = place.deployment();
            is_for && deployment.is_some_and(|deployment| file.suits(*index, deployment))
        };
        match self.places.iter().position(suits) {
            Some(place) => self.queue(place, name, Work::Unified(case)),
            None => {
                let deployments = self.places.iter().filter_map(Place::deployment);
                let reason = file.lacking(*index, &Vec::from_iter(deployments));
                self.settle(&name, Status::Skipped, Some(reason));
            }
        }
    }
}
