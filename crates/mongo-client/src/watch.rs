//! Change streams: the builder, the handle that hands out events, and a view of its position.
//!
//! A stream is a task ([`task`]) that owns the connection and the command under way, and a handle
//! that reads what the task has delivered. A caller's future therefore owns nothing that its
//! dropping could lose.

mod builder;
mod check;
mod fanout;
mod identity;
mod shared;
mod task;

use std::fmt;
use std::marker::PhantomData;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bson::Document;
use futures_core::Stream;
use mongo_change_stream::{
    BatchReader, ChangeEvent, Checkpoint, EventBatch, RawEvent, ResumePoint, ResumeToken,
    StreamError, StreamIdentity, StreamPosition,
};
use serde::de::DeserializeOwned;
use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;

pub use self::builder::Watch;
pub use self::check::{CheckReport, Finding, Subject, Verdict};
pub use self::fanout::{OnLag, SharedStream, SubscribeOptions, Subscription, SubscriptionError};
use self::shared::{Shared, Step};
use self::task::Request;
use crate::deadline::Deadline;
use crate::error::{Error, Result};
use crate::tasks::over;

/// A change stream whose events are read as `T`.
///
/// Reading an event as a type can fail without harm to the stream: the error is the event's, the
/// stream goes on behind it. Nor does a call that took too long end it
/// ([`Error::OperationTimeout`]): the next call resumes it. All other errors end the stream.
///
/// Dropping the handle closes the stream in the background; [`close`](Self::close) waits for it.
pub struct ChangeStream<T = ChangeEvent<Document>> {
    shared: Arc<Shared>,
    requests: mpsc::UnboundedSender<Request>,
    identity: Arc<StreamIdentity>,
    /// A call may only take so long.
    is_timed: bool,
    types: PhantomData<fn() -> T>,
}

impl<T> ChangeStream<T> {
    fn new(
        shared: Arc<Shared>,
        requests: mpsc::UnboundedSender<Request>,
        identity: Arc<StreamIdentity>,
        is_timed: bool,
    ) -> Self {
        Self {
            shared,
            requests,
            identity,
            is_timed,
            types: PhantomData,
        }
    }

    /// The same stream, with its events read as another type.
    #[must_use]
    pub fn with_type<U>(self) -> ChangeStream<U> {
        ChangeStream::new(self.shared, self.requests, self.identity, self.is_timed)
    }

    /// The token to start another stream with, behind the last event that was handed out, or
    /// behind everything that the server has looked through when nothing is left to hand out.
    ///
    /// Save this, not an event's `_id`: it also moves while nothing matches. It shares memory with
    /// the reply it came in; [`ResumeToken::compact`] makes a copy of its own.
    #[must_use]
    pub fn resume_token(&self) -> Option<ResumeToken> {
        self.shared.resume_token()
    }

    /// The same, with the option that the token needs: after an invalidate event that is
    /// `startAfter`.
    #[must_use]
    pub fn resume_point(&self) -> Option<ResumePoint> {
        self.shared.position().resume_point()
    }

    /// What to save for [`Watch::resume_from`]: the place behind what was handed out, and what
    /// stream this is. `None` as long as there is no token. Of a stream that was opened without
    /// `resume_from`, the deployment is not known, and will not be compared.
    #[must_use]
    pub fn checkpoint(&self) -> Option<Checkpoint> {
        Some(self.checkpoint_at(&self.resume_point()?))
    }

    /// The same for another place in this stream, such as that of a
    /// [`CheckpointTracker`](crate::change_stream::CheckpointTracker).
    #[must_use]
    pub fn checkpoint_at(&self, point: &ResumePoint) -> Checkpoint {
        Checkpoint {
            identity: StreamIdentity::clone(&self.identity),
            point: point.compact(),
        }
    }

    /// Where the stream stands, and since when.
    #[must_use]
    pub fn position(&self) -> StreamPosition {
        self.shared.position()
    }

