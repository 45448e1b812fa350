//! The handle that everything starts from.

use std::fmt;
use std::num::NonZeroUsize;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bson::RawDocument;
use mongo_change_stream::WatchTarget;
use mongo_topology::{TopologyConfig, TopologyDescription};
use mongo_uri::{ConnectionString, ReadPreference, ServerAddress, Warning, WarningKind};
use mongo_wire::{CommandReply, Compressor, ZlibLevel};
use tokio::sync::watch;

use crate::auth::Authenticator;
use crate::connection::{Connector, DriverInfo, Environment, Handshake, Metadata};
use crate::database::Database;
use crate::error::{Error, Misuse, Result};
use crate::pool::machine::PoolLimits;
use crate::server_api::ServerApi;
use crate::topology::{Topology, TopologyChanges};
use crate::watch::Watch;

/// `connectTimeoutMS` where the connection string gives none.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// `serverSelectionTimeoutMS` where the connection string gives none.
const SERVER_SELECTION_TIMEOUT: Duration = Duration::from_secs(30);
/// `maxPoolSize` where the connection string gives none.
const MAX_POOL_SIZE: usize = 100;
/// `maxConnecting` where the connection string gives none.
const MAX_CONNECTING: NonZeroUsize = NonZeroUsize::new(2).expect("two is not zero");

/// A client of one deployment. Cheap to clone; all clones share pools and monitors, which end
/// when the last clone is dropped or [`shutdown`](Self::shutdown) is called.
#[derive(Clone)]
pub struct Client {
    inner: Arc<Inner>,
}

struct Inner {
    topology: Topology,
    /// Tells the change streams of a shutdown; each holds a receiver until it is done.
    closing: watch::Sender<bool>,
    settings: Settings,
    metadata: Arc<Mutex<Metadata>>,
    warnings: Vec<Warning>,
    default_database: Option<String>,
}

/// What operations need to know of the connection string.
#[derive(Debug)]
pub(crate) struct Settings {
    pub(crate) server_selection_timeout: Duration,
    pub(crate) wait_queue_timeout: Option<Duration>,
    pub(crate) socket_timeout: Option<Duration>,
    pub(crate) read_preference: ReadPreference,
    pub(crate) retry_reads: bool,
}

impl Client {
    /// A client for a connection string. Nothing is sent yet, and no server is waited for: the
    /// first operation does that.
    ///
    /// # Errors
    /// [`Error::Uri`] when the string cannot be parsed; [`Error::Misuse`] when it asks for what
    /// this version does not have.
    ///
    /// # Panics
    /// Outside a tokio runtime: the monitors run as its tasks.
    pub fn new(uri: &str) -> Result<Self> {
        Self::from_connection_string(ConnectionString::parse(uri)?)
    }

    /// As [`new`](Self::new), from a string that was parsed before.
    ///
    /// # Errors
    /// [`Error::Misuse`] when it asks for what this version does not have.
    ///
    /// # Panics
    /// Outside a tokio runtime.
    pub fn from_connection_string(uri: ConnectionString) -> Result<Self> {
        Self::start(uri, None)
    }

    /// As [`from_connection_string`](Self::from_connection_string), declaring a version of the
    /// Stable API with every command.
    ///
    /// # Errors
    /// As there.
    ///
    /// # Panics
    /// Outside a tokio runtime.
    pub fn with_server_api(uri: ConnectionString, api: ServerApi) -> Result<Self> {
        Self::start(uri, Some(api))
    }

    fn start(mut uri: ConnectionString, server_api: Option<ServerApi>) -> Result<Self> {
        refuse_unsupported(&uri)?;
        let authenticator = uri.credential.take().map(Authenticator::new).transpose();
        let authenticator = authenticator.map_err(Error::Misuse)?;
        let compressors = compressors(&mut uri);
        let environment = Environment::of_this_process();
        let options = &uri.options;
        let connect_timeout = options.connect_timeout.unwrap_or(CONNECT_TIMEOUT);
        let mut config = TopologyConfig::from(&uri);
        config.faas = environment.is_faas();
        config.server_api = server_api.is_some();
        let connector = Connector {
            handshake: Handshake::new(options.app_name.as_deref(), &environment)
                .with_compressors(compressors)
                .with_authenticator(authenticator),
            first_hello: config.first_hello(),
            server_api,
            // The URI's 0 means no limit.
            timeout: (!connect_timeout.is_zero()).then_some(connect_timeout),
        };
        let metadata = connector.handshake.metadata();
        let limits = PoolLimits {
            max_size: NonZeroUsize::new(options.pool.max_size.map_or(MAX_POOL_SIZE, to_usize)),
            max_connecting: options
                .pool
                .max_connecting
                .and_then(|count| NonZeroUsize::new(to_usize(count)))
                .unwrap_or(MAX_CONNECTING),
            max_idle: options.pool.max_idle_time.filter(|limit| !limit.is_zero()),
        };
        let settings = Settings {
            server_selection_timeout: options
                .server_selection_timeout
                .unwrap_or(SERVER_SELECTION_TIMEOUT),
            wait_queue_timeout: options
                .pool
                .wait_queue_timeout
                .filter(|limit| !limit.is_zero()),
            socket_timeout: options.socket_timeout.filter(|limit| !limit.is_zero()),
            read_preference: options.read_preference.clone().unwrap_or_default(),
            retry_reads: options.retry_reads.unwrap_or(true),
        };
        let topology = Topology::start(config, connector, limits);
        let ConnectionString {
            warnings,
            default_database,
            ..
        } = uri;
        let (closing, _) = watch::channel(false);
        let inner = Inner {
            topology,
            closing,
            settings,
            metadata,
            warnings,
            default_database,
        };
        Ok(Self {
            inner: Arc::new(inner),
        })
    }

