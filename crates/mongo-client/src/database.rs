//! Names of databases and collections, and what can be done with them.

use bson::RawDocument;
use mongo_change_stream::WatchTarget;

use crate::client::Client;
use crate::command::RunCommand;
use crate::cursor::RunCursorCommand;
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

    /// Runs a command, on the primary if nothing else is said: `.await` gives its reply.
    pub fn run_command<'a>(&self, command: &'a RawDocument) -> RunCommand<'a> {
        RunCommand::new(self.clone(), command)
    }

    /// Runs a command that answers with a cursor: `.await` gives the cursor.
    pub fn run_cursor_command<'a>(&self, command: &'a RawDocument) -> RunCursorCommand<'a> {
        RunCursorCommand::new(self.clone(), command)
    }

    pub(crate) fn client(&self) -> &Client {
        &self.client
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
