//! `sdam/*`: hello replies and application errors in, topology descriptions or events out.
//!
//! Replies go through the machine's own schedule: each answers the check that runs on its server, and
//! virtual time moves on until one does.

mod driver;
mod events;
mod outcome;

use anyhow::{Context, Result};
use serde_json::Value;

use crate::case::{Case, one_per_file};
use crate::dir::SpecDir;
use crate::json::{field, given, text};
use driver::Driver;

/// Loads the cases.
pub fn cases(dir: &SpecDir, suite: &'static str) -> Result<Vec<Case>> {
    one_per_file(dir, suite, run)
}

fn run(test: &Value) -> Result<()> {
    let mut driver = Driver::new(text(test, "uri")?)?;
    let phases = field(test, "phases")?.as_array().context("phases")?;
    for (index, phase) in phases.iter().enumerate() {
        run_phase(&mut driver, phase).with_context(|| format!("phase {index}"))?;
    }
    Ok(())
}

fn run_phase(driver: &mut Driver, phase: &Value) -> Result<()> {
    for response in list(phase, "responses")? {
        let address = response[0].as_str().context("address")?;
        driver.respond(address, &response[1])?;
    }
    for error in list(phase, "applicationErrors")? {
        driver.fail(error)?;
    }
    let outcome = field(phase, "outcome")?;
    match given(outcome, "events") {
        Some(expected) => events::check(expected, &driver.take_events()),
        None => outcome::check(outcome, driver),
    }
}

/// An array that may be missing.
fn list<'a>(object: &'a Value, key: &str) -> Result<&'a [Value]> {
    match given(object, key) {
        Some(value) => Ok(value.as_array().with_context(|| key.to_owned())?.as_slice()),
        None => Ok(&[]),
    }
}
