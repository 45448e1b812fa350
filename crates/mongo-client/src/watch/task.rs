//! The task behind a change stream: it does what the machine orders and tells it what happened.

mod failure;

use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use bson::{RawDocument, RawDocumentBuf};
use mongo_change_stream::{
    Action, ChangeStreamMachine, Failure, FailureKind, Input, StreamError, StreamEvent,
};
use mongo_uri::ServerAddress;
use mongo_wire::{ByteStr, CommandReply, Document, Flags};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::JoinSet;
use tokio::time::Instant;
use tracing::Instrument;

use self::failure::failure_kind;
use super::shared::Shared;
use crate::client::Client;
use crate::command::Resolved;
use crate::deadline::{Deadline, Late};
use crate::error::{Error, Misuse, Result};
use crate::operation::{Beside, Bound, Context, Failed, Kill, in_background};
use crate::session::ActiveSession;
use crate::spans::OperationSpan;
use crate::tasks::{now, over, sleep_until};

/// What the handle asks for.
#[derive(Debug)]
pub(super) enum Request {
    /// The consumer waits for a batch.
    Demanded,
    /// The consumer has begun so many batches.
    Taken(usize),
    /// End the stream.
    Close {
        /// Dropped, not answered, when it is done.
        done: oneshot::Sender<()>,
        /// How long the cursor's end may take, if not as long as is usual.
        limit: Option<Duration>,
    },
}

/// Told of what happens to a stream; see [`Watch::on_event`](super::Watch::on_event).
pub(super) type Listener = Arc<dyn Fn(&StreamEvent) + Send + Sync>;

/// The command under way. It owns its connection, and gives it back with the outcome.
type Running = Pin<Box<dyn Future<Output = (Option<Bound>, Outcome)> + Send>>;

/// What has become of a command.
enum Outcome {
    /// The machine's to deal with.
    Told(Input),
    /// There was no time left for it, says the operation's own limit.
    Late(Error),
}

impl Outcome {
    /// Records the failure, if it is one.
    fn record(&self, bound: Option<&Bound>, span: &OperationSpan) {
        match (self, bound) {
            (Self::Late(error), _) => span.failed(error),
            (Self::Told(Input::CommandFailed { failure }), _) => {
                let source = failure.source.as_deref();
                if let Some(error) = source.and_then(|source| source.downcast_ref::<Error>()) {
                    span.failed(error);
                }
            }
            (Self::Told(Input::ReplyReceived { reply, .. }), Some(bound)) => {
                if let Some(error) = bound.refusal(&CommandReply::new(reply.clone())) {
                    span.failed(&error);
                }
            }
            _ => {}
        }
    }
}

pub(super) struct Task {
    pub(super) client: Client,
    pub(super) machine: ChangeStreamMachine,
    pub(super) shared: Arc<Shared>,
    pub(super) command: Resolved,
    /// The stream's session, from its first command on.
    pub(super) session: Option<ActiveSession>,
    /// Until when the opening may take.
    pub(super) deadline: Deadline,
    pub(super) listener: Option<Listener>,
    /// Answered by the first `aggregate`.
    pub(super) opened: Option<oneshot::Sender<Result<()>>>,
    pub(super) requests: mpsc::UnboundedReceiver<Request>,
    /// Held until the task is done; turns true when the client is shut down.
    pub(super) closing: watch::Receiver<bool>,
    /// The consumer knows how the stream has ended.
    pub(super) finished: bool,
}

/// What is going on right now.
#[derive(Default)]
struct Progress {
    running: Option<Running>,
    /// The stream's connection, while no command runs on it.
    bound: Option<Bound>,
    /// The pool that the stream's cursor belongs to.
    owner: Option<Owner>,
    kills: JoinSet<()>,
    closing: Vec<oneshot::Sender<()>>,
    kill_limit: Option<Duration>,
}

/// Where the cursor can be killed, even while its connection is busy.
struct Owner {
    pool: Arc<crate::pool::Pool>,
    /// Behind a load balancer: only the connection itself reaches it.
    is_pinned: bool,
    context: Context,
}

