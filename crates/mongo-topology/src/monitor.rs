//! The schedule of one server's monitor: when to check, how, and on which connection (Server
//! Monitoring, "Monitor thread").

mod rtt_schedule;

use std::time::{Duration, Instant};

pub(crate) use rtt_schedule::RttSchedule;

use crate::check::{Check, CheckId, RttCheck};
use crate::config::{ConnectionMode, TopologyConfig};
use crate::hello::{HelloCommand, HelloReply};
use crate::rtt::Samples;
use crate::topology_version::TopologyVersion;

/// What a monitor is at.
///
/// ```text
///            due, or asked for and the least time is over
///   Waiting ------------------------------------------------> Checking
///      ^                                                        |  |
///      |  reply that cannot stream, second failure,             |  | reply that streams,
///      |  refusal, cancellation                                 |  | first network failure
///      +--------------------------------------------------------+  +---> Checking (at once)
///
///   Off: for ever
/// ```
#[derive(Clone, Debug)]
enum State {
    /// The server is a load balancer: there is no telling which service would answer a check.
    Off,
    /// Asleep between two checks.
    Waiting {
        /// The least time between checks is over.
        earliest: Instant,
        /// The next check begins, asked for or not.
        due: Instant,
    },
    /// A check is with the client.
    Checking(Running),
}

/// A check that is with the client.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Running {
    pub(crate) id: CheckId,
    pub(crate) started: Instant,
    pub(crate) awaited: bool,
}

/// The monitor's socket, as far as it is open.
#[derive(Clone, Debug)]
struct Connection {
    number: u64,
    hello: HelloCommand,
    server_number: Option<i64>,
    topology_version: Option<TopologyVersion>,
    more_to_come: bool,
}

/// The monitor of one server.
#[derive(Clone, Debug)]
pub(crate) struct Monitor {
    state: State,
    connection: Option<Connection>,
    samples: Samples,
    rtt: RttSchedule,
}

impl Monitor {
    /// A monitor whose first check is due, unless the mode is one without checks.
    pub(crate) fn new(mode: ConnectionMode, now: Instant) -> Self {
        let state = match mode {
            ConnectionMode::LoadBalanced => State::Off,
            ConnectionMode::Discover | ConnectionMode::Direct => State::Waiting {
                earliest: now,
                due: now,
            },
        };
        Self {
            state,
            connection: None,
            samples: Samples::default(),
            rtt: RttSchedule::default(),
        }
    }

    /// The check that runs now.
    pub(crate) const fn running(&self) -> Option<Running> {
        match self.state {
            State::Checking(running) => Some(running),
            State::Off | State::Waiting { .. } => None,
        }
    }

    /// The numbers of the open connection, the client's and the server's.
    pub(crate) fn connection_numbers(&self) -> (u64, Option<i64>) {
        self.connection.as_ref().map_or((0, None), |connection| {
            (connection.number, connection.server_number)
        })
    }

    pub(crate) const fn samples(&self) -> &Samples {
        &self.samples
    }

    pub(crate) const fn is_connected(&self) -> bool {
        self.connection.is_some()
    }

    /// When the next check or measurement is due.
    pub(crate) fn next_timeout(&self) -> Option<Instant> {
        let check = match self.state {
            State::Waiting { due, .. } => Some(due),
            State::Off | State::Checking(_) => None,
        };
        [check, self.rtt.due()].into_iter().flatten().min()
    }

    /// Whether a check is due.
    pub(crate) fn is_check_due(&self, now: Instant) -> bool {
        matches!(self.state, State::Waiting { due, .. } if due <= now)
    }

    /// A check is wanted as soon as the least time is over; a running one is soon enough.
    pub(crate) fn request_check(&mut self, now: Instant) {
        if let State::Waiting { earliest, due } = &mut self.state {
            *due = (*earliest).max(now).min(*due);
        }
    }

