//! The books on a machine's orders and events: each must be possible when it comes.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use mongo_topology::{
    Action, Check, Heartbeat, SdamEvent, ServerDescription, ServerId, TopologyDescription,
};
use mongo_uri::ServerAddress;

/// What the client would have at this moment.
#[derive(Debug, Default)]
pub(super) struct Ledger {
    servers: BTreeMap<ServerId, Books>,
    /// Servers whose opening has been published.
    announced: BTreeSet<ServerId>,
    last_instance: u64,
    description: Option<Arc<TopologyDescription>>,
    descriptions: BTreeMap<ServerAddress, Arc<ServerDescription>>,
    heartbeats: BTreeMap<ServerId, Heartbeat>,
    is_open: bool,
    is_closed: bool,
}

/// What the client would keep for one server.
#[derive(Debug, Default)]
struct Books {
    is_ready: bool,
    generation: u64,
    services: BTreeMap<[u8; 12], u64>,
    is_checking: bool,
    has_socket: bool,
    is_measuring: bool,
}

impl Ledger {
    /// Enters an order; panics when it cannot be carried out.
    pub(super) fn enter(&mut self, action: &Action) {
        assert!(!self.is_closed, "{action:?} after the end");
        match action {
            Action::OpenServer(server) => {
                assert!(server.instance > self.last_instance, "instances grow");
                self.last_instance = server.instance;
                assert!(self.announced.contains(server));
                assert!(
                    self.servers
                        .keys()
                        .all(|known| known.address != server.address)
                );
                self.servers.insert(server.clone(), Books::default());
            }
            Action::CloseServer(server) => {
                assert!(!self.announced.contains(server));
                assert!(
                    self.servers.remove(server).is_some(),
                    "{server} is not open"
                );
            }
            Action::Check { server, check, .. } => {
                assert!(
                    self.heartbeats.contains_key(server),
                    "its start is published first"
                );
                self.books(server).begin(check);
            }
            Action::CancelCheck(server) => {
                assert!(
                    !self.heartbeats.contains_key(server),
                    "its end is published first"
                );
                let books = self.books(server);
                (books.is_checking, books.has_socket) = (false, false);
            }
            // A measurement's end is an input, so only two in a row without one would be seen.
            Action::MeasureRtt { server, .. } => self.books(server).is_measuring = true,
            Action::MarkPoolReady(server) => {
                let books = self.books(server);
                assert!(!books.is_ready, "{server} is ready already");
                books.is_ready = true;
            }
            Action::ClearPool {
                server,
                generation,
                service_id,
                ..
            } => {
                let books = self.books(server);
                let known = match service_id {
                    Some(service) => books.services.entry(service.bytes()).or_default(),
                    None => {
                        books.is_ready = false;
                        &mut books.generation
                    }
                };
                assert_eq!(*generation, *known + 1, "generations grow by one");
                *known = *generation;
            }
            Action::ResolveSrv { .. } => {}
            Action::Publish(event) => self.publish(event),
            _ => panic!("an order that the client would not know: {action:?}"),
        }
    }

    fn books(&mut self, server: &ServerId) -> &mut Books {
        self.servers
            .get_mut(server)
            .unwrap_or_else(|| panic!("{server} is not open"))
    }

    fn publish(&mut self, event: &SdamEvent) {
        match event {
            SdamEvent::TopologyOpening => {
                assert!(!self.is_open, "opening comes first, once");
                self.is_open = true;
            }
            SdamEvent::TopologyDescriptionChanged { previous, current } => {
                if let Some(known) = &self.description {
                    assert_eq!(known, previous);
                    assert_ne!(previous, current);
                }
                self.description = Some(Arc::clone(current));
            }
            SdamEvent::TopologyClosed => self.is_closed = true,
            SdamEvent::ServerOpening { server } => {
                assert!(self.announced.insert(server.clone()));
            }
            SdamEvent::ServerClosed { server } => {
                assert!(self.announced.remove(server), "{server} was not announced");
                self.descriptions.remove(&server.address);
                assert!(!self.heartbeats.contains_key(server), "its check has ended");
            }
            SdamEvent::ServerDescriptionChanged { previous, current } => {
                assert_ne!(previous, current);
                assert_eq!(previous.id(), current.id());
                let known = self
                    .descriptions
                    .insert(current.address().clone(), Arc::clone(current));
                assert!(known.is_none_or(|known| known == *previous));
            }
            SdamEvent::HeartbeatStarted { heartbeat } => {
                let before = self
                    .heartbeats
                    .insert(heartbeat.server.clone(), heartbeat.clone());
                assert_eq!(before, None, "one check at a time");
            }
            SdamEvent::HeartbeatSucceeded { heartbeat, .. } => {
                let started = self.end(heartbeat);
                assert_eq!(started.awaited, heartbeat.awaited);
            }
            SdamEvent::HeartbeatFailed { heartbeat, .. } => {
                self.end(heartbeat);
                if let Some(books) = self.servers.get_mut(&heartbeat.server) {
                    books.has_socket = false;
                }
            }
            _ => panic!("an event that nobody would know: {event:?}"),
        }
    }

    fn end(&mut self, heartbeat: &Heartbeat) -> Heartbeat {
        let started = self
            .heartbeats
            .remove(&heartbeat.server)
            .expect("it was started");
        assert_eq!(started.connection, heartbeat.connection);
        if let Some(books) = self.servers.get_mut(&heartbeat.server) {
            books.is_checking = false;
        }
        started
    }

    /// The client's servers are those of the description.
    pub(super) fn assert_balanced(&self, description: &TopologyDescription) {
        assert!(self.is_open);
        let ours: Vec<_> = self.servers.keys().collect();
        let theirs: Vec<_> = description
            .servers
            .iter()
            .map(|server| server.id())
            .collect();
        assert_eq!(ours, theirs);
        assert_eq!(self.description.as_deref(), Some(description));
        for (address, known) in &self.descriptions {
            assert_eq!(description.servers.get(address), Some(known));
        }
    }

    /// Nothing is left.
    pub(super) fn assert_closed(&self, description: &TopologyDescription) {
        assert!(self.is_closed && self.servers.is_empty() && self.announced.is_empty());
        assert!(self.heartbeats.is_empty() && description.servers.is_empty());
    }
}

impl Books {
    fn begin(&mut self, check: &Check) {
        assert!(!self.is_checking, "one check at a time");
        self.is_checking = true;
        let is_new = matches!(check, Check::Connect { .. });
        assert_eq!(is_new, !self.has_socket, "{check:?}");
        self.has_socket = true;
    }
}
