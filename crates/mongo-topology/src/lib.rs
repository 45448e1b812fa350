//! MongoDB server discovery, monitoring and server selection, without IO.

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
