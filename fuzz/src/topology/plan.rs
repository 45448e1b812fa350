//! What can happen to a deployment, as a fuzzer thinks it up.

use std::time::Duration;

use arbitrary::Arbitrary;
use bson::oid::ObjectId;
use bson::{DateTime, RawArrayBuf, RawDocumentBuf, cstr};
use mongo_topology::{
    ApplicationError, CheckError, CheckId, ConnectionMode, ErrorPhase, HelloReply, Input,
    SYSTEM_OVERLOADED_ERROR, ServerId, TopologyConfig,
};
use mongo_uri::{
    ReadPreference, ReadPreferenceMode, Rescan, ServerAddress, ServerMonitoringMode, TagSet,
};

/// Few enough that hosts meet again.
const HOSTS: [&str; 6] = ["a:1", "b:1", "c:1", "d:1", "e:1", "f:1"];
const SETS: [&str; 2] = ["rs", "other"];

/// A whole history.
#[derive(Arbitrary, Debug)]
pub struct Plan {
    /// How the machine starts.
    pub setting: Setting,
    /// What happens then.
    pub steps: Vec<Step>,
}

/// How the machine is set up.
#[derive(Arbitrary, Debug)]
pub struct Setting {
    pub(super) rng_seed: u64,
    seeds: [u8; 3],
    seed_count: u8,
    mode: Mode,
    set_name: Option<u8>,
    heartbeat_millis: u16,
    monitoring: u8,
    connect_timeout: Option<u8>,
    srv: bool,
    server_api: bool,
    max_staleness: u8,
}

#[derive(Arbitrary, Clone, Copy, Debug, PartialEq)]
enum Mode {
    Discover,
    Direct,
    LoadBalanced,
}

/// Something that happens.
#[derive(Arbitrary, Debug)]
pub enum Step {
    /// A check, the `check`th counted from the last, brings a reply.
    Hello {
        /// Which check.
        check: u8,
        /// Its reply.
        reply: Reply,
        /// In milliseconds.
        round_trip: Option<u16>,
        /// Whether the server streams.
        more_to_come: bool,
    },
    /// A check fails.
    Failure {
        /// Which check.
        check: u8,
        /// A timeout, or else a broken socket.
        is_timeout: bool,
    },
    /// A measurement ends.
    RoundTrip {
        /// Of which server.
        server: u8,
        /// In milliseconds; none if it failed.
        round_trip: Option<u16>,
    },
    /// A pool's connection brings a reply.
    Handshake {
        /// With which server.
        server: u8,
        /// Of the pool.
        generation: u8,
        /// Its reply.
        reply: Reply,
    },
    /// A pool's connection meets an error.
    Error {
        /// With which server.
        server: u8,
        /// Of the connection.
        generation: u8,
        /// Behind a load balancer.
        service: Option<u8>,
        /// How far it had come.
        phase: u8,
        /// What happened.
        fault: Fault,
        /// Whether the server is overloaded.
        overloaded: bool,
    },
    /// Operations wait.
    CheckRequested,
    /// DNS answers.
    Resolved {
        /// A bit for each host.
        hosts: u8,
        /// Seconds.
        time_to_live: Option<u32>,
    },
    /// Time passes.
    Wait {
        /// How much.
        millis: u16,
    },
    /// Time passes until something is due.
    WaitUntilDue,
}

/// An error of an application's connection.
#[derive(Arbitrary, Debug)]
pub enum Fault {
    /// The socket broke.
    Network,
    /// The socket is slow.
    Timeout,
    /// The client gave up.
    Client,
    /// The server refuses.
    Command {
        /// One of the codes that mean something.
        code: u8,
        /// The version that comes with it.
        version: Option<Version>,
    },
}

/// A topology version.
#[derive(Arbitrary, Debug)]
pub struct Version {
    process: bool,
    counter: u8,
}

/// What a server says about itself.
#[derive(Arbitrary, Debug)]
pub struct Reply {
    role: Role,
    set: u8,
    me: Option<u8>,
    primary: Option<u8>,
    hosts: u8,
    passives: u8,
    arbiters: u8,
    election: Option<u8>,
    set_version: Option<u8>,
    version: Option<Version>,
    wire: Wire,
    hello_ok: bool,
    session_timeout: Option<u8>,
    last_write: u16,
    tag: Option<bool>,
}

#[derive(Arbitrary, Clone, Copy, Debug)]
enum Role {
    Standalone,
    Mongos,
    Primary,
    Secondary,
    Arbiter,
    Hidden,
    Starting,
    Ghost,
    Refused,
}

#[derive(Arbitrary, Clone, Copy, Debug)]
enum Wire {
    Old,
    Current,
    ElectionFirst,
    Future,
}

fn address(number: u8) -> ServerAddress {
    let host = HOSTS[usize::from(number) % HOSTS.len()];
    host.parse().expect("it has a host and a port")
}

