//! Opening a connection: a byte stream, then the handshake.

use std::time::Duration;

use mongo_topology::HelloCommand;
use mongo_uri::ServerAddress;

use super::{Connection, Handshake, Transport};
use crate::error::{Error, IoAction, Result};

/// What every connection of one client has in common.
#[derive(Debug)]
pub(crate) struct Connector {
    pub(crate) handshake: Handshake,
    /// The command of the first hello on every connection.
    pub(crate) first_hello: HelloCommand,
    pub(crate) transport: Transport,
    /// For the handshake.
    pub(crate) timeout: Option<Duration>,
}

impl Connector {
    /// Opens a connection for an application's commands.
    ///
    /// # Errors
    /// As [`Transport::open`], or whatever the server answers to the handshake.
    pub(crate) async fn connect(&self, server: &ServerAddress) -> Result<Connection> {
        let mut connection = self.open(server).await?;
        let command = self.handshake.command(self.first_hello, true);
        let shaken = connection.shake_hands(&command);
        within(self.timeout, server, IoAction::Handshake, shaken).await?;
        Ok(connection)
    }

    /// Opens a byte stream and says nothing over it.
    ///
    /// # Errors
    /// As [`Transport::open`].
    pub(crate) async fn open(&self, server: &ServerAddress) -> Result<Connection> {
        let stream = self.transport.open(server).await?;
        Ok(Connection::new(server.clone(), stream))
    }
}

/// Gives work a limit; `None` waits for ever.
///
/// # Errors
/// The work's own, or [`Error::Timeout`], when the work is dropped.
pub(crate) async fn within<T>(
    limit: Option<Duration>,
    server: &ServerAddress,
    action: IoAction,
    work: impl Future<Output = Result<T>>,
) -> Result<T> {
    let Some(limit) = limit else {
        return work.await;
    };
    match tokio::time::timeout(limit, work).await {
        Ok(result) => result,
        Err(_) => Err(Error::Timeout {
            server: server.clone(),
            action,
            limit,
        }),
    }
}
