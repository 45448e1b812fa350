//! The topologies that the tests describe.

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use bson::{DateTime, RawDocumentBuf, cstr, rawdoc};
use mongo_topology::{
    HelloReply, RoundTrip, ServerDescription, ServerId, TopologyDescription, TopologyType,
};
use mongo_uri::ServerAddress;
use serde_json::Value;

use crate::json::{bson, document, field, given, text};

/// What servers speak unless they say otherwise: MongoDB 7.0.
const WIRE_VERSION: i64 = 21;

pub(super) fn topology(described: &Value, start: Instant) -> Result<TopologyDescription> {
    let topology_type = match text(described, "type")? {
        "Unknown" => TopologyType::Unknown,
        "Single" => TopologyType::Single,
        "ReplicaSetNoPrimary" => TopologyType::ReplicaSetNoPrimary,
        "ReplicaSetWithPrimary" => TopologyType::ReplicaSetWithPrimary,
        "Sharded" => TopologyType::Sharded,
        "LoadBalanced" => TopologyType::LoadBalanced,
        other => bail!("no topology type: {other}"),
    };
    let servers = field(described, "servers")?.as_array().context("servers")?;
    let servers = servers
        .iter()
        .map(|server_json| server(server_json, start).map(Arc::new))
        .collect::<Result<_>>()?;
    Ok(TopologyDescription::new(topology_type, servers))
}

/// The addresses of a list of servers.
pub(super) fn addresses(described: &Value) -> Result<Vec<ServerAddress>> {
    let servers = described.as_array().context("no list of servers")?;
    servers
        .iter()
        .map(|server| Ok(text(server, "address")?.parse()?))
        .collect()
}

fn server(described: &Value, start: Instant) -> Result<ServerDescription> {
    let id = ServerId {
        address: text(described, "address")?.parse()?,
        instance: 1,
    };
    let mut reply = match text(described, "type")? {
        "Unknown" | "PossiblePrimary" => return Ok(ServerDescription::unknown(id)),
        "LoadBalancer" => return Ok(ServerDescription::load_balancer(id)),
        "Standalone" => rawdoc! { "ok": 1, "isWritablePrimary": true },
        "Mongos" => rawdoc! { "ok": 1, "isWritablePrimary": true, "msg": "isdbgrid" },
        "RSPrimary" => rawdoc! { "ok": 1, "setName": "rs", "isWritablePrimary": true },
        "RSSecondary" => rawdoc! { "ok": 1, "setName": "rs", "secondary": true },
        "RSArbiter" => rawdoc! { "ok": 1, "setName": "rs", "arbiterOnly": true },
        "RSOther" => rawdoc! { "ok": 1, "setName": "rs" },
        "RSGhost" => rawdoc! { "ok": 1, "isreplicaset": true },
        other => bail!("no server type: {other}"),
    };
    let wire_version = given(described, "maxWireVersion").and_then(Value::as_i64);
    reply.append(
        cstr!("maxWireVersion"),
        wire_version.unwrap_or(WIRE_VERSION),
    );
    if let Some(tags) = given(described, "tags") {
        reply.append(cstr!("tags"), document(tags)?);
    }
    if let Some(write) = given(described, "lastWrite") {
        reply.append(cstr!("lastWrite"), last_write(write)?);
    }
    let round_trip = RoundTrip {
        average: given(described, "avg_rtt_ms").and_then(milliseconds),
        minimum: Duration::ZERO,
    };
    let updated = given(described, "lastUpdateTime").and_then(Value::as_u64);
    let updated = start + Duration::from_millis(updated.unwrap_or(0));
    let reply = Arc::new(HelloReply::parse(&reply)?);
    Ok(ServerDescription::answered(id, reply, round_trip, updated))
}

fn last_write(described: &Value) -> Result<RawDocumentBuf> {
    let date = bson(field(described, "lastWriteDate")?)?;
    let millis = date.as_i64().context("lastWriteDate")?;
    Ok(rawdoc! { "lastWriteDate": DateTime::from_millis(millis) })
}

/// A number of milliseconds, perhaps with a fraction.
pub(super) fn milliseconds(value: &Value) -> Option<Duration> {
    Duration::try_from_secs_f64(value.as_f64()? / 1_000.0).ok()
}
