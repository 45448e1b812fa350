//! The task that owns the topology machine, and how the others talk to it.
//!
//! What the machine orders is done in this order: pools are opened and made ready, then the new
//! description is published, then pools are cleared and closed. So whoever reads a description
//! finds the pools of its servers usable, and whoever is refused by a cleared pool finds a
//! description that no longer offers it.

mod changes;
mod selected;
mod view;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bson::oid::ObjectId;
use mongo_topology::{
    Action, ApplicationError, ErrorPhase, Input, Rng, RttCheck, SYSTEM_OVERLOADED_ERROR,
    SelectionCriteria, SelectionError, ServerId, TopologyConfig, TopologyDescription,
};
use mongo_uri::ServerAddress;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::Instant;

use crate::auth::AuthFailure;
use crate::connection::Connector;
use crate::dns::SeedList;
use crate::error::{Error, RETRYABLE_ERROR, Result};
use crate::events::Events;
use crate::logs::{SelectionLog, TOPOLOGY};
use crate::monitor::{Monitor, Order};
use crate::pool::{Clear, Pool, PoolContext, PoolLimits};
use crate::tasks::{Tasks, now, sleep_until};

pub use self::changes::TopologyChanges;
pub(crate) use self::selected::Selected;

/// A description and the pools of its servers, replaced together.
#[derive(Clone, Debug)]
struct Snapshot {
    description: Arc<TopologyDescription>,
    pools: Arc<BTreeMap<ServerAddress, Arc<Pool>>>,
    /// The last failure of each monitor that does not reach its server.
    failures: Failures,
    closed: bool,
}

type Failures = Arc<BTreeMap<ServerId, Arc<Error>>>;

/// What the task is told.
#[derive(Debug)]
pub(crate) struct Told {
    pub(crate) input: Input,
    /// What a failed check failed with, for whoever waits for that server.
    failure: Option<Error>,
    /// Dropped once it is known everywhere.
    heard: Option<oneshot::Sender<()>>,
}

/// Tells the machine facts. Every sender waits for an order or an answer before it tells the next
/// fact, so the queue is bounded by the number of monitors and connections.
#[derive(Clone, Debug)]
pub(crate) struct TopologyHandle {
    facts: mpsc::UnboundedSender<Told>,
}

impl TopologyHandle {
    /// A handle, and the facts that are told by it.
    pub(crate) fn channel() -> (Self, mpsc::UnboundedReceiver<Told>) {
        let (facts, inbox) = mpsc::unbounded_channel();
        (Self { facts }, inbox)
    }

    /// Tells a fact. After the task has ended nobody is left whom it could concern.
    pub(crate) fn tell(&self, input: Input) {
        self.tell_failure(input, None);
    }

    /// Tells the outcome of a check, and what it failed with.
    pub(crate) fn tell_failure(&self, input: Input, failure: Option<Error>) {
        let _ = self.facts.send(Told {
            input,
            failure,
            heard: None,
        });
    }

    /// Tells of a failed operation, of its connection's generation and of the service that it
    /// reached, and returns when selection knows of it.
    pub(crate) async fn report(
        &self,
        server: &ServerId,
        (generation, service_id): (u64, Option<ObjectId>),
        phase: ErrorPhase,
        error: &Error,
    ) {
        if let Some(error) = application_error(error) {
            self.report_as(server, (generation, service_id), phase, error)
                .await;
        }
    }

    /// As [`report`](Self::report), of something that is told in discovery's own terms.
    pub(crate) async fn report_as(
        &self,
        server: &ServerId,
        (generation, service_id): (u64, Option<ObjectId>),
        phase: ErrorPhase,
        error: ApplicationError,
    ) {
        let input = Input::ApplicationError {
            server: server.clone(),
            generation,
            service_id,
            phase,
            error,
        };
        let (heard, known) = oneshot::channel();
        let told = self.facts.send(Told {
            input,
            failure: None,
            heard: Some(heard),
        });
        if told.is_ok() {
            // An error says that the task has ended, which everybody can see.
            let _ = known.await;
        }
    }
}

