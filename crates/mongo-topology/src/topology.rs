//! The machine: facts in, orders and snapshots out.

mod errors;
mod monitoring;
mod pool;
mod srv;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Instant;

use mongo_uri::ServerAddress;

use crate::config::{ConnectionMode, TopologyConfig};
use crate::description::{Servers, TopologyDescription, TopologyType};
use crate::events::SdamEvent;
use crate::io::{Action, Input};
use crate::monitor::Monitor;
use crate::rng::Rng;
use crate::server::{ServerDescription, ServerId};
use crate::topology_version::TopologyVersion;
use crate::transitions::{Change, Draft, Outcome};
use pool::Pool;
use srv::SrvSchedule;

/// Discovers and watches one deployment; the [crate documentation](crate) has its run loop.
///
/// # What holds at any time
///
/// - From the moment a server is known to have failed, no description offers it, until a check of
///   its own or a newer connection has reached it.
/// - The pool of every server that a description offers has been made ready.
/// - There is at most one primary, and at most one check a server.
/// - Every clearing of a pool has the next generation.
#[derive(Clone, Debug)]
pub struct Topology {
    config: TopologyConfig,
    rng: Rng,
    description: Arc<TopologyDescription>,
    servers: BTreeMap<ServerAddress, Server>,
    actions: VecDeque<Action>,
    srv: SrvSchedule,
    counters: Counters,
    is_closed: bool,
}

/// What the machine keeps for one stay of a server.
#[derive(Clone, Debug)]
struct Server {
    id: ServerId,
    pool: Pool,
    monitor: Monitor,
}

/// The last number given out of each kind.
#[derive(Clone, Debug, Default)]
struct Counters {
    instances: u64,
    checks: u64,
    connections: u64,
}

impl Topology {
    /// Starts: the seeds' pools and first checks are the first actions.
    ///
    /// `rng_seed` decides nothing but which hosts of SRV records are taken when there are too many.
    #[must_use]
    pub fn new(mut config: TopologyConfig, rng_seed: u64, now: Instant) -> Self {
        config.seeds = distinct(config.seeds);
        let mut topology = Self {
            description: Arc::new(first_description(&config, TopologyType::Unknown)),
            rng: Rng::from_seed(rng_seed),
            servers: BTreeMap::new(),
            actions: VecDeque::new(),
            srv: SrvSchedule::new(&config, now),
            counters: Counters::default(),
            is_closed: false,
            config,
        };
        topology.open(now);
        topology
    }

    /// Takes in a fact. Never fails: bad news become state and events.
    pub fn handle(&mut self, input: Input, now: Instant) {
        if self.is_closed {
            return;
        }
        match input {
            Input::HelloReceived {
                server,
                check,
                reply,
                round_trip,
                more_to_come,
            } => {
                let reply = Arc::new(reply);
                self.hello_received(&server, check, reply, (round_trip, more_to_come), now);
            }
            Input::CheckFailed {
                server,
                check,
                error,
            } => {
                self.check_failed(&server, check, error, now);
            }
            Input::RttMeasured { server, round_trip } => {
                self.rtt_ended(&server, Some(round_trip), now);
            }
            Input::RttFailed { server } => self.rtt_ended(&server, None, now),
            Input::HandshakeReceived {
                server,
                generation,
                reply,
            } => {
                self.handshake_received(&server, generation, reply, now);
            }
            Input::ApplicationError {
                server,
                generation,
                service_id,
                phase,
                error,
            } => {
                self.application_error(&server, (generation, service_id), phase, error, now);
            }
            Input::CheckRequested => self.request_all_checks(now),
            Input::SrvResolved(rescan) => self.srv_resolved(rescan, now),
            Input::Close => self.close(now),
        }
    }

    /// Does what is due. Nothing happens when nothing is.
    pub fn handle_timeout(&mut self, now: Instant) {
        self.poll_srv(now);
        let due: Vec<ServerAddress> = self
            .servers
            .values()
            .filter(|server| server.monitor.next_timeout().is_some_and(|at| at <= now))
            .map(|server| server.id.address.clone())
            .collect();
        for address in &due {
            self.begin_due(address, now);
        }
    }

    /// The next order; `None` until there is another input or timeout.
    #[must_use]
    pub fn poll_action(&mut self) -> Option<Action> {
        self.actions.pop_front()
    }

