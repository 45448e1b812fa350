//! From an operation to a connection and back: selection, check-out, what goes beside a command,
//! further tries, errors.

mod retry;

use std::sync::Arc;
use std::time::Duration;

use bson::{RawBsonRef, RawDocument, RawDocumentBuf, cstr, rawdoc};
use mongo_topology::{SYSTEM_OVERLOADED_ERROR, SelectionCriteria, ServerType};
use mongo_uri::{ReadConcern, ReadPreference, ServerAddress};
use mongo_wire::{CommandReply, Document, Fields, Flags, ServerError};
use tokio::time::Instant;

pub(crate) use self::retry::MAX_ADAPTIVE_RETRIES;
pub(crate) use self::retry::{Failed, Retries, RetryPolicy};
use crate::client::Client;
use crate::deadline::{Deadline, Late};
use crate::error::{Error, Result, SessionMisuse, codes};
use crate::pool::{Exchange, Pool, PooledConnection};
use crate::session::{ActiveSession, ClusterTime, InFlight, Sessions};

/// Bytes that mostly go beside a command: database, session and cluster time.
const USUAL_ENVELOPE: usize = 256;

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
    /// Whether it can be sent again whatever has become of it.
    pub(crate) is_read: bool,
    /// The session to run it in; without one, it gets one of its own.
    pub(crate) session: Option<&'a ActiveSession>,
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
    /// The least that an answer takes, as it was known when the server was selected.
    pub(crate) round_trip: Duration,
}

/// What goes beside one command.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Beside<'a> {
    pub(crate) read_concern: Option<&'a ReadConcern>,
    /// `maxTimeMS`.
    pub(crate) max_time: Option<i64>,
    /// How long the answer may take.
    pub(crate) limit: Option<Duration>,
    /// `EXHAUST_ALLOWED` when the server may send more replies than one, `MORE_TO_COME` when it
    /// is to send none.
    pub(crate) flags: Flags,
}

/// What one try leaves to the next.
#[derive(Debug)]
struct Tries {
    retries: Retries,
    /// Servers to be taken only if no other will do.
    avoided: Vec<ServerAddress>,
    session: Option<ActiveSession>,
    /// The number that all tries are published with.
    operation: Option<u64>,
}

impl Client {
    /// Runs a command, again if need be, and returns the connection that has answered it. The
    /// reply may say `ok: 0`.
    pub(crate) async fn execute(&self, call: &Call<'_>) -> Result<(Bound, CommandReply)> {
        let mut tries = Tries {
            retries: Retries::new(self.retry_policy(call.is_read, call.deadline)),
            avoided: Vec::new(),
            session: call.session.cloned(),
            operation: None,
        };
        let mut previous = None;
        loop {
            let result = self.attempt(call, &mut tries).await;
            let failed = match &result {
                Ok((_, reply)) => Failed::of_reply(reply),
                Err(error) => Some(Failed::of_error(error)),
            };
            let pause = failed.and_then(|failed| tries.retries.next(&failed, self.chance()));
            let until = pause.map(|pause| Instant::now() + pause);
            let Some(until) = until.filter(|until| !call.deadline.is_over(*until)) else {
                return conclude(result, previous, call.deadline);
            };
            let error = match result {
                Ok((bound, reply)) => bound.refusal(&reply),
                Err(error) => Some(error),
            };
            if let Some(server) = error.as_ref().and_then(Error::server) {
                self.avoid(
                    server,
                    failed.is_some_and(|failed| failed.is_overload),
                    &mut tries,
                );
            }
            previous = error;
            tokio::time::sleep_until(until).await;
        }
    }

    /// How failures of a command, or of a cursor's next, are dealt with.
    pub(crate) fn retry_policy(&self, is_read: bool, deadline: Deadline) -> RetryPolicy {
        let settings = self.settings();
        RetryPolicy {
            reads: is_read && settings.retry_reads,
            overloads: settings.retry_reads && (is_read || settings.retry_writes),
            has_deadline: deadline.is_set(),
            max_adaptive: settings.max_adaptive_retries,
        }
    }

    /// Lets the next selection look elsewhere first (Server Selection, "deprioritized servers").
    fn avoid(&self, server: &ServerAddress, is_overload: bool, tries: &mut Tries) {
        let is_sharded = self.topology().topology_type == mongo_topology::TopologyType::Sharded;
        if is_sharded || (is_overload && self.settings().overload_retargeting) {
            tries.avoided.push(server.clone());
        }
    }