impl Task {
    pub(super) async fn run(mut self) {
        let mut progress = Progress::default();
        self.carry_out(&mut progress);
        while !self.finished {
            let timeout = self.machine.poll_timeout();
            let deadline = self.deadline_of_call();
            tokio::select! {
                (bound, outcome) = finished(&mut progress.running) => {
                    progress.running = None;
                    if let Some(bound) = &bound {
                        progress.owner = Some(Owner::of(bound));
                        self.session.clone_from(&bound.context.session);
                    }
                    progress.bound = bound;
                    match outcome {
                        Outcome::Told(input) => self.machine.handle(input, now()),
                        Outcome::Late(error) => self.late(error),
                    }
                }
                () = over(deadline), if self.opened.is_none() => {
                    // Another call may have begun since, with more time.
                    let deadline = self.deadline_of_call();
                    if deadline.is_over(Instant::now()) {
                        self.late(Error::late(deadline.limit()));
                    }
                }
                request = self.requests.recv(), if progress.closing.is_empty() => {
                    self.hear(request, &mut progress);
                }
                () = shutdown(&mut self.closing), if progress.closing.is_empty() => {
                    self.hear(None, &mut progress);
                }
                () = sleep_until(timeout) => self.machine.handle_timeout(now()),
            }
            self.carry_out(&mut progress);
        }
        // Each kill is bounded, so this ends.
        while progress.kills.join_next().await.is_some() {}
    }

    fn hear(&mut self, request: Option<Request>, progress: &mut Progress) {
        match request {
            // Crossed by a delivery, or by the end of the call's time, it is moot.
            Some(Request::Demanded) if !self.shared.is_demanded() => {}
            Some(Request::Demanded) => self.machine.handle(Input::Demanded, now()),
            Some(Request::Taken(batches)) => {
                for _ in 0..batches {
                    self.machine.handle(Input::BatchTaken, now());
                }
            }
            Some(Request::Close { done, limit }) => {
                progress.closing.push(done);
                progress.kill_limit = limit;
                self.machine.handle(Input::Close, now());
            }
            // The handle was dropped, or the client is shut down.
            None => {
                progress.closing.push(oneshot::channel().0);
                self.machine.handle(Input::Close, now());
            }
        }
    }

    fn carry_out(&mut self, progress: &mut Progress) {
        let mut has_opened = false;
        while let Some(action) = self.machine.poll_action() {
            match action {
                Action::Aggregate {
                    database,
                    command,
                    deadline,
                } => {
                    progress.running = Some(self.aggregate(database, command, deadline));
                }
                Action::GetMore {
                    command,
                    deadline,
                    exhaust,
                    ..
                } => {
                    let running = self.fetch(progress, command, (deadline, exhaust));
                    progress.running = Some(running);
                }
                Action::ReadReply {
                    command, deadline, ..
                } => {
                    progress.running = Some(self.fetch(progress, command, (deadline, true)));
                }
                Action::KillCursors { command, .. } => {
                    progress.kill(self, command);
                }
                Action::Unbind => {
                    // A command under way is given up together with its connection.
                    progress.running = None;
                    progress.bound = None;
                }
                Action::Deliver(batch) => self.shared.deliver(batch),
                Action::Publish(event) => {
                    has_opened |= matches!(event, StreamEvent::Opened);
                    self.publish(&event);
                }
                Action::Finish(result) => {
                    let owner = progress.owner.take();
                    let server = owner.map(|owner| owner.pool.server().address.clone());
                    // The session is free before anybody knows of the end.
                    self.session = None;
                    self.finish(result, server);
                }
                other => tracing::debug!(?other, "an order that this client does not carry out"),
            }
        }
        if has_opened {
            self.announce(Ok(()));
        }
    }

    /// A read of the stream's, in the session that it has had before.
    fn aggregate(&self, database: ByteStr, command: Document, limit: Duration) -> Running {
        let client = self.client.clone();
        let mut options = self.command.clone();
        options.session.clone_from(&self.session);
        let deadline = match self.deadline_of_call() {
            // It is not a call that needs it, but reading ahead.
            Deadline::Unset => Deadline::after(options.timeout, Instant::now()),
            deadline => deadline,
        };
        let span = self.span(&database, command.as_raw());
        let work = async move {
            let mut call = options.call(&database, command.as_raw(), deadline);
            call.limit = Some(limit).filter(|_| deadline.remaining(Instant::now()).is_none());
            match client.execute(&call).await {
                Ok((bound, reply)) => {
                    bound.connection.hold_for_cursor();
                    answered(bound, reply)
                }
                Err(error) => (None, failed(error)),
            }
        };
        Box::pin(traced(span, work))
    }

