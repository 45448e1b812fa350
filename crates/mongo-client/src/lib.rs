//! A MongoDB client for change streams and low-level tools.

mod client;
mod connection;
mod database;
mod error;
mod monitor;
mod operation;
mod pool;
mod topology;
mod watch;

pub use client::Client;
pub use database::{Collection, Database};
pub use error::{Error, IoAction, Misuse, Result, Violation};
pub use mongo_change_stream as change_stream;
pub use mongo_topology as sdam;
pub use mongo_uri as uri;
pub use mongo_wire as wire;
pub use topology::TopologyChanges;
pub use watch::{ChangeStream, StreamObserver, Watch};
