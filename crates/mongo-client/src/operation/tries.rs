//! The tries of a command: which failures lead to another one, and what of all that its caller gets
//! to hear (Retryable Reads, Retryable Writes, Client Backpressure).

use bson::{RawArrayBuf, cstr};
use mongo_topology::TopologyType;
use mongo_uri::ServerAddress;
use mongo_wire::{CommandReply, Flags};
use tokio::time::Instant;

use super::retry::{Failed, LABELS_WIRE_VERSION, Retries, RetryPolicy};
use super::{Beside, Bound, Call, Intent, lacks};
use crate::client::Client;
use crate::deadline::{Deadline, Late};
use crate::error::{
    Error, NO_WRITES_PERFORMED, RETRYABLE_WRITE_ERROR, Result, SessionMisuse, codes,
};
use crate::session::ActiveSession;

/// What one try leaves to the next.
#[derive(Debug)]
pub(super) struct Tries {
    retries: Retries,
    /// Servers to be taken only if no other will do.
    pub(super) avoided: Vec<ServerAddress>,
    pub(super) session: Option<ActiveSession>,
    /// The number that all tries are published with.
    pub(super) operation_id: u64,
    identity: Identity,
    /// Whether the last try has come so far that the server may have seen it.
    was_sent: bool,
}

/// By what servers know a write again (Retryable Writes, "Generating Transaction IDs").
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Identity {
    /// Nothing has been sent yet.
    Open,
    /// The `txnNumber` of every try.
    Number(i64),
    /// By nothing: it is no such write, or the server that it went to first knows none again.
    Nothing,
}

impl Tries {
    fn new(client: &Client, call: &Call<'_>) -> Self {
        let is_repeatable = call.intent == Intent::Write
            && client.settings().retry_writes
            && lacks(call.command, "txnNumber")
            && !call.is_unacknowledged();
        Self {
            retries: Retries::new(client.retry_policy(call.intent, call.deadline)),
            avoided: Vec::new(),
            session: call.session.cloned(),
            operation_id: client.topology_room().next_operation(),
            identity: match is_repeatable {
                true => Identity::Open,
                false => Identity::Nothing,
            },
            was_sent: false,
        }
    }

    /// A server was selected, which knows writes again by their numbers or not. What the first one
    /// cannot do is not tried with others.
    pub(super) fn meet(&mut self, knows_writes: bool) {
        if self.identity == Identity::Open && !knows_writes {
            self.identity = Identity::Nothing;
        }
    }

    /// The number that the write gets on this connection.
    fn number_on(&mut self, bound: &Bound) -> Result<Option<i64>> {
        let session = bound.context.session.as_ref();
        let session = session.filter(|_| !bound.is_standalone());
        if self.identity == Identity::Open {
            self.identity = session.map_or(Identity::Nothing, |session| {
                Identity::Number(session.next_write())
            });
        }
        match self.identity {
            Identity::Number(_) if session.is_none() => {
                Err(Error::Misuse(SessionMisuse::Unsupported.into()))
            }
            Identity::Number(number) => Ok(Some(number)),
            Identity::Open | Identity::Nothing => Ok(None),
        }
    }

    /// What an outcome says about another try.
    fn failure(&self, result: &Result<(Bound, CommandReply)>) -> Option<Failed> {
        match (result, self.identity) {
            (Ok((bound, reply)), _) => self.failure_told(bound, reply),
            (Err(error), Identity::Nothing) => Some(Failed {
                writes: false,
                ..Failed::of_error(error)
            }),
            (Err(error), _) => Some(Failed::of_error(error)),
        }
    }

    fn failure_told(&self, bound: &Bound, reply: &CommandReply) -> Option<Failed> {
        match self.identity {
            Identity::Number(_) => {
                let wire_version = bound.connection.max_wire_version();
                Failed::of_write(reply, wire_version, bound.is_mongos())
            }
            Identity::Open | Identity::Nothing => Failed::of_reply(reply),
        }
    }