    /// The span of a command that the machine orders: an operation of the call that waits.
    fn span(&self, database: &str, command: &RawDocument) -> OperationSpan {
        let caller = self.shared.caller();
        let spans = self.client.spans();
        spans.operation_for(caller.as_ref(), database, command)
    }

    /// Runs a `getMore`, or reads what the server sends unasked.
    fn fetch(&self, progress: &mut Progress, command: Document, mode: (Duration, bool)) -> Running {
        let Some(bound) = progress.bound.take() else {
            return Box::pin(std::future::ready((None, unbound())));
        };
        let (client, deadline) = (self.client.clone(), self.deadline_of_call());
        match deadline.max_time(Instant::now(), bound.context.round_trip) {
            Ok(left) => {
                let command = within_max_time(command, left);
                if bound.connection.has_more_to_come() {
                    return Box::pin(get_more(client, bound, command, deadline, mode));
                }
                let span = self.span(bound.context.database(), command.as_raw());
                let work = get_more(client, bound, command, deadline, mode);
                Box::pin(traced(span, work))
            }
            Err(Late) => {
                let late = Outcome::Late(Error::late(deadline.limit()));
                Box::pin(std::future::ready((Some(bound), late)))
            }
        }
    }

    /// The end of the opening or of the call that waits; of none, when nobody waits.
    fn deadline_of_call(&self) -> Deadline {
        if self.opened.is_some() {
            return self.deadline;
        }
        let since = self.shared.demanded_since();
        since.map_or(Deadline::Unset, |since| {
            Deadline::after(self.command.timeout, since)
        })
    }

    /// The limit of the opening, or of a call, has passed.
    fn late(&mut self, error: Error) {
        if self.opened.is_some() {
            self.announce(Err(error));
            self.shared.finish(Ok(()));
            self.finished = true;
            return;
        }
        self.machine.handle(Input::Lapsed, now());
        self.shared.lapse(error);
    }

    /// Answers the opening, once, after what came with it was delivered: the token is there.
    fn announce(&mut self, result: Result<()>) {
        if let Some(opened) = self.opened.take() {
            self.shared.answered();
            // Nobody listens when the opening future was dropped.
            let _ = opened.send(result);
        }
    }

    fn publish(&self, event: &StreamEvent) {
        let topology = self.client.topology_id();
        tracing::debug!(target: "mongo_client::change_stream", topologyId = topology, ?event);
        if let Some(listener) = &self.listener {
            listener(event);
        }
    }

    fn finish(&mut self, result: Result<(), StreamError>, server: Option<ServerAddress>) {
        let result = result.map_err(|error| {
            let is_answer = matches!(
                error,
                StreamError::Server { .. } | StreamError::Reply { .. }
            );
            let server = server.filter(|_| is_answer);
            Error::ChangeStream { server, error }
        });
        self.finished = true;
        match result {
            Err(error) if self.opened.is_some() => {
                self.announce(Err(error));
                self.shared.finish(Ok(()));
            }
            _ if self.client.is_closing() => self.shared.finish(Err(Error::Shutdown)),
            result => self.shared.finish(result),
        }
    }
}

/// Whatever ends the task, the consumer hears of it.
impl Drop for Task {
    fn drop(&mut self) {
        if !self.finished {
            self.shared.finish(Err(Error::Misuse(Misuse::TaskGone)));
        }
    }
}

impl Progress {
    /// Kills a cursor in the background, on its own server and no other.
    fn kill(&mut self, task: &Task, command: Document) {
        // A connection on which the server still sends takes no command.
        let bound = self.bound.take();
        let bound = bound.filter(|bound| !bound.connection.has_more_to_come());
        let Some(owner) = &self.owner else { return };
        if bound.is_none() && owner.is_pinned {
            // Another connection may reach another service.
            return;
        }
        // Those that are done need not be kept.
        while self.kills.try_join_next().is_some() {}
        let kill = Kill {
            span: task.span(owner.context.database(), command.as_raw()),
            command,
            bound,
            elsewhere: (owner.context.clone(), Arc::clone(&owner.pool)),
        };
        // However late it is, for this there is as much time again.
        let usual = || in_background(task.command.timeout);
        self.kills.spawn(kill.run(self.kill_limit.or_else(usual)));
    }
}

impl Owner {
    fn of(bound: &Bound) -> Self {
        Self {
            pool: Arc::clone(bound.connection.pool()),
            is_pinned: bound.connection.service_id().is_some(),
            context: bound.context.clone(),
        }
    }
}

