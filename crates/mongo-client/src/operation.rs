//! From an operation to a connection and back: selection, check-out, what goes beside a command,
//! errors. [`tries`] has the further tries.

mod kill;
mod retry;
mod tries;

use std::sync::Arc;
use std::time::Duration;

use bson::{RawBsonRef, RawDocument, RawDocumentBuf, cstr, rawdoc};
use mongo_topology::{SYSTEM_OVERLOADED_ERROR, SelectionCriteria, ServerType};
use mongo_uri::{ReadConcern, ReadPreference};
use mongo_wire::{CommandReply, Document, Elements, Flags, ServerError};
use tokio::time::Instant;

pub(crate) use self::kill::{Kill, in_background};
pub(crate) use self::retry::{Failed, MAX_ADAPTIVE_RETRIES};
use self::tries::Tries;
use crate::client::Client;
use crate::deadline::Deadline;
use crate::error::{Error, Misuse, Result, SessionMisuse, codes};
use crate::pool::{Exchange, Pool, PooledConnection};
use crate::session::{ActiveSession, ClusterTime, InFlight, Sessions};

/// Bytes that mostly go beside a command: database, session and cluster time.
const USUAL_ENVELOPE: usize = 256;

/// What a command does, as far as its caller has said.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Intent {
    #[default]
    Unsaid,
    /// It reads only, so that it can be sent again whatever has become of it.
    Read,
    /// It writes, and is one of those that a server does once, however often it gets them with the
    /// same number.
    Write,
}

/// One command and how it is to be run.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Call<'a> {
    /// The operation's name.
    pub(crate) operation: &'a str,
    pub(crate) database: &'a str,
    pub(crate) command: &'a RawDocument,
    pub(crate) read_preference: &'a ReadPreference,
    /// `None` for a command that takes none.
    pub(crate) read_concern: Option<&'a ReadConcern>,
    pub(crate) intent: Intent,
    /// The session to run it in; without one, it gets one of its own.
    pub(crate) session: Option<&'a ActiveSession>,
    /// Whether it is to have none at all.
    pub(crate) without_session: bool,
    pub(crate) deadline: Deadline,
    /// Whether the server is told how much time is left.
    pub(crate) sends_max_time: bool,
    /// How long each try may take, whatever the deadline says.
    pub(crate) limit: Option<Duration>,
}

/// A connection to a server that suits, and what goes beside the commands on it.
#[derive(Debug)]
pub(crate) struct Bound {
    // Dropped before the session, so that whoever waits for the connection finds the session free.
    pub(crate) connection: PooledConnection,
    pub(crate) context: Context,
    /// The command that was sent last, until the server is done with it.
    in_flight: Option<InFlight>,
}

/// What goes beside every command of an operation, whichever connection it is sent on.
#[derive(Clone, Debug)]
pub(crate) struct Context {
    /// `$db`, `lsid` and, where the server has to know it, `$readPreference`.
    envelope: Document,
    /// `None` where the server has no sessions, or the command must not have one.
    pub(crate) session: Option<ActiveSession>,
    sessions: Arc<Sessions>,
    /// The number that all of them are published with.
    operation_id: u64,
    /// The least that an answer takes, as it was known when the server was selected.
    pub(crate) round_trip: Duration,
}

/// What goes beside one command.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Beside<'a> {
    pub(crate) read_concern: Option<&'a ReadConcern>,
    /// `maxTimeMS`.
    pub(crate) max_time: Option<i64>,
    /// `txnNumber`.
    pub(crate) number: Option<i64>,
    /// How long the answer may take.
    pub(crate) limit: Option<Duration>,
    /// `EXHAUST_ALLOWED` when the server may send more replies than one, `MORE_TO_COME` when it
    /// is to send none.
    pub(crate) flags: Flags,
}

impl Call<'_> {
    /// Whether the caller wants no answer to a write, `writeConcern: { w: 0 }`.
    fn is_unacknowledged(&self) -> bool {
        let concern = self.command.get_document("writeConcern").ok();
        let concern = concern.filter(|_| self.intent != Intent::Read);
        let w = concern.and_then(|concern| concern.get("w").ok().flatten());
        w.is_some_and(|w| match w {
            RawBsonRef::Int32(w) => w == 0,
            RawBsonRef::Int64(w) => w == 0,
            RawBsonRef::Double(w) => w == 0.0,
            _ => false,
        })
    }
}

