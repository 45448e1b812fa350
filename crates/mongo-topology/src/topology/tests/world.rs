//! A topology with no network around it, in virtual time.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use bson::oid::ObjectId;
use bson::{RawDocumentBuf, cstr, rawdoc};
use mongo_uri::{ConnectionString, ServerAddress};

use crate::*;

pub(super) const HEARTBEAT: Duration = Duration::from_secs(10);
pub(super) const MIN_HEARTBEAT: Duration = Duration::from_millis(500);
pub(super) const RTT: Duration = Duration::from_millis(2);

pub(super) struct World {
    pub(super) topology: Topology,
    pub(super) now: Instant,
    /// The check that runs on each server.
    pub(super) checks: BTreeMap<ServerAddress, (ServerId, CheckId, Check)>,
    /// What the last input or timeout led to.
    pub(super) actions: Vec<Action>,
}

impl World {
    pub(super) fn new(uri: &str) -> Self {
        Self::with(TopologyConfig::from(&ConnectionString::parse(uri).unwrap()))
    }

    pub(super) fn with(config: TopologyConfig) -> Self {
        let now = test_time::start();
        let topology = Topology::new(config, 7, now);
        let mut world = Self {
            topology,
            now,
            checks: BTreeMap::new(),
            actions: Vec::new(),
        };
        world.drain();
        world
    }

    pub(super) fn handle(&mut self, input: Input) {
        self.topology.handle(input, self.now);
        self.drain();
    }

    /// Moves time on, doing what becomes due on the way.
    pub(super) fn advance(&mut self, time: Duration) {
        let end = self.now + time;
        let mut actions = Vec::new();
        while let Some(due) = self.topology.poll_timeout().filter(|due| *due <= end) {
            self.now = due.max(self.now);
            self.topology.handle_timeout(self.now);
            self.drain();
            actions.append(&mut self.actions);
        }
        self.now = end;
        self.actions = actions;
    }

    fn drain(&mut self) {
        self.actions.clear();
        while let Some(action) = self.topology.poll_action() {
            match &action {
                Action::Check { server, id, check } => {
                    let running = (server.clone(), *id, check.clone());
                    let before = self.checks.insert(server.address.clone(), running);
                    assert!(before.is_none(), "two checks at once");
                }
                Action::CancelCheck(server) | Action::CloseServer(server) => {
                    self.checks.remove(&server.address);
                }
                _ => {}
            }
            self.actions.push(action);
        }
    }

    pub(super) fn id(&self, address: &str) -> ServerId {
        let description = self.topology.description();
        description
            .servers
            .get(&address.parse().unwrap())
            .unwrap()
            .id()
            .clone()
    }

    pub(super) fn check(&self, address: &str) -> Option<&Check> {
        self.checks
            .get(&address.parse().unwrap())
            .map(|(_, _, check)| check)
    }

    pub(super) fn reply(&mut self, address: &str, reply: &RawDocumentBuf) {
        self.reply_streaming(address, reply, false);
    }

    pub(super) fn reply_streaming(
        &mut self,
        address: &str,
        reply: &RawDocumentBuf,
        more_to_come: bool,
    ) {
        self.reply_after(address, reply, (RTT, more_to_come));
    }

    pub(super) fn reply_after(
        &mut self,
        address: &str,
        reply: &RawDocumentBuf,
        (round_trip, more_to_come): (Duration, bool),
    ) {
        let (server, check, _) = self.end(address);
        let reply = HelloReply::parse(reply).unwrap();
        let round_trip = Some(round_trip);
        self.handle(Input::HelloReceived {
            server,
            check,
            reply,
            round_trip,
            more_to_come,
        });
    }

    pub(super) fn fail(&mut self, address: &str, error: CheckError) {
        let (server, check, _) = self.end(address);
        self.handle(Input::CheckFailed {
            server,
            check,
            error,
        });
    }

    fn end(&mut self, address: &str) -> (ServerId, CheckId, Check) {
        self.checks
            .remove(&address.parse().unwrap())
            .expect("no check runs")
    }

    pub(super) fn application_error(
        &mut self,
        address: &str,
        phase: ErrorPhase,
        error: ApplicationError,
    ) {
        let server = self.id(address);
        let generation = self.topology.pool_generation(&server).unwrap();
        let service_id = None;
        self.handle(Input::ApplicationError {
            server,
            generation,
            service_id,
            phase,
            error,
        });
    }

    pub(super) fn server_type(&self, address: &str) -> ServerType {
        let description = self.topology.description();
        description
            .servers
            .get(&address.parse().unwrap())
            .unwrap()
            .server_type()
    }

    pub(super) fn topology_type(&self) -> TopologyType {
        self.topology.description().topology_type
    }

    /// The names of the last actions, events included.
    pub(super) fn names(&self) -> Vec<String> {
        self.actions.iter().map(name).collect()
    }

    pub(super) fn has(&self, name: &str) -> bool {
        self.names().iter().any(|own| own == name)
    }

    pub(super) fn write_target(&self) -> Result<String, SelectionError> {
        let description = self.topology.description();
        let criteria = SelectionCriteria::write();
        let server = description.select(&criteria, |_| 0, &mut Rng::from_seed(1))?;
        Ok(server.address().to_string())
    }
}

