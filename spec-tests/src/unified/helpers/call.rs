//! One command of a helper: what goes beside it, and how it is sent.

use std::time::Duration;

use bson::{Bson, Document};
use mongo_client::uri::{ReadConcern, ReadPreference};
use mongo_client::{Cursor, CursorType, TimeoutMode};

use super::{Common, Given};
use crate::unified::arguments::{Arguments, Required, raw};
use crate::unified::case::Yield;
use crate::unified::entities::Target;
use crate::unified::errors::Op;
use crate::unified::events::document;
use crate::unified::stop::{Run, Stop};

/// What a command does, which decides what is inherited and whether it is sent again.
#[derive(Clone, Debug)]
pub(super) enum Kind {
    /// A command of the case's own, with the read preference of the operation alone.
    Given(Option<ReadPreference>),
    /// A read that obeys read preference and read concern.
    Read,
    /// A read of what is there at all, which only the primary answers.
    List,
    /// A read that is never sent again.
    Once,
    /// A write that obeys a write concern.
    Write,
    /// Such a write of single documents, which servers know again when it is sent again.
    WriteOnce,
    /// A write of what was read.
    ReadAndWrite,
}

/// A command to be sent.
#[derive(Debug)]
pub(super) struct Call {
    pub(super) command: Document,
    kind: Kind,
    common: Common,
    /// What goes beside every getMore.
    comment: Option<Bson>,
    /// The operation's name, where it is not the command's.
    operation: Option<&'static str>,
}

/// How a cursor is to be iterated.
#[derive(Debug, Default)]
pub(super) struct CursorOptions {
    pub(super) batch_size: Option<u32>,
    pub(super) max_await: Option<Duration>,
    pub(super) comment: Option<Bson>,
    pub(super) timeout_mode: Option<TimeoutMode>,
    pub(super) cursor_type: CursorType,
}

impl CursorOptions {
    pub(super) fn take(arguments: &mut Arguments) -> Run<Self> {
        let mode = match arguments.text("timeoutMode")?.as_deref() {
            None => None,
            Some("iteration") => Some(TimeoutMode::Iteration),
            Some("cursorLifetime") => Some(TimeoutMode::CursorLifetime),
            Some(other) => return Err(Stop::fail(format!("timeoutMode cannot be {other:?}"))),
        };
        let cursor_type = match arguments.text("cursorType")?.as_deref() {
            None | Some("nonTailable") => CursorType::NonTailable,
            Some("tailable") => CursorType::Tailable,
            Some("tailableAwait") => CursorType::TailableAwait,
            Some(other) => return Err(Stop::fail(format!("cursorType cannot be {other:?}"))),
        };
        Ok(Self {
            batch_size: arguments.size("batchSize")?,
            max_await: arguments.millis("maxAwaitTimeMS")?,
            comment: None,
            timeout_mode: mode,
            cursor_type,
        })
    }
}

/// Says of a command, of either of two types, what a [`Call`] prescribes.
macro_rules! say {
    ($call:expr, $target:expr, $command:expr) => {{
        let mut command = $command;
        if let Some(session) = &$call.common.session {
            command = command.session(session);
        }
        if let Some(timeout) = $call.common.timeout.or($target.timeout) {
            command = command.timeout(timeout);
        }
        if matches!($call.kind, Kind::Read | Kind::List) {
            command = command.as_read();
        }
        let (preference, concern) = $call.inherited($target);
        if let Some(preference) = preference {
            command = command.read_preference(preference);
        }
        if let Some(concern) = concern {
            command = command.read_concern(concern);
        }
        if let Some(operation) = $call.operation {
            command = command.operation_name(operation);
        }
        command
    }};
}

impl Call {
    /// A command whose arguments have all been taken; `maxTimeMS` and `comment` are put in here.
    pub(super) fn new(
        (command, kind): (Document, Kind),
        target: &Target,
        (mut arguments, common): Given,
    ) -> Run<Self> {
        let mut command = command;
        let comment = arguments.value("comment");
        let max_time = arguments.value("maxTimeMS");
        arguments.finish()?;
        if let Some(comment) = &comment {
            command.insert("comment", comment.clone());
        }
        // A limit for the whole operation makes the older one void.
        let limit = common.effective_timeout(target);
        if let Some(time) = max_time.filter(|_| limit.is_none()) {
            command.insert("maxTimeMS", time);
        }
        let concern = target.write_concern.clone().filter(|_| kind.writes());
        if let Some(mut concern) = concern {
            if limit.is_some() {
                concern.remove("wtimeout");
            }
            if !concern.is_empty() {
                command.insert("writeConcern", concern);
            }
        }
        Ok(Self {
            command,
            kind,
            common,
            comment,
            operation: None,
        })
    }