    /// A cheap handle to read the position from elsewhere.
    #[must_use]
    pub fn observer(&self) -> StreamObserver {
        StreamObserver {
            shared: Arc::clone(&self.shared),
        }
    }

    /// Whether an event may still come: false once the stream has ended and everything it
    /// received was handed out.
    #[doc(alias = "alive")]
    #[must_use]
    pub fn is_alive(&self) -> bool {
        self.shared.is_alive()
    }

    /// The next event as it came; `None` at the end of the stream, which comes after an
    /// invalidate event, or once an error was returned.
    ///
    /// Dropping the future loses nothing: the event is still there for the next call.
    ///
    /// # Errors
    /// Any error but [`Error::OperationTimeout`] ends the stream.
    pub async fn next_raw(&mut self) -> Option<Result<RawEvent>> {
        self.begin_call();
        std::future::poll_fn(|cx| self.poll_next_raw(cx)).await
    }

    /// Everything that is left of the batch being read, or else the next batch, without a copy of
    /// any event; `None` at the end of the stream. The token moves behind the whole batch at once.
    ///
    /// Dropping the future loses nothing: the batch is still there for the next call.
    ///
    /// # Errors
    /// Any error but [`Error::OperationTimeout`] ends the stream, after the events before it.
    pub async fn next_batch(&mut self) -> Option<Result<EventBatch>> {
        self.begin_call();
        std::future::poll_fn(|cx| self.poll_step(BatchReader::next_batch, cx)).await
    }

    /// The next batch, or nothing when the place has moved on without events.
    async fn next_batch_or_news(&mut self) -> Option<Result<Option<EventBatch>>> {
        self.begin_call();
        let before = self.shared.deliveries();
        let next = std::future::poll_fn(|cx| match self.poll_step(BatchReader::next_batch, cx) {
            Poll::Pending if self.shared.deliveries() != before => Poll::Ready(Some(Ok(None))),
            Poll::Pending => Poll::Pending,
            Poll::Ready(found) => Poll::Ready(found.map(|batch| batch.map(Some))),
        });
        next.await
    }

    /// The next event if one has been received already, without waiting and without asking the
    /// server; `None` says only that there is none right now.
    ///
    /// # Errors
    /// Any error but [`Error::OperationTimeout`] ends the stream.
    pub fn next_received(&mut self) -> Option<Result<RawEvent>> {
        match self.shared.step(BatchReader::next_event, None) {
            Step::Found { found, taken } => Some(self.hand_out(found, taken)),
            Step::Ended(end) => end.map(Err),
            Step::Wait { .. } => None,
        }
    }

    /// Ends the stream: kills its cursor on the server that has it, and returns when that is done
    /// or has failed, which nobody needs to know. Events that were not handed out are still
    /// behind [`resume_token`](Self::resume_token). The stream's time limit begins anew, and is some
    /// seconds at most.
    ///
    /// Dropping the future leaves that to the background.
    pub async fn close(&mut self) {
        self.end(None).await;
    }

    /// As [`close`](Self::close), with a time limit of its own; zero is none, and leaves it at some
    /// seconds for a server that does not answer.
    pub async fn close_within(&mut self, limit: Duration) {
        self.end(Some(limit)).await;
    }

    async fn end(&mut self, limit: Option<Duration>) {
        let deadline = Deadline::after(limit, Instant::now());
        let (done, closed) = oneshot::channel();
        self.shared.called();
        if self.requests.send(Request::Close { done, limit }).is_ok() {
            tokio::select! {
                // An error says that the task has ended.
                _ = closed => {}
                // What an earlier cursor of the stream still needs may take longer.
                () = over(deadline) => {}
            }
        }
    }

