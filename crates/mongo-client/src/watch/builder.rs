//! What to watch, said option by option.

use std::future::IntoFuture;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use bson::{RawBson, RawDocumentBuf, Timestamp};
use mongo_change_stream::{
    ChangeStreamMachine, Checkpoint, EventFilter, FullDocumentBeforeChangeType, FullDocumentType,
    HistoryLost, OnInvalidate, Oversize, Prefetch, ResumeToken, StreamConfig, StreamEvent,
    StreamIdentity, WatchOptions, WatchTarget,
};
use mongo_uri::{ReadConcern, ReadPreference};
use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;

use super::ChangeStream;
use super::identity::identify;
use super::shared::Shared;
use super::task::{Listener, Task};
use crate::checkpoint::CheckpointFailure;
use crate::client::Client;
use crate::command::CommandOptions;
use crate::deadline::Deadline;
use crate::error::{Error, Misuse, Result};
use crate::operation::Intent;
use crate::session::ClientSession;

/// A change stream to be; `.await` opens it.
///
/// Opening waits until a server is found and has answered the `aggregate`, so that nothing that
/// happens afterwards is missed. An option that is not set is not sent.
#[derive(Clone)]
#[must_use = "a change stream opens when it is awaited"]
pub struct Watch {
    pub(super) client: Client,
    pub(super) target: WatchTarget,
    pipeline: Result<Vec<RawDocumentBuf>, Misuse>,
    filter: EventFilter,
    pub(super) options: WatchOptions,
    pub(super) config: StreamConfig,
    pub(super) command: CommandOptions,
    listener: Option<Listener>,
    /// The stream is one of those whose place is saved.
    is_saved: bool,
    pub(super) checkpoint: Option<Checkpoint>,
}

impl Watch {
    pub(crate) fn new(client: Client, target: WatchTarget) -> Self {
        let command = CommandOptions {
            intent: Intent::Read,
            ..CommandOptions::default()
        };
        Self {
            client,
            target,
            pipeline: Ok(Vec::new()),
            filter: EventFilter::default(),
            options: WatchOptions::default(),
            config: StreamConfig::default(),
            command,
            listener: None,
            is_saved: false,
            checkpoint: None,
        }
    }

    /// The stages behind `$changeStream`. The server decides which it takes.
    pub fn pipeline<D>(mut self, stages: impl IntoIterator<Item = D>) -> Self
    where
        D: TryInto<RawDocumentBuf, Error: std::fmt::Display>,
    {
        let stages = stages.into_iter().map(|stage| {
            stage.try_into().map_err(|error| Misuse::NotBson {
                what: "a stage of the pipeline",
                reason: error.to_string(),
            })
        });
        self.pipeline = stages.collect();
        self
    }

    /// Which events the stream is for: stages ahead of the pipeline, in the form that servers are
    /// fast with. The last filter given counts.
    ///
    /// ```no_run
    /// # async fn f(client: mongo_client::Client) -> Result<(), Box<dyn std::error::Error>> {
    /// use mongo_client::change_stream::EventFilter;
    ///
    /// let filter = EventFilter::default().include(["shop.orders".parse()?, "crm*".parse()?]);
    /// let stream = client.watch().filter(filter).await?;
    /// # let _ = stream;
    /// # Ok(())
    /// # }
    /// ```
    pub fn filter(mut self, filter: EventFilter) -> Self {
        self.filter = filter;
        self
    }

    /// How `fullDocument` is filled for updates.
    pub fn full_document(mut self, value: FullDocumentType) -> Self {
        self.options.full_document = Some(value);
        self
    }

    /// Whether the document before the change is added.
    pub fn full_document_before_change(mut self, value: FullDocumentBeforeChangeType) -> Self {
        self.options.full_document_before_change = Some(value);
        self
    }

    /// Start behind the event of this token.
    pub fn resume_after(mut self, token: ResumeToken) -> Self {
        self.options.resume_after = Some(token);
        self
    }

    /// Start behind the event of this token, which may be an invalidate event.
    pub fn start_after(mut self, token: ResumeToken) -> Self {
        self.options.start_after = Some(token);
        self
    }

