//! Names of databases and collections, and what can be done with them.

use bson::RawDocument;
use mongo_change_stream::WatchTarget;
use mongo_uri::ReadPreference;
use mongo_wire::CommandReply;

use crate::client::Client;
use crate::error::Result;
use crate::watch::Watch;

/// A database; a name and a client, cheap to clone.
#[derive(Clone, Debug)]
pub struct Database {
    client: Client,
    name: String,
}

impl Database {
    pub(crate) fn new(client: Client, name: String) -> Self {
        Self { client, name }
    }

    /// The database's name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// A collection of this database; nothing is sent.
    #[must_use]
    pub fn collection(&self, name: impl Into<String>) -> Collection {
        Collection {
            database: self.clone(),
            name: name.into(),
        }
    }

    /// Follows every collection of this database, system collections aside.
    pub fn watch(&self) -> Watch {
        Watch::new(
            self.client.clone(),
            WatchTarget::Database(self.name.clone()),
        )
    }

    /// Runs a command on the primary and returns its reply, in the bytes it came in.
    ///
    /// The command is sent as it is, with `$db` beside it. It is sent once: what to do after an
    /// error is the caller's to decide, who alone knows whether it may run twice. Dropping the
    /// future closes the connection it used; the server may still run the command.
    ///
    /// # Errors
    /// [`Error::Server`](crate::Error::Server) when the reply says `ok: 0`, and whatever prevents
    /// a reply.
    pub async fn run_command(&self, command: &RawDocument) -> Result<CommandReply> {
        self.run_command_with(command, &ReadPreference::default())
            .await
    }

    /// As [`run_command`](Self::run_command), on a server that the read preference suits.
    ///
    /// # Errors
    /// As there.
    pub async fn run_command_with(
        &self,
        command: &RawDocument,
        read_preference: &ReadPreference,
    ) -> Result<CommandReply> {
        let mut bound = self.client.bind(&self.name, read_preference).await?;
        bound
            .run(command, self.client.settings().socket_timeout)
            .await
    }
}

/// A collection; two names and a client, cheap to clone.
#[derive(Clone, Debug)]
pub struct Collection {
    database: Database,
    name: String,
}

impl Collection {
    /// The collection's name, without its database.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The database it is in.
    #[must_use]
    pub fn database(&self) -> &Database {
        &self.database
    }

    /// Follows this collection.
    pub fn watch(&self) -> Watch {
        let target = WatchTarget::Collection {
            database: self.database.name.clone(),
            collection: self.name.clone(),
        };
        Watch::new(self.database.client.clone(), target)
    }
}