    /// What the connection string says that has no effect, each with what to do about it.
    #[must_use]
    pub fn warnings(&self) -> &[Warning] {
        &self.inner.warnings
    }

    /// Tells servers of a library that wraps this one, beside what they hear of this client anyway.
    /// Connections that are open already are left alone; the same library is added once only.
    ///
    /// # Errors
    /// [`Misuse::Metadata`] when a value contains `|`, or all of them together are too long.
    pub fn append_metadata(&self, library: DriverInfo) -> Result<()> {
        let metadata = self.inner.metadata.lock();
        let mut metadata = metadata.unwrap_or_else(PoisonError::into_inner);
        metadata.append(library).map_err(Error::Misuse)
    }

    /// A database of this deployment; nothing is sent.
    #[must_use]
    pub fn database(&self, name: impl Into<String>) -> Database {
        Database::new(self.clone(), name.into())
    }

    /// The database that the connection string names.
    #[must_use]
    pub fn default_database(&self) -> Option<Database> {
        self.inner
            .default_database
            .as_ref()
            .map(|name| self.database(name))
    }

    /// Follows every collection of the cluster, `admin`, `config` and `local` aside.
    pub fn watch(&self) -> Watch {
        Watch::new(self.clone(), WatchTarget::Cluster)
    }

    /// Runs a command on the `admin` database; see [`Database::run_command`].
    ///
    /// # Errors
    /// As there.
    pub async fn run_admin_command(&self, command: &RawDocument) -> Result<CommandReply> {
        self.database("admin").run_command(command).await
    }

    /// What is known of the deployment right now.
    #[must_use]
    pub fn topology(&self) -> Arc<TopologyDescription> {
        self.inner.topology.description()
    }

    /// Follows what is known of the deployment.
    #[must_use]
    pub fn topology_changes(&self) -> TopologyChanges {
        self.inner.topology.changes()
    }

    /// The server that operations on the primary go to right now.
    #[must_use]
    pub fn primary(&self) -> Option<ServerAddress> {
        self.topology()
            .primary()
            .map(|server| server.address().clone())
    }

    /// Ends every task and closes every connection of this client, whoever still holds a clone.
    /// Change streams that are open end with [`Error::Shutdown`]; their cursors are killed first,
    /// which takes some seconds at most where a server does not answer.
    pub async fn shutdown(&self) {
        self.inner.closing.send_replace(true);
        self.inner.closing.closed().await;
        self.inner.topology.shut_down().await;
    }

    /// For a change stream's task; see [`Self::shutdown`].
    pub(crate) fn closing(&self) -> watch::Receiver<bool> {
        self.inner.closing.subscribe()
    }

    pub(crate) fn is_closing(&self) -> bool {
        *self.inner.closing.borrow()
    }

    pub(crate) fn topology_room(&self) -> &Topology {
        &self.inner.topology
    }

    /// A number to seed a machine with.
    pub(crate) fn random(&self) -> u64 {
        self.inner.topology.random()
    }

    pub(crate) fn settings(&self) -> &Settings {
        &self.inner.settings
    }
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Client({})", self.topology())
    }
}

fn to_usize(count: u32) -> usize {
    usize::try_from(count).unwrap_or(usize::MAX)
}

/// The compressors that the connection string asks for, without those that this build lacks, for
/// which it gets a warning.
fn compressors(uri: &mut ConnectionString) -> Vec<Compressor> {
    let level = uri.options.zlib_compression_level.and_then(ZlibLevel::new);
    let asked = uri.options.compressors.iter().flatten();
    let named = asked.filter_map(|asked| Compressor::from_name(asked.as_str()));
    let (known, lacking): (Vec<_>, Vec<_>) = named.partition(|known| known.is_built_in());
    if !lacking.is_empty() {
        let names: Vec<_> = lacking.iter().map(ToString::to_string).collect();
        uri.warnings.push(Warning {
            option: "compressors".to_owned(),
            value: names.join(","),
            kind: WarningKind::NotBuiltIn { names },
        });
    }
    let leveled = known.into_iter().map(|compressor| match compressor {
        Compressor::Zlib(default) => Compressor::Zlib(level.unwrap_or(default)),
        other => other,
    });
    leveled.collect()
}

fn refuse_unsupported(uri: &ConnectionString) -> Result<()> {
    let options = &uri.options;
    let asked = [
        (uri.srv_host.is_some(), "a DNS seed list (mongodb+srv)"),
        (options.tls.is_required(), "TLS"),
        (options.load_balanced == Some(true), "load balancing"),
        (options.proxy.is_some(), "a SOCKS5 proxy"),
    ];
    match asked.into_iter().find(|(asked, _)| *asked) {
        Some((_, what)) => Err(Error::Misuse(Misuse::Unsupported { what })),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn compressors_keep_their_order_and_level_and_lacking_ones_are_told() {
        let text = "mongodb://h/?compressors=zstd,zlib,snappy&zlibCompressionLevel=9";
        let mut uri = ConnectionString::parse(text).unwrap();
        let found = compressors(&mut uri);
        let all = [
            Compressor::Zstd,
            Compressor::Zlib(ZlibLevel::new(9).unwrap()),
            Compressor::Snappy,
        ];
        let (built, lacking): (Vec<_>, Vec<_>) = all.into_iter().partition(|c| c.is_built_in());
        assert_eq!(found, built);
        let told: Vec<_> = uri.warnings.iter().map(|w| w.kind.clone()).collect();
        let names: Vec<_> = lacking.iter().map(ToString::to_string).collect();
        let expected = (!names.is_empty()).then_some(WarningKind::NotBuiltIn { names });
        assert_eq!(told, Vec::from_iter(expected));
    }
}
