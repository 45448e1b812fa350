//! What bounds a pool.

use std::fmt;
use std::num::NonZeroUsize;
use std::time::Duration;

/// `maxPoolSize` where the connection string gives none.
const MAX_POOL_SIZE: u32 = 100;
/// `maxConnecting` where the connection string gives none.
const MAX_CONNECTING: NonZeroUsize = NonZeroUsize::new(2).expect("two is not zero");

/// What bounds every pool of a client: the connection string's pool options, or their defaults.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct PoolLimits {
    /// `maxPoolSize`: connections in all; `None` is unlimited (the URI's 0).
    pub max_size: Option<NonZeroUsize>,
    /// `minPoolSize`: connections that are opened ahead of need, while the server works.
    pub min_size: usize,
    /// `maxConnecting`: connections that may be in the middle of being opened at once.
    pub max_connecting: NonZeroUsize,
    /// `maxIdleTimeMS`: a connection that nobody used for so long is closed; `None` is never.
    pub max_idle: Option<Duration>,
    /// `waitQueueTimeoutMS`: how long an operation waits for a connection; `None` is for ever.
    pub wait_queue_timeout: Option<Duration>,
    /// How long nothing is opened ahead of need after a connection could not be opened.
    pub populate_pause: Duration,
}

impl From<&mongo_uri::PoolOptions> for PoolLimits {
    fn from(options: &mongo_uri::PoolOptions) -> Self {
        Self {
            max_size: NonZeroUsize::new(to_usize(options.max_size.unwrap_or(MAX_POOL_SIZE))),
            min_size: to_usize(options.min_size.unwrap_or(0)),
            max_connecting: options
                .max_connecting
                .and_then(|count| NonZeroUsize::new(to_usize(count)))
                .unwrap_or(MAX_CONNECTING),
            max_idle: options.max_idle_time.filter(|limit| !limit.is_zero()),
            wait_queue_timeout: options.wait_queue_timeout.filter(|limit| !limit.is_zero()),
            populate_pause: Duration::from_secs(1),
        }
    }
}

/// What the connections to the services behind a load balancer are in use for (Load Balancers,
/// "Connection Tracking").
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ConnectionsInUse {
    /// `maxPoolSize`; 0 is unlimited.
    pub max_pool_size: usize,
    /// Connections that cursors and change streams keep.
    pub cursors: usize,
    /// All others. No transaction is among them: this client has none.
    pub others: usize,
}

impl fmt::Display for ConnectionsInUse {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "maxPoolSize: {}, connections in use by cursors: {}, connections in use by \
             transactions: 0, connections in use by other operations: {}",
            self.max_pool_size, self.cursors, self.others
        )
    }
}

fn to_usize(count: u32) -> usize {
    usize::try_from(count).unwrap_or(usize::MAX)
}
