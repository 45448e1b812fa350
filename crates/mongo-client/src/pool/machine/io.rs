//! What goes into the machine and what comes out of it.

use bson::oid::ObjectId;

use crate::events::{CheckOutFailure, CmapEvent};

/// A connection's number within its pool.
pub(crate) type ConnectionId = u64;

/// A waiting check-out's number within its pool.
pub(crate) type WaiterId = u64;

/// Facts told to the machine. News of a connection that it does not know changes nothing.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Input {
    CheckOut(WaiterId),
    /// The waiter's future was dropped before it got an answer.
    WaiterLeft(WaiterId),
    /// `waitQueueTimeoutMS` has passed for a waiter.
    WaitExpired(WaiterId),
    /// Behind a load balancer: the service that a connection has reached, from its hello.
    Greeted {
        connection: ConnectionId,
        service: ObjectId,
    },
    Established(ConnectionId),
    /// A connection could not be opened, which the topology is about to hear.
    EstablishFailing(ConnectionId),
    /// The topology knows of the failure and has cleared the pool if it wanted to.
    EstablishFailed(ConnectionId),
    /// `reusable` is false when a reply may still be unread or the stream is broken.
    CheckedIn {
        connection: ConnectionId,
        reusable: bool,
    },
    /// Behind a load balancer: a cursor keeps the connection, until it is checked in.
    HeldByCursor(ConnectionId),
    MarkReady,
    Clear {
        /// The generation from now on, of the pool or of the service.
        generation: u64,
        /// Behind a load balancer: the service meant.
        service_id: Option<ObjectId>,
        interrupt_in_use: bool,
    },
    Close,
}

/// Why a check-out was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Refusal {
    /// The pool was cleared, or is paused after a clear: the server is not known to work.
    Cleared,
    /// The pool is closed: the server left the topology or the client was shut down.
    Closed,
    /// The connection that this waiter waited for could not be established.
    EstablishFailed,
    /// The waiter waited for too long.
    TimedOut,
}

impl Refusal {
    pub(super) fn reason(self) -> CheckOutFailure {
        match self {
            Self::Cleared | Self::EstablishFailed => CheckOutFailure::ConnectionError,
            Self::Closed => CheckOutFailure::PoolClosed,
            Self::TimedOut => CheckOutFailure::Timeout,
        }
    }
}

/// How a connection in use stands with its pool.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Standing {
    Current,
    /// The pool was cleared; what is under way may end.
    Stale,
    /// The pool was cleared, and nothing more is to be expected of the server.
    Interrupted,
    /// The pool was closed.
    PoolClosed,
}

/// Orders given by the machine.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Action {
    Establish {
        connection: ConnectionId,
        generation: u64,
    },
    Hand {
        waiter: WaiterId,
        connection: ConnectionId,
    },
    Refuse {
        waiter: WaiterId,
        refusal: Refusal,
    },
    /// Close a connection that nobody uses, or give up opening it.
    Discard(ConnectionId),
    /// Tell whoever uses a connection.
    Tell {
        connection: ConnectionId,
        standing: Standing,
    },
    /// Tell those who listen.
    Publish(CmapEvent),
}