    async fn attempt(&self, call: &Call<'_>, tries: &mut Tries) -> Result<(Bound, CommandReply)> {
        let mut bound = self
            .bind(call, &tries.avoided, tries.session.clone())
            .await?;
        tries.session.clone_from(&bound.context.session);
        let first = *tries
            .operation
            .get_or_insert(bound.connection.operation_id());
        bound.connection.continue_operation(first);
        let now = Instant::now();
        let max_time = call.deadline.max_time(now, bound.context.round_trip);
        let max_time = max_time.map_err(|Late| Error::late(call.deadline.limit()))?;
        let beside = Beside {
            read_concern: call.read_concern,
            max_time: max_time.filter(|_| call.sends_max_time),
            limit: self.limit_of_answer(call.deadline, call.limit),
            flags: if !call.is_read && is_unacknowledged(call.command) {
                Flags::MORE_TO_COME
            } else {
                Flags::empty()
            },
        };
        let reply = bound.send(call.command, &beside).await?;
        Ok((bound, reply))
    }

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

    /// Selects a server and checks a connection out. Nothing has been sent when this fails, so
    /// that a server which fails meanwhile only means another selection.
    async fn bind(
        &self,
        call: &Call<'_>,
        avoided: &[ServerAddress],
        session: Option<ActiveSession>,
    ) -> Result<Bound> {
        let now = Instant::now();
        let deadline = call
            .deadline
            .earlier(now + self.settings().server_selection_timeout);
        let limit = deadline.saturating_duration_since(now);
        let wait_limit = self.settings().wait_queue_timeout;
        let wait_limit = wait_limit.filter(|_| !call.deadline.is_set());
        let criteria = SelectionCriteria::read(call.read_preference).deprioritizing(avoided);
        let topology = self.topology_room();
        loop {
            let selected = topology
                .select(call.operation, &criteria, limit, deadline)
                .await?;
            let check_out = selected.pool.check_out(wait_limit);
            let checked_out = tokio::time::timeout_at(deadline, check_out).await;
            match checked_out.unwrap_or_else(|_| Err(selected.pool.no_connection_within(limit))) {
                Ok(connection) => {
                    let session = self.session_on(&connection, call, session)?;
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
                        round_trip: selected.round_trip,
                    };
                    return Ok(Bound {
                        connection,
                        context,
                        in_flight: None,
                    });
                }
                // What is known may be about to change; the same again waits for news. A server
                // that may only have too much to do goes on being offered, so that is no help; and
                // one that has spoken to this client, but not let it in, has failed the command.
                Err(error)
                    if error.says_try_elsewhere()
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
        let is_acknowledged = call.is_read || !is_unacknowledged(call.command);
        let explicit = session.as_ref().filter(|session| session.is_explicit());
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
        if !is_acknowledged || !has_sessions {
            return Ok(None);
        }
        let implicit = || {
            let has_own = !lacks(call.command, "lsid");
            (!has_own).then(|| ActiveSession::implicit(self.sessions()))
        };
        Ok(session.or_else(implicit))
    }
}

impl Bound {
    /// Runs one command; the reply may say `ok: 0`.
    pub(crate) async fn send(
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
        let mut bytes = Vec::with_capacity(USUAL_ENVELOPE);
        bytes.extend_from_slice(self.context.envelope.as_bytes());
        let mut envelope = RawDocumentBuf::from_bytes(bytes).expect("a copy of a document");
        let has_cluster_time = self.has_cluster_time();
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

    /// Whether the deployment has a time of its own, which a lone server has not.
    fn has_cluster_time(&self) -> bool {
        let hello = self.connection.hello();
        hello.is_some_and(|hello| hello.server_type != ServerType::Standalone)
    }
}

impl Context {
    /// The database that the commands are run on.
    pub(crate) fn database(&self) -> &str {
        self.envelope.as_raw().get_str("$db").unwrap_or_default()
    }

    /// The same on another connection to the same server.
    pub(crate) async fn rebind(self, pool: &Arc<Pool>, limit: Option<Duration>) -> Result<Bound> {
        let connection = pool.check_out(limit).await?;
        let context = self;
        Ok(Bound {
            connection,
            context,
            in_flight: None,
        })
    }
}

/// What the caller gets of the last try.
fn conclude(
    result: Result<(Bound, CommandReply)>,
    previous: Option<Error>,
    deadline: Deadline,
) -> Result<(Bound, CommandReply)> {
    let result = match (result, previous) {
        // That there was no server for another try says less than what the first one met.
        (Err(error), Some(previous)) if error.is_before_sending() => Err(previous),
        (result, _) => result,
    };
    if !deadline.is_set() {
        return result;
    }
    match result {
        Ok((bound, reply)) => match bound.expired(&reply) {
            Some(error) => Err(error.timed_out(deadline.limit())),
            None => Ok((bound, reply)),
        },
        Err(error) => Err(error.within_deadline(deadline)),
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
    Fields::find(command, key).is_none()
}

/// Whether the caller wants no answer to a write, `writeConcern: { w: 0 }`.
fn is_unacknowledged(command: &RawDocument) -> bool {
    let concern = command.get_document("writeConcern").ok();
    let w = concern.and_then(|concern| concern.get("w").ok().flatten());
    w.is_some_and(|w| match w {
        RawBsonRef::Int32(w) => w == 0,
        RawBsonRef::Int64(w) => w == 0,
        RawBsonRef::Double(w) => w == 0.0,
        _ => false,
    })
}
