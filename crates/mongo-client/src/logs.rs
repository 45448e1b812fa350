//! What a client says by `tracing`, as the specifications of each component word it (Logging, and
//! the "Logging" section of each of the others).
//!
//! | Target | Tells of |
//! |---|---|
//! | `mongo_client::command` | commands and their replies, as relaxed extended JSON |
//! | `mongo_client::topology` | what is known of the deployment, and the checks of its servers |
//! | `mongo_client::server_selection` | which server an operation gets |
//! | `mongo_client::connection` | pools and their connections |
//! | `mongo_client::change_stream` | what happens to change streams |
//!
//! Each of these has the field `topologyId`. All are of level debug, but for an operation that has
//! to wait for a server, which is of level info, and for a seed list that cannot be looked up again,
//! which is a warning. (Certificate authorities that cannot be read are another one, under the
//! module's own target, before there is a topology.) What a record needs is put together only when
//! a subscriber wants it.

mod json;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use mongo_topology::{Heartbeat, SdamEvent, SelectionCriteria, TopologyDescription};
use mongo_uri::ServerAddress;
use tracing::{Level, debug, enabled, info};

pub(crate) use self::json::shortened;
use crate::error::Error;
use crate::events::{CheckOutFailure, CloseReason, CmapEvent, CommandEvent, CommandStep};

const COMMAND: &str = "mongo_client::command";
pub(crate) const TOPOLOGY: &str = "mongo_client::topology";
const SERVER_SELECTION: &str = "mongo_client::server_selection";
const CONNECTION: &str = "mongo_client::connection";

/// How long a document may be in a record, where the caller does not say.
const MAX_DOCUMENT_LENGTH: usize = 1_000;

/// One record of a server's pool.
macro_rules! connection {
    ($logs:expr, $server:expr, $message:literal $(, $($fields:tt)*)?) => {
        debug!(
            target: CONNECTION,
            topologyId = $logs.topology_id,
            serverHost = host($server),
            serverPort = port($server),
            $($($fields)*)?
            $message
        )
    };
}
/// One record of a selection.
macro_rules! selection {
    ($log:expr, $level:ident, $topology:expr, $message:literal $(, $($fields:tt)*)?) => {
        $level!(
            target: SERVER_SELECTION,
            topologyId = $log.logs.topology_id,
            selector = %$log.criteria,
            operation = $log.operation.0,
            operationId = $log.operation.1,
            topologyDescription = %$topology,
            $($($fields)*)?
            $message
        )
    };
}

/// The records of one client.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Logs {
    /// The client's topology.
    pub(crate) topology_id: u64,
    /// In characters; longer ones are cut off.
    pub(crate) max_document_length: usize,
}

/// A selection that is logged.
#[derive(Clone, Copy, Debug)]
pub(crate) struct SelectionLog<'a> {
    logs: Logs,
    /// Name and number.
    operation: (&'a str, u64),
    criteria: &'a SelectionCriteria<'a>,
}

impl Logs {
    /// For one more topology.
    pub(crate) fn new(max_document_length: Option<usize>) -> Self {
        static TOPOLOGIES: AtomicU64 = AtomicU64::new(1);
        Self {
            topology_id: TOPOLOGIES.fetch_add(1, Ordering::Relaxed),
            max_document_length: max_document_length.unwrap_or(MAX_DOCUMENT_LENGTH),
        }
    }

    /// Whether commands are worth the trouble of being observed.
    pub(crate) fn want_commands() -> bool {
        enabled!(target: COMMAND, Level::DEBUG)
    }

    /// The same of what happens in pools.
    pub(crate) fn want_pools() -> bool {
        enabled!(target: CONNECTION, Level::DEBUG)
    }