    /// Whether a reply says that the write may be repeated.
    fn may_repeat_after(&self, bound: &Bound, reply: &CommandReply) -> bool {
        let failed = self.failure_told(bound, reply);
        failed.is_some_and(|failed| failed.writes)
    }

    /// Whether the outcome of the last try tells that something may have been written.
    fn may_have_written(&self, outcome: &Result<CommandReply>) -> bool {
        let says_no = match outcome {
            Ok(reply) => {
                let error = reply.write_concern_error().ok().flatten();
                error.is_some_and(|error| error.has_label(NO_WRITES_PERFORMED))
            }
            Err(error) => error.has_label(NO_WRITES_PERFORMED),
        };
        self.was_sent && !says_no
    }

    /// Says of a server's error what servers before 4.4 do not say themselves.
    fn explain(&self, mut error: Error) -> Error {
        let is_numbered = matches!(self.identity, Identity::Number(_));
        if let Error::Server {
            error,
            max_wire_version,
            ..
        } = &mut error
            && is_numbered
        {
            let is_retryable = error.code.is_some_and(codes::is_retryable_write);
            if *max_wire_version < LABELS_WIRE_VERSION && is_retryable {
                error.labels.push(RETRYABLE_WRITE_ERROR.to_owned());
            }
            if error.code == Some(codes::ILLEGAL_OPERATION)
                && error.message.starts_with("Transaction numbers")
            {
                "This MongoDB deployment does not support retryable writes. Please add \
                 retryWrites=false to your connection string."
                    .clone_into(&mut error.message);
            }
        }
        error
    }
}

impl Client {
    /// Runs a command, again if need be, and returns the connection that has answered it. The
    /// reply may say `ok: 0`. What the last try met is told, unless there was no server for it.
    pub(crate) async fn execute(&self, call: &Call<'_>) -> Result<(Bound, CommandReply)> {
        let mut tries = Tries::new(self, call);
        let mut previous = None;
        loop {
            let result = self.attempt(call, &mut tries).await;
            let Some(until) = self.next_try(call, &result, &mut tries) else {
                return conclude(result, previous, call.deadline);
            };
            previous = match result {
                Ok((bound, reply)) => bound.refusal(&reply),
                Err(error) => Some(error),
            };
            tokio::time::sleep_until(until).await;
        }
    }

    /// Runs a command that may write, again if need be. Of several failures the last one that may
    /// have written is told; if none may, the first (Retryable Writes, "Executing Retryable Write
    /// Commands").
    pub(crate) async fn write(&self, call: &Call<'_>) -> Result<CommandReply> {
        let mut tries = Tries::new(self, call);
        let mut earlier = None;
        loop {
            let result = self.attempt(call, &mut tries).await;
            let again = self.next_try(call, &result, &mut tries);
            let outcome = settle(result, &tries, call.deadline);
            let is_late = outcome.as_ref().is_err_and(Error::is_operation_timeout);
            let told = match earlier.take() {
                Some(earlier) if !tries.may_have_written(&outcome) => earlier,
                _ => outcome,
            };
            match again {
                Some(until) => {
                    earlier = Some(told);
                    tokio::time::sleep_until(until).await;
                }
                None if is_late => return told.map_err(|e| e.timed_out(call.deadline.limit())),
                None => return told,
            }
        }
    }

    /// The tries of a `getMore`: the documents of one that the server may have begun with are not
    /// to be had again.
    pub(crate) fn retries_of_get_more(&self, deadline: Deadline) -> Retries {
        Retries::new(RetryPolicy {
            reads: false,
            ..self.retry_policy(Intent::Read, deadline)
        })
    }

    /// When to try again after a failure; `None` when not at all, or not before the deadline. Without
    /// a pause it is the next try that says so, if time has run out by now.
    pub(crate) fn retry_at(
        &self,
        retries: &mut Retries,
        failed: &Failed,
        deadline: Deadline,
    ) -> Option<Instant> {
        let pause = retries.next(failed, self.chance())?;
        let until = Instant::now() + pause;
        (pause.is_zero() || !deadline.is_over(until)).then_some(until)
    }

