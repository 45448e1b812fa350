//! The unified test format, up to schema version 1.27.
//!
//! A [`UnifiedFile`] is a file that was read strictly: what the format does not know is refused.
//! [`run_case`] runs one of its cases against a [`Deployment`] that is there already, through the
//! public API of `mongo-client` alone; [`requirements_met`] tells beforehand whether the case is
//! meant for it.

mod deployment;

use std::fmt;

pub use bson::Document;
pub use deployment::{Deployment, ExtraOptions, TopologyKind};
use serde_json::Value;

/// A file of the format, read and found valid.
#[derive(Clone, Debug)]
pub struct UnifiedFile {
    description: String,
    tests: Vec<String>,
}

/// Why a file is refused: where, and what is wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Invalid(pub String);

impl fmt::Display for Invalid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
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
        let text = |value: &Value| {
            let text = value["description"].as_str().map(str::to_owned);
            text.ok_or_else(|| Invalid("description is missing".to_owned()))
        };
        let tests = json["tests"].as_array().map_or(&[][..], Vec::as_slice);
        Ok(Self {
            description: text(json)?,
            tests: tests.iter().map(text).collect::<Result<_, _>>()?,
        })
    }

    /// The file's own description.
    #[must_use]
    pub fn description(&self) -> &str {
        &self.description
    }

    /// The descriptions of its cases, in their order; a case's number counts from 0.
    #[must_use]
    pub fn case_names(&self) -> &[String] {
        &self.tests
    }
}

/// Whether a case may be run against a deployment.
///
/// # Errors
///
/// The reason why not, in words that are the same for like cases, such as `needs server 6.1 or
/// later`.
pub fn requirements_met(
    _file: &UnifiedFile,
    _case: usize,
    _deployment: &Deployment,
) -> Result<(), String> {
    Ok(())
}

/// Runs a case from its initial data to its outcome. Blocks; must not be called from async code.
#[must_use]
pub fn run_case(
    _file: &UnifiedFile,
    _case: usize,
    _deployment: &Deployment,
    _extra: &ExtraOptions,
) -> Outcome {
    Outcome::Skipped("the runner of the unified format is not there yet".to_owned())
}
