//! What the public tests need and an application must not have: a pool without a client, seed
//! lists that are looked up again sooner. No part of the API: it may change or go away with any
//! version.
//!
//! The specification's tests of pools make a pool ready, clear it and close it themselves, which in a
//! client only discovery does. So this pool stands alone: it is the worker and the machine of a
//! client's pool, and in the place of discovery stands its rule for errors of connections that
//! cannot be opened: unless the server may be overloaded, the pool is cleared.

use std::sync::Arc;
use std::time::Duration;

use mongo_topology::{ErrorPhase, Input, SYSTEM_OVERLOADED_ERROR, ServerId, TopologyConfig};
use mongo_uri::ConnectionString;

use crate::client::connector;
use crate::connection::Environment;
use crate::error::Result;
use crate::events::{EventListener, Events};
use crate::logs::Logs;
use crate::options::ClientOptions;
use crate::pool::{Clear, Pool, PoolContext, PoolLimits, PooledConnection};
use crate::spans::{Spans, TracingOptions};
use crate::tasks::Tasks;
use crate::topology::TopologyHandle;

/// Has the seed list looked up again after this time, whatever its records say.
#[must_use]
pub fn rescan_interval(mut options: ClientOptions, interval: Duration) -> ClientOptions {
    options.rescan_interval = Some(interval);
    options
}

/// The pool of the first host of a connection string, paused; closed when dropped.
#[derive(Debug)]
pub struct LonePool {
    pool: Arc<Pool>,
    wait_queue_timeout: Option<Duration>,
}

impl LonePool {
    /// Makes a pool whose options are those of the connection string.
    ///
    /// # Errors
    /// As for a client with this connection string.
    ///
    /// # Panics
    /// Outside a tokio runtime, and without a host.
    pub fn new(
        uri: &ConnectionString,
        populate_pause: Option<Duration>,
        listener: EventListener,
    ) -> Result<Self> {
        let (topology, mut facts) = TopologyHandle::channel();
        let mut limits = PoolLimits::from(&uri.options.pool);
        limits.populate_pause = populate_pause.unwrap_or(limits.populate_pause);
        let logs = Logs::new(None);
        let spans = Spans::new(TracingOptions::default(), |_| None, logs.topology_id);
        let environment = Environment::of_this_process();
        let config = TopologyConfig::from(uri);
        let connector = connector(&uri.clone().into(), &config, &environment)?;
        let context = PoolContext {
            limits,
            connector: Arc::new(connector),
            topology,
            events: Events::new(Some(listener), logs, spans),
            tasks: Tasks::new(),
        };
        let server = ServerId {
            address: uri
                .hosts
                .first()
                .expect("a connection string has hosts")
                .clone(),
            instance: 0,
        };
        let pool = Pool::new(server, context);
        let cleared = Arc::downgrade(&pool);
        tokio::spawn(async move {
            while let Some(told) = facts.recv().await {
                let Some(pool) = cleared.upgrade() else {
                    return;
                };
                if let Input::ApplicationError { phase, error, .. } = &told.input
                    && *phase != ErrorPhase::Established
                    && !error.has_label(SYSTEM_OVERLOADED_ERROR)
                {
                    clear(&pool, false);
                }
            }
        });
        Ok(Self {
            pool,
            wait_queue_timeout: limits.wait_queue_timeout,
        })
    }

    /// As discovery does when the server answers.
    pub fn ready(&self) {
        self.pool.mark_ready();
    }

    /// As discovery does when the server fails.
    pub fn clear(&self, interrupt_in_use: bool) {
        clear(&self.pool, interrupt_in_use);
    }

    /// As discovery does when the server leaves the topology.
    pub fn close(&self) {
        self.pool.close();
    }

    /// As an operation does.
    ///
    /// # Errors
    /// Those of an operation that gets no connection.
    pub async fn check_out(&self) -> Result<LoneConnection> {
        let connection = self.pool.check_out(self.wait_queue_timeout).await?;
        Ok(LoneConnection(connection))
    }
}

impl Drop for LonePool {
    fn drop(&mut self) {
        self.pool.close();
    }
}

fn clear(pool: &Arc<Pool>, interrupt_in_use: bool) {
    pool.clear(Clear {
        generation: pool.generation() + 1,
        service_id: None,
        interrupt_in_use,
        cause: None,
    });
}

/// A connection that is checked out; dropping it checks it in.
#[derive(Debug)]
pub struct LoneConnection(PooledConnection);

impl LoneConnection {
    /// Its number in its pool.
    #[must_use]
    pub fn id(&self) -> u64 {
        self.0.id()
    }
}
