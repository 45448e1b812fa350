//! What a topology has to be told before it starts.

use std::time::Duration;

use mongo_uri::{ConnectionString, MIN_RESCAN_INTERVAL, ServerAddress, ServerMonitoringMode};

use crate::description::TopologyDescription;
use crate::hello::HelloCommand;

/// How the seeds are to be understood.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ConnectionMode {
    /// Discover the deployment from the seeds.
    #[default]
    Discover,
    /// Use the one seed as it is, whatever it turns out to be (`directConnection=true`).
    Direct,
    /// The one seed is a load balancer (`loadBalanced=true`).
    LoadBalanced,
}

/// The settings of a [`Topology`](crate::Topology).
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct TopologyConfig {
    /// Where to begin. One seed for the modes `Direct` and `LoadBalanced`.
    pub seeds: Vec<ServerAddress>,
    /// How the seeds are to be understood.
    pub mode: ConnectionMode,
    /// The replica set asked for, if any.
    pub set_name: Option<String>,
    /// The time between checks, and how long an awaited hello is held back. Never less than
    /// `min_heartbeat_frequency`: a lower value counts as that.
    pub heartbeat_frequency: Duration,
    /// The least time between checks. The specification fixes it at 500 ms; only tests go lower.
    pub min_heartbeat_frequency: Duration,
    /// For opening a monitor's connection and for each plain hello; `None` for no limit.
    pub connect_timeout: Option<Duration>,
    /// The width of the latency window of selection.
    pub local_threshold: Duration,
    /// Streaming or polling (Server Monitoring, "serverMonitoringMode").
    pub monitoring_mode: ServerMonitoringMode,
    /// Whether the client runs on a function-as-a-service platform.
    pub faas: bool,
    /// Whether a server API version was asked for: `hello` alone is used then.
    pub server_api: bool,
    /// When the seeds came out of SRV records: the least time to live of those. They are looked up
    /// again then, as long as the deployment may be a sharded one.
    pub srv_ttl: Option<Duration>,
    /// Takes the place of the records' time to live, however short; only tests want that.
    pub rescan_interval: Option<Duration>,
}

impl TopologyConfig {
    /// The specified least time between checks.
    pub const MIN_HEARTBEAT_FREQUENCY: Duration = Duration::from_millis(500);
    /// The default of `connectTimeoutMS`.
    pub const DEFAULT_CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

    /// The defaults, for these seeds.
    #[must_use]
    pub fn new(seeds: Vec<ServerAddress>) -> Self {
        Self {
            seeds,
            mode: ConnectionMode::Discover,
            set_name: None,
            heartbeat_frequency: TopologyDescription::DEFAULT_HEARTBEAT_FREQUENCY,
            min_heartbeat_frequency: Self::MIN_HEARTBEAT_FREQUENCY,
            connect_timeout: Some(Self::DEFAULT_CONNECT_TIMEOUT),
            local_threshold: TopologyDescription::DEFAULT_LOCAL_THRESHOLD,
            monitoring_mode: ServerMonitoringMode::Auto,
            faas: false,
            server_api: false,
            srv_ttl: None,
            rescan_interval: None,
        }
    }

    /// Whether monitors stream where the server can.
    #[must_use]
    pub const fn is_streaming_enabled(&self) -> bool {
        match self.monitoring_mode {
            ServerMonitoringMode::Auto => !self.faas,
            ServerMonitoringMode::Stream => true,
            ServerMonitoringMode::Poll => false,
        }
    }

    /// The command that opens a connection.
    #[must_use]
    pub const fn first_hello(&self) -> HelloCommand {
        if self.server_api || matches!(self.mode, ConnectionMode::LoadBalanced) {
            HelloCommand::Hello
        } else {
            HelloCommand::Legacy
        }
    }

    /// When SRV records with this time to live are looked up again.
    pub(crate) fn rescan_after(&self, ttl: Duration) -> Duration {
        self.rescan_interval.unwrap_or(ttl.max(MIN_RESCAN_INTERVAL))
    }

    pub(crate) fn heartbeat(&self) -> Duration {
        self.heartbeat_frequency.max(self.min_heartbeat_frequency)
    }

