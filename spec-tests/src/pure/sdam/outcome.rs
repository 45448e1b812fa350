//! The topology that a phase must end in.

use anyhow::{Context, Result, bail, ensure};
use bson::oid::ObjectId;
use mongo_topology::{ServerDescription, TopologyDescription, TopologyVersion};
use mongo_uri::ServerAddress;
use serde_json::Value;

use super::driver::Driver;
use crate::json::{bson, document, expect_equal, field, given, text};

pub(super) fn check(outcome: &Value, driver: &Driver) -> Result<()> {
    let topology = driver.topology.description();
    check_topology(outcome, &topology)
        .and_then(|()| check_servers(outcome, &topology, driver))
        .with_context(|| topology.to_string())
}

fn check_topology(outcome: &Value, topology: &TopologyDescription) -> Result<()> {
    let topology_type = topology.topology_type.as_str();
    expect_equal("type", topology_type, text(outcome, "topologyType")?)?;
    let set_name = optional_text(field(outcome, "setName")?);
    expect_equal("setName", &topology.set_name.as_deref(), &set_name)?;
    if let Some(timeout) = outcome.get("logicalSessionTimeoutMinutes") {
        let actual = &topology.logical_session_timeout_minutes;
        expect_equal(
            "logicalSessionTimeoutMinutes",
            actual,
            &optional_integer(timeout)?,
        )?;
    }
    if let Some(version) = outcome.get("maxSetVersion") {
        let expected = optional_integer(version)?;
        expect_equal("maxSetVersion", &topology.max_set_version, &expected)?;
    }
    if let Some(election) = outcome.get("maxElectionId") {
        let expected = optional_object_id(election)?;
        expect_equal("maxElectionId", &topology.max_election_id, &expected)?;
    }
    let compatible = given(outcome, "compatible").is_none_or(|value| value == true);
    expect_equal("compatible", &topology.is_compatible(), &compatible)
}

fn check_servers(outcome: &Value, topology: &TopologyDescription, driver: &Driver) -> Result<()> {
    let servers = field(outcome, "servers")?.as_object().context("servers")?;
    expect_equal("number of servers", &topology.servers.len(), &servers.len())?;
    for (address, expected) in servers {
        let parsed: ServerAddress = address.parse()?;
        let server = topology.servers.get(&parsed).context(address.clone())?;
        check_server(expected, server, driver).with_context(|| address.clone())?;
    }
    Ok(())
}

fn check_server(expected: &Value, server: &ServerDescription, driver: &Driver) -> Result<()> {
    for (key, value) in expected.as_object().context("server")? {
        check_field(key, value, server, driver)?;
    }
    Ok(())
}

fn check_field(
    key: &str,
    value: &Value,
    server: &ServerDescription,
    driver: &Driver,
) -> Result<()> {
    let reply = server.reply();
    let member = reply.map(|reply| &reply.member);
    match key {
        "type" => {
            let expected = server_type(value.as_str().context("type")?);
            expect_equal(key, server.server_type().as_str(), expected)
        }
        "error" => {
            let actual = server.error().map(ToString::to_string).unwrap_or_default();
            let expected = value.as_str().context("error")?;
            ensure!(actual.contains(expected), "error: {actual}, not {expected}");
            Ok(())
        }
        "setName" => expect_equal(key, &server.set_name(), &optional_text(value)),
        "setVersion" => {
            let actual = member.and_then(|member| member.set_version);
            expect_equal(key, &actual, &optional_integer(value)?)
        }
        "electionId" => {
            let actual = member.and_then(|member| member.election_id);
            expect_equal(key, &actual, &optional_object_id(value)?)
        }
        "logicalSessionTimeoutMinutes" => {
            let actual = server.logical_session_timeout_minutes();
            expect_equal(key, &actual, &optional_integer(value)?)
        }
        "minWireVersion" | "maxWireVersion" => {
            let versions = reply.map(|reply| reply.wire_versions);
            let actual = versions.map(|own| i64::from(if key < "min" { own.max } else { own.min }));
            expect_equal(key, &actual, &optional_integer(value)?)
        }
        "topologyVersion" => {
            let expected = match value {
                Value::Null => None,
                value => TopologyVersion::from_document(&document(value)?),
            };
            expect_equal(key, &server.topology_version(), &expected)
        }
        "pool" => {
            let actual = driver.topology.pool_generation(server.id());
            expect_equal(key, &actual, &field(value, "generation")?.as_u64())
        }
        other => bail!("no check for {other}"),
    }
}

/// `PossiblePrimary` belongs to clients that check one server after the other; for others it is
/// `Unknown`, as the specification says.
pub(super) fn server_type(name: &str) -> &str {
    if name == "PossiblePrimary" {
        "Unknown"
    } else {
        name
    }
}

pub(super) fn optional_text(value: &Value) -> Option<&str> {
    value.as_str()
}

fn optional_integer(value: &Value) -> Result<Option<i64>> {
    match value {
        Value::Null => Ok(None),
        value => Ok(Some(value.as_i64().context("no integer")?)),
    }
}

fn optional_object_id(value: &Value) -> Result<Option<ObjectId>> {
    match value {
        Value::Null => Ok(None),
        value => Ok(Some(bson(value)?.as_object_id().context("no object id")?)),
    }
}
