//! What is sent about a cursor: `getMore` and `killCursors`, to its own server and no other.

use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bson::{RawArrayBuf, RawDocumentBuf, cstr, rawdoc};
use mongo_wire::CommandReply;
use tokio::time::Instant;
use tracing::Instrument;

use super::{Plan, Source};
use crate::client::Client;
use crate::deadline::{Deadline, Late};
use crate::error::{Error, IoAction, Result};
use crate::operation::{Beside, Bound, Failed, Kill};
use crate::spans::Spans;
use crate::tasks::over;

/// `maxWireVersion` of the first server that takes a comment with a `getMore` (4.4).
const COMMENT_WIRE_VERSION: i32 = 9;

/// The outcome of a `getMore`, and the connection that it came on.
pub(super) type Fetched = (Option<Bound>, Result<CommandReply>);

/// A `getMore` under way.
pub(super) type Fetching = Pin<Box<dyn Future<Output = Fetched> + Send>>;

/// Until when the call waits that wants a batch. A call may be given up; what it has begun goes on in
/// the time of the next one.
#[derive(Clone, Debug)]
pub(super) struct Patience(Arc<Mutex<Deadline>>);

impl Patience {
    pub(super) fn new(deadline: Deadline) -> Self {
        Self(Arc::new(Mutex::new(deadline)))
    }

    pub(super) fn set(&self, deadline: Deadline) {
        *self.lock() = deadline;
    }

    fn deadline(&self) -> Deadline {
        *self.lock()
    }

    /// Waits for the end of whichever call waits then.
    async fn is_over(&self) -> Deadline {
        loop {
            let deadline = self.deadline();
            if deadline.is_over(Instant::now()) {
                return deadline;
            }
            over(deadline).await;
        }
    }

    fn lock(&self) -> MutexGuard<'_, Deadline> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A batch to be asked for.
pub(super) struct Ask {
    command: RawDocumentBuf,
    source: Arc<Source>,
    pinned: Option<Bound>,
    patience: Patience,
    max_await: Option<Duration>,
}

impl Ask {
    pub(super) fn new(
        plan: &Plan,
        source: Arc<Source>,
        pinned: Option<Bound>,
        patience: Patience,
    ) -> Self {
        let mut command = rawdoc! { "getMore": source.id, "collection": source.collection() };
        if let Some(size) = plan.batch_size.filter(|size| *size != 0) {
            command.append(cstr!("batchSize"), i64::from(size));
        }
        let comment = plan.comment.clone();
        let comment = comment.filter(|_| source.max_wire_version >= COMMENT_WIRE_VERSION);
        if let Some(comment) = comment {
            command.append(cstr!("comment"), comment);
        }
        Self {
            command,
            source,
            pinned,
            patience,
            max_await: plan.max_await,
        }
    }

    /// Asks, as an operation of its own.
    pub(super) fn run(self, client: Client) -> Fetching {
        let spans = client.spans();
        let span = spans.operation("getMore", self.source.context.database(), &self.command);
        Box::pin(async move {
            let (bound, reply) = self.ask(client).instrument(span.span()).await;
            if let Err(error) = &reply {
                span.failed(error);
            }
            (bound, reply)
        })
    }

    /// Asks, and asks again when the server had no time to begin.
    async fn ask(mut self, client: Client) -> Fetched {
        let mut retries = client.retries_of_get_more(self.patience.deadline());
        let mut bound = self.pinned.take();
        loop {
            let result = tokio::select! {
                biased;
                result = self.attempt(&client, &mut bound) => result,
                deadline = self.patience.is_over() => Err(self.late(bound.is_some(), deadline)),
            };
            let failed = match &result {
                Ok(reply) => Failed::of_reply(reply),
                Err(error) => Some(Failed::of_error(error)),
            };
            let deadline = self.patience.deadline();
            let again = failed.and_then(|failed| client.retry_at(&mut retries, &failed, deadline));
            let Some(until) = again else {
                let result = conclude(result, bound.as_ref(), deadline);
                return (bound, result);
            };
            if !client.settings().is_load_balanced {
                bound = None;
            }
            tokio::time::sleep_until(until).await;
        }
    }

    /// Asks once, for as long as it takes: on this connection, or on another that is left there.
    async fn attempt(&self, client: &Client, bound: &mut Option<Bound>) -> Result<CommandReply> {
        let now = Instant::now();
        let deadline = self.patience.deadline();
        let max_time = deadline.max_time(now, self.source.context.round_trip);
        let left = max_time.map_err(|Late| Error::late(deadline.limit()))?;
        let await_time = self.max_await.map(millis);
        let unlimited = deadline.without_end();
        let own = match bound {
            Some(own) => own,
            None => {
                let connection = client.check_out(&self.source.pool, unlimited, now).await?;
                bound.insert(self.source.context.clone().on(connection))
            }
        };
        let beside = Beside {
            max_time: await_time.map(|millis| left.map_or(millis, |left| left.min(millis))),
            limit: client.limit_of_answer(unlimited, None),
            ..Beside::default()
        };
        own.send(&self.command, &beside).await
    }

    /// What to say when the time is over.
    fn late(&self, has_asked: bool, deadline: Deadline) -> Error {
        let (server, limit) = (self.source.pool.server().address.clone(), deadline.limit());
        let late = match has_asked {
            true => Error::Timeout {
                server,
                action: IoAction::Receive,
                limit,
            },
            false => Error::NoConnection { server, limit },
        };
        late.timed_out(limit)
    }
}

impl Source {
    /// What stands in its namespace behind the database.
    fn collection(&self) -> &str {
        let parts = self.namespace.split_once('.');
        parts.map_or(&self.namespace, |(_, collection)| collection)
    }

    /// What ends the cursor, sent on its own connection if that is free.
    pub(super) fn into_kill(self, spans: &Spans, bound: Option<Bound>) -> Kill {
        let ids: RawArrayBuf = [self.id].into_iter().collect();
        let mut command = rawdoc! { "killCursors": self.collection() };
        command.append(cstr!("cursors"), ids);
        let span = spans.operation("killCursors", self.context.database(), &command);
        Kill {
            command: command.into(),
            bound,
            elsewhere: (self.context, self.pool),
            span,
        }
    }
}

/// What the caller gets of the last try.
fn conclude(
    result: Result<CommandReply>,
    bound: Option<&Bound>,
    deadline: Deadline,
) -> Result<CommandReply> {
    let reply = result.and_then(
        |reply| match bound.and_then(|bound| bound.refusal(&reply)) {
            Some(error) => Err(error),
            None => Ok(reply),
        },
    );
    reply.map_err(|error| error.within_deadline(deadline))
}

fn millis(time: Duration) -> i64 {
    i64::try_from(time.as_millis()).unwrap_or(i64::MAX)
}
