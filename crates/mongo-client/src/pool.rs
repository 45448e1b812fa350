//! The connections to one server instance: the worker that does what [`machine`] decides.

pub(crate) mod machine;

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use bson::RawDocument;
use mongo_topology::{ErrorPhase, ServerId};
use mongo_uri::ServerAddress;
use mongo_wire::CommandReply;
use tokio::sync::{oneshot, watch};

use self::machine::{Action, ConnectionId, Input, PoolLimits, PoolMachine, Refusal, WaiterId};
use crate::auth::AuthenticationError;
use crate::connection::{ConnectFailure, Connection, Connector};
use crate::error::{Error, Result};
use crate::topology::TopologyHandle;

/// How far a pool has got; connections compare it with where they stand.
#[derive(Clone, Copy, Debug, Default)]
struct Epoch {
    /// Connections of an older generation are stale.
    generation: u64,
    /// Connections of an older generation than this must stop what they do.
    interrupted_below: u64,
    closed: bool,
}

/// One server instance's pool.
#[derive(Debug)]
pub(crate) struct Pool {
    server: ServerId,
    connector: Arc<Connector>,
    topology: TopologyHandle,
    shared: Mutex<Shared>,
    epoch: watch::Sender<Epoch>,
    /// Operations that have selected this server and are not over (Server Selection,
    /// "operationCount").
    operations: AtomicU32,
}

#[derive(Debug)]
struct Shared {
    machine: PoolMachine,
    /// Open connections that nobody uses.
    idle: BTreeMap<ConnectionId, Connection>,
    waiters: BTreeMap<WaiterId, oneshot::Sender<Result<PooledConnection>>>,
    next_waiter: WaiterId,
    /// Why the pool is paused, when it is because nobody could be authenticated: whoever waits is
    /// told that, and not to try again.
    unauthenticated: Option<Box<AuthenticationError>>,
}

impl Pool {
    /// A paused pool; it opens nothing before it is marked ready and asked.
    pub(crate) fn new(
        server: ServerId,
        limits: PoolLimits,
        connector: Arc<Connector>,
        topology: TopologyHandle,
    ) -> Arc<Self> {
        let shared = Shared {
            machine: PoolMachine::new(limits),
            idle: BTreeMap::new(),
            waiters: BTreeMap::new(),
            next_waiter: 1,
            unauthenticated: None,
        };
        let (epoch, _) = watch::channel(Epoch::default());
        Arc::new(Self {
            server,
            connector,
            topology,
            shared: Mutex::new(shared),
            epoch,
            operations: AtomicU32::new(0),
        })
    }

    pub(crate) fn server(&self) -> &ServerId {
        &self.server
    }

    /// Operations under way on this server.
    pub(crate) fn operations(&self) -> u32 {
        self.operations.load(Ordering::Relaxed)
    }

    /// Waits for a connection, for so long at most. Dropping the future passes the turn on; a
    /// connection that was already granted goes back to the pool.
    ///
    /// # Errors
    /// [`Error::PoolCleared`], [`Error::ServerGone`], [`Error::WaitQueueTimeout`], or why no
    /// connection could be opened.
    pub(crate) async fn check_out(
        self: &Arc<Self>,
        limit: Option<Duration>,
    ) -> Result<PooledConnection> {
        let operation = Operation::begin(self);
        let waited = match limit {
            None => self.wait_for_connection().await,
            Some(limit) => {
                let server = || self.server.address.clone();
                let waited = tokio::time::timeout(limit, self.wait_for_connection()).await;
                waited.unwrap_or_else(|_| {
                    Err(Error::WaitQueueTimeout {
                        server: server(),
                        limit,
                    })
                })
            }
        };
        let mut connection = waited?;
        connection.operation = Some(operation);
        Ok(connection)
    }

    async fn wait_for_connection(self: &Arc<Self>) -> Result<PooledConnection> {
        let (grant, granted) = oneshot::channel();
        let waiter = {
            let mut shared = self.lock();
            let waiter = shared.next_waiter;
            shared.next_waiter += 1;
            shared.waiters.insert(waiter, grant);
            waiter
        };
        let mut turn = Turn {
            pool: self,
            waiter,
            over: false,
        };
        self.apply(&Input::CheckOut(waiter), None);
        let answer = granted.await;
        turn.over = true;
        answer.unwrap_or_else(|_| Err(self.gone()))
    }

