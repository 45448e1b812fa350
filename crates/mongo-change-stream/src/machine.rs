//! The producer's half: which command to run next (change streams, "Resume Process").
//!
//! ```text
//!               ok, id != 0                  order
//!   Opening ------------------->  Open  ---------------> Fetching
//!    ^  |  \                       ^ |                    |    |
//!    |  |   \ Close                | | Close     ok,      |    | resumable error
//!    |  |    v                     | |           id != 0  |    |
//!    |  |  Closing                 | +-----------.        |    |
//!    |  |    | answered, grace     +-------------|--------+    |
//!    |  |    | over                             |             |
//!    |  |    v                                  v             |
//!    |  +-> Finished <--- id 0, permanent error, Close        |
//!    |                                                        |
//!    +---------------------- BackingOff <---------------------+
//!    |     time is up                      (no wait: straight to Opening)
//!    |
//!    +------------- Lapsed <--- the consumer's time is over: a resume that is under way, is waited
//!       Demanded                for or would be needed waits for the next demand
//! ```

use std::{
    collections::VecDeque,
    time::{Duration, Instant},
};

use bson::raw::RawDocumentBuf;
use mongo_wire::{ByteStr, CommandReply, Document};

use crate::{
    Failure, Gap, GapEnd, Oversize, Phase, ResumeToken, StartPoint, StreamBatch, StreamConfig,
    StreamError, WatchOptions, WatchTarget,
    backoff::Backoff,
    command::{Cursor, Request},
    fragments::Fragments,
    pace::Pace,
    start::Place,
    window::Window,
};

mod steps;

/// What happened, told to the machine.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub enum Input {
    /// The command under way was answered, be it with `ok: 0`.
    ReplyReceived {
        /// The reply's body.
        reply: Document,
        /// Of the connection that ran the command, as its handshake had it.
        max_wire_version: i32,
    },
    /// The same, and the server sends another reply unasked (`moreToCome`).
    StreamedReplyReceived {
        /// The reply's body.
        reply: Document,
        /// Of the connection that ran the command, as its handshake had it.
        max_wire_version: i32,
    },
    /// The command under way brought no reply.
    CommandFailed {
        /// Why.
        failure: Failure,
    },
    /// The consumer has used up everything and waits for a batch. Leads to one `getMore` at most,
    /// and to none if the stream already reads ahead.
    Demanded,
    /// The consumer has taken up a batch with events: the window has more room. Batches are taken
    /// up in order, so it need not be said which.
    BatchTaken,
    /// The consumer waits no longer: the time that it gave its call is over (Client Side Operations
    /// Timeout, "Change Streams"). A command under way is given up, and the stream resumes with the
    /// next [`Demanded`](Self::Demanded). If that fails, the stream ends.
    Lapsed,
    /// The stream is no longer wanted. Nothing more will be read.
    Close,
}