impl Client {
    /// The least of what limits the wait for an answer.
    pub(crate) fn limit_of_answer(
        &self,
        deadline: Deadline,
        limit: Option<Duration>,
    ) -> Option<Duration> {
        let general = if deadline.is_set() {
            deadline.remaining(Instant::now())
        } else {
            self.settings().socket_timeout
        };
        [general, limit].into_iter().flatten().min()
    }

    /// Checks a connection out, in the time that began to pass when its server was looked for.
    pub(crate) async fn check_out(
        &self,
        pool: &Arc<Pool>,
        deadline: Deadline,
        since: Instant,
    ) -> Result<PooledConnection> {
        let settings = self.settings();
        let until = deadline.earlier(since + settings.connection_timeout);
        let wait_limit = settings.wait_queue_timeout;
        let check_out = pool.check_out(wait_limit.filter(|_| !deadline.is_set()));
        let checked_out = tokio::time::timeout_at(until, check_out).await;
        checked_out.unwrap_or_else(|_| {
            let server = pool.server().address.clone();
            let limit = until.saturating_duration_since(since);
            Err(Error::NoConnection { server, limit })
        })
    }

    /// Selects a server and checks a connection out. Nothing has been sent when this fails, so
    /// that a server which fails meanwhile only means another selection.
    async fn bind(&self, call: &Call<'_>, tries: &mut Tries) -> Result<Bound> {
        let now = Instant::now();
        let deadline = call
            .deadline
            .earlier(now + self.settings().server_selection_timeout);
        let limit = deadline.saturating_duration_since(now);
        let avoided = tries.avoided.clone();
        let criteria = SelectionCriteria::read(call.read_preference).deprioritizing(&avoided);
        let operation = (call.operation, tries.operation_id);
        let topology = self.topology_room();
        loop {
            let selected = topology
                .select(operation, &criteria, limit, deadline)
                .await?;
            tries.meet(selected.knows_writes);
            match self.check_out(&selected.pool, call.deadline, now).await {
                Ok(connection) => {
                    let session = self.session_on(&connection, call, tries.session.clone())?;
                    let mut envelope = rawdoc! { "$db": call.database };
                    if let Some(preference) = selected.read_preference {
                        envelope.append(cstr!("$readPreference"), preference);
                    }
                    if let Some(session) = &session {
                        envelope.append(cstr!("lsid"), session.lsid());
                    }
                    let context = Context {
                        envelope: envelope.into(),
                        session,
                        sessions: Arc::clone(self.sessions()),
                        operation_id: tries.operation_id,
                        round_trip: selected.round_trip,
                    };
                    return Ok(context.on(connection));
                }
                // What is known may be about to change; the same again waits for news. A server
                // that may only have too much to do goes on being offered, so that is no help; of a
                // load balancer nothing is ever known; and a server that has spoken to this client,
                // but not let it in, has failed the command.
                Err(error)
                    if error.says_try_elsewhere()
                        && !self.settings().is_load_balanced
                        && !error.has_label(SYSTEM_OVERLOADED_ERROR)
                        && !error.is_about_authentication() =>
                {
                    if !topology.has_news(&selected.description, deadline).await {
                        return Err(error);
                    }
                }
                Err(error) => return Err(error),
            }
        }
    }

    /// The session that a command on this connection gets (Driver Sessions, "How to Tell Whether a
    /// Connection Supports Sessions").
    fn session_on(
        &self,
        connection: &PooledConnection,
        call: &Call<'_>,
        session: Option<ActiveSession>,
    ) -> Result<Option<ActiveSession>> {
        let hello = connection.hello();
        let has_sessions = hello
            .is_some_and(|hello| hello.logical_session_timeout_minutes.is_some())
            || self.settings().is_load_balanced;
        let is_acknowledged = !call.is_unacknowledged();
        let explicit = session.as_ref().filter(|session| session.is_explicit());
        let has_own = !lacks(call.command, "lsid");
        if explicit.is_some() && has_own {
            let what = "a session, and a command with an lsid of its own,";
            return Err(Error::Misuse(Misuse::Contradiction { what }));
        }
        let misuse = match explicit {
            Some(_) if !is_acknowledged => Some(SessionMisuse::Unacknowledged),
            Some(_) if !has_sessions => Some(SessionMisuse::Unsupported),
            _ => None,
        };
        if let Some(misuse) = misuse {
            return Err(Error::Misuse(misuse.into()));
        }
        if let Some(session) = explicit {
            session.check(connection.max_wire_version())?;
        }
        if !is_acknowledged || !has_sessions || call.without_session {
            return Ok(None);
        }
        let implicit = || (!has_own).then(|| ActiveSession::implicit(self.sessions()));
        Ok(session.or_else(implicit))
    }
}

