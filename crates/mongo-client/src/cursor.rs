//! Cursors: results that come in batches, and stay on the server until they are asked for (Find,
//! getMore and killCursors; Run Command, "runCursorCommand").

mod builder;
mod fetch;

use std::fmt;
use std::sync::Arc;
use std::task::{Context as TaskContext, Poll};
use std::time::Duration;

use bson::{RawBson, RawDocumentBuf};
use mongo_uri::ServerAddress;
use mongo_wire::{BatchDocuments, ByteStr};
use tokio::sync::oneshot;
use tokio::time::Instant;

pub use self::builder::{CursorType, RunCursorCommand, TimeoutMode};
use self::fetch::{Ask, Fetched, Fetching, Patience};
use crate::client::Client;
use crate::deadline::Deadline;
use crate::error::{Error, Result, codes};
use crate::operation::{Bound, Context, in_background};
use crate::pool::Pool;

/// The documents that a command has found; those that have not come yet are on the server.
///
/// Dropping a future of a cursor loses nothing: what was asked of the server goes on with the next
/// call, and in the time that this one has. Dropping the cursor kills it on its server in the background; [`close`](Self::close) waits
/// for that.
pub struct Cursor {
    client: Client,
    plan: Plan,
    server: ServerAddress,
    /// Where the rest is; `None` once the server has none, or it was killed.
    source: Option<Arc<Source>>,
    /// Behind a load balancer: the connection that leads to the cursor, while it is not in use.
    pinned: Option<Bound>,
    batch: Option<BatchDocuments>,
    /// The end of the whole, or of nothing: see [`Plan::is_lifetime`].
    deadline: Deadline,
    /// That of the call that waits.
    patience: Patience,
    /// The `getMore` under way.
    fetching: Option<Fetching>,
    has_failed: bool,
}

/// How a cursor is to be gone on with.
#[derive(Clone, Debug, Default)]
struct Plan {
    batch_size: Option<u32>,
    /// `maxTimeMS` of each `getMore`.
    max_await: Option<Duration>,
    comment: Option<RawBson>,
    timeout: Option<Duration>,
    /// Whether the limit is for everything until the cursor's end, not for each call.
    is_lifetime: bool,
}

/// A cursor that is open on its server.
#[derive(Clone, Debug)]
struct Source {
    id: i64,
    namespace: ByteStr,
    pool: Arc<Pool>,
    /// Beside everything that is sent about the cursor, the session of the first command.
    context: Context,
    max_wire_version: i32,
}

impl Cursor {
    /// The next document; `None` when there is none any more, or an error was returned before. Of
    /// a tailable cursor: waits until there is one.
    ///
    /// # Errors
    /// Any error of the server or the connection ends the cursor; the documents before it have
    /// been returned. [`Error::OperationTimeout`] when the limit of the call, or of the whole
    /// cursor, is over.
    pub async fn next(&mut self) -> Option<Result<RawDocumentBuf>> {
        let deadline = self.deadline_of_call();
        loop {
            if let Some(document) = self.next_received() {
                return Some(document);
            }
            match self.fetch(deadline).await {
                Ok(true) => {}
                Ok(false) => return None,
                Err(error) => return Some(Err(error)),
            }
        }
    }

    /// The next document if there is one after asking the server at most once; for tailable
    /// cursors, which may have none for the moment.
    ///
    /// # Errors
    /// As [`next`](Self::next).
    #[doc(alias = "try_next")]
    pub async fn next_if_any(&mut self) -> Result<Option<RawDocumentBuf>> {
        if let Some(document) = self.next_received() {
            return document.map(Some);
        }
        let deadline = self.deadline_of_call();
        self.fetch(deadline).await?;
        self.next_received().transpose()
    }

    /// Whether a document may still come.
    #[doc(alias = "alive")]
    #[must_use]
    pub fn is_alive(&self) -> bool {
        // One byte is what ends the array.
        let has_received = self
            .batch
            .as_ref()
            .is_some_and(|left| left.bytes_left() > 1);
        has_received || (self.source.is_some() && !self.has_failed)
    }

    /// Ends the cursor: kills it on its server if it is open there, and returns when that is done
    /// or has failed, which nobody needs to know. The time limit, if there is one, begins anew.
    ///
    /// Dropping the future leaves that to the background.
    pub async fn close(&mut self) {
        self.end(self.plan.timeout).await;
    }

    /// As [`close`](Self::close), with a time limit of its own in the place of the cursor's; zero is
    /// none, and leaves it at some seconds for a server that does not answer.
    pub async fn close_within(&mut self, limit: Duration) {
        self.end(Some(limit)).await;
    }