/// The client's shutdown.
async fn shutdown(closing: &mut watch::Receiver<bool>) {
    // The sender is the client's, of which the task has a clone.
    let _ = closing.wait_for(|closing| *closing).await;
}

/// The outcome of the command under way; never, when there is none.
async fn finished(running: &mut Option<Running>) -> (Option<Bound>, Outcome) {
    match running {
        Some(running) => running.await,
        None => std::future::pending().await,
    }
}

/// Does a command's work within the span of its operation, and records its failure.
async fn traced(
    span: OperationSpan,
    work: impl Future<Output = (Option<Bound>, Outcome)>,
) -> (Option<Bound>, Outcome) {
    let (bound, outcome) = work.instrument(span.span()).await;
    if span.is_wanted() {
        outcome.record(bound.as_ref(), &span);
    }
    (bound, outcome)
}

/// Asks for a batch, unless the server sends one unasked, and again when the server had no time to
/// begin.
async fn get_more(
    client: Client,
    mut bound: Bound,
    command: Document,
    deadline: Deadline,
    (limit, exhaust): (Duration, bool),
) -> (Option<Bound>, Outcome) {
    let outdated = bound.connection.outdated();
    tokio::pin!(outdated);
    let mut retries = client.retries_of_get_more(deadline);
    let beside = Beside {
        limit: Some(limit),
        flags: if exhaust {
            Flags::EXHAUST_ALLOWED
        } else {
            Flags::empty()
        },
        ..Beside::default()
    };
    loop {
        let fetch = async {
            if bound.connection.has_more_to_come() {
                let reply = bound.receive_unasked(Some(limit)).await?;
                if !bound.reauthenticated(&reply).await? {
                    return Ok(reply);
                }
            }
            bound.send(command.as_raw(), &beside).await
        };
        let result = tokio::select! {
            biased;
            result = fetch => result,
            error = &mut outdated => Err(error),
        };
        let reply = match result {
            Ok(reply) => reply,
            Err(error) => {
                // A reply may still be on its way: dropping the connection closes it.
                drop(bound);
                return (None, failed(error));
            }
        };
        let refused = Failed::of_reply(&reply);
        let again = refused.and_then(|refused| client.retry_at(&mut retries, &refused, deadline));
        let Some(until) = again else {
            return match bound
                .refusal(&reply)
                .map(|error| error.within_deadline(deadline))
            {
                Some(error @ Error::OperationTimeout { .. }) => (Some(bound), Outcome::Late(error)),
                _ => answered(bound, reply),
            };
        };
        tokio::select! {
            () = tokio::time::sleep_until(until) => {}
            error = &mut outdated => {
                drop(bound);
                return (None, failed(error));
            }
        }
    }
}

/// The command with a `maxTimeMS` of so much at most, if it has one.
fn within_max_time(command: Document, left: Option<i64>) -> Document {
    let Some(left) = left else { return command };
    let raw = command.as_raw();
    match raw.get_i64("maxTimeMS") {
        Ok(asked) if asked > left => {
            let mut shorter = RawDocumentBuf::new();
            for (key, value) in raw.iter().flatten() {
                if key == "maxTimeMS" {
                    shorter.append(key, left);
                } else {
                    shorter.append(key, value);
                }
            }
            shorter.into()
        }
        _ => command,
    }
}

fn answered(bound: Bound, reply: CommandReply) -> (Option<Bound>, Outcome) {
    let max_wire_version = bound.connection.max_wire_version();
    let more_to_come = bound.connection.has_more_to_come();
    let reply = reply.into_document();
    let input = if more_to_come {
        Input::StreamedReplyReceived {
            reply,
            max_wire_version,
        }
    } else {
        Input::ReplyReceived {
            reply,
            max_wire_version,
        }
    };
    (Some(bound), Outcome::Told(input))
}

fn failed(error: Error) -> Outcome {
    if error.is_operation_timeout() {
        return Outcome::Late(error);
    }
    let kind = failure_kind(&error);
    Outcome::Told(Input::CommandFailed {
        failure: Failure::new(kind, error),
    })
}

/// The machine orders a `getMore` only behind a reply that came over a bound connection.
fn unbound() -> Outcome {
    Outcome::Told(Input::CommandFailed {
        failure: FailureKind::ServerGone.into(),
    })
}
