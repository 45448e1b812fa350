//! The handle that everything starts from.

#[cfg(any(feature = "aws", feature = "oidc"))]
mod identity;

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bson::{RawArrayBuf, RawDocument, RawDocumentBuf, cstr};
use mongo_change_stream::WatchTarget;
use mongo_topology::{Rng, SelectionCriteria, TopologyConfig, TopologyDescription};
use mongo_uri::{
    ConnectionString, ReadConcern, ReadPreference, ReadPreferenceMode, ServerAddress, UriOptions,
    Warning, WarningKind,
};
use mongo_wire::{Compressor, ZlibLevel};
use tokio::sync::watch;

use crate::auth::Authenticator;
use crate::command::RunCommand;
use crate::connection::{Connector, DriverInfo, Environment, Handshake, Metadata, Transport};
use crate::database::Database;
use crate::dns::{self, SeedList};
use crate::error::{Error, Misuse, Result};
use crate::events::Events;
use crate::logs::Logs;
use crate::operation::MAX_ADAPTIVE_RETRIES;
use crate::options::{ClientOptions, Jitter};
use crate::pool::PoolLimits;
use crate::session::{ClientSession, SessionOptions, Sessions, lsid};
use crate::spans::Spans;
use crate::topology::{Topology, TopologyChanges};
use crate::watch::Watch;

/// `connectTimeoutMS` where the connection string gives none.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// `serverSelectionTimeoutMS` where the connection string gives none.
const SERVER_SELECTION_TIMEOUT: Duration = Duration::from_secs(30);

/// Sessions that one `endSessions` ends at most (Driver Sessions, "endSessions").
const END_SESSIONS_BATCH: usize = 10_000;
/// How long a shutdown waits for the answer.
const END_SESSIONS_LIMIT: Duration = Duration::from_secs(2);

/// A client of one deployment. Cheap to clone; all clones share pools and monitors, which end
/// when the last clone is dropped or [`shutdown`](Self::shutdown) is called.
#[derive(Clone)]
pub struct Client {
    inner: Arc<Inner>,
}

struct Inner {
    topology: Topology,
    sessions: Arc<Sessions>,
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
    /// How long to wait for a connection, from when a server is looked for: longer than that where
    /// a human may have to log in.
    pub(crate) connection_timeout: Duration,
    pub(crate) wait_queue_timeout: Option<Duration>,
    pub(crate) socket_timeout: Option<Duration>,
    /// `timeoutMS`; zero says that there is no limit.
    pub(crate) timeout: Option<Duration>,
    pub(crate) read_preference: ReadPreference,
    pub(crate) read_concern: ReadConcern,
    pub(crate) retry_reads: bool,
    /// Whether whatever a busy server did not begin is sent again, writes included.
    pub(crate) retry_writes: bool,
    pub(crate) max_adaptive_retries: u32,
    pub(crate) overload_retargeting: bool,
    pub(crate) is_load_balanced: bool,
    pub(crate) spans: Spans,
    /// Takes the place of chance, in tests.
    jitter: Option<Jitter>,
}

impl Settings {
    fn new(client_options: &ClientOptions, spans: Spans) -> Self {
        let options = &client_options.uri.options;
        let server_selection_timeout = options
            .server_selection_timeout
            .unwrap_or(SERVER_SELECTION_TIMEOUT);
        let login_limit = client_options.login_limit().unwrap_or_default();
        Self {
            server_selection_timeout,
            connection_timeout: server_selection_timeout.max(login_limit),
            wait_queue_timeout: PoolLimits::from(&options.pool).wait_queue_timeout,
            socket_timeout: options.socket_timeout.filter(|limit| !limit.is_zero()),
            timeout: options.timeout,
            read_preference: options.read_preference.clone().unwrap_or_default(),
            read_concern: options.read_concern.clone().unwrap_or_default(),
            retry_reads: options.retry_reads.unwrap_or(true),
            retry_writes: options.retry_writes.unwrap_or(true),
            max_adaptive_retries: options.max_adaptive_retries.unwrap_or(MAX_ADAPTIVE_RETRIES),
            overload_retargeting: options.enable_overload_retargeting.unwrap_or(false),
            is_load_balanced: options.load_balanced == Some(true),
            spans,
            jitter: client_options.jitter.clone(),
        }
    }
}

impl Client {
    /// A client for a connection string. Nothing is sent yet, and no server is waited for: the
    /// first operation does that.
    ///
    /// # Errors
    /// [`Error::Uri`] when the string cannot be parsed; otherwise as
    /// [`with_options`](Self::with_options).
    ///
    /// # Panics
    /// Outside a tokio runtime: the monitors run as its tasks.
    pub fn new(uri: &str) -> Result<Self> {
        Self::with_options(ClientOptions::parse(uri)?)
    }

    /// As [`new`](Self::new), also for a `mongodb+srv` connection string, whose seed list is
    /// looked up first. That alone is waited for, no server.
    ///
    /// # Errors
    /// As [`ClientOptions::resolve`] and [`with_options`](Self::with_options).
    ///
    /// # Panics
    /// Outside a tokio runtime.
    pub async fn connect(uri: &str) -> Result<Self> {
        Self::with_options(ClientOptions::parse(uri)?.resolve().await?)
    }

