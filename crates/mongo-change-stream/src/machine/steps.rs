//! What the machine does with each outcome.

use std::time::{Duration, Instant};

use bson::Timestamp;
use mongo_wire::{CommandReply, CursorReply};

use super::{Action, ChangeStreamMachine, State, StreamEvent};
use crate::{
    ErrorClass, EventRef, FailureKind, OperationType, Phase, ResumeToken, StartPoint, StreamBatch,
    StreamError, batch::Survey, codes, command::Cursor, pace, token,
};

/// A successful reply, read.
struct Answer {
    phase: Phase,
    cursor: CursorReply,
    operation_time: Option<Timestamp>,
    max_wire_version: i32,
}

impl ChangeStreamMachine {
    /// The command under way, if its outcome still matters.
    pub(super) fn phase(&self) -> Option<Phase> {
        match &self.state {
            State::Opening { phase, .. } => Some(*phase),
            // Whatever comes of it, the stream ends.
            State::Closing { .. } => Some(Phase::Open),
            State::Fetching { .. } => Some(Phase::GetMore),
            State::Open { .. } | State::BackingOff { .. } | State::Finished => None,
        }
    }

    pub(super) fn open(&mut self, phase: Phase, start: StartPoint) {
        self.actions.push_back(Action::Aggregate {
            database: self.request.target.database().to_owned(),
            command: self.request.aggregate(&start),
            deadline: self.doubled(self.config.aggregate_limit),
        });
        self.state = State::Opening { phase, start };
    }

    pub(super) fn resume(&mut self) {
        self.open(Phase::Resume, self.place.start_point());
    }

    /// Orders the next `getMore` if there is a cursor, room for a batch, and nothing against it.
    pub(super) fn fetch(&mut self, now: Instant) {
        if !self.window.wants_more() || !self.pace.allows(now) {
            return;
        }
        match std::mem::replace(&mut self.state, State::Finished) {
            State::Open { cursor, opened_at } => {
                self.actions.push_back(Action::GetMore {
                    database: cursor.database().to_owned(),
                    command: cursor.get_more(),
                    deadline: self.deadline(),
                });
                self.state = State::Fetching {
                    cursor,
                    opened_at,
                    sent_at: now,
                };
            }
            other => self.state = other,
        }
    }

    fn deadline(&self) -> Duration {
        self.request
            .options
            .max_await_time
            .unwrap_or(pace::DEFAULT_AWAIT)
            .saturating_add(self.doubled(self.config.get_more_margin))
    }

    /// A limit, doubled with every command in a row that missed its own.
    fn doubled(&self, limit: Duration) -> Duration {
        const MOST_DOUBLINGS: u32 = 4;
        limit.saturating_mul(1 << self.missed_deadlines.min(MOST_DOUBLINGS))
    }

    pub(super) fn answered(&mut self, reply: &CommandReply, max_wire_version: i32, now: Instant) {
        let Some(phase) = self.phase() else { return };
        match reply.server_error() {
            Ok(None) => {}
            Ok(Some(error)) => {
                let error = StreamError::Server {
                    phase,
                    error: error.into(),
                    max_wire_version,
                };
                return self.failed(error, now);
            }
            Err(error) => return self.failed(StreamError::Reply { phase, error }, now),
        }
        let operation_time = reply.operation_time();
        match reply.cursor() {
            Ok(cursor) => {
                self.received(
                    Answer {
                        phase,
                        cursor,
                        operation_time,
                        max_wire_version,
                    },
                    now,
                );
            }
            Err(error) => self.failed(StreamError::Reply { phase, error }, now),
        }
    }

    fn received(&mut self, answer: Answer, now: Instant) {
        let id = answer.cursor.id;
        let namespace = answer.cursor.namespace.as_str();
        let (cursor, opened_at) = match std::mem::replace(&mut self.state, State::Finished) {
            State::Opening { start, .. } => {
                self.opened(&answer, start);
                (
                    Cursor::new(&self.request, id, namespace, answer.max_wire_version),
                    now,
                )
            }
            State::Fetching {
                cursor,
                opened_at,
                sent_at,
            } => {
                let took = now.saturating_duration_since(sent_at);
                self.pace
                    .answered(took, !answer.cursor.batch.is_empty(), now);
                self.missed_deadlines = 0;
                (cursor.refreshed(&self.request, id, namespace), opened_at)
            }
            State::Closing { .. } => {
                let cursor = Cursor::new(&self.request, id, namespace, answer.max_wire_version);
                return self.finish((id != 0).then_some(cursor), Ok(()));
            }
            other => return self.state = other,
        };
        let outcome = self.deliver(answer, now);
        if outcome.is_err() || id == 0 {
            if outcome.is_ok() {
                self.actions
                    .push_back(Action::Publish(StreamEvent::Exhausted));
            }
            return self.finish((id != 0).then_some(cursor), outcome);
        }
        self.state = State::Open { cursor, opened_at };
    }

    fn opened(&mut self, answer: &Answer, start: StartPoint) {
        self.backoff.opened();
        self.actions.push_back(Action::Publish(match answer.phase {
            Phase::Resume => StreamEvent::Resumed {
                attempts: self.backoff.attempts(),
                start,
            },
            Phase::Open | Phase::GetMore => StreamEvent::Opened,
        }));
    }