    async fn end(&mut self, timeout: Option<Duration>) {
        self.batch = None;
        let Some(kill) = self.kill(timeout) else {
            return;
        };
        let (done, is_done) = oneshot::channel::<()>();
        self.client.topology_room().tasks().spawn(async move {
            kill.await;
            drop(done);
        });
        // An error: the task has dropped its end.
        let _ = is_done.await;
    }

    fn next_received(&mut self) -> Option<Result<RawDocumentBuf>> {
        let document = self.batch.as_mut()?.next()?;
        Some(match document {
            Ok(document) => Ok(document.to_raw_document_buf()),
            Err(source) => Err(self.unreadable(source)),
        })
    }

    fn unreadable(&mut self, source: mongo_wire::ReplyError) -> Error {
        self.batch = None;
        self.has_failed = true;
        let server = self.server.clone();
        Error::Reply { server, source }
    }

    fn deadline_of_call(&self) -> Deadline {
        if self.plan.is_lifetime {
            self.deadline
        } else {
            Deadline::after(self.plan.timeout, Instant::now())
        }
    }

    /// Asks the server for a batch, or waits for one that was asked for; false when there is
    /// nothing to be asked for any more.
    async fn fetch(&mut self, deadline: Deadline) -> Result<bool> {
        self.patience.set(deadline);
        let fetched = std::future::poll_fn(|cx| self.poll_fetch(cx)).await;
        let Some(fetched) = fetched else {
            return Ok(false);
        };
        match self.take_in(fetched) {
            Ok(()) => Ok(true),
            Err(error) => {
                self.has_failed = true;
                Err(error)
            }
        }
    }

    fn poll_fetch(&mut self, cx: &mut TaskContext<'_>) -> Poll<Option<Fetched>> {
        if self.has_failed {
            return Poll::Ready(None);
        }
        if self.fetching.is_none() {
            let Some(source) = &self.source else {
                return Poll::Ready(None);
            };
            let (pinned, patience) = (self.pinned.take(), self.patience.clone());
            let ask = Ask::new(&self.plan, Arc::clone(source), pinned, patience);
            self.fetching = Some(ask.run(self.client.clone()));
        }
        let fetching = self.fetching.as_mut().expect("it was just put there");
        let fetched = std::task::ready!(fetching.as_mut().poll(cx));
        self.fetching = None;
        Poll::Ready(Some(fetched))
    }

    fn take_in(&mut self, (bound, reply): Fetched) -> Result<()> {
        let is_pinned = self.client.settings().is_load_balanced;
        let reply = match reply.and_then(|reply| reply.cursor().map_err(|e| self.unreadable(e))) {
            Ok(reply) => reply,
            Err(error) => {
                // Whatever has happened, the connection is the cursor's until that is closed (Load
                // Balancers, "Behaviour With Cursors").
                if error.code() == Some(codes::CURSOR_NOT_FOUND) {
                    self.source = None;
                } else {
                    self.pinned = bound.filter(|_| is_pinned);
                }
                return Err(error);
            }
        };
        self.batch = Some(reply.batch.documents());
        match &mut self.source {
            Some(source) if reply.id != 0 => {
                // Nothing is under way that has it, too.
                let source = Arc::make_mut(source);
                source.id = reply.id;
                source.namespace = reply.namespace;
                self.pinned = bound.filter(|_| is_pinned);
            }
            // The connection goes before the session, which was kept for the cursor.
            source => {
                drop(bound);
                *source = None;
            }
        }
        Ok(())
    }

    /// Forgets what is on the server, and kills it once the future is run.
    fn kill(
        &mut self,
        timeout: Option<Duration>,
    ) -> Option<impl Future<Output = ()> + Send + use<>> {
        // A connection whose reply is still to come is closed.
        self.fetching = None;
        let pinned = self.pinned.take();
        let pinned = pinned.filter(|bound| bound.connection.is_reusable());
        let source = Arc::unwrap_or_clone(self.source.take()?);
        if pinned.is_none() && self.client.settings().is_load_balanced {
            // No other connection is sure to lead to the cursor.
            return None;
        }
        let kill = source.into_kill(self.client.spans(), pinned);
        Some(kill.run(timeout))
    }
}

impl Drop for Cursor {
    fn drop(&mut self) {
        if let Some(kill) = self.kill(in_background(self.plan.timeout)) {
            self.client.topology_room().tasks().spawn(kill);
        }
    }
}

impl fmt::Debug for Cursor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let id = self.source.as_ref().map_or(0, |source| source.id);
        f.debug_struct("Cursor")
            .field("server", &self.server)
            .field("id", &id)
            .field("is_alive", &self.is_alive())
            .finish_non_exhaustive()
    }
}
