//! What holds after any sequence of inputs.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use bson::oid::ObjectId;
use bson::{RawDocumentBuf, cstr};
use proptest::prelude::*;

use super::world::*;
use crate::ServerType as S;
use crate::*;

const NAMES: [&str; 4] = ["a:27017", "b:27017", "c:27017", "d:27017"];

/// One step of a run; numbers are taken modulo what there is.
#[derive(Clone, Debug)]
enum Step {
    Hello {
        server: usize,
        reply: Reply,
        more_to_come: bool,
    },
    Fail {
        server: usize,
        timeout: bool,
    },
    Handshake {
        server: usize,
        reply: Reply,
        generation: u64,
    },
    Error {
        server: usize,
        generation: u64,
        phase: ErrorPhase,
        code: Option<i32>,
    },
    Rtt {
        server: usize,
        fails: bool,
    },
    Request,
    Srv {
        hosts: Vec<usize>,
    },
    Timeout {
        millis: u64,
    },
    Close,
}

#[derive(Clone, Debug)]
struct Reply {
    kind: u8,
    hosts: Vec<usize>,
    election: u8,
    set: bool,
    me: Option<usize>,
    wire_version: i32,
    version: Option<(u8, i64)>,
}

impl Reply {
    fn document(&self) -> RawDocumentBuf {
        let hosts: Vec<_> = self
            .hosts
            .iter()
            .map(|host| NAMES[host % NAMES.len()])
            .collect();
        let mut document = match self.kind % 6 {
            0 => standalone(),
            1 => mongos(),
            2 => primary(self.election, &hosts),
            3 => secondary(&hosts),
            4 => secondary_of(NAMES[usize::from(self.election) % NAMES.len()], &hosts),
            _ => bson::rawdoc! { "ok": 1, "isreplicaset": true },
        };
        if !self.set {
            document.append(cstr!("setName"), "other");
        }
        if let Some(me) = self.me {
            document.append(cstr!("me"), NAMES[me % NAMES.len()]);
        }
        document.append(cstr!("maxWireVersion"), self.wire_version);
        if let Some((process, counter)) = self.version {
            let process_id = ObjectId::from_bytes([process; 12]);
            let version = TopologyVersion {
                process_id,
                counter,
            };
            document.append(cstr!("topologyVersion"), version.to_document());
        }
        document
    }

    fn parsed(&self) -> HelloReply {
        HelloReply::parse(&self.document()).unwrap()
    }
}

fn reply() -> impl Strategy<Value = Reply> {
    (
        0..6_u8,
        prop::collection::vec(0..NAMES.len(), 0..4),
        0..3_u8,
        prop::bool::weighted(0.9),
        prop::option::weighted(0.1, 0..NAMES.len()),
        prop::sample::select(vec![7, 9, 17, 21]),
        prop::option::of((0..2_u8, 0..3_i64)),
    )
        .prop_map(
            |(kind, hosts, election, set, me, wire_version, version)| Reply {
                kind,
                hosts,
                election,
                set,
                me,
                wire_version,
                version,
            },
        )
}

fn step() -> impl Strategy<Value = Step> {
    let server = 0..NAMES.len();
    let phases = vec![
        ErrorPhase::Connecting,
        ErrorPhase::Authenticating,
        ErrorPhase::Established,
    ];
    let codes = prop::option::of(prop::sample::select(vec![1, 91, 10107, 11602]));
    prop_oneof![
        8 => (server.clone(), reply(), any::<bool>())
            .prop_map(|(server, reply, more_to_come)| Step::Hello { server, reply, more_to_come }),
        3 => (server.clone(), any::<bool>())
            .prop_map(|(server, timeout)| Step::Fail { server, timeout }),
        2 => (server.clone(), reply(), 0..3_u64)
            .prop_map(|(server, reply, generation)| Step::Handshake { server, reply, generation }),
        3 => (server.clone(), 0..3_u64, prop::sample::select(phases), codes).prop_map(
            |(server, generation, phase, code)| Step::Error { server, generation, phase, code }
        ),
        2 => (server, any::<bool>()).prop_map(|(server, fails)| Step::Rtt { server, fails }),
        2 => Just(Step::Request),
        1 => prop::collection::vec(0..NAMES.len(), 0..4).prop_map(|hosts| Step::Srv { hosts }),
        4 => (0..20_000_u64).prop_map(|millis| Step::Timeout { millis }),
        1 => Just(Step::Close),
    ]
}

fn uri() -> impl Strategy<Value = &'static str> {
    prop::sample::select(vec![
        "mongodb://a",
        "mongodb://a,b",
        "mongodb://a,b,c/?replicaSet=rs",
        "mongodb://a/?directConnection=true",
        "mongodb://a/?directConnection=true&replicaSet=rs",
        "mongodb://a/?loadBalanced=true",
        "mongodb://a,b/?serverMonitoringMode=poll",
    ])
}

