//! Commands of the caller's own, said option by option.

use std::borrow::Cow;
use std::future::IntoFuture;
use std::pin::Pin;
use std::time::Duration;

use bson::RawDocument;
use mongo_uri::{ReadConcern, ReadPreference};
use mongo_wire::CommandReply;
use tokio::time::Instant;

use crate::client::Client;
use crate::database::Database;
use crate::deadline::Deadline;
use crate::error::Result;
use crate::events::name_of;
use crate::operation::{Call, Intent};
use crate::session::{ActiveSession, ClientSession};

/// What every kind of command can be told.
#[derive(Clone, Debug, Default)]
pub(crate) struct CommandOptions {
    pub(crate) read_preference: Option<ReadPreference>,
    pub(crate) read_concern: Option<ReadConcern>,
    pub(crate) session: Option<ClientSession>,
    /// Not even one of its own.
    pub(crate) without_session: bool,
    pub(crate) timeout: Option<Duration>,
    pub(crate) intent: Intent,
    /// What logs and spans call the operation, where it is not the command's name.
    pub(crate) operation: Option<Cow<'static, str>>,
}

/// The same, with what the client and the session have to say about it.
#[derive(Clone, Debug)]
pub(crate) struct Resolved {
    pub(crate) read_preference: ReadPreference,
    pub(crate) read_concern: Option<ReadConcern>,
    pub(crate) session: Option<ActiveSession>,
    without_session: bool,
    pub(crate) timeout: Option<Duration>,
    pub(crate) intent: Intent,
    operation: Option<Cow<'static, str>>,
}

impl CommandOptions {
    /// What the operation of a command is called.
    pub(crate) fn operation<'a>(&'a self, command: &'a RawDocument) -> &'a str {
        let named = self.operation.as_deref();
        named.unwrap_or_else(|| name_of(command))
    }

    /// Fills in what the caller has left open.
    ///
    /// # Errors
    /// When the session is of another client, or has ended.
    pub(crate) fn resolve(self, client: &Client) -> Result<Resolved> {
        let settings = client.settings();
        let session = self.session.as_ref();
        let of_session = session.and_then(|session| session.options().default_timeout);
        let is_read = self.intent == Intent::Read;
        let inherited = || is_read.then(|| settings.read_concern.clone());
        let inherited_preference = || is_read.then(|| settings.read_preference.clone());
        Ok(Resolved {
            session: session
                .map(|session| ActiveSession::explicit(client, session))
                .transpose()?,
            without_session: self.without_session,
            timeout: self.timeout.or(of_session).or(settings.timeout),
            read_concern: self.read_concern.or_else(inherited),
            read_preference: self
                .read_preference
                .or_else(inherited_preference)
                .unwrap_or_default(),
            intent: self.intent,
            operation: self.operation,
        })
    }
}

impl Resolved {
    /// A command with these options.
    pub(crate) fn call<'a>(
        &'a self,
        database: &'a str,
        command: &'a RawDocument,
        deadline: Deadline,
    ) -> Call<'a> {
        let named = self.operation.as_deref();
        Call {
            operation: named.unwrap_or_else(|| name_of(command)),
            database,
            command,
            read_preference: &self.read_preference,
            read_concern: self.read_concern.as_ref(),
            intent: self.intent,
            session: self.session.as_ref(),
            without_session: self.without_session,
            deadline,
            sends_max_time: true,
            limit: None,
        }
    }
}

