//! The moving average of round trip times.

use anyhow::{Context, Result, ensure};
use mongo_topology::moving_average;
use serde_json::Value;

use super::described::milliseconds;
use crate::case::{Case, one_per_file};
use crate::dir::SpecDir;
use crate::json::field;

/// Loads the cases.
pub fn cases(dir: &SpecDir, suite: &'static str) -> Result<Vec<Case>> {
    one_per_file(dir, suite, run)
}

fn run(test: &Value) -> Result<()> {
    let average = match field(test, "avg_rtt_ms")? {
        Value::String(null) if null == "NULL" => None,
        number => Some(milliseconds(number).context("avg_rtt_ms")?),
    };
    let sample = milliseconds(field(test, "new_rtt_ms")?).context("new_rtt_ms")?;
    let expected = milliseconds(field(test, "new_avg_rtt")?).context("new_avg_rtt")?;
    let actual = moving_average(average, sample);
    // Durations are whole nanoseconds, so the last digit may be rounded.
    ensure!(
        actual.abs_diff(expected).as_nanos() <= 1,
        "{actual:?}, not {expected:?}"
    );
    Ok(())
}
