//! MongoDB connection strings: hosts, every option with a typed value, warnings, SRV seed lists.
//!
//! [`ConnectionString::parse`] implements the Connection String, URI Options, Read and Write
//! Concern and Authentication specifications as far as they speak of connection strings. What a
//! value means is in its type: durations, counts, enums, [`Secret`]s. What is left out is `None`;
//! this crate has no defaults of its own beyond those that the specifications tie to the connection
//! string.
//!
//! Values that an option does not take are no error: they are ignored and told as [`Warning`]s, as
//! the specifications ask, so that one connection string serves drivers of different ages. Only
//! what could weaken security or be meant in two ways is a [`UriError`].
//!
//! # What it is not
//!
//! It opens no socket, asks no name server, reads no certificate file and logs nothing. Options
//! given in code are the business of the client that has them: edit the public fields of
//! [`UriOptions`].
//!
//! # Example
//!
//! ```
//! use mongo_uri::{ConnectionString, ReadPreferenceMode};
//!
//! let uri = ConnectionString::parse(
//!     "mongodb://ada:p%40ss@db1.example,db2.example:27018/app?replicaSet=rs0\
//!      &readPreference=secondary&maxIdleTimeMS=never",
//! )?;
//! assert_eq!(uri.hosts[1].to_string(), "db2.example:27018");
//! assert_eq!(uri.options.replica_set.as_deref(), Some("rs0"));
//! assert_eq!(uri.options.read_preference.as_ref().unwrap().mode, ReadPreferenceMode::Secondary);
//! assert_eq!(uri.credential.as_ref().unwrap().source, "app");
//!
//! // The value that means nothing is reported, and no password is ever shown.
//! assert_eq!(
//!     uri.warnings[0].to_string(),
//!     "maxIdleTimeMS=never ignored: use a whole number of at least 0"
//! );
//! assert_eq!(
//!     uri.to_string(),
//!     "mongodb://ada:***@db1.example:27017,db2.example:27018/app\
//!      ?replicaSet=rs0&readPreference=secondary"
//! );
//! # Ok::<(), mongo_uri::UriError>(())
//! ```
//!
//! # `mongodb+srv`
//!
//! The name is resolved in two steps, with the caller's resolver between them: ask DNS what
//! [`ConnectionString::srv_question`] says, give the records to [`ConnectionString::resolve`]. It
//! checks the domain rules, merges the TXT record and returns a connection string with hosts. A
//! sharded topology repeats the question from time to time and gives the answer to
//! [`ConnectionString::rescan`].
//!
//! ```
//! use std::time::Duration;
//!
//! use mongo_uri::{ConnectionString, SrvRecord, TxtRecord};
//!
//! let uri = ConnectionString::parse("mongodb+srv://cluster.shop.example/")?;
//! assert_eq!(uri.srv_question().unwrap().srv, "_mongodb._tcp.cluster.shop.example");
//!
//! let target = "db1.shop.example.".to_owned();
//! let record = SrvRecord { target, port: 27017, ttl: Duration::from_secs(300) };
//! let text = TxtRecord(vec![b"replicaSet=rs0".to_vec()]);
//! let resolved = uri.resolve(&[record], &[text], 42)?;
//! assert_eq!(resolved.hosts[0].to_string(), "db1.shop.example:27017");
//! assert_eq!(resolved.options.replica_set.as_deref(), Some("rs0"));
//! # Ok::<(), mongo_uri::UriError>(())
//! ```
//!
//! # Features
//!
//! - `bson`: `ReadConcern::to_document` and `WriteConcern::to_document`.
//! - `public-suffix`: compiles the Public Suffix List in, to refuse a `srvAllowedHostsSuffix` below
//!   which anybody may register names, such as `co.uk`. Without it only single labels are refused.

mod address;
mod concern;
mod connection_string;
mod credential;
mod error;
mod grammar;
mod options;
mod percent;
mod read_preference;
mod secret;
mod srv;
mod validate;
mod warning;

pub use address::{DEFAULT_PORT, ServerAddress};
pub use concern::{
    Acknowledgment, ReadConcern, ReadConcernLevel, UnacknowledgedJournal, WriteConcern,
};
pub use connection_string::ConnectionString;
pub use credential::{
    AuthMechanism, AuthOptions, CanonicalizeHostName, Credential, CredentialError,
    MechanismProperties, OidcEnvironment,
};
pub use error::{AddressError, OptionProblem, Problem, UriError};
pub use options::{
    Compressor, PoolOptions, ProxyOptions, ServerMonitoringMode, SrvOptions, TlsOptions, UriOptions,
};
pub use read_preference::{ReadPreference, ReadPreferenceMode, TagSet, UnknownMode};
pub use secret::{REDACTED, Secret};
pub use srv::{
    DEFAULT_SERVICE, MIN_RESCAN_INTERVAL, Rescan, SrvError, SrvQuestion, SrvRecord, TxtRecord,
};
pub use warning::{Warning, WarningKind};