    /// Begins the next check. `connection_number` is used up if it needs a new connection.
    pub(crate) fn begin_check(
        &mut self,
        config: &TopologyConfig,
        id: CheckId,
        connection_number: u64,
        now: Instant,
    ) -> Check {
        let check = match &self.connection {
            None => {
                let hello = config.first_hello();
                self.connection = Some(Connection {
                    number: connection_number,
                    hello,
                    server_number: None,
                    topology_version: None,
                    more_to_come: false,
                });
                Check::Connect {
                    hello,
                    timeout: config.plain_timeout(),
                }
            }
            Some(connection) if connection.more_to_come => Check::ReadNext {
                timeout: config.await_timeout(),
            },
            Some(connection) => match connection.topology_version {
                Some(topology_version) if config.is_streaming_enabled() => Check::Await {
                    hello: connection.hello,
                    topology_version,
                    max_await_time: config.heartbeat(),
                    timeout: config.await_timeout(),
                },
                _ => Check::Hello {
                    hello: connection.hello,
                    timeout: config.plain_timeout(),
                },
            },
        };
        self.state = State::Checking(Running {
            id,
            started: now,
            awaited: check.is_awaited(),
        });
        check
    }

    /// Whether a reply brings the state that the connection's last one has brought.
    pub(crate) fn knows(&self, reply: &HelloReply) -> bool {
        let connection = self.connection.as_ref();
        connection.is_some_and(|connection| connection.topology_version == reply.topology_version)
    }

    /// A reply has come. Takes the sample that it brings, unless the server held it back.
    pub(crate) fn reply_received(
        &mut self,
        reply: &HelloReply,
        round_trip: Option<Duration>,
        more_to_come: bool,
    ) {
        let awaited = self.running().is_some_and(|running| running.awaited);
        if let (false, Some(sample)) = (awaited, round_trip) {
            self.samples.add(sample);
        }
        if let Some(connection) = &mut self.connection {
            if reply.hello_ok {
                connection.hello = HelloCommand::Hello;
            }
            connection.server_number = reply.connection_id.or(connection.server_number);
            connection.topology_version = reply.topology_version;
            connection.more_to_come = more_to_come;
        }
    }

    /// Whether the next check follows on the last reply without a pause.
    pub(crate) fn streams(&self, config: &TopologyConfig) -> bool {
        self.connection.as_ref().is_some_and(|connection| {
            connection.more_to_come
                || (config.is_streaming_enabled() && connection.topology_version.is_some())
        })
    }

    /// The connection is gone, and with it what was measured.
    pub(crate) fn disconnect(&mut self) {
        self.connection = None;
        self.samples.reset();
    }

    /// Sleeps until the next heartbeat, counted from the end of the check that ran, if one did.
    pub(crate) fn wait(&mut self, config: &TopologyConfig, now: Instant) {
        if let State::Checking(_) = self.state {
            self.state = State::Waiting {
                earliest: now + config.min_heartbeat_frequency,
                due: now + config.heartbeat(),
            };
        }
    }

    /// Sleeps until then, asked for or not.
    pub(crate) fn wait_until(&mut self, due: Instant) {
        if let State::Waiting { .. } = self.state {
            let earliest = due;
            self.state = State::Waiting { earliest, due };
        }
    }

    /// Begins a measurement if one is due and the server streams.
    pub(crate) fn begin_rtt(&mut self, config: &TopologyConfig, now: Instant) -> Option<RttCheck> {
        let streams = self.streams(config);
        if !self.rtt.begin(streams, now) {
            return None;
        }
        let connect = config.first_hello();
        let hello = self
            .connection
            .as_ref()
            .map_or(connect, |connection| connection.hello);
        Some(RttCheck {
            connect,
            hello,
            timeout: config.plain_timeout(),
        })
    }

    /// A measurement has ended, well if it brings a sample. One that outlived the monitor's
    /// connection is of a time that the average has forgotten.
    pub(crate) fn rtt_ended(
        &mut self,
        sample: Option<Duration>,
        config: &TopologyConfig,
        now: Instant,
    ) {
        if self.rtt.end(now + config.heartbeat())
            && let Some(sample) = sample
            && self.is_connected()
        {
            self.samples.add(sample);
        }
    }
}