/// What discovery should hear of an error; `None` when it says nothing about the server.
fn application_error(error: &Error) -> Option<ApplicationError> {
    let message = || error.without_server();
    let labelled = |mut reported: ApplicationError| {
        for label in [SYSTEM_OVERLOADED_ERROR, RETRYABLE_ERROR] {
            if error.has_label(label) {
                reported = reported.with_label(label);
            }
        }
        Some(reported)
    };
    match error {
        Error::Server { error, .. } => ApplicationError::from_reply(error.reply.as_raw()),
        Error::Timeout { .. } => labelled(ApplicationError::timeout(message())),
        Error::Tls { failure, .. } if !failure.is_hang_up() => {
            Some(ApplicationError::client(message()))
        }
        Error::Io { .. }
        | Error::Proxy { .. }
        | Error::Tls { .. }
        | Error::Malformed { .. }
        | Error::Violation { .. } => labelled(ApplicationError::network(message())),
        Error::Hello { .. } | Error::Reply { .. } => Some(ApplicationError::client(message())),
        Error::Authentication(error) => Some(match &error.failure {
            AuthFailure::Refused(refused) => {
                // The code may tell that the server's state has changed.
                let error = ApplicationError::from_reply(refused.reply.as_raw());
                let described = error.map(|error| ApplicationError {
                    message: message(),
                    ..error
                });
                described.unwrap_or_else(|| ApplicationError::client(message()))
            }
            _ => ApplicationError::client(message()),
        }),
        _ => None,
    }
}

/// The client's side of the topology.
#[derive(Debug)]
pub(crate) struct Topology {
    events: Events,
    tasks: Tasks,
    handle: TopologyHandle,
    snapshots: watch::Receiver<Snapshot>,
    random: Mutex<Rng>,
}

impl Topology {
    /// Starts the task; it sends nothing until it runs.
    pub(crate) fn start(
        config: TopologyConfig,
        connector: Connector,
        limits: PoolLimits,
        events: Events,
        seed_list: Option<SeedList>,
    ) -> Self {
        let tasks = Tasks::new();
        let (handle, inbox) = TopologyHandle::channel();
        let seed = seed();
        let machine = mongo_topology::Topology::new(config, seed, now());
        let first = Snapshot {
            description: machine.description(),
            pools: Arc::default(),
            failures: Arc::default(),
            closed: false,
        };
        let (publish, snapshots) = watch::channel(first);
        let mut task = Task {
            machine,
            pool_context: PoolContext {
                limits,
                connector: Arc::new(connector),
                topology: handle.clone(),
                events: events.clone(),
                tasks: tasks.clone(),
            },
            publish,
            pools: Arc::default(),
            monitors: BTreeMap::new(),
            seed_list,
            failures: Arc::default(),
        };
        // A load balancer can be selected at once, so its pool must be there.
        task.carry_out(false);
        tasks.spawn(task.run(inbox));
        Self {
            events,
            tasks,
            handle,
            snapshots,
            random: Mutex::new(Rng::from_seed(seed)),
        }
    }

    pub(crate) fn description(&self) -> Arc<TopologyDescription> {
        Arc::clone(&self.snapshots.borrow().description)
    }

    /// What all of the client's tasks are spawned by.
    pub(crate) fn tasks(&self) -> &Tasks {
        &self.tasks
    }

    pub(crate) fn random(&self) -> u64 {
        self.random
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .next_u64()
    }

    pub(crate) fn changes(&self) -> TopologyChanges {
        TopologyChanges {
            snapshots: self.snapshots.clone(),
        }
    }

    /// The number of this topology, unique in this process.
    pub(crate) fn id(&self) -> u64 {
        self.events.logs().topology_id
    }

    /// A number for one operation, in events and logs.
    pub(crate) fn next_operation(&self) -> u64 {
        self.events.next_operation()
    }

    /// Waits for a server that suits; the operation's name and number are for the logs.
    ///
    /// # Errors
    /// [`Error::Selection`] at the deadline, [`Error::Shutdown`].
    pub(crate) async fn select(
        &self,
        operation: (&str, u64),
        criteria: &SelectionCriteria<'_>,
        limit: Duration,
        deadline: Instant,
    ) -> Result<Selected> {
        let log = self.events.logs().selection(operation, criteria);
        log.started(|| self.description());
        let selected = self.wait_for_server(&log, criteria, limit, deadline).await;
        match &selected {
            Ok(selected) => log.succeeded(&selected.description, &selected.pool.server().address),
            Err(error) => log.failed(&self.description(), error),
        }
        selected
    }

    async fn wait_for_server(
        &self,
        log: &SelectionLog<'_>,
        criteria: &SelectionCriteria<'_>,
        limit: Duration,
        deadline: Instant,
    ) -> Result<Selected> {
        let mut snapshots = self.snapshots.clone();
        let mut is_waiting = false;
        loop {
            let reason = match self.try_select(&snapshots.borrow_and_update().clone(), criteria)? {
                Ok(selected) => return Ok(selected),
                Err(reason @ SelectionError::NoSuitableServer(_)) => reason,
                // Waiting would not help.
                Err(reason) => {
                    return Err(Error::Selection {
                        limit: Duration::ZERO,
                        reason: Box::new(reason),
                        causes: Vec::new(),
                    });
                }
            };
            if !std::mem::replace(&mut is_waiting, true) {
                let left = deadline.saturating_duration_since(Instant::now());
                log.waiting(&self.description(), left);
            }
            self.handle.tell(Input::CheckRequested);
            match tokio::time::timeout_at(deadline, snapshots.changed()).await {
                Ok(Ok(())) => {}
                Ok(Err(_)) => return Err(Error::Shutdown),
                Err(_) => {
                    let causes = snapshots.borrow().failures.values().cloned().collect();
                    return Err(Error::Selection {
                        limit,
                        reason: Box::new(reason),
                        causes,
                    });
                }
            }
        }
    }