    /// A command as the case gives it, whose first key is the one that `commandName` says.
    pub(super) fn given(arguments: &mut Arguments, common: Common) -> Run<Self> {
        let command = arguments.document("command").required("command")?;
        let name = arguments.text("commandName")?;
        let first = command.keys().next();
        if let (Some(name), Some(first)) = (name, first)
            && name != *first
        {
            let problem = format!("the first key of {command} is not {name}");
            return Err(Stop::fail(problem));
        }
        let kind = Kind::Given(arguments.read_preference()?);
        Ok(Self {
            command,
            kind,
            common,
            comment: None,
            operation: None,
        })
    }

    /// The same as an operation of this name.
    pub(super) fn named(mut self, operation: &'static str) -> Self {
        self.operation = Some(operation);
        self
    }

    /// Sends the command; its reply.
    pub(super) async fn run(self, target: &Target) -> Op<Document> {
        let raw = raw(&self.command)?;
        let database = target.handle();
        let mut command = say!(self, target, database.run_command(&raw));
        if matches!(self.kind, Kind::WriteOnce) {
            command = command.as_write();
        }
        let reply = command.await?;
        Ok(document(reply.document().as_raw()))
    }

    /// Sends the command; the cursor that it answers with.
    pub(super) async fn cursor(self, target: &Target, options: CursorOptions) -> Op<Cursor> {
        let raw = raw(&self.command)?;
        let database = target.handle();
        let command = say!(self, target, database.run_cursor_command(&raw));
        Ok(options.apply(command, self.comment)?.await?)
    }

    /// What the target says, or what must not come from the client.
    fn inherited(&self, target: &Target) -> (Option<ReadPreference>, Option<ReadConcern>) {
        match &self.kind {
            Kind::Given(preference) => (preference.clone(), None),
            Kind::Read | Kind::Once => {
                (target.read_preference.clone(), target.read_concern.clone())
            }
            Kind::List => (
                Some(ReadPreference::default()),
                Some(ReadConcern::default()),
            ),
            Kind::ReadAndWrite => (None, Some(target.read_concern.clone().unwrap_or_default())),
            // A causally consistent session has something to say beside writes, too.
            Kind::Write | Kind::WriteOnce => (
                None,
                self.common.session.as_ref().map(|_| ReadConcern::default()),
            ),
        }
    }
}

impl Kind {
    fn writes(&self) -> bool {
        matches!(self, Self::Write | Self::WriteOnce | Self::ReadAndWrite)
    }
}

impl CursorOptions {
    /// Says them of a command.
    fn apply<'a>(
        self,
        mut command: mongo_client::RunCursorCommand<'a>,
        comment: Option<Bson>,
    ) -> Run<mongo_client::RunCursorCommand<'a>> {
        if let Some(size) = self.batch_size {
            command = command.batch_size(size);
        }
        if let Some(time) = self.max_await {
            command = command.max_await_time(time);
        }
        if let Some(mode) = self.timeout_mode {
            command = command.timeout_mode(mode);
        }
        if let Some(comment) = self.comment.or(comment) {
            let comment = bson::RawBson::try_from(comment)
                .map_err(|error| Stop::fail(format!("the comment cannot be encoded: {error}")))?;
            command = command.comment(comment);
        }
        Ok(command.cursor_type(self.cursor_type))
    }
}

impl Common {
    /// The limit of the operation, wherever it comes from, if there is one at all.
    pub(super) fn effective_timeout(&self, target: &Target) -> Option<Duration> {
        let session = self.session.as_ref();
        let of_session = session.and_then(|session| session.options().default_timeout);
        self.timeout
            .or(of_session)
            .or(target.timeout)
            .or(target.client.timeout)
    }
}

/// All documents of a cursor.
pub(super) async fn exhaust(mut cursor: Cursor) -> Op<Yield> {
    let mut documents = Vec::new();
    while let Some(found) = cursor.next().await {
        documents.push(document(&found?).into());
    }
    Ok(Yield::Documents(documents))
}