    /// The server answers: connections may be opened.
    pub(crate) fn mark_ready(self: &Arc<Self>) {
        self.lock().unauthenticated = None;
        self.apply(&Input::MarkReady, None);
    }

    /// The server failed: nobody waits any longer, and connections up to now are stale.
    pub(crate) fn clear(self: &Arc<Self>, generation: u64, interrupt_in_use: bool) {
        self.epoch
            .send_modify(|epoch| epoch.generation = generation);
        self.apply(
            &Input::Clear {
                generation,
                interrupt_in_use,
            },
            None,
        );
    }

    /// The server left the topology.
    pub(crate) fn close(self: &Arc<Self>) {
        self.epoch.send_modify(|epoch| epoch.closed = true);
        self.apply(&Input::Close, None);
    }

    /// Tells the machine a fact and does what it orders. `failure` explains the refusals that a
    /// failed establishment causes.
    fn apply(self: &Arc<Self>, input: &Input, mut failure: Option<Error>) {
        let mut closing = Vec::new();
        let mut shared = self.lock();
        shared.machine.handle(input, Instant::now());
        while let Some(action) = shared.machine.poll_action() {
            match action {
                Action::Establish {
                    connection,
                    generation,
                } => {
                    tokio::spawn(establish(Arc::clone(self), connection, generation));
                }
                Action::Hand { waiter, connection } => {
                    self.hand(&mut shared, waiter, connection);
                }
                Action::Refuse { waiter, refusal } => {
                    let error = match refusal {
                        Refusal::Cleared => match &shared.unauthenticated {
                            Some(error) => Error::Authentication(error.clone()),
                            None => self.cleared(),
                        },
                        Refusal::Closed => self.gone(),
                        Refusal::EstablishFailed => failure.take().unwrap_or_else(|| self.gone()),
                    };
                    if let Some(grant) = shared.waiters.remove(&waiter) {
                        // A waiter that has left needs no answer.
                        let _ = grant.send(Err(error));
                    }
                }
                Action::Discard(connection) => closing.extend(shared.idle.remove(&connection)),
                Action::Interrupt(_) => {
                    let below = shared.machine.generation();
                    self.epoch
                        .send_modify(|epoch| epoch.interrupted_below = below);
                }
            }
        }
        drop(shared);
        drop(closing);
    }

    fn hand(self: &Arc<Self>, shared: &mut Shared, waiter: WaiterId, id: ConnectionId) {
        let Some(connection) = shared.idle.remove(&id) else {
            return;
        };
        let pooled = PooledConnection {
            id,
            generation: shared.machine.generation(),
            connection: Some(connection),
            pool: Arc::clone(self),
            epoch: self.epoch.subscribe(),
            operation: None,
        };
        let refused = match shared.waiters.remove(&waiter) {
            Some(grant) => grant.send(Ok(pooled)).err(),
            None => Some(Ok(pooled)),
        };
        if let Some(Ok(mut pooled)) = refused {
            // The waiter left between the machine's decision and now.
            shared
                .idle
                .extend(pooled.connection.take().map(|connection| (id, connection)));
            let back = Input::CheckedIn {
                connection: id,
                reusable: true,
            };
            shared.machine.handle(&back, Instant::now());
        }
    }

    fn cleared(&self) -> Error {
        Error::PoolCleared {
            server: self.server.address.clone(),
        }
    }

