//! A connection in use.

use std::sync::Arc;
use std::time::Duration;

use bson::oid::ObjectId;
use bson::{RawDocument, rawdoc};
use mongo_topology::{ApplicationError, ErrorPhase, HelloReply};
use mongo_uri::ServerAddress;
use mongo_wire::{CommandReply, Flags};
use tokio::sync::watch;

use super::machine::{ConnectionId, Input, Standing};
use super::{Operation, Pool, Shared};
use crate::connection::{Connection, within};
use crate::error::{Error, IoAction, Result};
use crate::events::{CommandOrigin, Observation};
use crate::session::{ClusterClock, ClusterTime};
use crate::spans::CommandSpan;

/// What comes next on a connection.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Exchange<'a> {
    /// A command, and its reply.
    Command {
        command: &'a RawDocument,
        envelope: &'a RawDocument,
        /// `EXHAUST_ALLOWED` when the server may send more replies than one, `MORE_TO_COME` when
        /// it is to send none.
        flags: Flags,
    },
    /// A reply that the server sends unasked.
    NextReply,
}

/// A connection that is checked out; dropping it checks it in.
#[derive(Debug)]
pub(crate) struct PooledConnection {
    pool: Arc<Pool>,
    id: ConnectionId,
    generation: u64,
    connection: Option<Connection>,
    standing: watch::Receiver<Standing>,
    operation: Option<Operation>,
    operation_id: u64,
}

impl PooledConnection {
    pub(super) fn new(
        pool: Arc<Pool>,
        id: ConnectionId,
        generation: u64,
        connection: Connection,
        standing: watch::Receiver<Standing>,
    ) -> Self {
        Self {
            pool,
            id,
            generation,
            connection: Some(connection),
            standing,
            operation: None,
            operation_id: 0,
        }
    }

    /// Belongs to an operation from now on.
    pub(super) fn begin(&mut self, operation: Operation) {
        self.operation = Some(operation);
    }

    /// Its number in its pool.
    pub(crate) fn id(&self) -> ConnectionId {
        self.id
    }

    /// Counts as a cursor's from now on, where that is of interest.
    pub(crate) fn hold_for_cursor(&self) {
        self.pool.apply(&Input::HeldByCursor(self.id));
    }

    /// Whether another command can be run on it.
    pub(crate) fn is_reusable(&self) -> bool {
        self.connection
            .as_ref()
            .is_some_and(Connection::is_reusable)
    }

    /// Publishes its commands with this number, their operation's.
    pub(crate) fn count_to(&mut self, operation_id: u64) {
        self.operation_id = operation_id;
    }

    /// Behind a load balancer: the service that this connection reaches.
    pub(crate) fn service_id(&self) -> Option<ObjectId> {
        self.connection.as_ref()?.service_id()
    }

    /// The address behind this connection.
    pub(crate) fn server(&self) -> &ServerAddress {
        &self.pool.server.address
    }

    /// The pool that this connection belongs to.
    pub(crate) fn pool(&self) -> &Arc<Pool> {
        &self.pool
    }

    /// `maxWireVersion` of this connection's handshake.
    pub(crate) fn max_wire_version(&self) -> i32 {
        self.connection
            .as_ref()
            .map_or(0, Connection::max_wire_version)
    }

    /// What the server said of itself when the connection was opened.
    pub(crate) fn hello(&self) -> Option<&HelloReply> {
        self.connection.as_ref()?.hello()
    }

    /// The deployment's time, to be sent along; see [`Connection::cluster_time`].
    pub(crate) fn cluster_time(&mut self, clock: &ClusterClock) -> Option<Arc<ClusterTime>> {
        self.connection.as_mut()?.cluster_time(clock).cloned()
    }

    /// See [`Connection::learn_cluster_time`].
    pub(crate) fn learn_cluster_time(&mut self, clock: &ClusterClock, received: &RawDocument) {
        if let Some(connection) = &mut self.connection {
            connection.learn_cluster_time(clock, received);
        }
    }

    /// Runs one command, for so long at most. What its end says about the server is known to the
    /// topology when this returns.
    ///
    /// Dropping the future closes the connection when it is dropped.
    pub(crate) async fn exchange(
        &mut self,
        turn: Exchange<'_>,
        limit: Option<Duration>,
    ) -> Result<CommandReply> {
        let span = self.span(&turn);
        let observation = span.in_scope(|| self.observe(&turn));
        let server = &self.pool.server.address;
        let Some(connection) = self.connection.as_mut() else {
            return Err(self.pool.gone());
        };
        let exchange = async {
            if let Exchange::Command {
                command,
                envelope,
                flags,
            } = turn
            {
                connection.send(command, envelope, flags).await?;
                if flags.contains(Flags::MORE_TO_COME) {
                    return Ok(CommandReply::new(rawdoc! { "ok": 1 }.into()));
                }
            }
            connection.receive().await.map(|(reply, _)| reply)
        };
        let result = tokio::select! {
            biased;
            result = within(limit, server, IoAction::Receive, exchange) => Ok(result),
            // Only a server that is known to be gone interrupts; nothing is left to report.
            error = moved_on(&self.pool, &mut self.standing, is_interrupted) => Err(error),
        };
        let (result, is_news) = match result {
            Ok(result) => (result, true),
            Err(error) => (Err(error), false),
        };
        if let Some(observation) = observation {
            span.in_scope(|| observation.finish(&result));
        }
        span.ended(&result);
        match &result {
            Ok(reply) => self.report_state(reply).await,
            // That an answer takes long says nothing about the server.
            Err(error) if is_news && !error.is_about_time() => self.report(error).await,
            Err(_) => {}
        }
        result
    }