    pub(crate) fn command(&self, event: &CommandEvent) {
        if !Self::want_commands() {
            return;
        }
        let limit = self.max_document_length;
        /// The fields that all three have in common, then its own.
        macro_rules! record {
            ($message:literal, $($fields:tt)*) => {
                debug!(
                    target: COMMAND,
                    topologyId = self.topology_id,
                    commandName = event.command_name,
                    databaseName = event.database,
                    requestId = event.request_id,
                    operationId = event.operation_id,
                    driverConnectionId = event.connection,
                    serverConnectionId = event.server_connection,
                    serverHost = host(&event.server),
                    serverPort = port(&event.server),
                    serviceId = event.service_id.map(|id| id.to_hex()),
                    $($fields)*
                    $message
                )
            };
        }
        match &event.step {
            CommandStep::Started { command } => {
                record!("Command started", command = shortened(command, limit),);
            }
            CommandStep::Succeeded { duration, reply } => record!(
                "Command succeeded",
                durationMS = millis(*duration),
                reply = shortened(reply.as_raw(), limit),
            ),
            CommandStep::Failed { duration, failure } => record!(
                "Command failed",
                durationMS = millis(*duration),
                failure = %failure,
            ),
        }
    }

    pub(crate) fn sdam(&self, event: &SdamEvent) {
        if !enabled!(target: TOPOLOGY, Level::DEBUG) {
            return;
        }
        let topology = self.topology_id;
        macro_rules! record {
            ($message:literal $(, $($fields:tt)*)?) => {
                debug!(target: TOPOLOGY, topologyId = topology, $($($fields)*)? $message)
            };
        }
        match event {
            SdamEvent::TopologyOpening => record!("Starting topology monitoring"),
            SdamEvent::TopologyClosed => record!("Stopped topology monitoring"),
            SdamEvent::TopologyDescriptionChanged { previous, current } => record!(
                "Topology description changed",
                previousDescription = %previous,
                newDescription = %current,
            ),
            SdamEvent::ServerOpening { server } => record!(
                "Starting server monitoring",
                serverHost = host(&server.address),
                serverPort = port(&server.address),
            ),
            SdamEvent::ServerClosed { server } => record!(
                "Stopped server monitoring",
                serverHost = host(&server.address),
                serverPort = port(&server.address),
            ),
            SdamEvent::HeartbeatStarted { .. }
            | SdamEvent::HeartbeatSucceeded { .. }
            | SdamEvent::HeartbeatFailed { .. } => self.heartbeat(event),
            _ => {}
        }
    }

    fn heartbeat(&self, event: &SdamEvent) {
        macro_rules! record {
            ($message:literal, $heartbeat:expr, $($fields:tt)*) => {{
                let heartbeat: &Heartbeat = $heartbeat;
                debug!(
                    target: TOPOLOGY,
                    topologyId = self.topology_id,
                    serverHost = host(&heartbeat.server.address),
                    serverPort = port(&heartbeat.server.address),
                    driverConnectionId = heartbeat.connection,
                    serverConnectionId = heartbeat.server_connection,
                    awaited = heartbeat.awaited,
                    $($fields)*
                    $message
                )
            }};
        }
        match event {
            SdamEvent::HeartbeatStarted { heartbeat } => {
                record!("Server heartbeat started", heartbeat,);
            }
            SdamEvent::HeartbeatSucceeded {
                heartbeat,
                duration,
                reply,
            } => record!(
                "Server heartbeat succeeded",
                heartbeat,
                durationMS = millis(*duration),
                reply = shortened(reply.document(), self.max_document_length),
            ),
            SdamEvent::HeartbeatFailed {
                heartbeat,
                duration,
                failure,
            } => record!(
                "Server heartbeat failed",
                heartbeat,
                durationMS = millis(*duration),
                failure = %failure,
            ),
            _ => {}
        }
    }

    /// `error` says why, where the event alone does not.
    pub(crate) fn cmap(&self, server: &ServerAddress, event: &CmapEvent, error: Option<&str>) {
        if !Self::want_pools() {
            return;
        }
        match *event {
            CmapEvent::PoolCreated { limits } => connection!(
                self,
                server,
                "Connection pool created",
                maxPoolSize = limits.max_size.map_or(0, |size| size.get()),
                minPoolSize = limits.min_size,
                maxConnecting = limits.max_connecting.get(),
                maxIdleTimeMS = limits.max_idle.map(whole_millis),
                waitQueueTimeoutMS = limits.wait_queue_timeout.map(whole_millis),
            ),
            CmapEvent::PoolReady => connection!(self, server, "Connection pool ready"),
            CmapEvent::PoolCleared { service_id, .. } => connection!(
                self,
                server,
                "Connection pool cleared",
                serviceId = service_id.map(|id| id.to_hex()),
            ),
            CmapEvent::PoolClosed => connection!(self, server, "Connection pool closed"),
            event => self.connection(server, event, error),
        }
    }