    /// As [`new`](Self::new), from a string that was parsed before.
    ///
    /// # Errors
    /// As [`with_options`](Self::with_options).
    ///
    /// # Panics
    /// Outside a tokio runtime.
    pub fn from_connection_string(uri: ConnectionString) -> Result<Self> {
        Self::with_options(uri.into())
    }

    /// As [`new`](Self::new), with what no connection string can say. The files that TLS options
    /// name, or else this machine's store of certificate authorities, are read here.
    ///
    /// # Errors
    /// [`Error::Misuse`] when something is asked for that this version does not have, or that
    /// contradicts itself; [`Error::TlsFile`] when a file cannot be used.
    ///
    /// # Panics
    /// Outside a tokio runtime.
    pub fn with_options(client_options: ClientOptions) -> Result<Self> {
        refuse_unsupported(&client_options)?;
        let options = &client_options.uri.options;
        let mut config = TopologyConfig::from(&client_options.uri);
        let environment = Environment::of_this_process();
        config.faas = environment.is_faas();
        config.server_api = client_options.server_api.is_some();
        config.srv_ttl = client_options.seed_list_ttl.or(config.srv_ttl);
        config.rescan_interval = client_options.rescan_interval;
        let connector = connector(&client_options, &config, &environment)?;
        let metadata = connector.handshake.metadata();
        let lacking = lacking_compressors(options);
        let limits = PoolLimits::from(&options.pool);
        let seed_list = seed_list(&client_options);
        let logs = Logs::new(client_options.max_log_document_length);
        let variable = |name: &str| std::env::var(name).ok();
        let spans = Spans::new(client_options.tracing, variable, logs.topology_id);
        let settings = Settings::new(&client_options, spans);
        let topology = Topology::start(
            config,
            connector,
            limits,
            Events::new(client_options.listener, logs, spans),
            seed_list,
        );
        let without_effect = without_effect(&client_options.uri.options);
        let ConnectionString {
            mut warnings,
            default_database,
            ..
        } = client_options.uri;
        warnings.extend(lacking);
        warnings.extend(without_effect);
        let (closing, _) = watch::channel(false);
        let inner = Inner {
            sessions: Sessions::new(topology.changes(), settings.is_load_balanced),
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
    pub fn run_admin_command<'a>(&self, command: &'a RawDocument) -> RunCommand<'a> {
        self.database("admin").run_command(command)
    }

    /// Starts a session; nothing is sent.
    ///
    /// # Errors
    /// [`Error::Misuse`] when the options contradict each other. That a server has no sessions
    /// shows when the session is used.
    pub fn start_session(&self, options: SessionOptions) -> Result<ClientSession> {
        ClientSession::start(&self.inner.sessions, options)
    }

    /// The number of what this client knows of its deployment, which stands in its logs; no other
    /// client of this process has it.
    #[must_use]
    pub fn topology_id(&self) -> u64 {
        self.inner.topology.id()
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
    ///
    /// When this returns, no task of the client is left. A command that runs meanwhile fails at
    /// once, and closes its connection when its future is polled again or dropped.
    pub async fn shutdown(&self) {
        self.inner.closing.send_replace(true);
        self.inner.closing.closed().await;
        self.end_sessions().await;
        self.inner.topology.shut_down().await;
    }

    /// Tells the servers which sessions they need not keep, as far as one of them is known to work.
    async fn end_sessions(&self) {
        let ids = self.inner.sessions.drain();
        let preference = ReadPreference {
            mode: ReadPreferenceMode::PrimaryPreferred,
            ..ReadPreference::default()
        };
        let criteria = SelectionCriteria::read(&preference);
        for ids in ids.chunks(END_SESSIONS_BATCH) {
            if self
                .topology()
                .select(&criteria, |_| 0, &mut Rng::from_seed(0))
                .is_err()
            {
                return;
            }
            let ids: RawArrayBuf = ids.iter().map(|id| lsid(*id)).collect();
            let mut command = RawDocumentBuf::new();
            command.append(cstr!("endSessions"), ids);
            let end = self.run_admin_command(&command);
            let end = end
                .read_preference(preference.clone())
                .timeout(END_SESSIONS_LIMIT)
                .without_session();
            // The servers forget them anyway, only later.
            let _ = end.await;
        }
    }

    /// For a change stream's task; see [`Self::shutdown`].
    pub(crate) fn closing(&self) -> watch::Receiver<bool> {
        self.inner.closing.subscribe()
    }

    pub(crate) fn is_closing(&self) -> bool {
        *self.inner.closing.borrow()
    }

    pub(crate) fn sessions(&self) -> &Arc<Sessions> {
        &self.inner.sessions
    }

    /// A number from 0 to 1, to keep clients from doing the same at the same time.
    pub(crate) fn chance(&self) -> f64 {
        match &self.inner.settings.jitter {
            Some(jitter) => jitter.next(),
            // The upper half is as random as the whole, and a float holds all of it.
            None => {
                f64::from(u32::try_from(self.random() >> 32).unwrap_or(0)) / f64::from(u32::MAX)
            }
        }
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

    pub(crate) fn spans(&self) -> &Spans {
        &self.inner.settings.spans
    }
}

/// Everything that is known of the deployment, its servers' pools, their last failures and the
/// sessions, over several lines: what a bug report should hold. No secret is in it.
impl fmt::Display for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}\n{}", self.inner.topology, self.inner.sessions)
    }
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Client({})", self.topology())
    }
}