    /// `connectTimeoutMS`, where 0 means no limit.
    pub(crate) fn plain_timeout(&self) -> Option<Duration> {
        self.connect_timeout.filter(|timeout| !timeout.is_zero())
    }

    /// The server holds its reply back for a heartbeat, so the limit is that much longer.
    pub(crate) fn await_timeout(&self) -> Option<Duration> {
        self.plain_timeout()
            .map(|timeout| timeout + self.heartbeat())
    }
}

/// Discovers from a connection string whose SRV records, if it has any, are resolved.
///
/// Not in the string, and so to be set after: `faas`, `server_api`, and the records' time to live,
/// which counts as the least that is allowed.
impl From<&ConnectionString> for TopologyConfig {
    fn from(uri: &ConnectionString) -> Self {
        let options = &uri.options;
        let mode = if options.load_balanced == Some(true) {
            ConnectionMode::LoadBalanced
        } else if options.direct_connection == Some(true) {
            ConnectionMode::Direct
        } else {
            ConnectionMode::Discover
        };
        let defaults = Self::new(uri.hosts.clone());
        Self {
            mode,
            set_name: options.replica_set.clone(),
            heartbeat_frequency: options
                .heartbeat_frequency
                .unwrap_or(defaults.heartbeat_frequency),
            connect_timeout: options.connect_timeout.or(defaults.connect_timeout),
            local_threshold: options.local_threshold.unwrap_or(defaults.local_threshold),
            monitoring_mode: options.server_monitoring_mode.unwrap_or_default(),
            srv_ttl: uri.srv_host.as_ref().map(|_| MIN_RESCAN_INTERVAL),
            ..defaults
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(uri: &str) -> TopologyConfig {
        TopologyConfig::from(&ConnectionString::parse(uri).unwrap())
    }

    #[test]
    fn a_connection_string_gives_the_settings() {
        let config = config(
            "mongodb://a,B:1/?replicaSet=rs&heartbeatFrequencyMS=700&connectTimeoutMS=0\
             &localThresholdMS=5&serverMonitoringMode=poll",
        );
        assert_eq!(
            config.seeds,
            [ServerAddress::tcp("a", 27017), ServerAddress::tcp("b", 1)]
        );
        assert_eq!(config.set_name.as_deref(), Some("rs"));
        assert_eq!(config.heartbeat_frequency, Duration::from_millis(700));
        assert_eq!(config.plain_timeout(), None, "0 means no limit");
        assert_eq!(
            config.await_timeout(),
            None,
            "and stays so while a reply is held back"
        );
        assert_eq!(config.local_threshold, Duration::from_millis(5));
        assert!(!config.is_streaming_enabled());
    }

    #[test]
    fn modes_come_from_their_options() {
        for (uri, mode, first) in [
            (
                "mongodb://a",
                ConnectionMode::Discover,
                HelloCommand::Legacy,
            ),
            (
                "mongodb://a/?directConnection=false",
                ConnectionMode::Discover,
                HelloCommand::Legacy,
            ),
            (
                "mongodb://a/?directConnection=true",
                ConnectionMode::Direct,
                HelloCommand::Legacy,
            ),
            (
                "mongodb://a/?loadBalanced=true",
                ConnectionMode::LoadBalanced,
                HelloCommand::Hello,
            ),
        ] {
            assert_eq!(config(uri).mode, mode, "{uri}");
            assert_eq!(config(uri).first_hello(), first, "{uri}");
        }
    }

    #[test]
    fn auto_mode_polls_on_a_function_platform_only() {
        let mut config = config("mongodb://a");
        assert!(config.is_streaming_enabled());
        config.faas = true;
        assert!(!config.is_streaming_enabled());
        config.monitoring_mode = ServerMonitoringMode::Stream;
        assert!(config.is_streaming_enabled());
    }

    #[test]
    fn a_heartbeat_is_never_shorter_than_the_least() {
        let mut config = config("mongodb://a");
        config.heartbeat_frequency = Duration::from_millis(1);
        assert_eq!(config.heartbeat(), TopologyConfig::MIN_HEARTBEAT_FREQUENCY);
    }
}
