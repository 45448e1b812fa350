//! Which servers are suitable for an operation, and which of those are near.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use mongo_topology::{
    Rng, SelectionCriteria, SelectionError, ServerDescription, TopologyDescription,
};
use mongo_uri::{ReadPreference, ServerAddress, TagSet};
use serde_json::Value;

use super::described;
use crate::case::{Case, one_per_file};
use crate::dir::SpecDir;
use crate::json::{expect_equal, field, given, text};

/// Loads the cases.
pub fn cases(dir: &SpecDir, suite: &'static str) -> Result<Vec<Case>> {
    one_per_file(dir, suite, run)
}

fn run(test: &Value) -> Result<()> {
    let mut topology = described::topology(field(test, "topology_description")?, Instant::now())?;
    if let Some(heartbeat) = given(test, "heartbeatFrequencyMS") {
        let heartbeat = described::milliseconds(heartbeat).context("heartbeatFrequencyMS")?;
        topology.heartbeat_frequency = heartbeat;
    }
    let preference = read_preference(field(test, "read_preference")?)?;
    let deprioritized = match given(test, "deprioritized_servers") {
        Some(servers) => described::addresses(servers)?,
        None => Vec::new(),
    };
    let is_write = given(test, "operation").is_some_and(|operation| operation == "write");
    let criteria = if is_write {
        SelectionCriteria::write()
    } else {
        SelectionCriteria::read(&preference)
    };
    check(test, &topology, &criteria.deprioritizing(&deprioritized))
}

fn check(
    test: &Value,
    topology: &TopologyDescription,
    criteria: &SelectionCriteria<'_>,
) -> Result<()> {
    let selected = topology.select(criteria, |_| 0, &mut Rng::from_seed(1));
    if given(test, "error") == Some(&Value::Bool(true)) {
        ensure!(
            matches!(selected, Err(SelectionError::InvalidPreference(_))),
            "expected an error, got {selected:?}"
        );
        return Ok(());
    }
    let suitable = addresses(topology.suitable(criteria))?;
    let near = addresses(topology.in_latency_window(criteria))?;
    let expected_near = sorted(described::addresses(field(test, "in_latency_window")?)?);
    let expected = sorted(described::addresses(field(test, "suitable_servers")?)?);
    expect_equal("suitable_servers", &suitable, &expected)?;
    expect_equal("in_latency_window", &near, &expected_near)?;
    match selected {
        Ok(server) => ensure!(near.contains(server.address()), "selected {server}"),
        Err(error) => ensure!(near.is_empty(), "nothing selected: {error}"),
    }
    Ok(())
}

type Found<'a> = Result<Vec<&'a std::sync::Arc<ServerDescription>>, SelectionError>;

fn addresses(found: Found<'_>) -> Result<Vec<ServerAddress>> {
    match found {
        Ok(servers) => Ok(sorted(
            servers
                .iter()
                .map(|server| server.address().clone())
                .collect(),
        )),
        Err(SelectionError::NoSuitableServer(_)) => Ok(Vec::new()),
        Err(error) => Err(error.into()),
    }
}

fn sorted(mut addresses: Vec<ServerAddress>) -> Vec<ServerAddress> {
    addresses.sort();
    addresses
}

fn read_preference(described: &Value) -> Result<ReadPreference> {
    // The files write the modes with a capital letter.
    let mode = given(described, "mode")
        .map(|_| text(described, "mode"))
        .transpose()?;
    let mode = mode.unwrap_or("Primary");
    let mode = format!("{}{}", mode[..1].to_lowercase(), &mode[1..]);
    let mut preference = ReadPreference::new(mode.parse()?);
    for set in given(described, "tag_sets")
        .and_then(Value::as_array)
        .into_iter()
        .flatten()
    {
        preference.tag_sets.push(tag_set(set)?);
    }
    if let Some(seconds) = given(described, "maxStalenessSeconds") {
        let Some(seconds) = seconds.as_u64() else {
            bail!("maxStalenessSeconds: {seconds}")
        };
        preference.max_staleness = Some(Duration::from_secs(seconds));
    }
    Ok(preference)
}

fn tag_set(described: &Value) -> Result<TagSet> {
    let tags = described.as_object().context("tag set")?;
    tags.iter()
        .map(|(name, value)| Ok((name.clone(), value.as_str().context("tag")?.to_owned())))
        .collect::<Result<Vec<_>>>()
        .map(TagSet::from_iter)
}
