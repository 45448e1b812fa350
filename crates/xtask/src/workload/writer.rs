//! Writes that are done exactly once, through the death of a primary.
//!
//! Every write is a retryable write: a session and a transaction number beside it, so that a server
//! that has done it already answers with what it did then (Retryable Writes specification).

use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use bson::{Binary, RawDocumentBuf, rawdoc, spec::BinarySubtype};
use mongo_client::change_stream::ErrorClass;
use mongo_client::{Database, Error};

/// How long one write is tried again; an election takes seconds.
const PATIENCE: Duration = Duration::from_secs(60);

/// A session of the server, in which writes can be retried.
pub(crate) struct Writer {
    database: Database,
    session: Binary,
    transaction: i64,
}

impl Writer {
    /// Writers of different seeds have different sessions.
    pub(crate) fn new(database: Database, seed: u64) -> Self {
        let bytes = fastrand::Rng::with_seed(seed)
            .u128(..)
            .to_le_bytes()
            .to_vec();
        let session = Binary {
            subtype: BinarySubtype::Uuid,
            bytes,
        };
        Self {
            database,
            session,
            transaction: 0,
        }
    }

    /// Does one write, of as many documents as it says, and waits until a majority has it.
    ///
    /// # Errors
    /// The server refuses it, or it does not get through in time; then it may be done or not.
    pub(crate) async fn write(
        &mut self,
        mut command: RawDocumentBuf,
        documents: i32,
    ) -> anyhow::Result<()> {
        self.transaction += 1;
        command.append(bson::cstr!("lsid"), rawdoc! { "id": self.session.clone() });
        command.append(bson::cstr!("txnNumber"), self.transaction);
        command.append(bson::cstr!("writeConcern"), rawdoc! { "w": "majority" });
        let started = Instant::now();
        loop {
            let reason = match self.database.run_command(&command).await {
                Ok(reply) => {
                    let errors = reply.document().as_raw().get("writeErrors")?;
                    match (errors, reply.write_concern_error()?) {
                        // A change of the primary may have come between two documents.
                        (Some(errors), _) => format!("{errors:?}"),
                        // The write may still be rolled back: the same again waits for the majority.
                        (None, Some(error)) => error.to_string(),
                        (None, None) => return check_done(reply.document().as_raw(), documents),
                    }
                }
                Err(error) if is_retryable(&error) => error.to_string(),
                Err(error) => return Err(error.into()),
            };
            if started.elapsed() > PATIENCE {
                bail!("did not get through within {PATIENCE:?}: {reason}");
            }
        }
    }
}

fn check_done(reply: &bson::RawDocument, documents: i32) -> anyhow::Result<()> {
    let done = reply.get_i32("n").context("the reply has no count")?;
    anyhow::ensure!(done == documents, "changed {done} documents: {reply:?}");
    Ok(())
}

fn is_retryable(error: &Error) -> bool {
    let is_labelled = match error {
        Error::Server { error, .. } => error.has_label("RetryableWriteError"),
        _ => false,
    };
    is_labelled || error.is_network() || error.class() == ErrorClass::RetryLater
}
