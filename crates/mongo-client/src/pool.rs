//! The connections to one server instance: the worker that does what [`machine`] decides.

mod checked_out;
mod establish;
mod limits;
pub(crate) mod machine;

use std::collections::BTreeMap;
use std::fmt;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use bson::oid::ObjectId;
use mongo_topology::ServerId;
use tokio::sync::{Notify, oneshot, watch};

use self::machine::{Action, ConnectionId, Input, PoolMachine, Refusal, Standing, WaiterId};
use crate::auth::AuthenticationError;
use crate::connection::{Connection, Connector};
use crate::error::{Error, Result};
use crate::events::{CheckOutFailure, CloseReason, CmapEvent, Events};
use crate::tasks::{Tasks, now, sleep_until};
use crate::topology::TopologyHandle;

pub(crate) use self::checked_out::{Exchange, PooledConnection};
pub use self::limits::{ConnectionsInUse, PoolLimits};

/// What all pools of a client have in common.
#[derive(Clone, Debug)]
pub(crate) struct PoolContext {
    pub(crate) limits: PoolLimits,
    pub(crate) connector: Arc<Connector>,
    pub(crate) topology: TopologyHandle,
    pub(crate) events: Events,
    pub(crate) tasks: Tasks,
}

/// An order to clear a pool.
#[derive(Clone, Debug)]
pub(crate) struct Clear {
    /// The generation from now on, of the pool or of the service.
    pub(crate) generation: u64,
    /// Behind a load balancer: the service meant.
    pub(crate) service_id: Option<ObjectId>,
    pub(crate) interrupt_in_use: bool,
    /// What went wrong with the server, for those whose operations end by this.
    pub(crate) cause: Option<Arc<str>>,
}

/// One server instance's pool.
#[derive(Debug)]
pub(crate) struct Pool {
    server: ServerId,
    context: PoolContext,
    shared: Mutex<Shared>,
    /// Held by whoever publishes, so that events come in their order; never taken while the other
    /// is held, which a listener may want.
    publishing: Mutex<()>,
    /// Tells the keeper to look when it is due.
    due: Notify,
    /// Operations that have selected this server and are not over (Server Selection,
    /// "operationCount").
    operations: AtomicU32,
}

#[derive(Debug)]
struct Shared {
    machine: PoolMachine,
    links: BTreeMap<ConnectionId, Link>,
    waiters: BTreeMap<WaiterId, oneshot::Sender<Result<PooledConnection>>>,
    next_waiter: WaiterId,
    /// When the keeper will look again by itself.
    keeper_wakes: Option<Instant>,
    /// Why the pool was cleared last.
    cause: Option<Arc<str>>,
    /// Why the pool is paused, when it is because nobody could be authenticated: whoever waits is
    /// told that, and not to try again.
    unauthenticated: Option<Box<AuthenticationError>>,
    /// What is still to be published, and why it has happened where it is a failure.
    outbox: Vec<(CmapEvent, Option<String>)>,
}

/// Somebody who waits for a connection, and what comes of it.
type Answer = (
    oneshot::Sender<Result<PooledConnection>>,
    Result<PooledConnection>,
);

/// The worker's side of a connection that the machine knows.
#[derive(Debug)]
struct Link {
    /// Open, and used by nobody.
    idle: Option<Connection>,
    /// Dropped when the connection is to be closed.
    standing: watch::Sender<Standing>,
}

impl Pool {
    /// A paused pool; it opens nothing before it is marked ready.
    pub(crate) fn new(server: ServerId, context: PoolContext) -> Arc<Self> {
        let limits = context.limits;
        let shared = Shared {
            machine: PoolMachine::new(limits),
            links: BTreeMap::new(),
            waiters: BTreeMap::new(),
            next_waiter: 1,
            keeper_wakes: None,
            cause: None,
            unauthenticated: None,
            outbox: Vec::new(),
        };
        let pool = Arc::new(Self {
            server,
            context,
            shared: Mutex::new(shared),
            publishing: Mutex::new(()),
            due: Notify::new(),
            operations: AtomicU32::new(0),
        });
        // To publish that there is a pool.
        pool.advance(|_, _| {}, None);
        if limits.max_idle.is_some() || limits.min_size > 0 {
            pool.context.tasks.spawn(Arc::clone(&pool).keep());
        }
        pool
    }

    pub(crate) fn server(&self) -> &ServerId {
        &self.server
    }

    /// Operations under way on this server.
    pub(crate) fn operations(&self) -> u32 {
        self.operations.load(Ordering::Relaxed)
    }

