//! What the pool publishes, as the tests write it, and how it is compared.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use mongo_client::events::CmapEvent;
use mongo_client::{Event, EventListener, PoolLimits};
use serde_json::{Map, Value, json};
use testbed::journal::Journal;

use crate::json::text;

/// How long events are waited for that a case expects without waiting for them.
const PATIENCE: Duration = Duration::from_secs(10);

/// Keeps all events in their order.
#[derive(Clone, Debug, Default)]
pub(super) struct Recorder(Journal<Vec<Value>>);

impl Recorder {
    pub(super) fn listener(&self) -> EventListener {
        let journal = self.0.clone();
        Arc::new(move |event| {
            if let Event::Cmap { server, event } = event {
                let event = describe(&server.address.to_string(), event);
                journal.write(|events| events.push(event));
            }
        })
    }

    /// Waits until an event has occurred so many times since the beginning.
    pub(super) async fn wait_for(&self, name: &str, count: usize, limit: Duration) -> Result<()> {
        let occurred = |events: &Vec<Value>| {
            let named = events.iter().filter(|event| event["type"] == name);
            named.count() >= count
        };
        let is_enough = self.0.wait(limit, occurred).await;
        ensure!(
            is_enough,
            "{name} did not occur {count} times within {limit:?}; published were {:?}",
            *self.0.read()
        );
        Ok(())
    }

    /// Compares what was published, what is ignored aside, with what is expected first.
    pub(super) async fn check(&self, expected: &[Value], ignored: &[Value]) -> Result<()> {
        let counts = |event: &Value| !ignored.contains(&event["type"]);
        let enough = |events: &Vec<Value>| {
            let counted = events.iter().filter(|event| counts(event));
            counted.count() >= expected.len()
        };
        // The comparison tells better what is missing.
        let _ = self.0.wait(PATIENCE, enough).await;
        let events = self.0.read().clone();
        let actual: Vec<_> = events.into_iter().filter(|event| counts(event)).collect();
        for (index, expected) in expected.iter().enumerate() {
            let fits = actual
                .get(index)
                .is_some_and(|event| matches(expected, event));
            ensure!(
                fits,
                "event {index}: expected {expected}; published were {actual:#?}"
            );
        }
        Ok(())
    }
}

fn describe(address: &str, event: &CmapEvent) -> Value {
    let millis = |duration: &Duration| duration.as_secs_f64() * 1_000.0;
    let (name, fields) = match event {
        CmapEvent::PoolCreated { limits } => {
            let options = options(limits);
            ("ConnectionPoolCreated", json!({ "options": options }))
        }
        CmapEvent::PoolReady => ("ConnectionPoolReady", json!({})),
        CmapEvent::PoolCleared {
            interrupt_in_use, ..
        } => {
            let interrupt = json!({ "interruptInUseConnections": interrupt_in_use });
            ("ConnectionPoolCleared", interrupt)
        }
        CmapEvent::PoolClosed => ("ConnectionPoolClosed", json!({})),
        CmapEvent::ConnectionCreated { connection } => {
            ("ConnectionCreated", json!({ "connectionId": connection }))
        }
        CmapEvent::ConnectionReady {
            connection,
            duration,
        } => {
            let fields = json!({ "connectionId": connection, "duration": millis(duration) });
            ("ConnectionReady", fields)
        }
        CmapEvent::ConnectionClosed { connection, reason } => {
            let fields = json!({ "connectionId": connection, "reason": reason.as_str() });
            ("ConnectionClosed", fields)
        }
        CmapEvent::CheckOutStarted => ("ConnectionCheckOutStarted", json!({})),
        CmapEvent::CheckOutFailed { reason, duration } => {
            let fields = json!({ "reason": reason.as_str(), "duration": millis(duration) });
            ("ConnectionCheckOutFailed", fields)
        }
        CmapEvent::CheckedOut {
            connection,
            duration,
        } => {
            let fields = json!({ "connectionId": connection, "duration": millis(duration) });
            ("ConnectionCheckedOut", fields)
        }
        CmapEvent::CheckedIn { connection } => {
            ("ConnectionCheckedIn", json!({ "connectionId": connection }))
        }
        other => ("?", json!({ "unknown": format!("{other:?}") })),
    };
    let mut event = Map::from_iter([
        ("type".to_owned(), name.into()),
        ("address".to_owned(), address.into()),
    ]);
    event.extend(fields.as_object().cloned().into_iter().flatten());
    event.into()
}

fn options(limits: &PoolLimits) -> Value {
    let idle = limits.max_idle.map_or(0, |limit| limit.as_millis());
    json!({
        "maxPoolSize": limits.max_size.map_or(0, |size| size.get()),
        "minPoolSize": limits.min_size,
        "maxConnecting": limits.max_connecting.get(),
        "maxIdleTimeMS": u64::try_from(idle).unwrap_or(u64::MAX),
    })
}

/// The format's match function: a subset of the fields, and 42 for anything.
fn matches(expected: &Value, actual: &Value) -> bool {
    match (expected, actual) {
        _ if *expected == json!(42) || *expected == json!("42") => !actual.is_null(),
        (Value::Array(expected), Value::Array(actual)) => expected
            .iter()
            .enumerate()
            .all(|(index, value)| actual.get(index).is_some_and(|a| matches(value, a))),
        (Value::Object(expected), Value::Object(actual)) => expected
            .iter()
            .all(|(key, value)| actual.get(key).is_some_and(|a| matches(value, a))),
        _ => expected == actual,
    }
}

/// The name of the event that an operation waits for.
pub(super) fn awaited(operation: &Value) -> Result<(&str, usize, Duration)> {
    let count = operation["count"].as_u64().context("count")?;
    let limit = operation["timeout"].as_u64().map(Duration::from_millis);
    let count = usize::try_from(count)?;
    Ok((text(operation, "event")?, count, limit.unwrap_or(PATIENCE)))
}