    /// Passes the batch on and moves the place behind it. The error, if any, ends the stream once
    /// the events before it are read.
    fn deliver(&mut self, answer: Answer, now: Instant) -> Result<(), StreamError> {
        let Answer {
            phase,
            cursor: reply,
            operation_time,
            ..
        } = answer;
        let survey = Survey::of(&reply.batch);
        let count = survey.count;
        if let Some(last) = survey.last {
            let operation = EventRef::new(last).operation_type();
            self.invalidated = operation == Some(OperationType::Invalidate);
        }

        let named_end = match (&survey.error, reply.post_batch_resume_token) {
            (None, Some(token)) => Some(ResumeToken::from(token).compact()),
            _ => None,
        };
        let last_id = || {
            survey
                .last
                .and_then(|event| EventRef::new(event).id())
                .map(token::copy)
        };
        let end = named_end.clone().or_else(last_id);
        let outcome = match survey.error {
            Some(error) => Err(StreamError::Reply { phase, error }),
            None if count > 0 && end.is_none() => Err(StreamError::MissingResumeToken),
            None => Ok(()),
        };
        if phase == Phase::Open && reply.batch.is_empty() && end.is_none() {
            self.place.opened_without_token(operation_time);
        }
        let is_news = self.place.advance(end, count > 0);
        if count > 0 || (is_news && phase == Phase::GetMore) {
            self.backoff.progressed();
        }

        self.window
            .delivered(reply.batch.bytes_len(), !reply.batch.is_empty());
        self.actions.push_back(Action::Deliver(StreamBatch {
            phase,
            events: reply.batch,
            count,
            token: named_end,
            operation_time,
            received_at: now,
        }));
        outcome
    }

    pub(super) fn failed(&mut self, error: StreamError, now: Instant) {
        match std::mem::replace(&mut self.state, State::Finished) {
            State::Opening {
                phase: Phase::Resume,
                ..
            } => self.resume_failed(error, now),
            State::Opening { .. } => self.finish(None, Err(error)),
            State::Closing { .. } => self.finish(None, Ok(())),
            State::Fetching {
                cursor, opened_at, ..
            } => {
                self.backoff
                    .cursor_lived(now.saturating_duration_since(opened_at));
                self.cursor_failed(cursor, error, now);
            }
            other => self.state = other,
        }
    }

    fn cursor_failed(&mut self, cursor: Cursor, error: StreamError, now: Instant) {
        self.count_missed(&error);
        let left_over = may_live(&error).then_some(cursor);
        if error.class() != ErrorClass::Resumable {
            return self.finish(left_over, Err(error));
        }
        self.release(left_over);
        self.plan_resume(error, now);
    }

    fn resume_failed(&mut self, error: StreamError, now: Instant) {
        // The cursor was lost between the invalidate event and the end that follows it; the server
        // will not resume behind such an event. Nothing is missing: this is that end.
        if self.invalidated && error.code() == Some(codes::INVALID_RESUME_TOKEN) {
            return self.finish(None, Ok(()));
        }
        self.count_missed(&error);
        if error.class() != ErrorClass::RetryLater || !self.backoff.goes_on(now) {
            return self.finish(None, Err(error));
        }
        self.release(None);
        self.plan_resume(error, now);
    }

    fn count_missed(&mut self, error: &StreamError) {
        if is_timeout(error) {
            self.missed_deadlines = self.missed_deadlines.saturating_add(1);
        }
    }

    fn plan_resume(&mut self, cause: StreamError, now: Instant) {
        let delay = self.backoff.next_delay();
        let attempt = self.backoff.attempts();
        let event = StreamEvent::Interrupted {
            cause,
            attempt,
            delay,
        };
        self.actions.push_back(Action::Publish(event));
        if delay.is_zero() {
            self.resume();
        } else {
            self.state = State::BackingOff {
                until: later(now, delay),
            };
        }
    }

    pub(super) fn close(&mut self, now: Instant) {
        match std::mem::replace(&mut self.state, State::Finished) {
            State::Opening { .. } => {
                self.state = State::Closing {
                    until: now + self.config.close_grace,
                };
            }
            State::Open { cursor, .. } | State::Fetching { cursor, .. } => {
                self.finish(Some(cursor), Ok(()));
            }
            State::BackingOff { .. } => self.finish(None, Ok(())),
            ended @ (State::Closing { .. } | State::Finished) => self.state = ended,
        }
    }

    pub(super) fn finish(&mut self, left_over: Option<Cursor>, result: Result<(), StreamError>) {
        self.release(left_over);
        self.actions.push_back(Action::Finish(result));
        self.state = State::Finished;
    }

    /// Kills a cursor that may still live, where it lives, and lets its connection go.
    fn release(&mut self, left_over: Option<Cursor>) {
        if let Some(cursor) = left_over {
            self.actions.push_back(Action::KillCursors {
                database: cursor.database().to_owned(),
                command: cursor.kill(),
            });
        }
        self.actions.push_back(Action::Unbind);
    }
}

/// Whether the server may still have the cursor of a `getMore` that failed like this.
fn may_live(error: &StreamError) -> bool {
    !matches!(
        error.code(),
        Some(codes::CURSOR_NOT_FOUND | codes::CURSOR_KILLED)
    )
}

/// A wait beyond what the clock can express is cut to a day.
fn later(now: Instant, delay: Duration) -> Instant {
    now.checked_add(delay)
        .unwrap_or_else(|| now + Duration::from_secs(86_400))
}

fn is_timeout(error: &StreamError) -> bool {
    matches!(error, StreamError::Failed { failure, .. } if failure.kind == FailureKind::Timeout)
}
