//! The task behind a change stream: it does what the machine orders and tells it what happened.

use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use bson::RawDocumentBuf;
use mongo_change_stream::{
    Action, ChangeStreamMachine, Failure, FailureKind, Input, StreamError, StreamEvent,
};
use mongo_uri::ReadPreference;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::JoinSet;

use super::shared::Shared;
use crate::client::Client;
use crate::error::{Error, Misuse, Result};
use crate::operation::{Beside, Bound, Context};
use crate::tasks::{now, sleep_until};

/// How long the cursor of a stream that nobody needs any more is worth caring about.
const KILL_CURSORS_LIMIT: Duration = Duration::from_secs(5);

/// What the handle asks for.
#[derive(Debug)]
pub(super) enum Request {
    /// The consumer waits for a batch.
    Demanded,
    /// The consumer has begun so many batches.
    Taken(usize),
    /// End the stream; dropped, not answered, when it is done.
    Close(oneshot::Sender<()>),
}

/// Told of what happens to a stream; see [`Watch::on_event`](super::Watch::on_event).
pub(super) type Listener = Arc<dyn Fn(&StreamEvent) + Send + Sync>;

/// The command under way. It owns its connection, and gives it back with the outcome.
type Running = Pin<Box<dyn Future<Output = (Option<Bound>, Input)> + Send>>;