/// The methods of a builder whose `options` are [`CommandOptions`].
macro_rules! command_options {
    () => {
        /// Which servers may run the command; the primary, if not said here.
        pub fn read_preference(mut self, read_preference: ReadPreference) -> Self {
            self.options.read_preference = Some(read_preference);
            self
        }

        /// Runs the command in this session. Without one, it gets one of its own where the server
        /// has sessions, which ends with it.
        pub fn session(mut self, session: &ClientSession) -> Self {
            self.options.session = Some(session.clone());
            self
        }

        /// How long everything may take: finding a server, getting a connection, every try
        /// (`timeoutMS`). Zero is no limit; if not said here, the session's or the connection
        /// string's holds. The server is told with `maxTimeMS` how much is left; what happens when
        /// the command has a `maxTimeMS` of its own is undefined.
        pub fn timeout(mut self, timeout: Duration) -> Self {
            self.options.timeout = Some(timeout);
            self
        }

        /// Says that the command only reads: it is sent again when it did not get through, and
        /// read preference and read concern are the connection string's if not said here.
        pub fn as_read(mut self) -> Self {
            self.options.intent = $crate::operation::Intent::Read;
            self
        }

        /// What the command may read; sent beside it, with what a causally consistent session has
        /// to add, unless the command has a `readConcern` of its own.
        pub fn read_concern(mut self, read_concern: ReadConcern) -> Self {
            self.options.read_concern = Some(read_concern);
            self
        }

        /// What the operation is called in logs and spans, instead of by its command's name: for
        /// libraries with operations of their own, as `dropCollection` for the command `drop`.
        pub fn operation_name(mut self, name: impl Into<std::borrow::Cow<'static, str>>) -> Self {
            self.options.operation = Some(name.into());
            self
        }
    };
}
pub(crate) use command_options;

/// A command to be run; `.await` runs it and gives its reply, in the bytes it came in.
///
/// The command is sent as it is, with `$db`, the session and so on beside it. A server that was
/// too busy even to begin is asked again, unless the connection string says `retryReads=false` or
/// `retryWrites=false`. Otherwise the command is sent once, unless it [only reads](Self::as_read) or
/// is a [write that may be repeated](Self::as_write): what to do after an error is the caller's to
/// decide, who alone knows whether it may run twice.
///
/// Dropping the future closes the connection it used; the server may still run the command.
///
/// # Errors
/// [`Error::Server`](crate::Error::Server) when the reply says `ok: 0`,
/// [`Error::OperationTimeout`](crate::Error::OperationTimeout) when the time limit of the whole is
/// over, and whatever prevents a reply.
#[derive(Debug)]
#[must_use = "a command runs when it is awaited"]
pub struct RunCommand<'a> {
    database: Database,
    command: &'a RawDocument,
    options: CommandOptions,
}

impl<'a> RunCommand<'a> {
    pub(crate) fn new(database: Database, command: &'a RawDocument) -> Self {
        Self {
            database,
            command,
            options: CommandOptions::default(),
        }
    }

    command_options!();

    /// Says that the command is a write that servers do once however often they get it: an
    /// `insert`, an `update` without `multi`, a `delete` of one document at most (`limit: 1`), or a
    /// `findAndModify`. It gets a number of its session's (`txnNumber`) and, when it is not known to
    /// be done, is sent again with that: once, or, with a time limit, as often as time allows.
    ///
    /// Without effect where the connection string says `retryWrites=false`, where the server is on
    /// its own, for writes without an answer (`w: 0`), and for a command that has a number of its
    /// own. Any other command is refused by the server, because of the number.
    ///
    /// Of several failures the last one is told that may have written, else the first. One that is
    /// no answer of a server is an [`Error::RetryableWrite`](crate::Error::RetryableWrite). Errors
    /// within the reply (`writeErrors`, `writeConcernError`) stay the caller's to read.
    pub fn as_write(mut self) -> Self {
        self.options.intent = Intent::Write;
        self
    }

    /// Runs it outside any session, for the server would keep what it gets one for.
    pub(crate) fn without_session(mut self) -> Self {
        self.options.without_session = true;
        self
    }

    async fn run(self) -> Result<CommandReply> {
        let (database, command) = (&self.database, self.command);
        let client = database.client();
        let name = self.options.operation(command);
        let span = client.spans().operation(name, database.name(), command);
        let work = async {
            let options = self.options.resolve(client)?;
            let deadline = Deadline::after(options.timeout, Instant::now());
            let call = options.call(database.name(), command, deadline);
            if call.intent != Intent::Read {
                return client.write(&call).await;
            }
            let (bound, reply) = client.execute(&call).await?;
            match bound.refusal(&reply) {
                Some(error) => Err(error),
                None => Ok(reply),
            }
        };
        span.run(work).await
    }
}

impl<'a> IntoFuture for RunCommand<'a> {
    type Output = Result<CommandReply>;
    type IntoFuture = Pin<Box<dyn Future<Output = Result<CommandReply>> + Send + 'a>>;

    fn into_future(self) -> Self::IntoFuture {
        Box::pin(self.run())
    }
}
