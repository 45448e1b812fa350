//! The resume file: where the next run starts.

use std::time::Duration;

use mongo_client::ChangeStream;
use mongo_client::change_stream::Checkpoint;
use mongo_client::checkpoint::{CheckpointStore as _, FileStore};
use tokio::time::Instant;

use crate::exit::Failure;

/// How much time passes between two writes at least, the last one aside.
const PERIOD: Duration = Duration::from_secs(1);

/// The file, if there is to be one, and what is in it. A line that was written to a pipe may be
/// written again after a crash; none is left out.
pub(crate) struct Place {
    store: Option<FileStore>,
    kept: Option<Checkpoint>,
    due: Instant,
}

impl Place {
    pub(crate) fn new(store: Option<FileStore>) -> Self {
        Self {
            store,
            kept: None,
            due: Instant::now(),
        }
    }

    /// Keeps the place behind what was handed out, all of which must have been written.
    pub(crate) async fn keep(&mut self, stream: &ChangeStream) -> Result<(), Failure> {
        let Some(store) = &self.store else {
            return Ok(());
        };
        self.due = Instant::now() + PERIOD;
        let checkpoint = stream.checkpoint();
        if checkpoint == self.kept {
            return Ok(());
        }
        if let Some(checkpoint) = &checkpoint {
            store.save(checkpoint).await?;
        }
        self.kept = checkpoint;
        Ok(())
    }

    /// Whether the place is to be kept again.
    pub(crate) fn is_overdue(&self) -> bool {
        self.store.is_some() && self.due <= Instant::now()
    }

    /// Resolves when the place is to be kept again, also while nothing happens: it moves on all
    /// the same. Never, when there is no file.
    pub(crate) async fn is_due(&self) {
        match self.store {
            Some(_) => tokio::time::sleep_until(self.due).await,
            None => std::future::pending().await,
        }
    }
}