fn name(action: &Action) -> String {
    match action {
        Action::OpenServer(server) => format!("OpenServer {}", server.address),
        Action::CloseServer(server) => format!("CloseServer {}", server.address),
        Action::Check { server, check, .. } => {
            let kind = match check {
                Check::Connect { .. } => "Connect",
                Check::Hello { .. } => "Hello",
                Check::Await { .. } => "Await",
                Check::ReadNext { .. } => "ReadNext",
            };
            format!("{kind} {}", server.address)
        }
        Action::CancelCheck(server) => format!("CancelCheck {}", server.address),
        Action::MeasureRtt { server, .. } => format!("MeasureRtt {}", server.address),
        Action::MarkPoolReady(server) => format!("MarkPoolReady {}", server.address),
        Action::ClearPool {
            server, generation, ..
        } => {
            format!("ClearPool {} {generation}", server.address)
        }
        Action::ResolveSrv { .. } => "ResolveSrv".to_owned(),
        Action::Publish(event) => event_name(event),
    }
}

fn event_name(event: &SdamEvent) -> String {
    match event {
        SdamEvent::TopologyOpening => "TopologyOpening".to_owned(),
        SdamEvent::TopologyDescriptionChanged { current, .. } => {
            format!("TopologyChanged {}", current.topology_type)
        }
        SdamEvent::TopologyClosed => "TopologyClosed".to_owned(),
        SdamEvent::ServerOpening { server } => format!("ServerOpening {}", server.address),
        SdamEvent::ServerDescriptionChanged { current, .. } => {
            format!(
                "ServerChanged {} {}",
                current.address(),
                current.server_type()
            )
        }
        SdamEvent::ServerClosed { server } => format!("ServerClosed {}", server.address),
        SdamEvent::HeartbeatStarted { heartbeat } => {
            format!("Started {}", heartbeat.server.address)
        }
        SdamEvent::HeartbeatSucceeded { heartbeat, .. } => {
            format!("Succeeded {}", heartbeat.server.address)
        }
        SdamEvent::HeartbeatFailed { heartbeat, .. } => {
            format!("Failed {}", heartbeat.server.address)
        }
    }
}

/// A standalone too old to stream.
pub(super) fn standalone() -> RawDocumentBuf {
    rawdoc! { "ok": 1, "ismaster": true, "maxWireVersion": 8 }
}

/// A standalone that streams.
pub(super) fn streaming_standalone(counter: i64) -> RawDocumentBuf {
    let mut reply = rawdoc! {
        "ok": 1, "isWritablePrimary": true, "helloOk": true, "maxWireVersion": 21,
    };
    append_version(&mut reply, counter);
    reply
}

pub(super) fn mongos() -> RawDocumentBuf {
    rawdoc! { "ok": 1, "isWritablePrimary": true, "msg": "isdbgrid", "maxWireVersion": 21 }
}

/// A primary of `rs` by this election, of a set of these hosts.
pub(super) fn primary(election: u8, hosts: &[&str]) -> RawDocumentBuf {
    let mut reply = member(hosts);
    reply.append(cstr!("isWritablePrimary"), true);
    reply.append(cstr!("electionId"), ObjectId::from_bytes([election; 12]));
    reply
}

/// A secondary of `rs`, a set of these hosts.
pub(super) fn secondary(hosts: &[&str]) -> RawDocumentBuf {
    let mut reply = member(hosts);
    reply.append(cstr!("secondary"), true);
    reply
}

/// A secondary that names its primary.
pub(super) fn secondary_of(primary: &str, hosts: &[&str]) -> RawDocumentBuf {
    let mut reply = secondary(hosts);
    reply.append(cstr!("primary"), primary);
    reply
}

fn member(hosts: &[&str]) -> RawDocumentBuf {
    let mut array = bson::RawArrayBuf::new();
    for host in hosts {
        array.push(*host);
    }
    rawdoc! {
        "ok": 1, "helloOk": true, "setName": "rs", "setVersion": 1, "hosts": array,
        "maxWireVersion": 21,
    }
}

/// The reply of a server process that can stream.
pub(super) fn streaming(mut reply: RawDocumentBuf, counter: i64) -> RawDocumentBuf {
    append_version(&mut reply, counter);
    reply
}

fn append_version(reply: &mut RawDocumentBuf, counter: i64) {
    let version = TopologyVersion {
        process_id: ObjectId::from_bytes([1; 12]),
        counter,
    };
    reply.append(cstr!("topologyVersion"), version.to_document());
}

/// A server's error with this code.
pub(super) fn command_error(code: i32) -> ApplicationError {
    let reply = rawdoc! { "ok": 0, "errmsg": "no", "code": code };
    ApplicationError::from_reply(&reply).unwrap()
}

impl World {
    /// A reply that belongs to no check that runs.
    pub(super) fn reply_of_wrong_check(&mut self, address: &str, reply: HelloReply) {
        let server = self.id(address);
        let check = CheckId(u64::MAX);
        let input = Input::HelloReceived {
            server,
            check,
            reply,
            round_trip: None,
            more_to_come: false,
        };
        self.handle(input);
    }
}
