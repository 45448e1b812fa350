//! What the tasks of a client have from tokio: a clock, and somebody who waits for their end.

use std::sync::Arc;

use tokio::runtime::Handle;
use tokio::sync::watch;
use tokio::time::Instant;

use crate::deadline::Deadline;

/// Spawns the tasks of one client, in the runtime that it was made in: its connections may be
/// dropped outside of it.
#[derive(Clone, Debug)]
pub(crate) struct Tasks {
    runtime: Handle,
    /// Each task holds a receiver until it has ended.
    running: Arc<watch::Sender<()>>,
}

impl Tasks {
    /// # Panics
    /// Outside a tokio runtime.
    pub(crate) fn new() -> Self {
        Self {
            runtime: Handle::current(),
            running: Arc::new(watch::Sender::new(())),
        }
    }

    pub(crate) fn spawn(&self, work: impl Future<Output = ()> + Send + 'static) {
        let running = self.running.subscribe();
        self.runtime.spawn(async move {
            work.await;
            drop(running);
        });
    }

    /// Waits until no task is left.
    pub(crate) async fn ended(&self) {
        self.running.closed().await;
    }
}

/// The time that the machines are told.
pub(crate) fn now() -> std::time::Instant {
    Instant::now().into_std()
}

/// Waits for the end; for ever, when there is none.
pub(crate) async fn over(deadline: Deadline) {
    match deadline {
        Deadline::At { until, .. } => tokio::time::sleep_until(until).await,
        Deadline::Unset | Deadline::Never => std::future::pending().await,
    }
}

/// Waits until then; without a time, for ever.
pub(crate) async fn sleep_until(time: Option<std::time::Instant>) {
    match time {
        Some(time) => tokio::time::sleep_until(time.into()).await,
        None => std::future::pending().await,
    }
}
