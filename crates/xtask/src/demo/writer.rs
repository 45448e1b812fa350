//! Carries the plan out, each write exactly once, through the death of a primary.
//!
//! Every write is a retryable write: a session and a transaction number beside it, so that a server
//! that has done it already answers with what it did then (Retryable Writes specification).

use std::time::{Duration, Instant};

use anyhow::Context as _;
use bson::{Binary, RawDocumentBuf, rawdoc, spec::BinarySubtype};
use mongo_client::{Client, Error};

use super::plan::{DATABASE, Kind, Write};

/// How long one write is tried again; an election takes seconds.
const PATIENCE: Duration = Duration::from_secs(30);

/// The collection of the last write of all, which no event follows.
pub(crate) const END: &str = "end";

/// A session of the server, in which writes can be retried.
pub(crate) struct Writer {
    client: Client,
    session: Binary,
    transaction: i64,
}

impl Writer {
    pub(crate) fn new(client: Client, seed: u64) -> Self {
        let bytes = fastrand::Rng::with_seed(seed)
            .u128(..)
            .to_le_bytes()
            .to_vec();
        let session = Binary {
            subtype: BinarySubtype::Uuid,
            bytes,
        };
        Self {
            client,
            session,
            transaction: 0,
        }
    }

    /// Does one write and waits until a majority has it.
    ///
    /// # Errors
    /// The server refuses it, or it does not get through in time.
    pub(crate) async fn write(&mut self, write: &Write) -> anyhow::Result<()> {
        self.run(statement(write))
            .await
            .with_context(|| format!("{write:?}"))
    }

    /// Says that nothing follows.
    ///
    /// # Errors
    /// As [`write`](Self::write).
    pub(crate) async fn finish(&mut self) -> anyhow::Result<()> {
        self.run(rawdoc! { "insert": END, "documents": [{ "_id": 0 }] })
            .await
    }

    async fn run(&mut self, mut command: RawDocumentBuf) -> anyhow::Result<()> {
        self.transaction += 1;
        command.append(bson::cstr!("lsid"), rawdoc! { "id": self.session.clone() });
        command.append(bson::cstr!("txnNumber"), self.transaction);
        command.append(bson::cstr!("writeConcern"), rawdoc! { "w": "majority" });
        let database = self.client.database(DATABASE);
        let started = Instant::now();
        loop {
            let reason = match database.run_command(&command).await {
                Ok(reply) => match reply.write_concern_error()? {
                    // The write may still be rolled back: the same again waits for the majority.
                    Some(error) => error.to_string(),
                    None => return check_done(reply.document().as_raw()),
                },
                Err(error) if is_retryable(&error) => error.to_string(),
                Err(error) => return Err(error.into()),
            };
            if started.elapsed() > PATIENCE {
                anyhow::bail!("did not get through within {PATIENCE:?}: {reason}");
            }
        }
    }
}

fn statement(write: &Write) -> RawDocumentBuf {
    let padding = "x".repeat(write.padding);
    let (collection, id, number) = (write.collection, write.id, write.number);
    match write.kind {
        Kind::Insert => rawdoc! {
            "insert": collection,
            "documents": [{ "_id": id, "number": number, "padding": padding }],
        },
        Kind::Update => rawdoc! {
            "update": collection,
            "updates": [{ "q": { "_id": id }, "u": { "$set": { "number": number, "padding": padding } } }],
        },
        Kind::Delete => rawdoc! {
            "delete": collection,
            "deletes": [{ "q": { "_id": id }, "limit": 1 }],
        },
    }
}

fn check_done(reply: &bson::RawDocument) -> anyhow::Result<()> {
    let done = reply.get_i32("n").context("the reply has no count")?;
    anyhow::ensure!(done == 1, "changed {done} documents: {reply:?}");
    Ok(())
}

fn is_retryable(error: &Error) -> bool {
    match error {
        Error::Server { error, .. } => error.has_label("RetryableWriteError"),
        other => other.is_network(),
    }
}
