//! Writes that are done exactly once, through the death of a primary: retryable writes within a time
//! limit, which are repeated as long as it lasts.

use std::time::Duration;

use anyhow::{Context as _, ensure};
use bson::{RawDocumentBuf, rawdoc};
use mongo_client::{Client, ClientSession, Database, SessionOptions};

/// How long one write is tried again; an election takes seconds.
const PATIENCE: Duration = Duration::from_secs(60);

/// One session, in which the server does one write after the other, also one that was given up.
pub(crate) struct Writer {
    database: Database,
    session: ClientSession,
}

impl Writer {
    /// # Errors
    /// The client does not give out sessions.
    pub(crate) fn new(client: &Client, database: &str) -> anyhow::Result<Self> {
        Ok(Self {
            database: client.database(database),
            session: client.start_session(SessionOptions::default())?,
        })
    }

    /// Does one write, of as many documents as it says, and waits until a majority has it.
    ///
    /// # Errors
    /// The server refuses it, or it does not get through in time; then it may be done or not.
    pub(crate) async fn write(
        &self,
        mut command: RawDocumentBuf,
        documents: i32,
    ) -> anyhow::Result<()> {
        command.append(bson::cstr!("writeConcern"), rawdoc! { "w": "majority" });
        let write = self.database.run_command(&command).as_write();
        let reply = write.session(&self.session).timeout(PATIENCE).await?;
        if let Some(error) = reply.write_concern_error()? {
            return Err(error).context("it may be rolled back");
        }
        let reply = reply.document().as_raw();
        ensure!(reply.get("writeErrors")?.is_none(), "{reply:?}");
        let done = reply.get_i32("n").context("the reply has no count")?;
        ensure!(done == documents, "changed {done} documents: {reply:?}");
        Ok(())
    }
}
