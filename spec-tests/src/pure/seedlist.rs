//! `seedlist`: a `mongodb+srv` URI, the seeds and options it leads to, or an error.
//!
//! `ping` needs a deployment and is asserted nowhere here. `hosts` are what monitoring finds:
//! mongos and load balancers never name others, so there they are the seeds; members of a replica
//! set name the set's own members, which no pure step can know.

use std::collections::BTreeSet;

use anyhow::{Context, Result, ensure};
use mongo_uri::{ConnectionString, ServerAddress};
use serde_json::{Value, json};

use super::{dns, uri_options};
use crate::case::{Case, one_per_file};
use crate::dir::SpecDir;
use crate::json::{expect_equal, given, text};

/// Seeds of the generator that chooses hosts for `srvMaxHosts`.
const RANDOM_SEEDS: std::ops::Range<u64> = 0..16;

/// Loads the cases whose seeds are members of a replica set.
pub fn replica_set_cases(dir: &SpecDir, suite: &'static str) -> Result<Vec<Case>> {
    one_per_file(dir, suite, |test| {
        RANDOM_SEEDS
            .into_iter()
            .try_for_each(|seed| run(test, seed))
    })
}

/// Loads the cases whose seeds are mongos or a load balancer.
pub fn mongos_cases(dir: &SpecDir, suite: &'static str) -> Result<Vec<Case>> {
    one_per_file(dir, suite, |test| {
        RANDOM_SEEDS.into_iter().try_for_each(|seed| {
            run(test, seed)?;
            check_discovered(test, seed)
        })
    })
}

fn parse(test: &Value, seed: u64) -> Result<ConnectionString> {
    let parsed = ConnectionString::parse(text(test, "uri")?)?;
    Ok(dns::resolve(&parsed, seed)?)
}

fn expects_error(test: &Value) -> bool {
    given(test, "error").is_some_and(|error| error == true)
}

fn run(test: &Value, seed: u64) -> Result<()> {
    let parsed = parse(test, seed);
    if expects_error(test) {
        ensure!(parsed.is_err(), "expected an error, got {parsed:?}");
        return Ok(());
    }
    let parsed = parsed?;
    check_addresses(&parsed.hosts, given(test, "seeds"), given(test, "numSeeds"))?;
    if let Some(options) = given(test, "options") {
        uri_options::check(&parsed, options)?;
    }
    match given(test, "parsed_options") {
        Some(expected) => check_parsed_options(&parsed, expected),
        None => Ok(()),
    }
}

/// Checks `hosts` after a rescan that brings the same records.
fn check_discovered(test: &Value, seed: u64) -> Result<()> {
    if expects_error(test) {
        return Ok(());
    }
    let parsed = parse(test, seed)?;
    let current: BTreeSet<_> = parsed.hosts.iter().cloned().collect();
    let question = parsed.srv_question().context("the URI has no SRV host")?;
    let rescan = parsed.rescan(&dns::srv_records(&question.srv), &current, seed + 1);
    expect_equal(
        "hosts after a rescan",
        &rescan.hosts,
        &Some(current.clone()),
    )?;
    let hosts: Vec<_> = current.into_iter().collect();
    check_addresses(&hosts, given(test, "hosts"), given(test, "numHosts"))
}

fn check_addresses(
    actual: &[ServerAddress],
    list: Option<&Value>,
    number: Option<&Value>,
) -> Result<()> {
    if let Some(list) = list.and_then(Value::as_array) {
        let text: Vec<_> = list.iter().filter_map(Value::as_str).collect();
        let expected = text
            .iter()
            .map(|address| address.parse())
            .collect::<Result<BTreeSet<_>, _>>()?;
        expect_equal("addresses", &actual.iter().cloned().collect(), &expected)?;
    }
    if let Some(number) = number {
        expect_equal("number of addresses", &json!(actual.len()), number)?;
    }
    Ok(())
}

fn check_parsed_options(parsed: &ConnectionString, expected: &Value) -> Result<()> {
    let credential = parsed.credential.as_ref();
    for (key, expected) in expected.as_object().context("parsed_options")? {
        let actual = match key.as_str() {
            "user" => credential.and_then(|c| c.username.as_deref()),
            "password" => credential
                .and_then(|c| c.password.as_ref())
                .map(|p| p.expose()),
            "db" | "auth_database" | "defaultDatabase" => parsed.default_database.as_deref(),
            _ => anyhow::bail!("the test names {key}, of which the test runner does not know"),
        };
        expect_equal(key, &json!(actual), expected)?;
    }
    Ok(())
}
