//! Opening a connection: a byte stream, then the handshake.

use std::time::Duration;

use bson::oid::ObjectId;
use mongo_topology::{ErrorPhase, HelloCommand};
use mongo_uri::ServerAddress;

use super::{Connection, Handshake, Transport};
use crate::error::{Error, IoAction, Result};
use crate::server_api::ServerApi;

/// Why there is no connection, and how far it had come.
#[derive(Debug)]
pub(crate) struct ConnectFailure {
    pub(crate) phase: ErrorPhase,
    /// Behind a load balancer: the service that was reached.
    pub(crate) service_id: Option<ObjectId>,
    pub(crate) error: Error,
}

impl From<Error> for ConnectFailure {
    fn from(error: Error) -> Self {
        let phase = match error {
            Error::Authentication(_) => ErrorPhase::Authenticating,
            _ => ErrorPhase::Connecting,
        };
        let service_id = None;
        Self {
            phase,
            service_id,
            error,
        }
    }
}

/// What every connection of one client has in common.
#[derive(Debug)]
pub(crate) struct Connector {
    pub(crate) handshake: Handshake,
    /// The command of the first hello on every connection.
    pub(crate) first_hello: HelloCommand,
    pub(crate) transport: Transport,
    /// The server API that every command declares.
    pub(crate) server_api: Option<ServerApi>,
    /// For the hello, and again for authentication.
    pub(crate) timeout: Option<Duration>,
}

impl Connector {
    /// Opens a connection for an application's commands. `greeted` is called between the hello
    /// and authentication, with the service that was reached, if the server named one.
    ///
    /// # Errors
    /// As [`Transport::open`], [`Error::Authentication`], or whatever the server answers to the
    /// handshake.
    pub(crate) async fn connect(
        &self,
        server: &ServerAddress,
        greeted: impl FnOnce(Option<ObjectId>),
    ) -> Result<Connection, ConnectFailure> {
        let mut connection = self.open(server).await?;
        let shaken = connection.shake_hands(&self.handshake, self.first_hello);
        let unfinished = within(self.timeout, server, IoAction::Handshake, shaken).await?;
        let service_id = connection.service_id();
        greeted(service_id);
        let authenticated = connection.authenticate(unfinished, self.timeout).await;
        authenticated.map_err(|error| ConnectFailure {
            phase: ErrorPhase::Authenticating,
            service_id,
            error,
        })?;
        Ok(connection)
    }

    /// Authenticates a connection once more; false for one that was never authenticated.
    ///
    /// # Errors
    /// As for a new connection.
    pub(crate) async fn reauthenticate(&self, connection: &mut Connection) -> Result<bool> {
        connection
            .reauthenticate(&self.handshake, self.timeout)
            .await
    }

    /// Opens a byte stream and says nothing over it.
    ///
    /// # Errors
    /// As [`Transport::open`].
    pub(crate) async fn open(&self, server: &ServerAddress) -> Result<Connection> {
        let stream = self.transport.open(server).await?;
        let mut connection = Connection::new(server.clone(), stream);
        connection.is_plain = self.transport.is_plain(server);
        connection.declared = self.server_api.map(|api| api.elements().into());
        Ok(connection)
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
    // The clock is asked first: on a machine that stood still for a while, what came too late is there
    // by the time that anybody looks.
    tokio::select! {
        biased;
        () = tokio::time::sleep(limit) => Err(Error::Timeout {
            server: server.clone(),
            action,
            limit,
        }),
        result = work => result,
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;
    use std::pin::pin;
    use std::task::Poll;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn what_came_too_late_is_late_though_nobody_looked_in_time() {
        let work = async {
            tokio::time::sleep(Duration::from_millis(125)).await;
            Ok(())
        };
        let server = ServerAddress::tcp("h", 1);
        let limit = Some(Duration::from_millis(100));
        let mut outcome = pin!(within(limit, &server, IoAction::Receive, work));
        let begun = poll_fn(|cx| Poll::Ready(outcome.as_mut().poll(cx))).await;
        assert!(begun.is_pending());
        tokio::time::advance(Duration::from_millis(200)).await;
        assert!(matches!(outcome.await, Err(Error::Timeout { .. })));
    }
}
