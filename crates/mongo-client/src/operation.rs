//! From an operation to a connection and back: selection, check-out, envelope, errors.

use std::time::Duration;

use bson::{RawDocument, RawDocumentBuf, cstr, rawdoc};
use mongo_topology::{SYSTEM_OVERLOADED_ERROR, SelectionCriteria};
use mongo_uri::ReadPreference;
use mongo_wire::CommandReply;
use tokio::time::Instant;

use crate::client::Client;
use crate::connection::within;
use crate::error::{Error, IoAction, Result, codes};
use crate::pool::PooledConnection;

/// The longest first pause before an overloaded server is tried again.
const OVERLOAD_PAUSE: Duration = Duration::from_millis(100);
/// The longest pause of all.
const MAX_OVERLOAD_PAUSE: Duration = Duration::from_secs(10);

/// Commands sent to a server that suits, with what goes beside them.
#[derive(Debug)]
pub(crate) struct Bound {
    pub(crate) connection: PooledConnection,
    /// `$db` and, where the server has to know it, `$readPreference`.
    pub(crate) envelope: RawDocumentBuf,
}

impl Client {
    /// Selects a server and checks a connection out. Nothing has been sent when this fails, so
    /// that a server which fails meanwhile only means another selection.
    pub(crate) async fn bind(
        &self,
        database: &str,
        read_preference: &ReadPreference,
    ) -> Result<Bound> {
        let limit = self.settings().server_selection_timeout;
        let deadline = Instant::now() + limit;
        let criteria = SelectionCriteria::read(read_preference);
        let topology = self.topology_room();
        let mut overloads = 0;
        loop {
            let selected = topology.select(&criteria, limit, deadline).await?;
            let check_out = selected.pool.check_out(self.settings().wait_queue_timeout);
            let checked_out = tokio::time::timeout_at(deadline, check_out).await;
            match checked_out.unwrap_or_else(|_| Err(selected.pool.no_connection_within(limit))) {
                Ok(connection) => {
                    let mut envelope = rawdoc! { "$db": database };
                    if let Some(preference) = selected.read_preference {
                        envelope.append(cstr!("$readPreference"), preference);
                    }
                    return Ok(Bound {
                        connection,
                        envelope,
                    });
                }
                // The topology goes on offering a server that may only have too much to do.
                Err(error)
                    if error.has_label(SYSTEM_OVERLOADED_ERROR) && Instant::now() < deadline =>
                {
                    overloads += 1;
                    let pause = overload_pause(overloads, self.random());
                    topology.pause(pause, deadline).await;
                }
                // What is known may be about to change; the same again waits for news.
                Err(error) if error.says_try_elsewhere() => {
                    if !topology.has_news(&selected.description, deadline).await {
                        return Err(error);
                    }
                }
                Err(error) => return Err(error),
            }
        }
    }

    /// Runs a read that may be sent again, once, when the first try did not get through (Retryable
    /// Reads specification); each time it may take so long. A reply may be `ok: 0` all the same.
    pub(crate) async fn run_read(
        &self,
        database: &str,
        command: &RawDocument,
        read_preference: &ReadPreference,
        limit: Duration,
    ) -> Result<(Bound, CommandReply)> {
        let limit = self
            .settings()
            .socket_timeout
            .map_or(limit, |socket| socket.min(limit));
        let mut retries = u32::from(self.settings().retry_reads);
        let mut operation_id = None;
        loop {
            let mut bound = self.bind(database, read_preference).await?;
            let first = *operation_id.get_or_insert(bound.connection.operation_id());
            bound.connection.continue_operation(first);
            let result = bound.send(command, Some(limit)).await;
            let retry = match &result {
                Ok(reply) => codes::is_retryable_read(reply),
                Err(error) => error.is_network(),
            };
            if !retry || retries == 0 {
                return result.map(|reply| (bound, reply));
            }
            retries -= 1;
        }
    }
}

impl Bound {
    /// Runs one command and insists on `ok: 1`.
    pub(crate) async fn run(
        &mut self,
        command: &RawDocument,
        limit: Option<Duration>,
    ) -> Result<CommandReply> {
        let reply = self.send(command, limit).await?;
        let server = || self.connection.server().clone();
        let error = reply.server_error().map_err(|source| Error::Reply {
            server: server(),
            source,
        })?;
        match error {
            Some(error) => Err(Error::Server {
                server: server(),
                error: Box::new(error),
            }),
            None => Ok(reply),
        }
    }

    /// Runs one command; the reply may say `ok: 0`. Ends early when the pool of this connection
    /// moves on, since then the server instance is not to be relied on.
    pub(crate) async fn send(
        &mut self,
        command: &RawDocument,
        limit: Option<Duration>,
    ) -> Result<CommandReply> {
        let server = self.connection.server().clone();
        let exchange = self.connection.exchange(command, &self.envelope);
        within(limit, &server, IoAction::Receive, exchange).await
    }
}

/// How long to wait after so many failures that may come from overload: at random, so that not all
/// come back at once, up to a bound that doubles each time.
fn overload_pause(failures: u32, random: u64) -> Duration {
    let doubled = OVERLOAD_PAUSE.saturating_mul(1 << (failures - 1).min(16));
    let bound = doubled.min(MAX_OVERLOAD_PAUSE);
    let nanos = u64::try_from(bound.as_nanos()).unwrap_or(u64::MAX);
    Duration::from_nanos(random % nanos.max(1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn overload_pauses_grow_up_to_a_bound() {
        for (failures, bound) in [
            (1, 100),
            (2, 200),
            (7, 6_400),
            (8, 10_000),
            (u32::MAX, 10_000),
        ] {
            let bound = Duration::from_millis(bound);
            let nanos = u64::try_from(bound.as_nanos()).unwrap();
            assert_eq!(overload_pause(failures, nanos), Duration::ZERO);
            let longest = overload_pause(failures, nanos - 1);
            assert_eq!(longest, bound - Duration::from_nanos(1));
        }
    }
}