    /// Start at a saved checkpoint, in the place of any other start; without one, as the other
    /// options say. Opening then asks the deployment who it is, and fails with
    /// [`Error::Checkpoint`] when the checkpoint is of another deployment, target or pipeline:
    /// [`CheckpointFailure::Foreign`]. See [`checkpoint`](crate::checkpoint).
    ///
    /// [`CheckpointFailure::Foreign`]: crate::checkpoint::CheckpointFailure::Foreign
    pub fn resume_from(mut self, checkpoint: impl Into<Option<Checkpoint>>) -> Self {
        self.checkpoint = checkpoint.into();
        self.is_saved = true;
        self
    }

    /// Start with the changes at or after this cluster time.
    pub fn start_at_operation_time(mut self, time: Timestamp) -> Self {
        self.options.start_at_operation_time = Some(time);
        self
    }

    /// How long the server waits for news before it answers with nothing; its default is 1 s.
    #[doc(alias = "max_await_time_ms")]
    pub fn max_await_time(mut self, time: Duration) -> Self {
        self.options.max_await_time = Some(time);
        self
    }

    /// Events a batch holds at most.
    pub fn batch_size(mut self, events: u32) -> Self {
        self.options.batch_size = Some(events);
        self
    }

    /// The collation for the pipeline.
    pub fn collation(mut self, collation: RawDocumentBuf) -> Self {
        self.options.collation = Some(collation);
        self
    }

    /// A comment for the server's logs and profiler.
    pub fn comment(mut self, comment: impl Into<RawBson>) -> Self {
        self.options.comment = Some(comment.into());
        self
    }

    /// Also report index, create, modify and sharding events (6.0 and later).
    pub fn show_expanded_events(mut self, show: bool) -> Self {
        self.options.show_expanded_events = Some(show);
        self
    }

    /// Which servers the stream may read from; the connection string's, if not said here.
    pub fn read_preference(mut self, read_preference: ReadPreference) -> Self {
        self.command.read_preference = Some(read_preference);
        self
    }

    /// What the stream may read; the connection string's, if not said here. Servers take none but
    /// `majority`, which is also what they do without one.
    pub fn read_concern(mut self, read_concern: ReadConcern) -> Self {
        self.command.read_concern = Some(read_concern);
        self
    }

    /// Runs the stream in this session, its resumes too. Without one it has a session of its own
    /// for as long as it is open.
    pub fn session(mut self, session: &ClientSession) -> Self {
        self.command.session = Some(session.clone());
        self
    }