    fn retry_policy(&self, intent: Intent, deadline: Deadline) -> RetryPolicy {
        let settings = self.settings();
        let (reads, writes) = (settings.retry_reads, settings.retry_writes);
        RetryPolicy {
            reads: intent == Intent::Read && reads,
            writes: intent == Intent::Write && writes,
            overloads: match intent {
                Intent::Read => reads,
                Intent::Write => writes,
                Intent::Unsaid => reads && writes,
            },
            has_deadline: deadline.is_set(),
            max_adaptive: settings.max_adaptive_retries,
        }
    }

    /// When the command is to be tried again, if it is.
    fn next_try(
        &self,
        call: &Call<'_>,
        result: &Result<(Bound, CommandReply)>,
        tries: &mut Tries,
    ) -> Option<Instant> {
        let failed = tries.failure(result)?;
        let until = self.retry_at(&mut tries.retries, &failed, call.deadline)?;
        let server = match result {
            Ok((bound, _)) => Some(bound.connection.server()),
            Err(error) => error.server(),
        };
        // The next selection looks elsewhere first (Server Selection, "deprioritized servers").
        let is_sharded = self.topology().topology_type == TopologyType::Sharded;
        let is_avoided = is_sharded || (failed.is_overload && self.settings().overload_retargeting);
        let server = server.filter(|server| is_avoided && !tries.avoided.contains(server));
        tries.avoided.extend(server.cloned());
        Some(until)
    }

    async fn attempt(&self, call: &Call<'_>, tries: &mut Tries) -> Result<(Bound, CommandReply)> {
        tries.was_sent = false;
        let mut bound = self.bind(call, tries).await?;
        tries.session.clone_from(&bound.context.session);
        let number = tries.number_on(&bound)?;
        let now = Instant::now();
        let max_time = call.deadline.max_time(now, bound.context.round_trip);
        let max_time = max_time.map_err(|Late| Error::late(call.deadline.limit()))?;
        let beside = Beside {
            read_concern: call.read_concern,
            max_time: max_time.filter(|_| call.sends_max_time),
            number,
            limit: self.limit_of_answer(call.deadline, call.limit),
            flags: match call.is_unacknowledged() {
                true => Flags::MORE_TO_COME,
                false => Flags::empty(),
            },
        };
        tries.was_sent = true;
        let reply = bound.send(call.command, &beside).await?;
        Ok((bound, reply))
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
        (
            Err(Error::OperationTimeout {
                limit,
                source: None,
            }),
            Some(previous),
        ) => Err(previous.timed_out(limit)),
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

/// What a try came to, its connection given back.
fn settle(
    result: Result<(Bound, CommandReply)>,
    tries: &Tries,
    deadline: Deadline,
) -> Result<CommandReply> {
    let (bound, reply) = match result {
        Ok(answered) => answered,
        Err(error) => {
            let is_retryable = tries.identity != Identity::Nothing && error.says_try_elsewhere();
            let error = match is_retryable {
                true => Error::RetryableWrite(Box::new(error)),
                false => error,
            };
            return Err(error.within_deadline(deadline));
        }
    };
    let expired = deadline.is_set().then(|| bound.expired(&reply)).flatten();
    if let Some(error) = expired {
        return Err(error.timed_out(deadline.limit()));
    }
    match bound.refusal(&reply) {
        Some(error) => Err(tries.explain(error)),
        None if bound.connection.max_wire_version() < LABELS_WIRE_VERSION
            && tries.may_repeat_after(&bound, &reply) =>
        {
            Ok(labelled(&reply))
        }
        None => Ok(reply),
    }
}

/// The reply with the label that newer servers put there themselves.
fn labelled(reply: &CommandReply) -> CommandReply {
    let mut labelled = reply.document().to_raw_document_buf();
    let labels: RawArrayBuf = [RETRYABLE_WRITE_ERROR].into_iter().collect();
    labelled.append(cstr!("errorLabels"), labels);
    CommandReply::new(labelled.into())
}
