//! What the pool publishes, as the tests write it, and how it is compared.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use mongo_client::events::CmapEvent;
use mongo_client::{Event, EventListener, PoolLimits};
use serde_json::{Map, Value, json};
use tokio::sync::watch;

use crate::json::text;

/// How long events are waited for that a case expects without waiting for them.
const PATIENCE: Duration = Duration::from_secs(10);

/// Keeps all events in their order.
#[derive(Clone, Debug)]
pub(super) struct Recorder {
    events: Arc<Mutex<Vec<Value>>>,
    changed: watch::Sender<()>,
}

impl Default for Recorder {
    fn default() -> Self {
        let events = Arc::default();
        let changed = watch::Sender::new(());
        Self { events, changed }
    }
}

impl Recorder {
    pub(super) fn listener(&self) -> EventListener {
        let recorder = self.clone();
        Arc::new(move |event| {
            if let Event::Cmap { server, event } = event {
                let event = describe(&server.address.to_string(), event);
                recorder.lock().push(event);
                recorder.changed.send_replace(());
            }
        })
    }

    /// Waits until an event has occurred so many times since the beginning.
    pub(super) async fn wait_for(&self, name: &str, count: usize, limit: Duration) -> Result<()> {
        let occurred = |events: &[Value]| {
            let named = events.iter().filter(|event| event["type"] == name);
            named.count() >= count
        };
        self.wait(limit, occurred)
            .await
            .with_context(|| format!("waiting for {name} to occur {count} times"))
    }

    /// Compares what was published, what is ignored aside, with what is expected first.
    pub(super) async fn check(&self, expected: &[Value], ignored: &[Value]) -> Result<()> {
        let counts = |event: &Value| !ignored.contains(&event["type"]);
        let enough = |events: &[Value]| {
            let counted = events.iter().filter(|event| counts(event));
            counted.count() >= expected.len()
        };
        // The comparison tells better what is missing.
        let _ = self.wait(PATIENCE, enough).await;
        let events = self.lock().clone();
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

    async fn wait(&self, limit: Duration, reached: impl Fn(&[Value]) -> bool) -> Result<()> {
        let mut changes = self.changed.subscribe();
        let reached = changes.wait_for(|()| reached(&self.lock()));
        tokio::time::timeout(limit, reached)
            .await
            .with_context(|| format!("not within {limit:?}; published were {:?}", self.lock()))??;
        Ok(())
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Vec<Value>> {
        self.events.lock().unwrap_or_else(PoisonError::into_inner)
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