pub(super) struct Task {
    pub(super) client: Client,
    pub(super) machine: ChangeStreamMachine,
    pub(super) shared: Arc<Shared>,
    pub(super) read_preference: ReadPreference,
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
            tokio::select! {
                (bound, input) = finished(&mut progress.running) => {
                    progress.running = None;
                    if let Some(bound) = &bound {
                        progress.owner = Some(Owner::of(bound));
                    }
                    progress.bound = bound;
                    self.machine.handle(input, now());
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
            Some(Request::Demanded) => self.machine.handle(Input::Demanded, now()),
            Some(Request::Taken(batches)) => {
                for _ in 0..batches {
                    self.machine.handle(Input::BatchTaken, now());
                }
            }
            Some(Request::Close(done)) => {
                progress.closing.push(done);
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
                    let (client, preference) = (self.client.clone(), self.read_preference.clone());
                    progress.running = Some(Box::pin(aggregate(
                        client, database, command, preference, deadline,
                    )));
                }
                Action::GetMore {
                    command,
                    deadline,
                    exhaust,
                    ..
                } => progress.fetch(Some(command), deadline, exhaust),
                Action::ReadReply { deadline } => progress.fetch(None, deadline, true),
                Action::KillCursors { command, .. } => progress.kill(command),
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
                Action::Finish(result) => self.finish(result, progress.owner.as_ref()),
                other => tracing::debug!(?other, "an order that this client does not carry out"),
            }
        }
        if has_opened {
            self.announce(Ok(()));
        }
    }

    /// Answers the opening, once, after what came with it was delivered: the token is there.
    fn announce(&mut self, result: Result<()>) {
        if let Some(opened) = self.opened.take() {
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

    fn finish(&mut self, result: Result<(), StreamError>, owner: Option<&Owner>) {
        let result = result.map_err(|error| {
            let is_answer = matches!(
                error,
                StreamError::Server { .. } | StreamError::Reply { .. }
            );
            let owner = owner.filter(|_| is_answer);
            let server = owner.map(|owner| owner.pool.server().address.clone());
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
    /// Runs a `getMore`, or reads what the server sends unasked.
    fn fetch(&mut self, command: Option<RawDocumentBuf>, deadline: Duration, exhaust: bool) {
        self.running = Some(match self.bound.take() {
            Some(bound) => Box::pin(get_more(bound, command, deadline, exhaust)),
            None => Box::pin(std::future::ready((None, unbound()))),
        });
    }

    /// Kills a cursor in the background, on its own server and no other.
    fn kill(&mut self, command: RawDocumentBuf) {
        // A connection on which the server still sends takes no command.
        let bound = self.bound.take();
        let bound = bound.filter(|bound| !bound.connection.has_more_to_come());
        let Some(owner) = &self.owner else { return };
        if bound.is_none() && owner.is_pinned {
            // Another connection may reach another service.
            return;
        }
        let (pool, context) = (Arc::clone(&owner.pool), owner.context.clone());
        // Those that are done need not be kept.
        while self.kills.try_join_next().is_some() {}
        let kill = async move {
            let mut bound = match bound {
                Some(bound) => bound,
                None => context.rebind(&pool, None).await?,
            };
            bound.send(&command, &Beside::default()).await
        };
        self.kills.spawn(async move {
            // Nobody can do anything about a cursor that cannot be killed; the server forgets it.
            let _ = tokio::time::timeout(KILL_CURSORS_LIMIT, kill).await;
        });
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
async fn finished(running: &mut Option<Running>) -> (Option<Bound>, Input) {
    match running {
        Some(running) => running.await,
        None => std::future::pending().await,
    }
}

async fn aggregate(
    client: Client,
    database: String,
    command: RawDocumentBuf,
    read_preference: ReadPreference,
    deadline: Duration,
) -> (Option<Bound>, Input) {
    let read = client.run_read(&database, &command, &read_preference, deadline);
    match read.await {
        Ok((bound, reply)) => answered(bound, reply),
        Err(error) => (None, failed(error)),
    }
}

async fn get_more(
    mut bound: Bound,
    command: Option<RawDocumentBuf>,
    deadline: Duration,
    exhaust: bool,
) -> (Option<Bound>, Input) {
    let outdated = bound.connection.outdated();
    let limit = Some(deadline);
    let beside = Beside {
        limit,
        exhaust,
        ..Beside::default()
    };
    let fetch = async {
        match &command {
            Some(command) => bound.send(command, &beside).await,
            None => bound.receive_unasked(limit).await,
        }
    };
    let result = tokio::select! {
        biased;
        result = fetch => result,
        error = outdated => Err(error),
    };
    match result {
        Ok(reply) => answered(bound, reply),
        Err(error) => {
            // A reply may still be on its way: dropping the connection closes it.
            drop(bound);
            (None, failed(error))
        }
    }
}

fn answered(bound: Bound, reply: mongo_wire::CommandReply) -> (Option<Bound>, Input) {
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
    (Some(bound), input)
}

fn failed(error: Error) -> Input {
    let kind = match &error {
        // A hello that is refused comes from a server that is starting or ending.
        Error::Io { .. } | Error::Proxy { .. } | Error::Hello { .. } => FailureKind::Network,
        Error::Timeout { .. }
        | Error::WaitQueueTimeout { .. }
        | Error::NoConnection { .. }
        | Error::OperationTimeout { .. } => FailureKind::Timeout,
        Error::PoolCleared { .. } => FailureKind::PoolCleared,
        Error::PoolClosed { .. } | Error::ServerGone { .. } => FailureKind::ServerGone,
        Error::Selection { .. } => FailureKind::Selection,
        Error::Malformed { .. } | Error::Violation { .. } | Error::Reply { .. } => {
            FailureKind::Protocol
        }
        // The same from a server that is ending while it authenticates.
        Error::Authentication(_) if error.says_try_elsewhere() => FailureKind::Network,
        Error::Authentication(_) => FailureKind::Authentication,
        Error::Tls { failure, .. } if failure.is_hang_up() => FailureKind::Network,
        Error::Tls { .. } => FailureKind::Authentication,
        Error::Shutdown => FailureKind::Shutdown,
        Error::Uri(_)
        | Error::Dns { .. }
        | Error::Misuse(_)
        | Error::TlsFile { .. }
        | Error::Encode(_)
        | Error::Checkpoint(_)
        | Error::Server { .. }
        | Error::ChangeStream { .. } => FailureKind::Rejected,
    };
    Input::CommandFailed {
        failure: Failure::new(kind, error),
    }
}

/// The machine orders a `getMore` only behind a reply that came over a bound connection.
fn unbound() -> Input {
    Input::CommandFailed {
        failure: FailureKind::ServerGone.into(),
    }
}