/// What the machine orders. There is never more than one `Aggregate`, `GetMore` or `ReadReply` under
/// way; its outcome is the next input about a command.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub enum Action {
    /// Select a server by the stream's read preference, bind a connection to it, run this command.
    ///
    /// It is a retryable read: the runner may retry it as that specification says, before it
    /// reports the outcome.
    Aggregate {
        /// The database.
        database: ByteStr,
        /// The command, without `$db`, `lsid` and the like.
        command: Document,
        /// From sending it to having its reply; then it has failed with
        /// [`FailureKind::Timeout`](crate::FailureKind::Timeout). Finding a server and connecting
        /// to it have limits of their own.
        deadline: Duration,
    },
    /// Run this on the bound connection, whose server owns the cursor.
    ///
    /// A reply with the labels `RetryableError` and `SystemOverloadedError` is the runner's to
    /// retry, with this same command, before it reports the outcome.
    GetMore {
        /// The database.
        database: ByteStr,
        /// The command, without `$db`, `lsid` and the like.
        command: Document,
        /// From sending it to having its reply; then it has failed with
        /// [`FailureKind::Timeout`](crate::FailureKind::Timeout).
        deadline: Duration,
        /// Whether to allow the server to send more replies than one (`exhaustAllowed`).
        exhaust: bool,
    },
    /// Read the next reply that the server sends unasked on the bound connection; told as that of a
    /// `GetMore`. What is said there of a server that had no time to begin holds here, too; then
    /// there is nothing more to read, and the command is to be run.
    ReadReply {
        /// The database.
        database: ByteStr,
        /// The `getMore` that the server goes on answering.
        command: Document,
        /// Until the reply is there.
        deadline: Duration,
    },
    /// Run this on the server that owns the cursor and on no other, if it can still be reached.
    /// The result is nobody's business, and what follows must not wait for it.
    KillCursors {
        /// The database.
        database: ByteStr,
        /// The command, without `$db`, `lsid` and the like.
        command: Document,
    },
    /// The bound connection is no longer needed, if there is one. When the stream closes during a
    /// `getMore`, or while the server sends unasked, there are replies that nobody has read: such a
    /// connection is closed, not reused, and never used for `KillCursors`.
    Unbind,
    /// Pass this to the consumer's [`BatchReader`](crate::BatchReader). An empty batch counts as
    /// an answer to a demand too, unless it is that of the resume behind a lapse.
    Deliver(StreamBatch),
    /// Something worth telling people.
    Publish(StreamEvent),
    /// The stream has ended; what was delivered is still to be read. The last action.
    Finish(Result<(), StreamError>),
}

/// What people who watch the watcher want to know.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub enum StreamEvent {
    /// The first `aggregate` succeeded.
    Opened,
    /// The cursor is lost, or a resume failed: there will be another try.
    Interrupted {
        /// Why.
        cause: StreamError,
        /// Resumes since the last progress, this one included.
        attempt: u32,
        /// The wait before it.
        delay: Duration,
    },
    /// A resume succeeded.
    Resumed {
        /// Resumes since the last progress.
        attempts: u32,
        /// Where the new cursor started.
        start: StartPoint,
    },
    /// Events were left out, because the policy says so.
    Gap(Gap),
    /// The server has closed the cursor, as it does after an invalidate event, and the stream goes
    /// on behind it ([`OnInvalidate::Continue`](crate::OnInvalidate::Continue)).
    Invalidated {
        /// The wait before that: none, unless cursor after cursor is closed at once.
        delay: Duration,
    },
    /// The server has closed the cursor, as it does after an invalidate event, and the stream ends.
    Exhausted,
}

/// A change stream without IO: told what happened, it says what to do.
///
/// After each input, and after each time-out, take actions until there are none; then read
/// [`poll_timeout`](Self::poll_timeout). Early or repeated time-outs do no harm, nor do answers while
/// no command is under way. An answer is taken for that of the last command ordered: one to a
/// command that was given up with [`Unbind`](Action::Unbind) must not be told.
#[derive(Debug)]
pub struct ChangeStreamMachine {
    request: Request,
    config: StreamConfig,
    place: Place,
    window: Window,
    backoff: Backoff,
    pace: Pace,
    /// Commands in a row that missed their deadline.
    missed_deadlines: u32,
    /// The last event delivered was an invalidate.
    invalidated: bool,
    /// The consumer's time was over, and nothing has come since.
    lapsed: bool,
    fragments: Fragments,
    loss: Loss,
    state: State,
    actions: VecDeque<Action>,
}

/// How far the stream is with the loss of its history.
#[derive(Debug, PartialEq)]
enum Loss {
    /// It has made progress since, or there was none.
    None,
    /// The stream is to start anew; the place that it has lost.
    Behind(GapEnd),
    /// It has started anew, and nothing has come from there yet.
    Passed,
}