    /// Waits until more is known than this description says, and asks for it; false when nothing
    /// is by the deadline.
    pub(crate) async fn has_news(
        &self,
        known: &Arc<TopologyDescription>,
        deadline: Instant,
    ) -> bool {
        let mut snapshots = self.snapshots.clone();
        self.handle.tell(Input::CheckRequested);
        let news = snapshots
            .wait_for(|snapshot| snapshot.closed || !Arc::ptr_eq(&snapshot.description, known));
        matches!(tokio::time::timeout_at(deadline, news).await, Ok(Ok(_)))
    }

    fn try_select(
        &self,
        snapshot: &Snapshot,
        criteria: &SelectionCriteria<'_>,
    ) -> Result<Result<Selected, SelectionError>> {
        // The task may also have ended with its runtime.
        if snapshot.closed || self.snapshots.has_changed().is_err() {
            return Err(Error::Shutdown);
        }
        let pools = &snapshot.pools;
        let operations = |address: &ServerAddress| pools.get(address).map_or(0, |p| p.operations());
        let mut random = Rng::from_seed(self.random());
        let selected = snapshot
            .description
            .select(criteria, operations, &mut random);
        Ok(selected.map(|server| {
            let pool = pools
                .get(server.address())
                .expect("every server described has a pool");
            Selected::new(
                Arc::clone(&snapshot.description),
                server,
                Arc::clone(pool),
                criteria,
            )
        }))
    }

    /// Ends the task, closes the pools, and waits until no task of the client is left, nor any of
    /// their connections. Those of operations are told, and are closed by whoever holds them.
    pub(crate) async fn shut_down(&self) {
        self.handle.tell(Input::Close);
        self.tasks.ended().await;
    }
}

impl Drop for Topology {
    fn drop(&mut self) {
        self.handle.tell(Input::Close);
    }
}

struct Task {
    machine: mongo_topology::Topology,
    /// What every pool and, without its limits, every monitor is given.
    pool_context: PoolContext,
    publish: watch::Sender<Snapshot>,
    /// Shared with the snapshots, and copied only when a server comes or goes.
    pools: Arc<BTreeMap<ServerAddress, Arc<Pool>>>,
    monitors: BTreeMap<ServerId, MonitorTasks>,
    seed_list: Option<SeedList>,
    failures: Failures,
}

/// Dropping it ends the tasks.
struct MonitorTasks {
    checks: mpsc::UnboundedSender<Order>,
    measurements: mpsc::UnboundedSender<RttCheck>,
}

impl Task {
    async fn run(mut self, mut inbox: mpsc::UnboundedReceiver<Told>) {
        let mut closed = false;
        while !closed {
            let timeout = self.machine.poll_timeout();
            tokio::select! {
                told = inbox.recv() => {
                    let Some(told) = told else { break };
                    closed = matches!(told.input, Input::Close);
                    self.note_failure(&told.input, told.failure);
                    self.machine.handle(told.input, now());
                    self.carry_out(closed);
                    drop(told.heard);
                }
                () = sleep_until(timeout) => {
                    self.machine.handle_timeout(now());
                    self.carry_out(closed);
                }
            }
        }
    }

    /// Keeps what a check failed with until a check of that server succeeds, or it leaves.
    fn note_failure(&mut self, input: &Input, failure: Option<Error>) {
        match (input, failure) {
            (Input::CheckFailed { server, .. }, Some(error))
                if self.monitors.contains_key(server) =>
            {
                Arc::make_mut(&mut self.failures).insert(server.clone(), Arc::new(error));
            }
            (Input::HelloReceived { server, .. }, _) if self.failures.contains_key(server) => {
                Arc::make_mut(&mut self.failures).remove(server);
            }
            _ => {}
        }
    }

