//! The events of connection pools (Connection Monitoring and Pooling, "Events").

use std::fmt;
use std::time::Duration;

use bson::oid::ObjectId;

use crate::pool::PoolLimits;

/// Something that happened in a connection pool. Connections are numbered from 1 in each pool, in
/// the order of their creation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum CmapEvent {
    /// A server came into the topology, and with it a pool, which is paused.
    PoolCreated {
        /// What bounds it.
        limits: PoolLimits,
    },
    /// The server is known to work: connections may be opened.
    PoolReady,
    /// The server failed: connections up to now are stale. The pool is paused, unless a service
    /// behind a load balancer is meant.
    PoolCleared {
        /// Behind a load balancer: the service whose connections are stale.
        service_id: Option<ObjectId>,
        /// Whether connections in use are cut off, too.
        interrupt_in_use: bool,
    },
    /// The server left the topology, or the client was shut down.
    PoolClosed,
    /// A connection is about to be opened.
    ConnectionCreated {
        /// Its number.
        connection: u64,
    },
    /// A connection is open: handshake and authentication have succeeded.
    ConnectionReady {
        /// Its number.
        connection: u64,
        /// Since it was created.
        duration: Duration,
    },
    /// A connection is closed, or was given up before it was open.
    ConnectionClosed {
        /// Its number.
        connection: u64,
        /// Why.
        reason: CloseReason,
    },
    /// An operation asks for a connection; exactly one of the two events below ends it.
    CheckOutStarted,
    /// An operation gets no connection.
    CheckOutFailed {
        /// Why.
        reason: CheckOutFailure,
        /// Since it asked.
        duration: Duration,
    },
    /// An operation gets a connection; a check-in follows.
    CheckedOut {
        /// Its number.
        connection: u64,
        /// Since it asked.
        duration: Duration,
    },
    /// An operation gives its connection back.
    CheckedIn {
        /// Its number.
        connection: u64,
    },
}

/// Why a connection was closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum CloseReason {
    /// The pool was cleared after the connection was created.
    Stale,
    /// Nobody used it for `maxIdleTimeMS`.
    Idle,
    /// It could not be opened, it broke, or its last command was given up before the reply.
    Error,
    /// The pool was closed.
    PoolClosed,
}

impl CloseReason {
    /// The specification's name for the reason.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Stale => "stale",
            Self::Idle => "idle",
            Self::Error => "error",
            Self::PoolClosed => "poolClosed",
        }
    }
}

impl fmt::Display for CloseReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// Why an operation got no connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum CheckOutFailure {
    /// The pool is closed.
    PoolClosed,
    /// `waitQueueTimeoutMS` passed, or the operation was given up.
    Timeout,
    /// The pool is paused or was cleared, or the connection could not be opened.
    ConnectionError,
}

impl CheckOutFailure {
    /// The specification's name for the reason.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::PoolClosed => "poolClosed",
            Self::Timeout => "timeout",
            Self::ConnectionError => "connectionError",
        }
    }
}

impl fmt::Display for CheckOutFailure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}
