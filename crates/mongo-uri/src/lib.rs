//! MongoDB connection strings: hosts, every option with a typed value, warnings, SRV seed lists.

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