/// The hosts whose bits are set.
fn hosts(bits: u8) -> impl Iterator<Item = &'static str> {
    HOSTS
        .into_iter()
        .enumerate()
        .filter_map(move |(at, host)| (bits >> at & 1 == 1).then_some(host))
}

fn object_id(number: u8) -> ObjectId {
    ObjectId::from_bytes([number; 12])
}

impl Setting {
    pub(super) fn config(&self) -> TopologyConfig {
        let count = if self.mode == Mode::Discover {
            usize::from(self.seed_count % 3) + 1
        } else {
            1
        };
        let mut config = TopologyConfig::new(
            self.seeds[..count]
                .iter()
                .map(|seed| address(*seed))
                .collect(),
        );
        config.mode = match self.mode {
            Mode::Discover => ConnectionMode::Discover,
            Mode::Direct => ConnectionMode::Direct,
            Mode::LoadBalanced => ConnectionMode::LoadBalanced,
        };
        if self.mode != Mode::LoadBalanced {
            config.set_name = self
                .set_name
                .map(|set| SETS[usize::from(set) % 2].to_owned());
        }
        config.heartbeat_frequency = Duration::from_millis(self.heartbeat_millis.into());
        config.monitoring_mode = match self.monitoring % 3 {
            0 => ServerMonitoringMode::Auto,
            1 => ServerMonitoringMode::Stream,
            _ => ServerMonitoringMode::Poll,
        };
        config.connect_timeout = self
            .connect_timeout
            .map(|time| Duration::from_secs(time.into()));
        config.srv_ttl = self.srv.then_some(Duration::from_secs(1));
        config.server_api = self.server_api;
        config
    }

    pub(super) fn preferences(&self) -> Vec<ReadPreference> {
        let tags = TagSet([("dc".to_owned(), "x".to_owned())].into());
        let staleness = Duration::from_secs(u64::from(self.max_staleness));
        let modes = [
            ReadPreferenceMode::Primary,
            ReadPreferenceMode::PrimaryPreferred,
            ReadPreferenceMode::Secondary,
            ReadPreferenceMode::SecondaryPreferred,
            ReadPreferenceMode::Nearest,
        ];
        let preference = |mode| {
            let mut preference = ReadPreference {
                mode,
                ..ReadPreference::default()
            };
            if mode == ReadPreferenceMode::Secondary {
                preference.tag_sets = vec![tags.clone(), TagSet::default()];
            }
            if mode == ReadPreferenceMode::Nearest {
                preference.max_staleness = Some(staleness);
            }
            preference
        };
        modes.into_iter().map(preference).collect()
    }
}

impl Step {
    /// The input, as far as the servers and checks that it is about were there at some time.
    pub(super) fn input(
        &self,
        known: &[ServerId],
        checks: &[(ServerId, CheckId)],
    ) -> Option<Input> {
        let check = |back: u8| nth_last(checks, back).cloned();
        let server = |back: u8| nth_last(known, back).cloned();
        let millis = |time: u16| Duration::from_millis(time.into());
        Some(match self {
            Self::Hello {
                check: back,
                reply,
                round_trip,
                more_to_come,
            } => {
                let (server, check) = check(*back)?;
                match HelloReply::parse(&reply.document()) {
                    Ok(reply) => Input::HelloReceived {
                        server,
                        check,
                        reply,
                        round_trip: round_trip.map(millis),
                        more_to_come: *more_to_come,
                    },
                    Err(error) => Input::CheckFailed {
                        server,
                        check,
                        error: error.into(),
                    },
                }
            }
            Self::Failure {
                check: back,
                is_timeout,
            } => {
                let (server, check) = check(*back)?;
                let error = if *is_timeout {
                    CheckError::timeout("t")
                } else {
                    CheckError::network("n")
                };
                Input::CheckFailed {
                    server,
                    check,
                    error,
                }
            }
            Self::RoundTrip {
                server: back,
                round_trip,
            } => match round_trip {
                Some(time) => Input::RttMeasured {
                    server: server(*back)?,
                    round_trip: millis(*time),
                },
                None => Input::RttFailed {
                    server: server(*back)?,
                },
            },
            Self::Handshake {
                server: back,
                generation,
                reply,
            } => Input::HandshakeReceived {
                server: server(*back)?,
                generation: u64::from(*generation % 8),
                reply: HelloReply::parse(&reply.document()).ok()?,
            },
            Self::Error {
                server: back,
                generation,
                service,
                phase,
                fault,
                overloaded,
            } => Input::ApplicationError {
                server: server(*back)?,
                generation: u64::from(*generation % 8),
                service_id: service.map(object_id),
                phase: match phase % 3 {
                    0 => ErrorPhase::Connecting,
                    1 => ErrorPhase::Authenticating,
                    _ => ErrorPhase::Established,
                },
                error: fault.error(*overloaded),
            },
            Self::CheckRequested => Input::CheckRequested,
            Self::Resolved {
                hosts: bits,
                time_to_live,
            } => {
                let mut rescan = Rescan::default();
                rescan.hosts = Some(
                    hosts(*bits)
                        .map(|host| host.parse().expect("good"))
                        .collect(),
                );
                rescan.next = time_to_live.map(|time| Duration::from_secs(time.into()));
                Input::SrvResolved(rescan)
            }
            Self::Wait { .. } | Self::WaitUntilDue => return None,
        })
    }
}

