//! How often each server is chosen when operations are running on some.

use std::collections::BTreeMap;
use std::time::Instant;

use anyhow::{Context, Result, ensure};
use mongo_topology::{Rng, SelectionCriteria};
use mongo_uri::{ReadPreference, ReadPreferenceMode, ServerAddress};
use serde_json::Value;

use super::described;
use crate::case::{Case, one_per_file};
use crate::dir::SpecDir;
use crate::json::{field, text};

/// Loads the cases.
pub fn cases(dir: &SpecDir, suite: &'static str) -> Result<Vec<Case>> {
    one_per_file(dir, suite, run)
}

fn run(test: &Value) -> Result<()> {
    let topology = described::topology(field(test, "topology_description")?, Instant::now())?;
    let running = operation_counts(field(test, "mocked_topology_state")?)?;
    let preference = ReadPreference::new(ReadPreferenceMode::Nearest);
    let criteria = SelectionCriteria::read(&preference);
    let iterations = field(test, "iterations")?.as_u64().context("iterations")?;
    let mut rng = Rng::from_seed(0x5eed);
    let mut chosen: BTreeMap<ServerAddress, u32> = BTreeMap::new();
    for _ in 0..iterations {
        let count = |address: &ServerAddress| running.get(address).copied().unwrap_or(0);
        let server = topology.select(&criteria, count, &mut rng)?;
        *chosen.entry(server.address().clone()).or_default() += 1;
    }
    let outcome = field(test, "outcome")?;
    let tolerance = field(outcome, "tolerance")?.as_f64().context("tolerance")?;
    let expected = field(outcome, "expected_frequencies")?;
    let iterations = f64::from(u32::try_from(iterations)?);
    for (address, expected) in expected.as_object().context("expected_frequencies")? {
        let expected = expected.as_f64().context("frequency")?;
        let times = chosen.get(&address.parse()?).copied().unwrap_or(0);
        let frequency = f64::from(times) / iterations;
        let is_exact = expected == 0.0 || expected == 1.0;
        let allowed = if is_exact { 0.0 } else { tolerance };
        ensure!(
            (frequency - expected).abs() <= allowed,
            "{address}: chosen {frequency} of the time, not {expected}"
        );
    }
    Ok(())
}

fn operation_counts(described: &Value) -> Result<BTreeMap<ServerAddress, u32>> {
    let states = described.as_array().context("mocked_topology_state")?;
    states
        .iter()
        .map(|state| {
            let count = field(state, "operation_count")?
                .as_u64()
                .context("operation_count")?;
            Ok((text(state, "address")?.parse()?, u32::try_from(count)?))
        })
        .collect()
}