#[derive(Debug)]
enum State {
    /// An `aggregate` is under way.
    Opening {
        phase: Phase,
        start: StartPoint,
    },
    /// An `aggregate` is under way whose cursor nobody wants any more.
    Closing {
        until: Instant,
    },
    /// The cursor waits for the window, or for its pace.
    Open {
        cursor: Cursor,
        opened_at: Instant,
        /// The server sends the next reply unasked.
        streams: bool,
    },
    /// A reply is under way, to a `getMore` that was sent, or unasked.
    Fetching {
        cursor: Cursor,
        opened_at: Instant,
        /// If it was asked for.
        sent_at: Option<Instant>,
    },
    /// Behind an invalidate event, the next cursor waits for the window, and for its time.
    BehindInvalidate {
        until: Instant,
    },
    /// The next resume waits for its time.
    BackingOff {
        until: Instant,
    },
    /// The next resume waits until it is demanded.
    Lapsed,
    Finished,
}

impl ChangeStreamMachine {
    /// A stream that opens at once. `rng_seed` spreads the waits between resumes.
    #[must_use]
    pub fn new(
        target: WatchTarget,
        pipeline: Vec<RawDocumentBuf>,
        options: WatchOptions,
        config: StreamConfig,
        rng_seed: u64,
    ) -> Self {
        let mut machine = Self {
            place: Place::new(&options),
            window: Window::new(config.prefetch),
            backoff: Backoff::new(config.backoff, rng_seed),
            pace: Pace::new(options.max_await_time),
            missed_deadlines: 0,
            invalidated: false,
            lapsed: false,
            fragments: Fragments::default(),
            loss: Loss::None,
            state: State::Finished,
            actions: VecDeque::new(),
            request: Request {
                target,
                pipeline,
                options,
                splits: config.oversize != Oversize::Fail,
            },
            config,
        };
        machine.open(Phase::Open, StartPoint::AsOpened);
        machine
    }

    /// Takes in what happened.
    pub fn handle(&mut self, input: Input, now: Instant) {
        match input {
            Input::ReplyReceived {
                reply,
                max_wire_version,
            } => {
                self.answered(&CommandReply::new(reply), (max_wire_version, false), now);
            }
            Input::StreamedReplyReceived {
                reply,
                max_wire_version,
            } => {
                self.answered(&CommandReply::new(reply), (max_wire_version, true), now);
            }
            Input::CommandFailed { failure } => {
                let Some(phase) = self.phase() else { return };
                self.failed(StreamError::Failed { phase, failure }, now);
            }
            Input::Demanded => {
                self.window.demand();
                if matches!(self.state, State::Lapsed) {
                    self.resume();
                }
            }
            Input::Lapsed => self.lapse(),
            Input::BatchTaken => self.window.taken(),
            Input::Close => self.close(now),
        }
        self.fetch(now);
    }

    /// Takes in that time has passed.
    pub fn handle_timeout(&mut self, now: Instant) {
        match self.state {
            State::BackingOff { until } if until <= now => self.resume(),
            State::Closing { until } if until <= now => self.finish(None, Ok(())),
            _ => self.fetch(now),
        }
    }

    /// The next thing to do.
    #[must_use]
    pub fn poll_action(&mut self) -> Option<Action> {
        self.actions.pop_front()
    }

    /// When to call [`handle_timeout`](Self::handle_timeout), if nothing happens before.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Instant> {
        match &self.state {
            State::BackingOff { until } | State::Closing { until } => Some(*until),
            State::BehindInvalidate { until } if self.window.wants_more() => Some(*until),
            State::Open { .. } if self.window.wants_more() => self.pace.not_before(),
            _ => None,
        }
    }

    /// Whether the stream has ended; all that is left to do is in the actions.
    #[must_use]
    pub fn is_finished(&self) -> bool {
        matches!(self.state, State::Finished)
    }

    /// The end of what was delivered. What was handed out is for the reader to say.
    #[must_use]
    pub fn delivered_token(&self) -> Option<&ResumeToken> {
        self.place.token()
    }
}