/// Most news are of what is new.
fn nth_last<T>(all: &[T], back: u8) -> Option<&T> {
    all.iter()
        .rev()
        .nth(usize::from(back) % all.len().clamp(1, 12))
}

impl Fault {
    fn error(&self, overloaded: bool) -> ApplicationError {
        const CODES: [i32; 12] = [
            0, 1, 91, 189, 10_058, 10_107, 11_600, 11_602, 13_435, 13_436, 64, -1,
        ];
        let error = match self {
            Self::Network => ApplicationError::network("n"),
            Self::Timeout => ApplicationError::timeout("t"),
            Self::Client => ApplicationError::client("c"),
            Self::Command { code, version } => {
                let mut reply = RawDocumentBuf::new();
                reply.append(cstr!("ok"), 0);
                reply.append(cstr!("code"), CODES[usize::from(*code) % CODES.len()]);
                reply.append(cstr!("errmsg"), "not master or secondary");
                append_version(&mut reply, version.as_ref());
                ApplicationError::from_reply(&reply).expect("ok is 0")
            }
        };
        if overloaded {
            error.with_label(SYSTEM_OVERLOADED_ERROR)
        } else {
            error
        }
    }
}

fn append_version(document: &mut RawDocumentBuf, version: Option<&Version>) {
    if let Some(version) = version {
        let mut inner = RawDocumentBuf::new();
        inner.append(cstr!("processId"), object_id(version.process.into()));
        inner.append(cstr!("counter"), i64::from(version.counter));
        document.append(cstr!("topologyVersion"), inner);
    }
}

fn array(bits: u8) -> RawArrayBuf {
    let mut array = RawArrayBuf::new();
    hosts(bits).for_each(|host| array.push(host));
    array
}

impl Reply {
    fn document(&self) -> RawDocumentBuf {
        let mut document = RawDocumentBuf::new();
        document.append(cstr!("ok"), i32::from(!matches!(self.role, Role::Refused)));
        let (min, max) = match self.wire {
            Wire::Old => (0, 2),
            Wire::Current => (0, 9),
            Wire::ElectionFirst => (0, 25),
            Wire::Future => (1_000, 1_001),
        };
        document.append(cstr!("minWireVersion"), min);
        document.append(cstr!("maxWireVersion"), max);
        document.append(cstr!("helloOk"), self.hello_ok);
        if let Some(minutes) = self.session_timeout {
            document.append(cstr!("logicalSessionTimeoutMinutes"), i32::from(minutes));
        }
        append_version(&mut document, self.version.as_ref());
        match self.role {
            Role::Standalone | Role::Refused => {}
            Role::Mongos => document.append(cstr!("msg"), "isdbgrid"),
            Role::Ghost => document.append(cstr!("isreplicaset"), true),
            Role::Primary => document.append(cstr!("isWritablePrimary"), true),
            Role::Secondary => document.append(cstr!("secondary"), true),
            Role::Arbiter => document.append(cstr!("arbiterOnly"), true),
            Role::Hidden => document.append(cstr!("hidden"), true),
            Role::Starting => {}
        }
        if !matches!(self.role, Role::Standalone | Role::Refused | Role::Mongos) {
            self.append_member(&mut document);
        }
        document
    }

    fn append_member(&self, document: &mut RawDocumentBuf) {
        // One set far more often than two.
        document.append(cstr!("setName"), SETS[usize::from(self.set > 200)]);
        document.append(cstr!("hosts"), array(self.hosts));
        document.append(cstr!("passives"), array(self.passives));
        document.append(cstr!("arbiters"), array(self.arbiters));
        if let Some(me) = self.me {
            document.append(cstr!("me"), address(me).to_string());
        }
        if let Some(primary) = self.primary {
            document.append(cstr!("primary"), address(primary).to_string());
        }
        if let Some(election) = self.election {
            document.append(cstr!("electionId"), object_id(election));
        }
        if let Some(version) = self.set_version {
            document.append(cstr!("setVersion"), i32::from(version));
        }
        if let Some(tag) = self.tag {
            let mut tags = RawDocumentBuf::new();
            tags.append(cstr!("dc"), if tag { "x" } else { "y" });
            document.append(cstr!("tags"), tags);
        }
        let mut write = RawDocumentBuf::new();
        let date = DateTime::from_millis(i64::from(self.last_write) * 1_000);
        write.append(cstr!("lastWriteDate"), date);
        document.append(cstr!("lastWrite"), write);
    }
}
