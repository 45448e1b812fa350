//! The unified test format, up to schema version 1.27.
//!
//! A [`UnifiedFile`] is a file that was read strictly: what the format does not know is refused.
//! [`run_case`] runs one of its cases against a [`Deployment`] that is there already, through the
//! public API of `mongo-client` alone; [`UnifiedFile::suits`] tells beforehand whether the case is
//! meant for it.

mod arguments;
mod case;
mod client;
mod deployment;
mod entities;
mod errors;
mod events;
mod helpers;
mod internal;
mod logs;
mod matching;
mod refused;
mod requirements;
mod run;
mod runner;
mod schema;
mod spans;
mod stop;
mod threads;
mod uri;
mod wrapper;

use std::fmt;

pub use bson::Document;
pub use deployment::{Deployment, ExtraOptions, TopologyKind};
use serde_json::Value;
pub use wrapper::Wrapper;

use self::schema::VersionText;

/// A file of the format, read and found valid.
#[derive(Clone, Debug)]
pub struct UnifiedFile {
    file: schema::File,
}

/// Why a file is refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Invalid {
    /// It is of a version of the format that is not understood.
    Version(String),
    /// It does not obey the format.
    Content(String),
}

impl fmt::Display for Invalid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Version(version) => write!(f, "schema version {version} is not understood"),
            Self::Content(problem) => f.write_str(problem),
        }
    }
}

impl std::error::Error for Invalid {}

/// How a case ended.
#[derive(Clone, Debug)]
pub enum Outcome {
    /// All was as expected.
    Passed,
    /// It was not run, or not to its end, for this reason.
    Skipped(String),
    /// Something was not as expected.
    Failed(Failure),
}

/// What went wrong in a case; its text is for people.
#[derive(Clone, Debug)]
pub struct Failure {
    /// In a sentence, what was expected and not found.
    pub message: String,
    /// Expected and actual value, line by line, if values were compared.
    pub diff: Option<String>,
    /// What clients published until then, one line an event, in its order.
    pub events: Vec<String>,
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)?;
        if let Some(diff) = &self.diff {
            write!(f, "\n{diff}")?;
        }
        for event in &self.events {
            write!(f, "\n  {event}")?;
        }
        Ok(())
    }
}

impl UnifiedFile {
    /// Reads a file's JSON.
    ///
    /// # Errors
    ///
    /// Unless it obeys the format, of a version that is understood, to the letter.
    pub fn parse(json: &Value) -> Result<Self, Invalid> {
        let version = json["schemaVersion"].as_str();
        let version: VersionText = version
            .ok_or_else(|| Invalid::Content("schemaVersion is missing".to_owned()))?
            .parse()
            .map_err(Invalid::Content)?;
        if version.0.major != schema::NEWEST.major || version.0 > schema::NEWEST {
            return Err(Invalid::Version(version.0.to_string()));
        }
        match serde_json::from_value(json.clone()) {
            Ok(file) => Ok(Self { file }),
            Err(error) => Err(Invalid::Content(error.to_string())),
        }
    }

    /// The descriptions of its cases, in their order; a case's number counts from 0.
    #[must_use]
    pub fn case_names(&self) -> Vec<&str> {
        let tests = self.file.tests.iter();
        tests.map(|test| test.description.as_str()).collect()
    }

    /// Why a case must not be run, if it says so itself.
    #[must_use]
    pub fn skip_reason(&self, case: usize) -> Option<&str> {
        self.file.tests.get(case)?.skip_reason.as_deref()
    }

    /// The area that a case asks for and that is refused by name, whatever it runs against.
    #[must_use]
    pub fn refused(&self, case: usize) -> Option<&'static str> {
        refused::reason(self.file.tests.get(case)?)
    }

    /// Whether a case may be run against a deployment.
    #[must_use]
    pub fn suits(&self, case: usize, deployment: &Deployment) -> bool {
        let mut lists = self.requirements(case).into_iter();
        lists.all(|list| requirements::are_met(list, deployment))
    }

    /// What a case needs that none of the deployments has, in words that are the same for like
    /// cases, such as `needs a server of 6.1.0 or later`.
    #[must_use]
    pub fn lacking(&self, case: usize, deployments: &[&Deployment]) -> String {
        requirements::lacking(self.requirements(case), deployments)
    }

    /// The requirements of the file, and those of a case.
    fn requirements(&self, case: usize) -> [&[schema::Requirement]; 2] {
        let of_test = self.file.tests.get(case);
        let of_test = of_test.and_then(|test| test.run_on_requirements.as_deref());
        let of_file = self.file.run_on_requirements.as_deref();
        [of_file, of_test].map(Option::unwrap_or_default)
    }
}

/// Runs a case from its initial data to its outcome. Blocks; must not be called from async code.
#[must_use]
pub fn run_case(
    file: &UnifiedFile,
    case: usize,
    deployment: &Deployment,
    extra: &ExtraOptions,
) -> Outcome {
    run::case(&file.file, case, (deployment, extra))
}
