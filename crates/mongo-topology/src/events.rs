//! The SDAM events, in the order the specification wants them (SDAM Logging and Monitoring).
//!
//! The topology's id is the client's to give: it knows which machine an event came out of.

use std::sync::Arc;
use std::time::Duration;

use crate::description::TopologyDescription;
use crate::error::CheckError;
use crate::hello::HelloReply;
use crate::server::{ServerDescription, ServerId};

/// Something that happened to the topology.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum SdamEvent {
    /// The first event of all.
    TopologyOpening,
    /// The description is not equal to the previous one; round trip times do not count.
    TopologyDescriptionChanged {
        /// What was known until now.
        previous: Arc<TopologyDescription>,
        /// What is known now.
        current: Arc<TopologyDescription>,
    },
    /// The last event of all.
    TopologyClosed,
    /// A server has come into the topology.
    ServerOpening {
        /// The server.
        server: ServerId,
    },
    /// A server's description is not equal to the previous one; round trip times do not count.
    ServerDescriptionChanged {
        /// What was known until now.
        previous: Arc<ServerDescription>,
        /// What is known now.
        current: Arc<ServerDescription>,
    },
    /// A server has left the topology.
    ServerClosed {
        /// The server.
        server: ServerId,
    },
    /// A check begins; exactly one of the two events below ends it.
    HeartbeatStarted {
        /// The check's connection.
        heartbeat: Heartbeat,
    },
    /// A check brought a hello reply.
    HeartbeatSucceeded {
        /// The check's connection.
        heartbeat: Heartbeat,
        /// From the request to the reply; the round trip time unless the check was awaited.
        duration: Duration,
        /// What the server answered.
        reply: Arc<HelloReply>,
    },
    /// A check failed or was cancelled.
    HeartbeatFailed {
        /// The check's connection.
        heartbeat: Heartbeat,
        /// From the request to the failure.
        duration: Duration,
        /// Why.
        failure: CheckError,
    },
}

/// Where a check ran.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Heartbeat {
    /// The server checked.
    pub server: ServerId,
    /// The number of the monitor's connection, growing through the life of the topology.
    pub connection: u64,
    /// The server's own number for that connection, as far as it has given one.
    pub server_connection: Option<i64>,
    /// True when the server holds its reply back until something changes.
    pub awaited: bool,
}