    /// Authenticates once more, as the server wants it when a credential has expired; false for a
    /// connection that was never authenticated.
    ///
    /// # Errors
    /// As for a new connection; what an error says about the server is known to the topology then.
    ///
    /// Dropping the future closes the connection when it is dropped, unless nothing was under way.
    pub(crate) async fn reauthenticate(&mut self) -> Result<bool> {
        let Some(connection) = self.connection.as_mut() else {
            return Err(self.pool.gone());
        };
        let result = tokio::select! {
            biased;
            result = self.pool.context.connector.reauthenticate(connection) => result,
            error = moved_on(&self.pool, &mut self.standing, is_interrupted) => return Err(error),
        };
        if let Err(error) = &result
            && error.is_network()
        {
            self.report(error).await;
        }
        result
    }

    /// Whether the server sends another reply unasked.
    pub(crate) fn has_more_to_come(&self) -> bool {
        self.connection
            .as_ref()
            .is_some_and(Connection::has_more_to_come)
    }

    /// Resolves when the pool has moved on: it was cleared or closed since this connection was
    /// opened, so that the server instance behind it is not to be relied on.
    pub(crate) fn outdated(&self) -> impl Future<Output = Error> + Send + use<> {
        let pool = Arc::clone(&self.pool);
        let mut standing = self.standing.clone();
        async move { moved_on(&pool, &mut standing, |s| *s != Standing::Current).await }
    }

    /// Publishes a command that is about to be sent, if somebody listens.
    fn observe(&self, turn: &Exchange<'_>) -> Option<Observation> {
        let events = &self.pool.context.events;
        let (command, beside) = self.sent(turn).filter(|_| events.want_commands())?;
        let origin = self.command_origin()?;
        Some(Observation::start(events, origin, command, beside))
    }

    /// Begins the span of a command that is about to be sent, if spans may be wanted.
    fn span(&self, turn: &Exchange<'_>) -> CommandSpan {
        let spans = self.pool.context.events.spans();
        let begin = || {
            let (command, beside) = self.sent(turn).filter(|_| spans.may_be_wanted())?;
            Some(spans.command(&self.command_origin()?, command, beside))
        };
        begin().unwrap_or_else(CommandSpan::none)
    }

    /// A command, and the documents whose elements go beside it.
    fn sent<'a>(
        &'a self,
        turn: &Exchange<'a>,
    ) -> Option<(&'a RawDocument, [Option<&'a RawDocument>; 2])> {
        let Exchange::Command {
            command, envelope, ..
        } = turn
        else {
            return None;
        };
        let declared = self.connection.as_ref()?.declared();
        Some((command, [Some(envelope), declared]))
    }

    fn command_origin(&self) -> Option<CommandOrigin> {
        let connection = self.connection.as_ref()?;
        Some(CommandOrigin {
            request_id: connection.next_request_id(),
            operation_id: self.operation_id,
            server: self.server().clone(),
            connection: self.id,
            server_connection: connection.server_connection_id(),
            service_id: connection.service_id(),
        })
    }

    /// Tells the topology of a reply, `ok: 1` or not, that says that the server's state has
    /// changed.
    async fn report_state(&self, reply: &CommandReply) {
        let error = ApplicationError::from_reply(reply.document().as_raw());
        if let Some(error) = error.filter(|error| error.state_change().is_some()) {
            let (server, topology) = (&self.pool.server, &self.pool.context.topology);
            let phase = ErrorPhase::Established;
            topology
                .report_as(server, self.origin(), phase, error)
                .await;
        }
    }

    /// Tells the topology of a failure seen on this connection; returns when it is known.
    async fn report(&self, error: &Error) {
        let (server, topology) = (&self.pool.server, &self.pool.context.topology);
        let phase = ErrorPhase::Established;
        topology.report(server, self.origin(), phase, error).await;
    }

    fn origin(&self) -> (u64, Option<ObjectId>) {
        (self.generation, self.service_id())
    }
}

fn is_interrupted(standing: &Standing) -> bool {
    matches!(standing, Standing::Interrupted | Standing::PoolClosed)
}

/// Waits until the pool has moved on so far; why nothing more is to be expected.
async fn moved_on(
    pool: &Pool,
    standing: &mut watch::Receiver<Standing>,
    far_enough: impl FnMut(&Standing) -> bool,
) -> Error {
    // The guard must be gone before the pool is asked.
    let standing = standing.wait_for(far_enough).await.map(|s| *s);
    match standing {
        Ok(Standing::PoolClosed) | Err(_) => pool.gone(),
        Ok(_) => pool.cleared(),
    }
}

impl Drop for PooledConnection {
    fn drop(&mut self) {
        let Some(connection) = self.connection.take() else {
            return;
        };
        let back = Input::CheckedIn {
            connection: self.id,
            reusable: connection.is_reusable(),
        };
        let step = |shared: &mut Shared, now| {
            let link = shared.links.get_mut(&self.id);
            // One that is of no use is closed once the pool is not locked any more.
            let unusable = match link.filter(|_| connection.is_reusable()) {
                Some(link) => {
                    link.idle = Some(connection);
                    None
                }
                None => Some(connection),
            };
            shared.machine.handle(&back, now);
            unusable
        };
        drop(self.pool.advance(step, None));
    }
}
