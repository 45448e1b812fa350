//! The events that a phase must publish, in order. Heartbeats are not among them.

use anyhow::{Context, Result, bail, ensure};
use mongo_topology::{SdamEvent, ServerDescription, TopologyDescription};
use mongo_uri::ServerAddress;
use serde_json::Value;

use super::outcome::{optional_text, server_type};
use crate::json::{expect_equal, field, text};

pub(super) fn check(expected: &Value, events: &[SdamEvent]) -> Result<()> {
    let expected = expected.as_array().context("events")?;
    let actual: Vec<_> = events.iter().filter(|event| !is_heartbeat(event)).collect();
    for (index, (event, expected)) in actual.iter().zip(expected).enumerate() {
        check_event(expected, event).with_context(|| format!("event {index}: {event:?}"))?;
    }
    ensure!(
        actual.len() == expected.len(),
        "{} events, not {}: {actual:?}",
        actual.len(),
        expected.len()
    );
    Ok(())
}

fn is_heartbeat(event: &SdamEvent) -> bool {
    matches!(
        event,
        SdamEvent::HeartbeatStarted { .. }
            | SdamEvent::HeartbeatSucceeded { .. }
            | SdamEvent::HeartbeatFailed { .. }
    )
}

fn check_event(expected: &Value, event: &SdamEvent) -> Result<()> {
    let expected = expected.as_object().context("event")?;
    let (name, body) = expected.iter().next().context("empty event")?;
    match (name.as_str(), event) {
        ("topology_opening_event", SdamEvent::TopologyOpening)
        | ("topology_closed_event", SdamEvent::TopologyClosed) => Ok(()),
        (
            "topology_description_changed_event",
            SdamEvent::TopologyDescriptionChanged { previous, current },
        ) => {
            check_topology(field(body, "previousDescription")?, previous).context("previous")?;
            check_topology(field(body, "newDescription")?, current).context("new")
        }
        ("server_opening_event", SdamEvent::ServerOpening { server })
        | ("server_closed_event", SdamEvent::ServerClosed { server }) => {
            check_address(body, &server.address)
        }
        (
            "server_description_changed_event",
            SdamEvent::ServerDescriptionChanged { previous, current },
        ) => {
            check_address(body, current.address())?;
            check_server(field(body, "previousDescription")?, previous).context("previous")?;
            check_server(field(body, "newDescription")?, current).context("new")
        }
        (other, _) => bail!("expected {other}"),
    }
}

fn check_topology(expected: &Value, topology: &TopologyDescription) -> Result<()> {
    let topology_type = topology.topology_type.as_str();
    expect_equal(
        "topologyType",
        topology_type,
        text(expected, "topologyType")?,
    )?;
    let set_name = expected.get("setName").and_then(optional_text);
    expect_equal("setName", &topology.set_name.as_deref(), &set_name)?;
    let servers = field(expected, "servers")?.as_array().context("servers")?;
    expect_equal("number of servers", &topology.servers.len(), &servers.len())?;
    for expected in servers {
        let address: ServerAddress = text(expected, "address")?.parse()?;
        let server = topology.servers.get(&address).context("no such server")?;
        check_server(expected, server).with_context(|| address.to_string())?;
    }
    Ok(())
}

fn check_server(expected: &Value, server: &ServerDescription) -> Result<()> {
    check_address(expected, server.address())?;
    let expected_type = server_type(text(expected, "type")?);
    expect_equal("type", server.server_type().as_str(), expected_type)?;
    let set_name = expected.get("setName").and_then(optional_text);
    expect_equal("setName", &server.set_name(), &set_name)?;
    let member = server.reply().map(|reply| reply.member.clone());
    let member = member.unwrap_or_default();
    let primary = member.primary.map(|address| address.to_string());
    let expected_primary = expected.get("primary").and_then(optional_text);
    expect_equal("primary", &primary.as_deref(), &expected_primary)?;
    for (key, actual) in [
        ("hosts", member.hosts),
        ("passives", member.passives),
        ("arbiters", member.arbiters),
    ] {
        let actual: Vec<_> = actual.iter().map(ToString::to_string).collect();
        let expected = field(expected, key)?.as_array().context(key.to_owned())?;
        let expected: Vec<_> = expected.iter().filter_map(Value::as_str).collect();
        ensure!(actual == expected, "{key}: {actual:?}, not {expected:?}");
    }
    Ok(())
}

fn check_address(expected: &Value, actual: &ServerAddress) -> Result<()> {
    expect_equal("address", &*actual.to_string(), text(expected, "address")?)
}