/// The client's side of the contract, as far as it can be got wrong by the machine.
#[derive(Default)]
struct Client {
    open: BTreeSet<ServerId>,
    ready: BTreeSet<ServerId>,
    generations: BTreeMap<ServerId, u64>,
    checks: BTreeMap<ServerId, CheckId>,
    heartbeats: BTreeSet<ServerId>,
    is_closed: bool,
}

impl Client {
    fn obey(&mut self, action: &Action) {
        assert!(!self.is_closed, "{action:?} after the end");
        match action {
            Action::OpenServer(server) => assert!(self.open.insert(server.clone())),
            Action::CloseServer(server) => {
                assert!(self.open.remove(server));
                self.checks.remove(server);
                self.ready.remove(server);
            }
            Action::Check { server, id, .. } => {
                assert!(self.open.contains(server));
                assert!(
                    self.checks.insert(server.clone(), *id).is_none(),
                    "two checks at once"
                );
            }
            Action::CancelCheck(server) => {
                assert!(self.open.contains(server));
                self.checks.remove(server);
            }
            Action::MeasureRtt { server, .. } => assert!(self.open.contains(server)),
            Action::MarkPoolReady(server) => {
                assert!(self.open.contains(server));
                assert!(self.ready.insert(server.clone()));
            }
            Action::ClearPool {
                server,
                generation,
                service_id,
                ..
            } => {
                assert!(self.open.contains(server));
                assert_eq!(*service_id, None);
                let own = self.generations.entry(server.clone()).or_default();
                assert_eq!(*generation, *own + 1);
                *own = *generation;
                self.ready.remove(server);
            }
            Action::ResolveSrv { .. } => {}
            Action::Publish(event) => self.listen(event),
        }
    }

    fn listen(&mut self, event: &SdamEvent) {
        match event {
            SdamEvent::HeartbeatStarted { heartbeat } => {
                assert!(self.heartbeats.insert(heartbeat.server.clone()));
            }
            SdamEvent::HeartbeatSucceeded { heartbeat, .. }
            | SdamEvent::HeartbeatFailed { heartbeat, .. } => {
                assert!(
                    self.heartbeats.remove(&heartbeat.server),
                    "an end without a start"
                );
            }
            SdamEvent::ServerClosed { server } => assert!(!self.heartbeats.contains(server)),
            SdamEvent::ServerDescriptionChanged { previous, current } => {
                assert_ne!(previous, current);
            }
            SdamEvent::TopologyDescriptionChanged { previous, current } => {
                assert_ne!(previous, current);
            }
            SdamEvent::TopologyClosed => {
                assert!(self.open.is_empty());
                self.is_closed = true;
            }
            _ => {}
        }
    }
}

struct Run {
    topology: Topology,
    client: Client,
    now: Instant,
    log: Vec<Action>,
}

impl Run {
    fn new(uri: &str, now: Instant) -> Self {
        let uri = mongo_uri::ConnectionString::parse(uri).unwrap();
        let mut config = TopologyConfig::from(&uri);
        config.srv_ttl = Some(Duration::from_secs(60));
        let topology = Topology::new(config, 3, now);
        let mut run = Self {
            topology,
            client: Client::default(),
            now,
            log: Vec::new(),
        };
        run.drain();
        run
    }

    fn drain(&mut self) {
        while let Some(action) = self.topology.poll_action() {
            self.client.obey(&action);
            self.log.push(action);
        }
    }

    fn server(&self, index: usize) -> ServerId {
        let description = self.topology.description();
        let address = NAMES[index % NAMES.len()].parse().unwrap();
        match description.servers.get(&address) {
            Some(server) => server.id().clone(),
            None => ServerId {
                address,
                instance: 1,
            },
        }
    }

