//! A command that answers with a cursor, said option by option.

use std::future::IntoFuture;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use bson::{RawBson, RawDocument};
use mongo_uri::{ReadConcern, ReadPreference};
use tokio::time::Instant;

use super::fetch::Patience;
use super::{Cursor, Plan, Source};
use crate::command::{CommandOptions, command_options};
use crate::database::Database;
use crate::deadline::Deadline;
use crate::error::{Error, Misuse, Result};
use crate::session::ClientSession;

/// What a time limit of a cursor is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TimeoutMode {
    /// Everything together, from the first command to the last document.
    CursorLifetime,
    /// The first command, and then each call anew.
    Iteration,
}

/// What the first command has asked the server to make.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum CursorType {
    /// A cursor that ends with the last document.
    #[default]
    NonTailable,
    /// One that stays open for documents to come (`tailable`).
    Tailable,
    /// One that stays open, and whose server waits for documents (`tailable`, `awaitData`).
    TailableAwait,
}

/// A command that answers with a cursor, to be run; `.await` runs it and gives the [`Cursor`].
///
/// All that is said of [`RunCommand`](crate::RunCommand) holds. The further options are for the
/// `getMore`s only: what the first command needs of them has to stand in it.
///
/// # Errors
/// As for [`RunCommand`](crate::RunCommand), [`Error::Reply`] when there is no cursor in the reply,
/// and [`Error::Misuse`] when options contradict each other.
#[derive(Debug)]
#[must_use = "a command runs when it is awaited"]
pub struct RunCursorCommand<'a> {
    database: Database,
    command: &'a RawDocument,
    options: CommandOptions,
    plan: Plan,
    timeout_mode: Option<TimeoutMode>,
    cursor_type: CursorType,
}

impl<'a> RunCursorCommand<'a> {
    pub(crate) fn new(database: Database, command: &'a RawDocument) -> Self {
        Self {
            database,
            command,
            options: CommandOptions::default(),
            plan: Plan::default(),
            timeout_mode: None,
            cursor_type: CursorType::default(),
        }
    }

    command_options!();

    /// Documents a batch holds at most.
    pub fn batch_size(mut self, documents: u32) -> Self {
        self.plan.batch_size = Some(documents);
        self
    }

    /// How long the server may take for a batch; of a [`CursorType::TailableAwait`], how long it
    /// waits for a document. Any other cursor takes either this or a [`timeout`](Self::timeout).
    #[doc(alias = "max_time_ms")]
    pub fn max_await_time(mut self, time: Duration) -> Self {
        self.plan.max_await = Some(time);
        self
    }

    /// A comment for the server's logs and profiler; not sent to servers before 4.4.
    pub fn comment(mut self, comment: impl Into<RawBson>) -> Self {
        self.plan.comment = Some(comment.into());
        self
    }

    /// What the [`timeout`](Self::timeout) is for: all of it together, unless the cursor is
    /// tailable, which can only have one for each call.
    pub fn timeout_mode(mut self, mode: TimeoutMode) -> Self {
        self.timeout_mode = Some(mode);
        self
    }

    /// What kind of cursor the command asks for.
    pub fn cursor_type(mut self, cursor_type: CursorType) -> Self {
        self.cursor_type = cursor_type;
        self
    }

    /// Refuses what contradicts itself (Client Side Operations Timeout, "Cursors").
    fn check(&self, timeout: Option<Duration>) -> Result<()> {
        let is_tailable = self.cursor_type != CursorType::NonTailable;
        let max_await = self.plan.max_await.unwrap_or_default();
        let limit = timeout.filter(|limit| !limit.is_zero());
        let reason = match (self.timeout_mode, self.cursor_type) {
            (Some(_), _) if timeout.is_none() => "a mode for it was given, but no limit",
            (Some(TimeoutMode::CursorLifetime), _) if is_tailable => {
                "a tailable cursor has no end that a limit could be for"
            }
            (_, CursorType::TailableAwait) if limit.is_some_and(|limit| max_await >= limit) => {
                "the time to wait for a document must be shorter than the limit"
            }
            (_, CursorType::NonTailable | CursorType::Tailable)
                if limit.is_some() && self.plan.max_await.is_some() =>
            {
                "a limit of the server's for each batch cannot be given beside it"
            }
            _ => return Ok(()),
        };
        Err(Error::Misuse(Misuse::Timeout { reason }))
    }

    async fn run(self) -> Result<Cursor> {
        let (database, command) = (self.database.name(), self.command);
        let name = self.options.operation(command);
        let spans = self.database.client().spans();
        let span = spans.operation(name, database, command);
        span.run(self.open()).await
    }

    async fn open(self) -> Result<Cursor> {
        let client = self.database.client().clone();
        let options = self.options.clone().resolve(&client)?;
        self.check(options.timeout)?;
        let is_lifetime = self.cursor_type == CursorType::NonTailable
            && self.timeout_mode != Some(TimeoutMode::Iteration);
        let deadline = Deadline::after(options.timeout, Instant::now());
        let mut call = options.call(self.database.name(), self.command, deadline);
        call.sends_max_time = is_lifetime || self.cursor_type == CursorType::TailableAwait;
        let (bound, reply) = client.execute(&call).await?;
        if let Some(error) = bound.refusal(&reply) {
            return Err(error);
        }
        let server = bound.connection.server().clone();
        let found = reply.cursor().map_err(|source| Error::Reply {
            server: server.clone(),
            source,
        })?;
        let source = (found.id != 0).then(|| {
            Arc::new(Source {
                id: found.id,
                namespace: found.namespace,
                pool: Arc::clone(bound.connection.pool()),
                context: bound.context.clone(),
                max_wire_version: bound.connection.max_wire_version(),
            })
        });
        let is_pinned = client.settings().is_load_balanced && source.is_some();
        let pinned = Some(bound).filter(|_| is_pinned);
        if let Some(bound) = &pinned {
            bound.connection.hold_for_cursor();
        }
        Ok(Cursor {
            plan: Plan {
                timeout: options.timeout,
                is_lifetime,
                ..self.plan
            },
            client,
            server,
            source,
            pinned,
            batch: Some(found.batch.documents()),
            deadline,
            patience: Patience::new(deadline),
            fetching: None,
            has_failed: false,
        })
    }
}

impl<'a> IntoFuture for RunCursorCommand<'a> {
    type Output = Result<Cursor>;
    type IntoFuture = Pin<Box<dyn Future<Output = Result<Cursor>> + Send + 'a>>;

    fn into_future(self) -> Self::IntoFuture {
        Box::pin(self.run())
    }
}