    fn poll_next_raw(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<RawEvent>>> {
        self.poll_step(BatchReader::next_event, cx)
    }

    /// From here on counts the time that a call may take; what a call that was given up has met
    /// is nobody's business any more.
    fn begin_call(&self) {
        if self.is_timed {
            self.shared.begin_call();
        }
    }

    fn poll_step<U>(
        &mut self,
        read: impl FnOnce(&mut BatchReader) -> Option<Result<U, StreamError>>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<U>>> {
        match self.shared.step(read, Some(cx.waker())) {
            Step::Found { found, taken } => Poll::Ready(Some(self.hand_out(found, taken))),
            Step::Ended(end) => Poll::Ready(end.map(Err)),
            Step::Wait { demand } => {
                if demand {
                    self.shared.called();
                    self.tell(Request::Demanded);
                }
                Poll::Pending
            }
        }
    }

    fn hand_out<U>(&self, found: Result<U, StreamError>, taken: usize) -> Result<U> {
        if taken > 0 {
            self.tell(Request::Taken(taken));
        }
        found.map_err(|error| {
            // A bad event leaves no place to go on from.
            let (done, _) = oneshot::channel();
            self.tell(Request::Close { done, limit: None });
            Error::from(error)
        })
    }

    fn tell(&self, request: Request) {
        // The task has ended when nobody listens; what it left behind says so.
        let _ = self.requests.send(request);
    }
}

impl<T: DeserializeOwned> ChangeStream<T> {
    /// The next event; `None` at the end of the stream, which comes after an invalidate event, or
    /// once an error has ended it.
    ///
    /// Dropping the future loses nothing: the event is still there for the next call.
    ///
    /// # Errors
    /// [`StreamError::Event`](mongo_change_stream::StreamError::Event) when this event is no `T`;
    /// any other error but [`Error::OperationTimeout`] ends the stream.
    pub async fn next(&mut self) -> Option<Result<T>> {
        self.next_raw().await.map(|event| read(&event?))
    }

    /// The next event if there is one after asking the server at most once, which takes up to
    /// `max_await_time`. The token moves on even when there is none.
    ///
    /// Dropping the future loses nothing.
    ///
    /// # Errors
    /// As [`next`](Self::next).
    #[doc(alias = "try_next")]
    pub async fn next_if_any(&mut self) -> Result<Option<T>> {
        self.begin_call();
        let before = self.shared.deliveries();
        let next = std::future::poll_fn(|cx| {
            // The server has answered: whatever is there, it is not asked again.
            if self.shared.deliveries() != before {
                return Poll::Ready(self.next_received());
            }
            match self.poll_next_raw(cx) {
                Poll::Pending if self.shared.deliveries() != before => Poll::Ready(None),
                other => other,
            }
        });
        let event = next.await;
        // A call that has found nothing has waited, too.
        self.begin_call();
        event.map(|event| read(&event?)).transpose()
    }
}

fn read<T: DeserializeOwned>(event: &RawEvent) -> Result<T> {
    Ok(event.deserialize()?)
}

impl<T: DeserializeOwned> Stream for ChangeStream<T> {
    type Item = Result<T>;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<T>>> {
        let next = self.get_mut().poll_next_raw(cx);
        next.map(|event| event.map(|event| read(&event?)))
    }
}

impl<T> fmt::Debug for ChangeStream<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ChangeStream")
            .field("is_alive", &self.is_alive())
            .field("position", &self.position())
            .finish()
    }
}

/// Reads a stream's position from any task, at any time, also while its handle waits.
#[derive(Clone, Debug)]
pub struct StreamObserver {
    shared: Arc<Shared>,
}

impl StreamObserver {
    /// See [`ChangeStream::resume_token`].
    #[must_use]
    pub fn resume_token(&self) -> Option<ResumeToken> {
        self.shared.resume_token()
    }

    /// See [`ChangeStream::position`].
    #[must_use]
    pub fn position(&self) -> StreamPosition {
        self.shared.position()
    }

    /// See [`ChangeStream::is_alive`].
    #[must_use]
    pub fn is_alive(&self) -> bool {
        self.shared.is_alive()
    }
}