    fn connection(&self, server: &ServerAddress, event: CmapEvent, error: Option<&str>) {
        match event {
            CmapEvent::ConnectionCreated { connection } => {
                connection!(
                    self,
                    server,
                    "Connection created",
                    driverConnectionId = connection,
                );
            }
            CmapEvent::ConnectionReady {
                connection,
                duration,
            } => connection!(
                self,
                server,
                "Connection ready",
                driverConnectionId = connection,
                durationMS = millis(duration),
            ),
            CmapEvent::ConnectionClosed { connection, reason } => connection!(
                self,
                server,
                "Connection closed",
                driverConnectionId = connection,
                reason = why_closed(reason),
                error,
            ),
            CmapEvent::CheckOutStarted => connection!(self, server, "Connection checkout started"),
            CmapEvent::CheckOutFailed { reason, duration } => connection!(
                self,
                server,
                "Connection checkout failed",
                reason = why_failed(reason),
                error,
                durationMS = millis(duration),
            ),
            CmapEvent::CheckedOut {
                connection,
                duration,
            } => connection!(
                self,
                server,
                "Connection checked out",
                driverConnectionId = connection,
                durationMS = millis(duration),
            ),
            CmapEvent::CheckedIn { connection } => {
                connection!(
                    self,
                    server,
                    "Connection checked in",
                    driverConnectionId = connection,
                );
            }
            _ => {}
        }
    }

    /// For the selection of a server for an operation, by the operation's name and number.
    pub(crate) fn selection<'a>(
        self,
        operation: (&'a str, u64),
        criteria: &'a SelectionCriteria<'a>,
    ) -> SelectionLog<'a> {
        SelectionLog {
            logs: self,
            operation,
            criteria,
        }
    }
}

impl SelectionLog<'_> {
    /// What is known is asked for only if somebody reads it.
    pub(crate) fn started(&self, topology: impl Fn() -> Arc<TopologyDescription>) {
        selection!(self, debug, topology(), "Server selection started");
    }

    pub(crate) fn succeeded(&self, topology: &TopologyDescription, server: &ServerAddress) {
        selection!(
            self,
            debug,
            topology,
            "Server selection succeeded",
            serverHost = host(server),
            serverPort = port(server),
        );
    }

    /// The description is a field of its own, so the failure does not repeat it.
    pub(crate) fn failed(&self, topology: &TopologyDescription, error: &Error) {
        selection!(
            self,
            debug,
            topology,
            "Server selection failed",
            failure = %match error {
                Error::Selection { limit, .. } => format!("no suitable server within {limit:?}"),
                other => other.to_string(),
            },
        );
    }

    pub(crate) fn waiting(&self, topology: &TopologyDescription, remaining: Duration) {
        selection!(
            self,
            info,
            topology,
            "Waiting for suitable server to become available",
            remainingTimeMS = whole_millis(remaining),
        );
    }
}

pub(crate) fn host(server: &ServerAddress) -> String {
    match server {
        ServerAddress::Tcp { host, .. } => host.clone(),
        ServerAddress::Unix { path } => path.display().to_string(),
    }
}

pub(crate) fn port(server: &ServerAddress) -> Option<u16> {
    match server {
        ServerAddress::Tcp { port, .. } => Some(*port),
        ServerAddress::Unix { .. } => None,
    }
}

fn millis(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1_000.0
}

fn whole_millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

/// The specification's sentences.
fn why_closed(reason: CloseReason) -> &'static str {
    match reason {
        CloseReason::Stale => "Connection became stale because the pool was cleared",
        CloseReason::Idle => {
            "Connection has been available but unused for longer than the configured max idle time"
        }
        CloseReason::Error => "An error occurred while using the connection",
        CloseReason::PoolClosed => "Connection pool was closed",
    }
}

/// The specification's sentences.
fn why_failed(reason: CheckOutFailure) -> &'static str {
    match reason {
        CheckOutFailure::Timeout => {
            "Wait queue timeout elapsed without a connection becoming available"
        }
        CheckOutFailure::ConnectionError => {
            "An error occurred while trying to establish a new connection"
        }
        CheckOutFailure::PoolClosed => "Connection pool was closed",
    }
}