    fn gone(&self) -> Error {
        Error::ServerGone {
            server: self.server.address.clone(),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Shared> {
        self.shared.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

async fn establish(pool: Arc<Pool>, id: ConnectionId, generation: u64) {
    let mut epoch = pool.epoch.subscribe();
    let connected = tokio::select! {
        biased;
        () = interrupted(&mut epoch, generation) => Err(pool.cleared().into()),
        connected = pool.connector.connect(&pool.server.address) => connected,
    };
    match connected {
        Ok(connection) => {
            pool.lock().idle.insert(id, connection);
            pool.apply(&Input::Established(id), None);
        }
        Err(ConnectFailure { phase, error }) => {
            if let Error::Authentication(error) = &error {
                pool.lock().unauthenticated = Some(error.clone());
            }
            // The topology hears of it first, so that the next selection knows better.
            pool.topology
                .report(&pool.server, generation, phase, &error)
                .await;
            pool.apply(&Input::EstablishFailed(id), Some(error));
        }
    }
}

/// A check-out that may still be waiting.
struct Turn<'a> {
    pool: &'a Arc<Pool>,
    waiter: WaiterId,
    over: bool,
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        if !self.over {
            self.pool.lock().waiters.remove(&self.waiter);
            self.pool.apply(&Input::WaiterLeft(self.waiter), None);
        }
    }
}

/// Counts as one of its pool's operations until it is dropped.
#[derive(Debug)]
struct Operation(Arc<Pool>);

impl Operation {
    fn begin(pool: &Arc<Pool>) -> Self {
        pool.operations.fetch_add(1, Ordering::Relaxed);
        Self(Arc::clone(pool))
    }
}

impl Drop for Operation {
    fn drop(&mut self) {
        self.0.operations.fetch_sub(1, Ordering::Relaxed);
    }
}

/// A connection that is checked out; dropping it checks it in.
#[derive(Debug)]
pub(crate) struct PooledConnection {
    id: ConnectionId,
    generation: u64,
    connection: Option<Connection>,
    pool: Arc<Pool>,
    epoch: watch::Receiver<Epoch>,
    operation: Option<Operation>,
}

impl PooledConnection {
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

    /// Runs one command. A failure of the network is known to the topology when this returns.
    ///
    /// Dropping the future closes the connection when it is dropped.
    pub(crate) async fn exchange(
        &mut self,
        command: &RawDocument,
        envelope: &RawDocument,
    ) -> Result<CommandReply> {
        let Some(connection) = self.connection.as_mut() else {
            return Err(self.pool.gone());
        };
        let result = tokio::select! {
            biased;
            result = connection.exchange(command, envelope) => result,
            () = interrupted(&mut self.epoch, self.generation) => {
                // Only a server that is known to be gone interrupts; nothing is left to report.
                return Err(self.pool.cleared());
            }
        };
        match &result {
            Ok(reply) => self.report_refusal(reply).await,
            Err(error) => self.report(error).await,
        }
        result
    }

    /// Resolves when the pool has moved on: it was cleared or closed since this connection was
    /// opened, so that the server instance behind it is not to be relied on.
    pub(crate) fn outdated(&self) -> impl Future<Output = Error> + Send + use<> {
        let (pool, generation) = (Arc::clone(&self.pool), self.generation);
        let mut epoch = self.epoch.clone();
        async move {
            let moved = |epoch: &Epoch| epoch.closed || epoch.generation > generation;
            match epoch.wait_for(moved).await {
                Ok(epoch) if !epoch.closed => pool.cleared(),
                _ => pool.gone(),
            }
        }
    }

    /// Tells the topology of a reply that may say something about the server's state.
    async fn report_refusal(&self, reply: &CommandReply) {
        // What cannot be read is for whoever wants to read it.
        if let Ok(Some(error)) = reply.server_error() {
            let server = self.server().clone();
            self.report(&Error::Server {
                server,
                error: Box::new(error),
            })
            .await;
        }
    }

    /// Tells the topology of a failure seen on this connection; returns when it is known.
    async fn report(&self, error: &Error) {
        let phase = ErrorPhase::Established;
        self.pool
            .topology
            .report(&self.pool.server, self.generation, phase, error)
            .await;
    }
}

async fn interrupted(epoch: &mut watch::Receiver<Epoch>, generation: u64) {
    let stopped = |epoch: &Epoch| epoch.closed || epoch.interrupted_below > generation;
    // The pool holds the sender and outlives its connections.
    let _ = epoch.wait_for(stopped).await;
}

impl Drop for PooledConnection {
    fn drop(&mut self) {
        let Some(connection) = self.connection.take() else {
            return;
        };
        let reusable = connection.is_reusable();
        if reusable {
            self.pool.lock().idle.insert(self.id, connection);
        }
        self.pool.apply(
            &Input::CheckedIn {
                connection: self.id,
                reusable,
            },
            None,
        );
    }
}