    /// Does what the machine orders, in the order that the [module](self) explains.
    fn carry_out(&mut self, closed: bool) {
        let mut after_publishing = Vec::new();
        while let Some(action) = self.machine.poll_action() {
            match action {
                Action::OpenServer(server) => self.open(server),
                Action::Check { server, id, check } => {
                    self.order(&server, Order::Check(id, check));
                }
                Action::CancelCheck(server) => self.order(&server, Order::Cancel),
                Action::MeasureRtt { server, check } => {
                    if let Some(monitor) = self.monitors.get(&server) {
                        // The task only ends with its server.
                        let _ = monitor.measurements.send(check);
                    }
                }
                Action::MarkPoolReady(server) => {
                    if let Some(pool) = self.pool_of(&server) {
                        pool.mark_ready();
                    }
                }
                Action::ResolveSrv { seed } => self.rescan(seed),
                Action::Publish(event) => self.pool_context.events.sdam(event),
                Action::ClearPool {
                    server,
                    generation,
                    service_id,
                    interrupt_in_use,
                } => {
                    if let Some(pool) = self.pool_of(&server) {
                        let pool = Arc::clone(pool);
                        let clear = Clear {
                            generation,
                            service_id,
                            interrupt_in_use,
                            cause: self.cause(&server.address),
                        };
                        after_publishing.push((pool, Some(clear)));
                    }
                }
                Action::CloseServer(server) => {
                    self.monitors.remove(&server);
                    Arc::make_mut(&mut self.failures).remove(&server);
                    if self.pool_of(&server).is_some() {
                        let pool = Arc::make_mut(&mut self.pools).remove(&server.address);
                        after_publishing.extend(pool.map(|pool| (pool, None)));
                    }
                }
                other => tracing::debug!(?other, "an order that this client does not carry out"),
            }
        }
        // The machine makes a new description for every check that has ended, even an equal one,
        // and waiters look at each. Nothing else may wake them: they would ask for checks again.
        let description = self.machine.description();
        let is_known = {
            let known = self.publish.borrow();
            Arc::ptr_eq(&known.description, &description) && Arc::ptr_eq(&known.pools, &self.pools)
        };
        if closed || !is_known {
            let pools = Arc::clone(&self.pools);
            self.publish.send_replace(Snapshot {
                description,
                pools,
                failures: Arc::clone(&self.failures),
                closed,
            });
        }
        for (pool, clear) in after_publishing {
            match clear {
                Some(clear) => pool.clear(clear),
                None => pool.close(),
            }
        }
    }

    /// Looks at the seed list again, for as long as the topology is there.
    fn rescan(&self, seed: u64) {
        let Some(seed_list) = self.seed_list.clone() else {
            return;
        };
        let current = self.pools.keys().cloned().collect();
        let topology = self.pool_context.topology.clone();
        let mut snapshots = self.publish.subscribe();
        let topology_id = self.pool_context.events.logs().topology_id;
        self.pool_context.tasks.spawn(async move {
            tokio::select! {
                rescan = seed_list.rescan(current, seed) => {
                    for error in &rescan.rejected {
                        tracing::warn!(target: TOPOLOGY, topologyId = topology_id, %error);
                    }
                    topology.tell(Input::SrvResolved(rescan));
                }
                // An error says that the task has ended.
                _ = snapshots.wait_for(|snapshot| snapshot.closed) => {}
            }
        });
    }

    fn open(&mut self, server: ServerId) {
        let (checks, check_orders) = mpsc::unbounded_channel();
        let (measurements, measurement_orders) = mpsc::unbounded_channel();
        let monitor = Monitor {
            server: server.clone(),
            connector: Arc::clone(&self.pool_context.connector),
            topology: self.pool_context.topology.clone(),
        };
        let tasks = &self.pool_context.tasks;
        tasks.spawn(monitor.clone().run_checks(check_orders));
        tasks.spawn(monitor.run_measurements(measurement_orders));
        self.monitors.insert(
            server.clone(),
            MonitorTasks {
                checks,
                measurements,
            },
        );

        let pool = Pool::new(server.clone(), self.pool_context.clone());
        Arc::make_mut(&mut self.pools).insert(server.address, pool);
    }

    fn order(&self, server: &ServerId, order: Order) {
        if let Some(monitor) = self.monitors.get(server) {
            // The task only ends with its server.
            let _ = monitor.checks.send(order);
        }
    }

    /// Why a server cannot be used, as far as it cannot.
    fn cause(&self, server: &ServerAddress) -> Option<Arc<str>> {
        let description = self.machine.description();
        let error = description.servers.get(server)?.error()?;
        Some(error.to_string().into())
    }

    /// The pool of this very instance, not of a later one at the same address.
    fn pool_of(&self, server: &ServerId) -> Option<&Arc<Pool>> {
        self.pools
            .get(&server.address)
            .filter(|pool| pool.server() == server)
    }
}

/// A number that differs between clients; nothing secret hangs on it.
pub(crate) fn seed() -> u64 {
    use std::hash::{BuildHasher as _, Hasher as _, RandomState};
    RandomState::new().build_hasher().finish()
}
