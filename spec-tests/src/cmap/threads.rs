//! The operations of a case, and the threads that they run in, which are tasks.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use mongo_client::testing::{LoneConnection, LonePool};
use serde_json::Value;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use super::events::{Recorder, awaited};
use crate::json::{given, text};

/// How long a thread is waited for.
const PATIENCE: Duration = Duration::from_secs(30);

/// What all threads share.
struct Shared {
    pool: LonePool,
    connections: Mutex<Connections>,
}

#[derive(Default)]
struct Connections {
    labelled: HashMap<String, LoneConnection>,
    /// Never checked in by the case; they stay out until its end.
    others: Vec<LoneConnection>,
}

struct Thread {
    operations: mpsc::UnboundedSender<Value>,
    task: JoinHandle<Result<()>>,
}

/// The main thread and those that it has started.
pub(super) struct Threads {
    shared: Arc<Shared>,
    recorder: Recorder,
    started: HashMap<String, Thread>,
}

impl Threads {
    pub(super) fn new(pool: LonePool, recorder: Recorder) -> Self {
        let connections = Mutex::default();
        Self {
            shared: Arc::new(Shared { pool, connections }),
            recorder,
            started: HashMap::new(),
        }
    }

    /// Performs an operation, or hands it to the thread that it names.
    pub(super) async fn perform(&mut self, operation: &Value) -> Result<()> {
        if let Some(name) = given(operation, "thread").and_then(Value::as_str) {
            let thread = self.started.get(name).context("no such thread")?;
            return Ok(thread.operations.send(operation.clone())?);
        }
        match text(operation, "name")? {
            "start" => {
                let name = text(operation, "target")?.to_owned();
                self.started.insert(name, Thread::start(&self.shared));
                Ok(())
            }
            "waitForThread" => {
                let name = text(operation, "target")?;
                let thread = self.started.remove(name).context("no such thread")?;
                drop(thread.operations);
                tokio::time::timeout(PATIENCE, thread.task).await??
            }
            "waitForEvent" => {
                let (event, count, limit) = awaited(operation)?;
                self.recorder.wait_for(event, count, limit).await
            }
            _ => self.shared.perform(operation).await,
        }
    }
}

impl Thread {
    fn start(shared: &Arc<Shared>) -> Self {
        let (operations, mut inbox) = mpsc::unbounded_channel::<Value>();
        let shared = Arc::clone(shared);
        let task = tokio::spawn(async move {
            while let Some(operation) = inbox.recv().await {
                shared.perform(&operation).await?;
            }
            Ok(())
        });
        Self { operations, task }
    }
}

impl Shared {
    async fn perform(&self, operation: &Value) -> Result<()> {
        match text(operation, "name")? {
            "wait" => {
                let millis = operation["ms"].as_u64().context("ms")?;
                tokio::time::sleep(Duration::from_millis(millis)).await;
            }
            "checkOut" => {
                let connection = self.pool.check_out().await?;
                let mut connections = self.connections();
                match given(operation, "label").and_then(Value::as_str) {
                    Some(label) => {
                        connections.labelled.insert(label.to_owned(), connection);
                    }
                    None => connections.others.push(connection),
                }
            }
            "checkIn" => {
                let label = text(operation, "connection")?;
                let connection = self.connections().labelled.remove(label);
                drop(connection.context("no such connection")?);
            }
            "ready" => self.pool.ready(),
            "clear" => {
                let interrupts = operation["interruptInUseConnections"].as_bool();
                self.pool.clear(interrupts.unwrap_or(false));
            }
            "close" => self.pool.close(),
            other => bail!("unknown operation {other}"),
        }
        Ok(())
    }

    fn connections(&self) -> MutexGuard<'_, Connections> {
        self.connections
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}