    fn take(&mut self, step: &Step) {
        let input = match step.clone() {
            Step::Hello {
                server,
                reply,
                more_to_come,
            } => {
                let server = self.server(server);
                let check = self.client.checks.remove(&server).unwrap_or(CheckId(0));
                let (reply, round_trip) = (reply.parsed(), Some(RTT));
                Input::HelloReceived {
                    server,
                    check,
                    reply,
                    round_trip,
                    more_to_come,
                }
            }
            Step::Fail { server, timeout } => {
                let server = self.server(server);
                let check = self.client.checks.remove(&server).unwrap_or(CheckId(0));
                let error = if timeout {
                    CheckError::timeout("read")
                } else {
                    CheckError::network("reset")
                };
                Input::CheckFailed {
                    server,
                    check,
                    error,
                }
            }
            Step::Handshake {
                server,
                reply,
                generation,
            } => {
                let server = self.server(server);
                Input::HandshakeReceived {
                    server,
                    generation,
                    reply: reply.parsed(),
                }
            }
            Step::Error {
                server,
                generation,
                phase,
                code,
            } => Input::ApplicationError {
                server: self.server(server),
                generation,
                service_id: None,
                phase,
                error: code.map_or_else(|| ApplicationError::network("reset"), command_error),
            },
            Step::Rtt {
                server,
                fails: true,
            } => Input::RttFailed {
                server: self.server(server),
            },
            Step::Rtt {
                server,
                fails: false,
            } => Input::RttMeasured {
                server: self.server(server),
                round_trip: RTT,
            },
            Step::Request => Input::CheckRequested,
            Step::Srv { hosts } => {
                let hosts = hosts
                    .iter()
                    .map(|host| NAMES[*host].parse().unwrap())
                    .collect();
                Input::SrvResolved(mongo_uri::Rescan {
                    hosts: Some(hosts),
                    ..Default::default()
                })
            }
            Step::Close => Input::Close,
            Step::Timeout { millis } => {
                self.now += Duration::from_millis(millis);
                self.topology.handle_timeout(self.now);
                self.drain();
                return;
            }
        };
        self.topology.handle(input, self.now);
        self.drain();
    }

    fn check_consistency(&self) {
        let description = self.topology.description();
        let types: Vec<_> = description
            .servers
            .iter()
            .map(|server| server.server_type())
            .collect();
        let primaries = types
            .iter()
            .filter(|server_type| **server_type == S::RsPrimary)
            .count();
        let all_in = |allowed: &[ServerType]| types.iter().all(|own| allowed.contains(own));
        let members = [
            S::Unknown,
            S::RsPrimary,
            S::RsSecondary,
            S::RsArbiter,
            S::RsOther,
            S::RsGhost,
        ];
        match description.topology_type {
            TopologyType::Unknown => assert!(all_in(&[S::Unknown, S::RsGhost]), "{description}"),
            TopologyType::Single => assert_eq!(types.len(), 1),
            // A ghost that was there before the first router stays until its next check.
            TopologyType::Sharded => {
                assert!(
                    all_in(&[S::Unknown, S::Mongos, S::RsGhost]),
                    "{description}"
                );
            }
            TopologyType::LoadBalanced => assert!(all_in(&[S::LoadBalancer]), "{description}"),
            TopologyType::ReplicaSetNoPrimary => {
                assert!(all_in(&members) && primaries == 0, "{description}");
            }
            TopologyType::ReplicaSetWithPrimary => {
                assert!(all_in(&members) && primaries == 1, "{description}");
            }
        }
        for server in &description.servers {
            assert!(self.client.open.contains(server.id()));
            if server.server_type().is_data_bearing() {
                assert!(
                    self.client.ready.contains(server.id()),
                    "{server} cannot be used"
                );
            }
        }
        assert_eq!(description.servers.len(), self.client.open.len());
    }

    /// A timeout that comes before its time, and one that comes twice.
    fn check_early_timeouts(&mut self) {
        if self
            .topology
            .poll_timeout()
            .is_some_and(|due| due <= self.now)
        {
            return;
        }
        let before = self.topology.poll_timeout();
        self.topology.handle_timeout(self.now);
        assert_eq!(self.topology.poll_action(), None);
        assert_eq!(self.topology.poll_timeout(), before);
    }
}

proptest! {
    #[test]
    fn any_run_keeps_the_topology_and_the_client_consistent(
        uri in uri(),
        steps in prop::collection::vec(step(), 0..60),
    ) {
        let mut run = Run::new(uri, test_time::start());
        for step in &steps {
            run.take(step);
            run.check_consistency();
            run.check_early_timeouts();
            let text = run.topology.description().to_string();
            prop_assert_eq!(text.lines().count(), 1 + run.topology.description().servers.len());
            let _ = run.topology.description().select(
                &SelectionCriteria::write(),
                |_| 0,
                &mut crate::Rng::from_seed(1),
            );
        }
    }

    #[test]
    fn the_same_inputs_and_seed_give_the_same_actions(
        uri in uri(),
        steps in prop::collection::vec(step(), 0..40),
    ) {
        let now = test_time::start();
        let (mut one, mut two) = (Run::new(uri, now), Run::new(uri, now));
        for step in &steps {
            one.take(step);
            two.take(step);
        }
        prop_assert_eq!(one.log, two.log);
        prop_assert_eq!(one.topology.poll_timeout(), two.topology.poll_timeout());
    }
}