    /// When to call [`handle_timeout`](Self::handle_timeout) at the latest.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Instant> {
        let monitors = self
            .servers
            .values()
            .filter_map(|server| server.monitor.next_timeout());
        monitors.chain(self.srv.due()).min()
    }

    /// What is known now. It is another `Arc` after every check, even one that found nothing new, and
    /// the same one otherwise ([`Arc::ptr_eq`]): operations that wait for a server should look again
    /// when it is another, and ask for another check.
    #[must_use]
    pub fn description(&self) -> Arc<TopologyDescription> {
        Arc::clone(&self.description)
    }

    /// The generation of a server's pool; `None` when the server has left.
    #[must_use]
    pub fn pool_generation(&self, server: &ServerId) -> Option<u64> {
        self.server(server)
            .map(|server| server.pool.generation(None))
    }

    fn server(&self, id: &ServerId) -> Option<&Server> {
        self.servers
            .get(&id.address)
            .filter(|server| server.id == *id)
    }

    fn server_mut(&mut self, id: &ServerId) -> Option<&mut Server> {
        self.servers
            .get_mut(&id.address)
            .filter(|server| server.id == *id)
    }

    fn publish(&mut self, event: SdamEvent) {
        self.actions.push_back(Action::Publish(event));
    }

    /// SDAM Logging and Monitoring: opening comes first, and the first change is from Unknown.
    fn open(&mut self, now: Instant) {
        self.publish(SdamEvent::TopologyOpening);
        let topology_type = match (self.config.mode, &self.config.set_name) {
            (ConnectionMode::LoadBalanced, _) => TopologyType::LoadBalanced,
            (ConnectionMode::Direct, _) => TopologyType::Single,
            (ConnectionMode::Discover, Some(_)) => TopologyType::ReplicaSetNoPrimary,
            (ConnectionMode::Discover, None) => TopologyType::Unknown,
        };
        let mut first = first_description(&self.config, topology_type);
        first.set_name.clone_from(&self.config.set_name);
        let mut changes = Vec::new();
        for address in self.config.seeds.clone() {
            self.counters.instances += 1;
            let id = ServerId {
                address,
                instance: self.counters.instances,
            };
            first
                .servers
                .insert(Arc::new(ServerDescription::unknown(id.clone())));
            changes.push(Change::Added(id));
        }
        let previous = std::mem::replace(&mut self.description, Arc::new(first));
        let current = self.description();
        self.publish(SdamEvent::TopologyDescriptionChanged { previous, current });
        self.srv.topology_is(topology_type);
        let added = self.publish_changes(changes, now);
        if topology_type == TopologyType::LoadBalanced {
            for id in added {
                self.update(ServerDescription::load_balancer(id), now);
            }
        } else {
            self.begin_all(&added, now);
        }
    }

    fn close(&mut self, now: Instant) {
        let mut draft = Draft::new(&self.description, &mut self.counters.instances, now);
        draft.close();
        let outcome = draft.finish(&self.description);
        self.commit(outcome, now);
        self.publish(SdamEvent::TopologyClosed);
        self.srv = SrvSchedule::Off;
        self.is_closed = true;
    }

    /// Takes in a new server description, if it is not older than what is known (SDAM, "Replacing
    /// the TopologyDescription"). The server must be in the topology. Whether that changes the
    /// topology's description.
    fn update(&mut self, server: ServerDescription, now: Instant) -> bool {
        let known = self.description.servers.get(server.address());
        let known_version = known.and_then(|known| known.topology_version());
        if TopologyVersion::compare(known_version, server.topology_version()).is_gt() {
            return false;
        }
        let id = server.id().clone();
        let mut draft = Draft::new(&self.description, &mut self.counters.instances, now);
        draft.apply(server, self.config.seeds.len());
        let outcome = draft.finish(&self.description);
        let is_changed = outcome.is_changed;
        self.commit(outcome, now);
        self.mark_pool_ready(&id);
        is_changed
    }

    /// Makes an outcome the present, and gives the orders and events that follow from it.
    fn commit(&mut self, outcome: Outcome, now: Instant) {
        let Outcome {
            topology,
            changes,
            recheck,
            is_changed,
        } = outcome;
        let previous = std::mem::replace(&mut self.description, Arc::new(topology));
        let added = self.publish_changes(changes, now);
        if is_changed {
            let current = self.description();
            self.publish(SdamEvent::TopologyDescriptionChanged { previous, current });
        }
        self.srv.topology_is(self.description.topology_type);
        self.begin_all(&added, now);
        for address in &recheck {
            self.request_check(address, now);
        }
    }

    /// Events and orders for each change; gives back the servers that have come in.
    fn publish_changes(&mut self, changes: Vec<Change>, now: Instant) -> Vec<ServerId> {
        let mut added = Vec::new();
        for change in changes {
            match change {
                Change::Replaced { previous, current } => {
                    self.publish(SdamEvent::ServerDescriptionChanged { previous, current });
                }
                Change::Added(id) => {
                    let monitor = Monitor::new(self.config.mode, now);
                    let server = Server {
                        id: id.clone(),
                        pool: Pool::default(),
                        monitor,
                    };
                    self.servers.insert(id.address.clone(), server);
                    self.publish(SdamEvent::ServerOpening { server: id.clone() });
                    self.actions.push_back(Action::OpenServer(id.clone()));
                    added.push(id);
                }
                Change::Removed(id) => {
                    self.abandon_check(&id.address, now);
                    self.servers.remove(&id.address);
                    self.publish(SdamEvent::ServerClosed { server: id.clone() });
                    self.actions.push_back(Action::CloseServer(id));
                }
            }
        }
        added
    }
}

/// A seed that is named twice is one seed: their number decides what a standalone server means.
fn distinct(seeds: Vec<ServerAddress>) -> Vec<ServerAddress> {
    let mut seen = BTreeSet::new();
    let is_new = |seed: &ServerAddress| seen.insert(seed.clone());
    seeds.into_iter().filter(is_new).collect()
}

fn first_description(config: &TopologyConfig, topology_type: TopologyType) -> TopologyDescription {
    let mut description = TopologyDescription::new(topology_type, Servers::default());
    description.local_threshold = config.local_threshold;
    description.heartbeat_frequency = config.heartbeat();
    description
}

#[cfg(test)]
mod tests;