/// What opens connections as the options want them.
pub(crate) fn connector(
    options: &ClientOptions,
    config: &TopologyConfig,
    environment: &Environment,
) -> Result<Connector> {
    let uri = &options.uri.options;
    let timeout = uri.connect_timeout.unwrap_or(CONNECT_TIMEOUT);
    // The URI's 0 means no limit.
    let timeout = (!timeout.is_zero()).then_some(timeout);
    let credential = options.uri.credential.clone();
    let authenticator = credential.map(Authenticator::new).transpose();
    let authenticator = authenticator.map_err(Error::Misuse)?;
    let (compressors, _) = compressors(uri);
    let handshake = Handshake::new(uri.app_name.as_deref(), environment)
        .with_compressors(compressors)
        .behind_load_balancer(uri.load_balanced == Some(true))
        .with_authenticator(authenticator);
    #[cfg(feature = "aws")]
    let handshake = handshake.with_aws(identity::aws(options)?);
    #[cfg(feature = "oidc")]
    let handshake = handshake.with_oidc(identity::oidc(options, timeout)?);
    Ok(Connector {
        handshake,
        first_hello: config.first_hello(),
        transport: Transport::new(options, timeout)?,
        server_api: options.server_api,
        timeout,
    })
}

fn seed_list(options: &ClientOptions) -> Option<SeedList> {
    options.uri.srv_host.as_ref()?;
    Some(SeedList {
        resolver: options.resolver.clone().unwrap_or_else(dns::own),
        uri: options.uri.clone(),
    })
}

/// The compressors that the connection string asks for, in its order; the second ones are those
/// that this build lacks.
fn compressors(options: &UriOptions) -> (Vec<Compressor>, Vec<Compressor>) {
    let level = options.zlib_compression_level.and_then(ZlibLevel::new);
    let asked = options.compressors.iter().flatten();
    let named = asked.filter_map(|asked| Compressor::from_name(asked.as_str()));
    let leveled = named.map(|compressor| match compressor {
        Compressor::Zlib(default) => Compressor::Zlib(level.unwrap_or(default)),
        other => other,
    });
    leveled.partition(|compressor| compressor.is_built_in())
}

/// Says which compressors are left out, if any.
fn lacking_compressors(options: &UriOptions) -> Option<Warning> {
    let (_, lacking) = compressors(options);
    let names: Vec<_> = lacking.iter().map(ToString::to_string).collect();
    (!names.is_empty()).then(|| Warning {
        option: "compressors".to_owned(),
        value: names.join(","),
        kind: WarningKind::NotBuiltIn { names },
    })
}

/// A warning for each option that is given and not obeyed, where that changes no result.
fn without_effect(options: &UriOptions) -> Vec<Warning> {
    let given = [(options.write_concern.is_some(), "w, journal or wTimeoutMS")];
    let given = given.into_iter().filter(|(is_given, _)| *is_given);
    let warning = |(_, option): (bool, &str)| Warning {
        option: option.to_owned(),
        value: String::new(),
        kind: WarningKind::NoEffect,
    };
    given.map(warning).collect()
}

fn refuse_unsupported(client_options: &ClientOptions) -> Result<()> {
    let uri = &client_options.uri;
    if uri.hosts.is_empty() {
        return Err(Error::Misuse(Misuse::Unresolved));
    }
    let has_socket = uri
        .hosts
        .iter()
        .any(|host| matches!(host, ServerAddress::Unix { .. }));
    let asked = [
        (
            client_options.uses_tls() && cfg!(not(feature = "tls")),
            "TLS (the feature `tls`, which this build lacks)",
        ),
        (has_socket && cfg!(not(unix)), "a unix socket"),
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
        let options = ConnectionString::parse(text).unwrap().options;
        let (found, _) = compressors(&options);
        let all = [
            Compressor::Zstd,
            Compressor::Zlib(ZlibLevel::new(9).unwrap()),
            Compressor::Snappy,
        ];
        let (built, lacking): (Vec<_>, Vec<_>) = all.into_iter().partition(|c| c.is_built_in());
        assert_eq!(found, built);
        let told = lacking_compressors(&options).map(|warning| warning.kind);
        let names: Vec<_> = lacking.iter().map(ToString::to_string).collect();
        let expected = (!names.is_empty()).then_some(WarningKind::NotBuiltIn { names });
        assert_eq!(told, expected);
    }
}
