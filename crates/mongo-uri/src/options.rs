//! The options of a connection string (URI Options specification), typed.
//!
//! `None` means that the connection string does not say; defaults belong to whoever uses the value.

use std::fmt;
use std::time::Duration;

use crate::concern::{ReadConcern, WriteConcern};
use crate::credential::AuthOptions;
use crate::read_preference::ReadPreference;
use crate::secret::Secret;

mod custom;
mod read;
mod table;
mod value;

pub(crate) use read::{Pair, read};
pub(crate) use table::written;

/// How a monitor learns of changes: `serverMonitoringMode`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum ServerMonitoringMode {
    /// Streams, except where the process is a function that is frozen between calls.
    #[default]
    Auto,
    /// The server tells as soon as something changes.
    Stream,
    /// The monitor asks once a heartbeat.
    Poll,
}

impl ServerMonitoringMode {
    /// The option's value.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Auto => "auto",
            Self::Stream => "stream",
            Self::Poll => "poll",
        }
    }
}

/// A compressor of wire messages.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Compressor {
    /// `snappy`.
    Snappy,
    /// `zlib`.
    Zlib,
    /// `zstd`.
    Zstd,
}

impl Compressor {
    /// The name in connection strings and handshakes.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Snappy => "snappy",
            Self::Zlib => "zlib",
            Self::Zstd => "zstd",
        }
    }
}

impl fmt::Display for Compressor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Every option of a connection string.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct UriOptions {
    /// `appname`: at most 128 bytes.
    pub app_name: Option<String>,
    /// `replicaSet`: the name the set must have.
    pub replica_set: Option<String>,
    /// `directConnection`.
    pub direct_connection: Option<bool>,
    /// `loadBalanced`.
    pub load_balanced: Option<bool>,
    /// `connectTimeoutMS`; zero waits for ever.
    pub connect_timeout: Option<Duration>,
    /// `serverSelectionTimeoutMS`; zero asks for a server that is known now.
    pub server_selection_timeout: Option<Duration>,
    /// `serverSelectionTryOnce`; of meaning to single-threaded drivers only.
    pub server_selection_try_once: Option<bool>,
    /// `socketTimeoutMS`, deprecated in favour of `timeout`; zero waits for ever.
    pub socket_timeout: Option<Duration>,
    /// `timeoutMS`: for a whole operation; zero waits for ever.
    pub timeout: Option<Duration>,
    /// `heartbeatFrequencyMS`: at least 500 ms.
    pub heartbeat_frequency: Option<Duration>,
    /// `localThresholdMS`: the width of the latency window.
    pub local_threshold: Option<Duration>,
    /// `serverMonitoringMode`.
    pub server_monitoring_mode: Option<ServerMonitoringMode>,
    /// `readPreference`, `readPreferenceTags` and `maxStalenessSeconds`.
    pub read_preference: Option<ReadPreference>,
    /// `readConcernLevel`.
    pub read_concern: Option<ReadConcern>,
    /// `w`, `journal` and `wTimeoutMS`.
    pub write_concern: Option<WriteConcern>,
    /// `retryReads`.
    pub retry_reads: Option<bool>,
    /// `retryWrites`.
    pub retry_writes: Option<bool>,
    /// `maxAdaptiveRetries`: retries after an overload.
    pub max_adaptive_retries: Option<u32>,
    /// `enableOverloadRetargeting`: another server after an overload.
    pub enable_overload_retargeting: Option<bool>,
    /// `compressors`, in the order of preference.
    pub compressors: Option<Vec<Compressor>>,
    /// `zlibCompressionLevel`: -1 (the library's default) to 9.
    pub zlib_compression_level: Option<i32>,
    /// The options whose names start with `tls`.
    pub tls: TlsOptions,
    /// The options of connection pools.
    pub pool: PoolOptions,
    /// The options of a SOCKS5 proxy; `None` without `proxyHost`.
    pub proxy: Option<ProxyOptions>,
    /// The options of `mongodb+srv`.
    pub srv: SrvOptions,
    /// The options about authentication; [`Credential`](crate::Credential) is what they amount to.
    pub auth: AuthOptions,
}

/// Options about TLS.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TlsOptions {
    /// `tls` or `ssl`; `mongodb+srv` sets it unless it is given.
    pub enabled: Option<bool>,
    /// `tlsInsecure`: neither certificates nor host names are checked.
    pub insecure: Option<bool>,
    /// `tlsAllowInvalidCertificates`.
    pub allow_invalid_certificates: Option<bool>,
    /// `tlsAllowInvalidHostnames`.
    pub allow_invalid_hostnames: Option<bool>,
    /// `tlsCAFile`: a path.
    pub ca_file: Option<String>,
    /// `tlsCertificateKeyFile`: a path.
    pub certificate_key_file: Option<String>,
    /// `tlsCertificateKeyFilePassword`.
    pub certificate_key_file_password: Option<Secret>,
    /// `tlsDisableCertificateRevocationCheck`.
    pub disable_certificate_revocation_check: Option<bool>,
    /// `tlsDisableOCSPEndpointCheck`.
    pub disable_ocsp_endpoint_check: Option<bool>,
}

impl TlsOptions {
    /// Whether connections use TLS: what `tls` says, else true if any other TLS option is given, so
    /// that nobody who names a certificate talks in the clear.
    pub fn is_required(&self) -> bool {
        self.enabled.unwrap_or_else(|| *self != Self::default())
    }
}

/// Options about connection pools (CMAP specification).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PoolOptions {
    /// `maxPoolSize`; 0 for no limit.
    pub max_size: Option<u32>,
    /// `minPoolSize`.
    pub min_size: Option<u32>,
    /// `maxConnecting`: at least 1.
    pub max_connecting: Option<u32>,
    /// `maxIdleTimeMS`; zero for no limit.
    pub max_idle_time: Option<Duration>,
    /// `waitQueueTimeoutMS`, deprecated in favour of `timeoutMS`: above zero.
    pub wait_queue_timeout: Option<Duration>,
}

/// A SOCKS5 proxy.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ProxyOptions {
    /// `proxyHost`: a name or an address.
    pub host: String,
    /// `proxyPort`; 1080 if it is not given.
    pub port: Option<u16>,
    /// `proxyUsername`; given together with the password or not at all.
    pub username: Option<String>,
    /// `proxyPassword`.
    pub password: Option<Secret>,
}

impl ProxyOptions {
    /// The port of a SOCKS5 proxy whose port is not given.
    pub const DEFAULT_PORT: u16 = 1080;
}

/// Options of the `mongodb+srv` form.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SrvOptions {
    /// `srvServiceName`; `mongodb` if it is not given.
    pub service_name: Option<String>,
    /// `srvMaxHosts`; 0 for no limit.
    pub max_hosts: Option<u32>,
    /// `srvAllowedHostsSuffix`: the domain that hosts must lie in instead of the one of the SRV
    /// name; in lower case, without dots at its ends. The wider it is, the more a forged answer can
    /// do.
    pub allowed_hosts_suffix: Option<String>,
}

#[cfg(test)]
mod tests;