    /// Waits for a connection, for so long at most, not counting the time to open one. Dropping
    /// the future passes the turn on; a connection that was already granted goes back to the pool.
    ///
    /// # Errors
    /// [`Error::PoolCleared`], [`Error::PoolClosed`], [`Error::WaitQueueTimeout`], or why no
    /// connection could be opened.
    pub(crate) async fn check_out(
        self: &Arc<Self>,
        limit: Option<Duration>,
    ) -> Result<PooledConnection> {
        let operation = Operation::begin(self);
        let mut turn = Turn::take(self);
        let mut granted = match limit {
            None => None,
            Some(limit) => tokio::time::timeout(limit, &mut turn.answer).await.ok(),
        };
        if granted.is_none() {
            if limit.is_some() {
                self.apply(&Input::WaitExpired(turn.waiter));
            }
            granted = Some((&mut turn.answer).await);
        }
        turn.over = true;
        let mut connection = match granted {
            Some(Ok(Err(Error::WaitQueueTimeout { server, in_use, .. }))) => {
                let limit = limit.unwrap_or_default();
                return Err(Error::WaitQueueTimeout {
                    server,
                    limit,
                    in_use,
                });
            }
            Some(Ok(answer)) => answer?,
            // The pool keeps every waiter until it is answered.
            _ => return Err(self.gone()),
        };
        connection.begin(operation);
        Ok(connection)
    }

    /// The server answers: connections may be opened.
    pub(crate) fn mark_ready(self: &Arc<Self>) {
        let step = |shared: &mut Shared, now| {
            shared.unauthenticated = None;
            shared.machine.handle(&Input::MarkReady, now);
        };
        self.advance(step, None);
    }

    /// The server failed: connections up to now are stale and, unless a service is meant, nobody
    /// waits any longer.
    pub(crate) fn clear(self: &Arc<Self>, clear: Clear) {
        let input = Input::Clear {
            generation: clear.generation,
            service_id: clear.service_id,
            interrupt_in_use: clear.interrupt_in_use,
        };
        let step = |shared: &mut Shared, now| {
            shared.cause = clear.cause;
            shared.machine.handle(&input, now);
        };
        self.advance(step, None);
    }

    /// The server left the topology.
    pub(crate) fn close(self: &Arc<Self>) {
        self.apply(&Input::Close);
        self.due.notify_one();
    }

    pub(crate) fn generation(&self) -> u64 {
        self.lock().machine.generation()
    }

    /// Tells the machine a fact.
    fn apply(self: &Arc<Self>, input: &Input) {
        self.advance(|shared, now| shared.machine.handle(input, now), None);
    }

    /// Lets the machine go on, and what belongs to it, and does what it orders. `failure` explains
    /// the refusal that a failed establishment causes.
    fn advance<T>(
        self: &Arc<Self>,
        step: impl FnOnce(&mut Shared, Instant) -> T,
        failure: Option<Error>,
    ) -> T {
        let mut shared = self.lock();
        let result = step(&mut shared, now());
        self.carry_out(shared, failure);
        result
    }

    fn carry_out(self: &Arc<Self>, mut guard: MutexGuard<'_, Shared>, mut failure: Option<Error>) {
        let (mut answers, mut closing) = (Vec::new(), Vec::new());
        let is_heard = self.context.events.want_pools();
        let shared = &mut *guard;
        while let Some(action) = shared.machine.poll_action() {
            match action {
                Action::Establish {
                    connection,
                    generation,
                } => {
                    let (standing, changes) = watch::channel(Standing::Current);
                    let idle = None;
                    shared.links.insert(connection, Link { idle, standing });
                    let pool = Arc::clone(self);
                    let opening = establish::run(pool, connection, generation, changes);
                    self.context.tasks.spawn(opening);
                }
                Action::Hand { waiter, connection } => {
                    answers.extend(self.hand(shared, waiter, connection));
                }
                Action::Refuse { waiter, refusal } => {
                    let error = self.explain(shared, refusal, &mut failure);
                    let grant = shared.waiters.remove(&waiter);
                    answers.extend(grant.map(|grant| (grant, Err(error))));
                }
                Action::Discard(connection) => closing.extend(shared.links.remove(&connection)),
                Action::Tell {
                    connection,
                    standing,
                } => {
                    if let Some(link) = shared.links.get(&connection) {
                        link.standing.send_replace(standing);
                    }
                }
                Action::Publish(event) if is_heard => {
                    let why = why(event, failure.as_ref(), shared);
                    shared.outbox.push((event, why));
                }
                Action::Publish(_) => {}
            }
        }
        let due = shared.machine.poll_timeout();
        if due.is_some_and(|due| shared.keeper_wakes.is_none_or(|wakes| due < wakes)) {
            self.due.notify_one();
        }
        drop(guard);
        if is_heard {
            self.publish();
        }
        for (grant, answer) in answers {
            // A waiter that has left needs none: its connection goes back.
            let _ = grant.send(answer);
        }
        drop(closing);
    }

