//! What goes into the machine and what comes out of it.

use std::time::Duration;

use bson::oid::ObjectId;
use mongo_uri::Rescan;

use crate::check::{Check, CheckId, RttCheck};
use crate::error::{ApplicationError, CheckError, ErrorPhase};
use crate::events::SdamEvent;
use crate::hello::HelloReply;
use crate::server::ServerId;

/// A fact, told to [`Topology::handle`](crate::Topology::handle).
///
/// News of a server instance that has left, and of a check that is not running, changes nothing.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Input {
    /// A check brought a hello reply.
    HelloReceived {
        /// The server checked.
        server: ServerId,
        /// The check that this ends.
        check: CheckId,
        /// What the server answered.
        reply: HelloReply,
        /// From hello to reply; `None` for awaited checks.
        round_trip: Option<Duration>,
        /// Whether the reply had the `moreToCome` flag.
        more_to_come: bool,
    },
    /// A check failed; its socket is closed.
    CheckFailed {
        /// The server checked.
        server: ServerId,
        /// The check that this ends.
        check: CheckId,
        /// Why. A reply that is no good is `HelloError::into()`.
        error: CheckError,
    },
    /// A measurement succeeded.
    RttMeasured {
        /// The server measured.
        server: ServerId,
        /// From hello to reply.
        round_trip: Duration,
    },
    /// A measurement failed; its socket is closed. This never changes the topology.
    RttFailed {
        /// The server measured.
        server: ServerId,
    },
    /// A new connection of an application's pool brought a hello reply. Telling this is optional;
    /// it lets the topology learn sooner.
    HandshakeReceived {
        /// The server reached.
        server: ServerId,
        /// The pool's generation when the connection was begun.
        generation: u64,
        /// What the server answered.
        reply: HelloReply,
    },
    /// An application's connection met an error.
    ApplicationError {
        /// The server of the connection.
        server: ServerId,
        /// The generation of the connection; before its hello is answered, that of the pool when
        /// the connection was begun.
        generation: u64,
        /// Behind a load balancer: the service that the connection reached.
        service_id: Option<ObjectId>,
        /// How far the connection had come.
        phase: ErrorPhase,
        /// What happened.
        error: ApplicationError,
    },
    /// An operation waits for a suitable server: check all servers as soon as is allowed.
    CheckRequested,
    /// What [`Action::ResolveSrv`] found. A lookup that failed is the default: nothing found.
    SrvResolved(Rescan),
    /// The client is closing. Nothing that comes after changes anything.
    Close,
}

/// An order from [`Topology::poll_action`](crate::Topology::poll_action), to be carried out in the
/// order given.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum Action {
    /// Make a pool for the server, paused and of generation 0, and a place for its monitor.
    OpenServer(ServerId),
    /// Close the server's pool and its monitor's sockets; whatever they wait for is cancelled.
    CloseServer(ServerId),
    /// Take the monitor's next step.
    Check {
        /// The server to check.
        server: ServerId,
        /// To be given back with the outcome.
        id: CheckId,
        /// What to do.
        check: Check,
    },
    /// Close the monitor's socket now and forget the check that may run on it.
    CancelCheck(ServerId),
    /// Measure the round trip time; ends in `RttMeasured` or `RttFailed`.
    MeasureRtt {
        /// The server to measure.
        server: ServerId,
        /// What to send.
        check: RttCheck,
    },
    /// Let the server's pool open connections.
    MarkPoolReady(ServerId),
    /// Clear the server's pool: connections of an older generation are of no more use.
    ///
    /// With a `service_id` only that service's connections are meant and the pool goes on;
    /// otherwise the pool is paused.
    ClearPool {
        /// The server whose pool it is.
        server: ServerId,
        /// The generation from now on, of the pool or of the service.
        generation: u64,
        /// Behind a load balancer: the service meant.
        service_id: Option<ObjectId>,
        /// Whether connections in use are to be cut off, too.
        interrupt_in_use: bool,
    },
    /// Look up the SRV records of the connection string again, and judge them with
    /// [`rescan`](mongo_uri::ConnectionString::rescan); ends in `SrvResolved`.
    ResolveSrv {
        /// For `rescan`.
        seed: u64,
    },
    /// Tell those who listen.
    Publish(SdamEvent),
}
