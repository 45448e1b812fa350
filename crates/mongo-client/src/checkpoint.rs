//! Where checkpoints are kept: a file, a collection, or whatever implements [`CheckpointStore`].
//!
//! A checkpoint is taken from a stream, saved once what came before it has been dealt with, and
//! given to the next stream. Saved after the fact it means "at least once": what was dealt with
//! behind the last checkpoint comes again.
//!
//! ```no_run
//! use mongo_client::checkpoint::{CheckpointStore, FileStore};
//!
//! # async fn f(orders: mongo_client::Collection) -> mongo_client::Result<()> {
//! let store = FileStore::new("/var/lib/indexer/orders.checkpoint");
//! let mut stream = orders.watch().resume_from(store.load().await?).await?;
//! while let Some(event) = stream.next_raw().await {
//!     println!("{:?}", event?.operation_type()); // deal with it
//!     if let Some(checkpoint) = stream.checkpoint() {
//!         store.save(&checkpoint).await?;
//!     }
//! }
//! # Ok(())
//! # }
//! ```
//!
//! Whoever deals with several events at once gives their places to a
//! [`CheckpointTracker`](crate::change_stream::CheckpointTracker), and saves what that returns, as
//! [`ChangeStream::checkpoint_at`](crate::ChangeStream::checkpoint_at) has it.

mod collection;
mod file;

use std::io;
use std::path::PathBuf;

use mongo_change_stream::{Checkpoint, CheckpointError, IdentityMismatch};

pub use self::collection::CollectionStore;
pub use self::file::FileStore;
use crate::error::Result;

/// Keeps one stream's checkpoint.
///
/// What was saved last is what is loaded, also after a crash: of two saves that a crash comes
/// between, either the one or the other.
pub trait CheckpointStore: Send + Sync {
    /// What was saved last; `None` if nothing was.
    ///
    /// # Errors
    /// When it cannot be read, or is no checkpoint.
    fn load(&self) -> impl Future<Output = Result<Option<Checkpoint>>> + Send;

    /// Keeps this in the place of what was saved before; it is safe when this returns.
    ///
    /// # Errors
    /// When it cannot be kept. What was saved before is then still there, or this is.
    fn save(&self, checkpoint: &Checkpoint) -> impl Future<Output = Result<()>> + Send;
}

/// What is wrong with a checkpoint or its store.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CheckpointFailure {
    /// The file cannot be read or written.
    #[error("{}: {source}", path.display())]
    Io {
        /// Which file.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// The file is not as it was written: cut short, or changed.
    #[error("{}: the checkpoint is damaged: {reason}", path.display())]
    Damaged {
        /// Which file.
        path: PathBuf,
        /// What does not fit.
        reason: &'static str,
    },
    /// The store's server does not do what it is asked.
    #[error("checkpoint {name:?}: {reason}")]
    Store {
        /// Whose checkpoint.
        name: String,
        /// What it says.
        reason: String,
    },
    /// What is kept is no checkpoint.
    #[error(transparent)]
    Unreadable(#[from] CheckpointError),
    /// It belongs to another stream. Nothing was sent.
    #[error(transparent)]
    Foreign(#[from] IdentityMismatch),
}