    /// Publishes what has happened until now; all of it is heard when this returns.
    fn publish(&self) {
        let turn = self.publishing.lock();
        let happened = std::mem::take(&mut self.lock().outbox);
        for (event, why) in happened {
            let why = why.as_deref();
            self.context.events.cmap(&self.server, event, why);
        }
        drop(turn);
    }

    fn hand(
        self: &Arc<Self>,
        shared: &mut Shared,
        waiter: WaiterId,
        id: ConnectionId,
    ) -> Option<Answer> {
        let grant = shared.waiters.remove(&waiter)?;
        let link = shared.links.get_mut(&id)?;
        let connection = link.idle.take()?;
        let generation = shared.machine.generation_of(id);
        let standing = link.standing.subscribe();
        let pooled = PooledConnection::new(Arc::clone(self), id, generation, connection, standing);
        Some((grant, Ok(pooled)))
    }

    fn explain(&self, shared: &Shared, refusal: Refusal, failure: &mut Option<Error>) -> Error {
        let server = self.server.address.clone();
        match refusal {
            Refusal::Cleared => match &shared.unauthenticated {
                Some(error) => Error::Authentication(error.clone()),
                None => Error::PoolCleared {
                    server,
                    cause: shared.cause.clone(),
                },
            },
            Refusal::Closed => Error::PoolClosed { server },
            Refusal::EstablishFailed => failure.take().unwrap_or_else(|| self.gone()),
            // The waiter itself knows its limit.
            Refusal::TimedOut => Error::WaitQueueTimeout {
                server,
                limit: Duration::ZERO,
                in_use: shared.machine.in_use(),
            },
        }
    }

    /// Calls the machine when something is due, until the pool is closed.
    async fn keep(self: Arc<Self>) {
        loop {
            let wakes = {
                let mut shared = self.lock();
                if shared.machine.is_closed() {
                    return;
                }
                let due = shared.machine.poll_timeout();
                shared.keeper_wakes = due;
                due
            };
            tokio::select! {
                () = sleep_until(wakes) => {
                    self.advance(|shared, now| shared.machine.handle_timeout(now), None);
                }
                () = self.due.notified() => {}
            }
        }
    }

    fn cleared(&self) -> Error {
        Error::PoolCleared {
            server: self.server.address.clone(),
            cause: self.lock().cause.clone(),
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

/// For people, in one line.
impl fmt::Display for Pool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let operations = self.operations();
        let shared = self.lock();
        write!(f, "{}, {operations} operations under way", shared.machine)?;
        match &shared.cause {
            Some(cause) => write!(f, "; cleared last because of: {cause}"),
            None => Ok(()),
        }
    }
}

/// Why a connection was closed, or could not be had, for the logs; `None` where the event says it.
fn why(event: CmapEvent, failure: Option<&Error>, shared: &Shared) -> Option<String> {
    let is_failure = matches!(
        event,
        CmapEvent::ConnectionClosed {
            reason: CloseReason::Error,
            ..
        } | CmapEvent::CheckOutFailed {
            reason: CheckOutFailure::ConnectionError,
            ..
        }
    );
    is_failure.then(|| match (failure, &shared.cause) {
        (Some(error), _) => error.to_string(),
        (None, Some(cause)) => cause.to_string(),
        (None, None) => "the last command on it failed or was given up".to_owned(),
    })
}

/// A check-out that may still be waiting.
struct Turn<'a> {
    pool: &'a Arc<Pool>,
    waiter: WaiterId,
    answer: oneshot::Receiver<Result<PooledConnection>>,
    over: bool,
}

impl<'a> Turn<'a> {
    /// Enters the queue.
    fn take(pool: &'a Arc<Pool>) -> Self {
        let (grant, answer) = oneshot::channel();
        let enter = |shared: &mut Shared, now| {
            let waiter = shared.next_waiter;
            shared.next_waiter += 1;
            shared.waiters.insert(waiter, grant);
            shared.machine.handle(&Input::CheckOut(waiter), now);
            waiter
        };
        Self {
            pool,
            waiter: pool.advance(enter, None),
            answer,
            over: false,
        }
    }
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        if !self.over {
            let leave = |shared: &mut Shared, now| {
                shared.waiters.remove(&self.waiter);
                shared.machine.handle(&Input::WaiterLeft(self.waiter), now);
            };
            self.pool.advance(leave, None);
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