impl Bound {
    /// Runs one command, a second time if the server wants the connection to authenticate again;
    /// the reply may say `ok: 0`.
    pub(crate) async fn send(
        &mut self,
        command: &RawDocument,
        beside: &Beside<'_>,
    ) -> Result<CommandReply> {
        let reply = self.send_once(command, beside).await?;
        if self.reauthenticated(&reply).await? {
            return self.send_once(command, beside).await;
        }
        Ok(reply)
    }

    /// Authenticates the connection again if a reply wants that (Authentication specification,
    /// "Reauthentication"); true says that the command is to be sent again.
    pub(crate) async fn reauthenticated(&mut self, reply: &CommandReply) -> Result<bool> {
        let error = reply.server_error().ok().flatten();
        let is_wanted = error.is_some_and(|e| e.code == Some(codes::REAUTHENTICATION_REQUIRED));
        if !is_wanted || self.connection.has_more_to_come() {
            return Ok(false);
        }
        self.connection.reauthenticate().await
    }

    async fn send_once(
        &mut self,
        command: &RawDocument,
        beside: &Beside<'_>,
    ) -> Result<CommandReply> {
        let envelope = self.envelope(command, beside);
        let exchange = Exchange::Command {
            command,
            envelope: &envelope,
            flags: beside.flags,
        };
        self.in_flight = self.context.session.as_ref().map(ActiveSession::send);
        let result = self.connection.exchange(exchange, beside.limit).await;
        self.settle(&result);
        result
    }

    /// Reads the next reply of those that the server sends unasked.
    pub(crate) async fn receive_unasked(
        &mut self,
        limit: Option<Duration>,
    ) -> Result<CommandReply> {
        let result = self.connection.exchange(Exchange::NextReply, limit).await;
        self.settle(&result);
        result
    }

    /// Learns from an outcome. While the server may still be at the command, the session is in use,
    /// whatever becomes of this connection.
    fn settle(&mut self, result: &Result<CommandReply>) {
        let is_over = match result {
            Ok(_) => !self.connection.has_more_to_come(),
            Err(error) => !error.is_network(),
        };
        if let Some(in_flight) = self.in_flight.take_if(|_| is_over) {
            in_flight.settle();
        }
        if let Ok(reply) = result {
            self.learn(reply);
        }
    }

    /// The error that a reply reports.
    pub(crate) fn refusal(&self, reply: &CommandReply) -> Option<Error> {
        let server = || self.connection.server().clone();
        match reply.server_error() {
            Ok(error) => error.map(|error| Error::Server {
                server: server(),
                max_wire_version: self.connection.max_wire_version(),
                error: Box::new(error),
            }),
            Err(source) => Some(Error::Reply {
                server: server(),
                source,
            }),
        }
    }

    fn envelope(&mut self, command: &RawDocument, beside: &Beside<'_>) -> RawDocumentBuf {
        let mut envelope = self.context.envelope_of(command);
        let has_cluster_time = !self.is_standalone();
        let session = self.context.session.as_ref();
        if has_cluster_time {
            let known = self.connection.cluster_time(&self.context.sessions.clock);
            let time = session.map_or_else(|| known.clone(), |own| own.cluster_time(known.clone()));
            if let Some(time) = time.filter(|_| lacks(command, "$clusterTime")) {
                envelope.append(cstr!("$clusterTime"), &*time.document);
            }
        }
        let asked = beside.read_concern;
        let concern = match session {
            Some(session) => session.read_concern(asked, has_cluster_time),
            None => asked.map(ReadConcern::to_document),
        };
        let concern = concern.filter(|concern| !concern.is_empty());
        if let Some(concern) = concern.filter(|_| lacks(command, "readConcern")) {
            envelope.append(cstr!("readConcern"), concern);
        }
        if let Some(number) = beside.number {
            envelope.append(cstr!("txnNumber"), number);
        }
        if let Some(millis) = beside.max_time.filter(|_| lacks(command, "maxTimeMS")) {
            envelope.append(cstr!("maxTimeMS"), millis);
        }
        envelope
    }

