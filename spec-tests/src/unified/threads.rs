//! Threads of a case, which are tasks.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use super::case::Case;
use super::schema::Operation;
use super::stop::{Run, Stop};

/// How long a thread's last operation is waited for.
const PATIENCE: Duration = Duration::from_secs(10);

/// A task that performs operations one after the other.
#[derive(Clone, Debug)]
pub(super) struct Thread(Arc<Mutex<Option<Running>>>);

#[derive(Debug)]
struct Running {
    operations: mpsc::UnboundedSender<Operation>,
    task: JoinHandle<Run>,
}

impl Thread {
    pub(super) fn start(case: &Arc<Case>) -> Self {
        let (operations, mut inbox) = mpsc::unbounded_channel::<Operation>();
        let case = Arc::downgrade(case);
        let task = tokio::spawn(async move {
            while let Some(operation) = inbox.recv().await {
                let Some(case) = case.upgrade() else {
                    break;
                };
                case.entity_operation(&operation).await?;
            }
            Ok(())
        });
        Self(Arc::new(Mutex::new(Some(Running { operations, task }))))
    }

    /// Hands it an operation.
    pub(super) fn run(&self, operation: Operation) -> Run {
        let running = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let running = running.as_ref().map(|running| running.operations.clone());
        let sent = running.and_then(|operations| operations.send(operation).ok());
        sent.ok_or_else(|| Stop::fail("the thread has ended"))
    }

    /// Waits until it has done all it was handed.
    pub(super) async fn wait(&self) -> Run {
        let running = self.0.lock().unwrap_or_else(PoisonError::into_inner).take();
        let running = running.ok_or_else(|| Stop::fail("the thread has ended"))?;
        drop(running.operations);
        match tokio::time::timeout(PATIENCE, running.task).await {
            Ok(Ok(result)) => result,
            Ok(Err(error)) => Err(Stop::fail(error.to_string())),
            Err(_) => Err(Stop::fail(format!(
                "the thread is not done after {PATIENCE:?}"
            ))),
        }
    }
}
