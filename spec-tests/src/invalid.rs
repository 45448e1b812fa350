//! `unified-format/invalid`: files that break the rules of the unified test format.

use anyhow::{Result, bail};
use serde_json::Value;

use crate::case::{Case, one_per_file};
use crate::dir::SpecDir;
use crate::unified::UnifiedFile;

/// Loads the cases; a file is a case.
///
/// # Errors
/// When a file cannot be read.
pub fn cases(dir: &SpecDir, suite: &'static str) -> Result<Vec<Case>> {
    one_per_file(dir, suite, run)
}

fn run(json: &Value) -> Result<()> {
    match UnifiedFile::parse(json) {
        Ok(_) => bail!("the file was taken for a valid one"),
        Err(_) => Ok(()),
    }
}