    fn learn(&mut self, reply: &CommandReply) {
        let received = reply.cluster_time();
        let clock = &self.context.sessions.clock;
        if let Some(received) = &received {
            self.connection.learn_cluster_time(clock, received.as_raw());
        }
        if let Some(session) = self
            .context
            .session
            .as_ref()
            .filter(|own| own.is_explicit())
        {
            let time = received.and_then(|received| ClusterTime::read(received.as_raw()));
            session.learn(reply, time.map(Arc::new));
        }
    }

    /// Whether a router has answered.
    fn is_mongos(&self) -> bool {
        let hello = self.connection.hello();
        hello.is_some_and(|hello| hello.server_type == ServerType::Mongos)
    }

    /// Whether the server is on its own: it has neither a cluster time nor a way to know a write
    /// again.
    fn is_standalone(&self) -> bool {
        let hello = self.connection.hello();
        hello.is_none_or(|hello| hello.server_type == ServerType::Standalone)
    }
}

impl Context {
    /// The database that the commands are run on.
    pub(crate) fn database(&self) -> &str {
        self.envelope.as_raw().get_str("$db").unwrap_or_default()
    }

    /// What goes beside this one, but for what it has of its own.
    fn envelope_of(&self, command: &RawDocument) -> RawDocumentBuf {
        if ["$db", "$readPreference"]
            .into_iter()
            .all(|key| lacks(command, key))
        {
            let mut bytes = Vec::with_capacity(USUAL_ENVELOPE);
            bytes.extend_from_slice(self.envelope.as_bytes());
            return RawDocumentBuf::from_bytes(bytes).expect("a copy of a document");
        }
        let mut envelope = RawDocumentBuf::new();
        for (key, value) in self.envelope.as_raw().iter().flatten() {
            if lacks(command, key.as_str()) {
                envelope.append(key, value);
            }
        }
        envelope
    }

    /// The operation goes on with this connection.
    pub(crate) fn on(self, mut connection: PooledConnection) -> Bound {
        connection.count_to(self.operation_id);
        Bound {
            connection,
            context: self,
            in_flight: None,
        }
    }
}

impl Bound {
    /// The server's word that `maxTimeMS` is over, wherever in the reply it stands (Client Side
    /// Operations Timeout, "Error Transformations").
    fn expired(&self, reply: &CommandReply) -> Option<Error> {
        let error = match reply.server_error().ok()? {
            Some(error) => Some(error),
            None => reply.write_concern_error().ok()?,
        };
        let error = error.filter(expired).or_else(|| expired_write(reply))?;
        Some(Error::Server {
            server: self.connection.server().clone(),
            max_wire_version: self.connection.max_wire_version(),
            error: Box::new(error),
        })
    }
}

/// The same of a single write among several.
fn expired_write(reply: &CommandReply) -> Option<ServerError> {
    let errors = reply.document().as_raw().get_array("writeErrors").ok()?;
    let errors = errors.into_iter().flatten();
    let found = errors
        .filter_map(RawBsonRef::as_document)
        .find(|error| error.get_i32("code").ok() == Some(codes::MAX_TIME_MS_EXPIRED))?;
    Some(ServerError {
        code: Some(codes::MAX_TIME_MS_EXPIRED),
        code_name: None,
        message: found.get_str("errmsg").unwrap_or_default().to_owned(),
        labels: Vec::new(),
        reply: reply.document().clone(),
    })
}

fn expired(error: &ServerError) -> bool {
    error.code == Some(codes::MAX_TIME_MS_EXPIRED)
}

/// Whether a key can go beside a command: one that the caller has written into the command is the
/// caller's.
fn lacks(command: &RawDocument, key: &str) -> bool {
    Elements::find(command, key).is_none()
}
