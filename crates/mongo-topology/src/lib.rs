//! MongoDB server discovery, monitoring and server selection, without IO.
//!
//! For authors of clients, proxies and tools that have an event loop of their own: [`Topology`] is
//! told what servers answer and how connections fail, and says whom to check when, which pools to
//! make ready or to clear, and what the deployment looks like. [`TopologyDescription::select`] then
//! chooses a server for an operation.
//!
//! The crate opens no socket, reads no clock, owns no thread, takes no lock and logs nothing. It
//! keeps no connection pool and waits for nothing: that is the client's part. The same inputs and
//! the same seed always give the same actions.
//!
//! # The parts
//!
//! ```text
//!   Input  ------------------> Topology -------------------> Action
//!   HelloReceived              monitor schedules             Check, CancelCheck, MeasureRtt
//!   CheckFailed                transitions                   OpenServer, CloseServer
//!   ApplicationError           pool generations              MarkPoolReady, ClearPool
//!   CheckRequested ...         SRV schedule                  Publish(SdamEvent), ResolveSrv
//!                                  |
//!                                  v
//!                         TopologyDescription  -- select --> ServerDescription
//! ```
//!
//! # The run loop
//!
//! 1. Make a [`Topology`]; its first actions are already waiting.
//! 2. Drain [`Topology::poll_action`] until it says `None`, and carry out what it says in that
//!    order. Pools must be open and ready before the next step; those to be cleared or closed may
//!    wait until after it, so that whoever they turn away finds a newer description. One input
//!    never makes ready and clears the same pool.
//! 3. If [`Topology::description`] is another `Arc` than before, hand it to those who select.
//! 4. Wait for whatever comes first, the outcome of a check or an error of a connection for
//!    [`Topology::handle`], or [`Topology::poll_timeout`] for [`Topology::handle_timeout`], and
//!    go on with 2.
//!
//! An operation that finds no suitable server tells [`Input::CheckRequested`], waits for the next
//! description and selects again. While anybody does so, every server that is not being checked is
//! checked as often as is allowed.
//!
//! # Example
//!
//! A client whose network is a match: one server answers, everything else is refused.
//!
//! ```
//! use std::time::{Duration, Instant};
//!
//! use bson::rawdoc;
//! use mongo_topology::{
//!     Action, Check, CheckError, HelloReply, Input, Rng, SelectionCriteria, Topology,
//!     TopologyConfig,
//! };
//! use mongo_uri::ConnectionString;
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let uri = ConnectionString::parse("mongodb://one,two/?replicaSet=rs")?;
//! let now = Instant::now();
//! let mut topology = Topology::new(TopologyConfig::from(&uri), 42, now);
//!
//! while let Some(action) = topology.poll_action() {
//!     let Action::Check { server, id: check, check: Check::Connect { hello, .. } } = action else {
//!         continue; // pools, events, the next checks: a client carries them out
//!     };
//!     assert_eq!(hello.name(), "isMaster");
//!     if server.address.host() == Some("one") {
//!         let reply = rawdoc! {
//!             "ok": 1, "setName": "rs", "isWritablePrimary": true, "maxWireVersion": 21,
//!             "hosts": ["one:27017", "two:27017"],
//!         };
//!         let reply = HelloReply::parse(&reply)?;
//!         let round_trip = Some(Duration::from_millis(1));
//!         let more_to_come = false;
//!         topology.handle(
//!             Input::HelloReceived { server, check, reply, round_trip, more_to_come },
//!             now,
//!         );
//!     } else {
//!         let error = CheckError::network("connection refused");
//!         topology.handle(Input::CheckFailed { server, check, error }, now);
//!     }
//! }
//!
//! let description = topology.description();
//! let primary = description.select(&SelectionCriteria::write(), |_| 0, &mut Rng::from_seed(1))?;
//! assert_eq!(primary.address().to_string(), "one:27017");
//! assert_eq!(
//!     description.to_string(),
//!     "ReplicaSetWithPrimary \"rs\", 2 servers\
//!      \n  one:27017: RSPrimary, rtt 1.0 ms\
//!      \n  two:27017: Unknown, last error: network error: connection refused"
//! );
//! # Ok(())
//! # }
//! ```
//!
//! # Specifications
//!
//! Server Discovery and Monitoring with Server Monitoring and its events, Server Selection, Max
//! Staleness, Polling SRV Records for mongos Discovery, and of Load Balancers what concerns
//! discovery. Left out is what is for clients that check one server after the other: the type
//! `PossiblePrimary`, `cooldownMS`, `serverSelectionTryOnce`.

#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;

mod check;
mod config;
mod description;
mod error;
mod events;
mod hello;
mod io;
mod monitor;
mod rng;
mod rtt;
mod selection;
mod server;
#[cfg(test)]
mod test_time;
mod topology;
mod topology_version;
mod transitions;

pub use check::{Check, CheckId, RttCheck};
pub use config::{ConnectionMode, TopologyConfig};
pub use description::{
    MAX_WIRE_VERSION, MIN_WIRE_VERSION, Servers, TopologyDescription, TopologyType,
};
pub use error::{
    ApplicationError, ApplicationErrorKind, CheckError, ErrorPhase, LastError,
    SYSTEM_OVERLOADED_ERROR, StateChange,
};
pub use events::{Heartbeat, SdamEvent};
pub use hello::{HelloCommand, HelloError, HelloReply, Member, SizeLimits, WireVersions};
pub use io::{Action, Input};
pub use rng::Rng;
pub use rtt::{RoundTrip, moving_average};
pub use selection::{
    Operation, Reason, SelectionCriteria, SelectionError, ServerSelector, Unsuitable,
    read_preference_document,
};
pub use server::{ServerDescription, ServerId, ServerType};
pub use topology::Topology;
pub use topology_version::TopologyVersion;
