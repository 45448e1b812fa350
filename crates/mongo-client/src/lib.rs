//! A MongoDB client for change streams and low-level tools, on tokio.
//!
//! It is what stands between a connection string and a command's reply: monitors, server
//! selection, connection pools, [`Database::run_command`], and [`watch`](Client::watch). The
//! decisions are made by pure machines of other crates ([`sdam`], [`change_stream`], [`wire`],
//! [`uri`]); this crate brings sockets, tasks and a clock.
//!
//! It is no driver: no CRUD, no query builder, no result types, no transactions. The
//! mechanism GSSAPI is not there yet; a connection string that needs it is refused with a clear
//! error, not ignored.
//!
//! The servers of a `mongodb+srv` connection string stand in DNS: [`Client::connect`] looks them up
//! in the name servers of `/etc/resolv.conf`, or with the caller's own [`Resolver`].
//!
//! Servers are reached over TCP or unix sockets, by way of a SOCKS5 proxy or not, and with TLS by
//! the default feature `tls`. A caller's own configuration of TLS goes into [`ClientOptions`].
//!
//! ```no_run
//! use mongo_client::Client;
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> mongo_client::Result<()> {
//! let client = Client::new("mongodb://localhost:27017/?replicaSet=rs0")?;
//! let orders = client.database("shop").collection("orders");
//! let mut stream = orders.watch().await?;
//! while let Some(event) = stream.next().await {
//!     let event = event?;
//!     println!("{:?} {:?}", event.operation_type, event.document_key);
//!     // Save this, and give it to `resume_after` to go on behind this event.
//!     let _checkpoint = stream.resume_token();
//! }
//! # Ok(())
//! # }
//! ```
//!
//! # Commands
//!
//! [`RunCommand`] and [`RunCursorCommand`] send a command in the caller's own bytes, and what
//! belongs beside it: `$db`, a session, the deployment's time, a read concern, the time that is
//! left. Every command runs in a session where the server has them: the caller's
//! ([`ClientSession`]) or one that ends with it.
//!
//! Every command is sent again, after a pause, when a server was too busy to begin with it
//! (`maxAdaptiveRetries`, twice if not said otherwise), so that the caller's own retries come on
//! top of these. Commands that [only read](RunCommand::as_read) are sent again after failures of
//! the network and changes of the primary too, and so are [writes](RunCommand::as_write) that
//! servers know again.
//!
//! # What can be seen from outside
//!
//! [`ClientOptions::on_event`] gives a client a listener for the events of discovery, of connection
//! pools and of commands, secrets left out ([`events`]). Without one, nothing is made for it.
//!
//! The same is logged by [`tracing`], in the words of the logging specifications, under the targets
//! `mongo_client::command`, `topology`, `server_selection`, `connection` and `change_stream`. These
//! have the client's [`topology_id`](Client::topology_id), and all are of level debug, but for an
//! operation that has to wait for a server, which is of level info, and two warnings: of a seed list
//! that cannot be looked up again, and of certificate authorities that cannot be read.
//!
//! A client that is asked to ([`ClientOptions::tracing`]) also has spans, under the target
//! `mongo_client::spans`: one for each operation, in the span that it is called in, and below it
//! one for each command that is sent, as the specification OpenTelemetry names them. The operation
//! is called as its command, or as [`RunCommand::operation_name`] says; each command of a change
//! stream or a cursor is an operation of its own.
//!
//! # What a failure does
//!
//! A stream's task owns its connection and the `getMore` under way, so dropping a future of a
//! [`ChangeStream`] loses nothing. When the server dies, the stream reports it to discovery, waits
//! for a server that is known to work, and resumes behind the last event that it has received,
//! with a growing wait between resumes that bring no progress. Errors that no resume can cure end
//! the stream. Dropping the future of a command closes the connection it used.
//!
//! A credential that a server refuses is an [`Error::Authentication`], which says server, user and
//! mechanism. Whoever waits for a connection gets it; each later operation tries once more.
//!
//! # Features
//!
//! | Feature | Default | Adds |
//! |---|---|---|
//! | `dns` | yes | the look-up of DNS seed lists (`mongodb+srv`) |
//! | `snappy`, `zlib` | yes | compressors in pure Rust |
//! | `tls` | yes | TLS, by rustls with ring |
//! | `zstd` | | a compressor that builds C code |
//! | `aws` | | the mechanism MONGODB-AWS ([`ClientOptions`] says where credentials come from) |
//! | `oidc` | | the mechanism MONGODB-OIDC, with or without a callback in [`ClientOptions`] |

mod auth;
pub mod checkpoint;
mod client;
#[cfg(any(feature = "aws", feature = "oidc"))]
mod cloud;
mod command;
mod connection;
mod cursor;
mod database;
mod deadline;
mod dns;
mod error;
pub mod events;
mod logs;
mod monitor;
mod operation;
mod options;
mod pool;
mod server_api;
mod session;
mod spans;
mod tasks;
#[doc(hidden)]
pub mod testing;
mod topology;
mod watch;

pub use auth::{AuthFailure, AuthenticationError, ScramFault};
#[cfg(feature = "aws")]
pub use auth::{AwsCredentials, AwsFault};
#[cfg(feature = "oidc")]
pub use auth::{OidcContext, OidcFault, OidcIdpInfo, OidcToken};
pub use client::Client;
pub use command::RunCommand;
pub use connection::DriverInfo;
pub use cursor::{Cursor, CursorType, RunCursorCommand, TimeoutMode};
pub use database::{Collection, Database};
pub use dns::{Lookup, Resolver};
pub use error::{
    DnsFailure, Error, IoAction, Misuse, ProxyFailure, ProxyRefusal, Result, SessionMisuse,
    TlsFailure, TlsFileProblem, Violation,
};
pub use events::{Event, EventListener};
pub use mongo_change_stream as change_stream;
pub use mongo_topology as sdam;
pub use mongo_uri as uri;
pub use mongo_wire as wire;
pub use options::ClientOptions;
pub use pool::{ConnectionsInUse, PoolLimits};
#[cfg(feature = "tls")]
pub use rustls;
pub use server_api::{ServerApi, ServerApiVersion};
pub use session::{ClientSession, SessionOptions};
pub use spans::TracingOptions;
pub use topology::TopologyChanges;
pub use watch::{
    ChangeStream, CheckReport, Finding, OnLag, SharedStream, StreamObserver, Subject,
    SubscribeOptions, Subscription, SubscriptionError, Verdict, Watch,
};