    /// How long opening the stream, and then each call for an event, may take with everything that
    /// it needs, resumes too (`timeoutMS`); the session's or the connection string's, if not said
    /// here. Zero is no limit, and otherwise it must be longer than
    /// [`max_await_time`](Self::max_await_time).
    ///
    /// A call that takes too long fails with
    /// [`Error::OperationTimeout`](crate::Error::OperationTimeout) and the stream lives: the next
    /// call resumes it. If that happens before any event has come, the server does not get through
    /// the oplog in that time, and the limit should be longer.
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.command.timeout = Some(timeout);
        self
    }

    /// How far the stream reads ahead of the consumer; `None` asks the server only when the
    /// consumer waits.
    pub fn prefetch(mut self, window: Option<Prefetch>) -> Self {
        self.config.prefetch = window;
        self
    }

    /// What to do when the oplog no longer reaches back to where the stream stands: fail, or go on
    /// elsewhere and report the gap ([`ChangeStream::position`], [`on_event`](Self::on_event)).
    ///
    /// ```no_run
    /// # async fn f(orders: mongo_client::Collection) -> mongo_client::Result<()> {
    /// use mongo_client::change_stream::HistoryLost;
    ///
    /// let stream = orders.watch().history_lost(HistoryLost::FromNow).await?;
    /// if let Some(gap) = stream.position().last_gap {
    ///     eprintln!("nothing is known from {:?} to {:?}", gap.from, gap.to);
    /// }
    /// # Ok(())
    /// # }
    /// ```
    pub fn history_lost(mut self, policy: HistoryLost) -> Self {
        self.config.history_lost = policy;
        self
    }

    /// What to do behind an invalidate event: end, or go on with what happens under the same name.
    pub fn on_invalidate(mut self, policy: OnInvalidate) -> Self {
        self.config.invalidate = policy;
        self
    }

    /// What to do with events larger than a document may be: fail, have them cut and joined again
    /// (6.0.9 and later), or leave them out and report the gap.
    pub fn oversize(mut self, policy: Oversize) -> Self {
        self.config.oversize = policy;
        self
    }

    /// Exhaust mode: the server sends batch after batch unasked, which saves a round trip for each.
    /// Where it does not, a mongos before 7.1 for one, the stream asks as usual. What is read ahead
    /// is bounded as ever; the rest waits at the server. Giving such a stream up costs a connection.
    ///
    /// Replies that come unasked are not published as commands ([`events`](crate::events)).
    pub fn exhaust(mut self, exhaust: bool) -> Self {
        self.config.exhaust = exhaust;
        self
    }

    /// All that tunes the stream beyond the options the server sees.
    pub fn config(mut self, config: StreamConfig) -> Self {
        self.config = config;
        self
    }

    /// Called, from the stream's task, for what happens to the stream: interruptions, resumes.
    /// It must not block.
    pub fn on_event(mut self, listener: impl Fn(&StreamEvent) + Send + Sync + 'static) -> Self {
        self.listener = Some(Arc::new(listener));
        self
    }

    async fn open(mut self) -> Result<ChangeStream> {
        let mut pipeline = self.filter.stages();
        pipeline.append(&mut self.pipeline.map_err(Error::Misuse)?);
        let command = self.command.resolve(&self.client)?;
        let timeout = command.timeout;
        check_limits(timeout, self.options.max_await_time)?;
        let deadline = Deadline::after(timeout, Instant::now());
        let mut identity = StreamIdentity::new(&self.target, &pipeline);
        if self.is_saved {
            identify(&self.client, &mut identity, deadline).await?;
        }
        if let Some(checkpoint) = &self.checkpoint {
            let checked = identity.check(&checkpoint.identity);
            checked.map_err(|error| Box::new(CheckpointFailure::from(error)))?;
            checkpoint.point.apply(&mut self.options);
        }
        let is_traced = self.client.spans().are_enabled();
        let shared = Arc::new(Shared::new(&self.options, is_traced));
        shared.called();
        let (requests, inbox) = mpsc::unbounded_channel();
        let (opened, outcome) = oneshot::channel();
        let seed = self.client.random();
        let machine =
            ChangeStreamMachine::new(self.target, pipeline, self.options, self.config, seed);
        let closing = self.client.closing();
        let tasks = self.client.topology_room().tasks().clone();
        let task = Task {
            client: self.client,
            machine,
            shared: Arc::clone(&shared),
            deadline,
            session: command.session.clone(),
            command,
            listener: self.listener,
            opened: Some(opened),
            requests: inbox,
            closing,
            finished: false,
        };
        // Owned from the start, so that dropping this future closes what may be open by then.
        let is_timed = timeout.is_some_and(|limit| !limit.is_zero());
        let stream = ChangeStream::new(shared, requests, Arc::new(identity), is_timed);
        tasks.spawn(task.run());
        outcome.await.unwrap_or(Err(Error::Shutdown))?;
        Ok(stream)
    }
}

/// Refuses a wait that no call would live to see the end of.
fn check_limits(timeout: Option<Duration>, max_await: Option<Duration>) -> Result<()> {
    let limit = timeout.filter(|limit| !limit.is_zero());
    if limit.is_some_and(|limit| max_await.is_some_and(|wait| wait >= limit)) {
        let reason = "the time to wait for events must be shorter than the limit";
        return Err(Error::Misuse(Misuse::Timeout { reason }));
    }
    Ok(())
}

impl IntoFuture for Watch {
    type Output = Result<ChangeStream>;
    type IntoFuture = Pin<Box<dyn Future<Output = Result<ChangeStream>> + Send>>;

    fn into_future(self) -> Self::IntoFuture {
        Box::pin(self.open())
    }
}

impl std::fmt::Debug for Watch {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Watch")
            .field("target", &self.target)
            .field("options", &self.options)
            .finish_non_exhaustive()
    }
}
