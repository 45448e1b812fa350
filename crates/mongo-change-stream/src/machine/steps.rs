//! What the machine does with each outcome.

use std::time::{Duration, Instant};

use bson::Timestamp;
use mongo_wire::{CommandReply, CursorReply, Document};

use super::{Action, ChangeStreamMachine, Loss, State, StreamEvent};
use crate::{
    ErrorClass, EventRef, FailureKind, Gap, GapCause, GapEnd, HistoryLost, OnInvalidate,
    OperationType, Phase, ResumeToken, StartPoint, StreamBatch, StreamError,
    batch::Survey,
    codes,
    command::Cursor,
    pace,
    start::{BatchEnd, Place},
    token,
};

/// A successful reply, read.
struct Answer {
    phase: Phase,
    cursor: CursorReply,
    operation_time: Option<Timestamp>,
    max_wire_version: i32,
    /// The server sends another one unasked.
    more_to_come: bool,
}

impl ChangeStreamMachine {
    /// The command under way, if its outcome still matters.
    pub(super) fn phase(&self) -> Option<Phase> {
        match &self.state {
            State::Opening { phase, .. } => Some(*phase),
            // Whatever comes of it, the stream ends.
            State::Closing { .. } => Some(Phase::Open),
            State::Fetching { .. } => Some(Phase::GetMore),
            State::Open { .. }
            | State::BehindInvalidate { .. }
            | State::BackingOff { .. }
            | State::Lapsed
            | State::Finished => None,
        }
    }

    pub(super) fn open(&mut self, phase: Phase, start: StartPoint) {
        self.fragments.clear();
        self.actions.push_back(Action::Aggregate {
            database: self.request.target.database().into(),
            command: self.request.aggregate(&start).into(),
            deadline: self.doubled(self.config.aggregate_limit),
        });
        self.state = State::Opening { phase, start };
    }

    pub(super) fn resume(&mut self) {
        self.open(Phase::Resume, self.place.start_point());
    }

    /// Orders the next `getMore` if there is a cursor, room for a batch, and nothing against it.
    pub(super) fn fetch(&mut self, now: Instant) {
        if !self.window.wants_more() {
            return;
        }
        if let State::BehindInvalidate { until } = self.state {
            if until <= now {
                self.resume();
            }
            return;
        }
        if !self.pace.allows(now) {
            return;
        }
        match std::mem::replace(&mut self.state, State::Finished) {
            State::Open {
                cursor,
                opened_at,
                streams,
            } => {
                let deadline = self.deadline();
                let (database, command) = (cursor.database(), cursor.get_more());
                self.actions.push_back(if streams {
                    Action::ReadReply {
                        database,
                        command,
                        deadline,
                    }
                } else {
                    Action::GetMore {
                        database,
                        command,
                        deadline,
                        exhaust: self.config.exhaust,
                    }
                });
                self.state = State::Fetching {
                    cursor,
                    opened_at,
                    sent_at: (!streams).then_some(now),
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

    pub(super) fn answered(
        &mut self,
        reply: &CommandReply,
        (max_wire_version, more_to_come): (i32, bool),
        now: Instant,
    ) {
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
                        more_to_come,
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
                // What comes unasked comes at the server's own pace.
                if let Some(sent_at) = sent_at {
                    let took = now.saturating_duration_since(sent_at);
                    self.pace
                        .answered(took, !answer.cursor.batch.is_empty(), now);
                }
                self.missed_deadlines = 0;
                (cursor.refreshed(&self.request, id, namespace), opened_at)
            }
            State::Closing { .. } => {
                let cursor = Cursor::new(&self.request, id, namespace, answer.max_wire_version);
                return self.finish((id != 0).then_some(cursor), Ok(()));
            }
            other => return self.state = other,
        };
        let streams = answer.more_to_come;
        match self.deliver(answer, now) {
            Ok(()) if id == 0 => self.exhausted(now),
            Ok(()) => {
                self.state = State::Open {
                    cursor,
                    opened_at,
                    streams,
                };
            }
            Err(error) => self.finish((id != 0).then_some(cursor), Err(error)),
        }
    }

    /// The server has ended the stream's cursor, and the policy says whether that ends the stream.
    fn exhausted(&mut self, now: Instant) {
        if self.config.invalidate == OnInvalidate::End || self.place.token().is_none() {
            self.actions
                .push_back(Action::Publish(StreamEvent::Exhausted));
            return self.finish(None, Ok(()));
        }
        self.place.invalidated();
        self.release(None);
        let delay = self.backoff.next_delay();
        let event = StreamEvent::Invalidated { delay };
        self.actions.push_back(Action::Publish(event));
        // The first batch of the new cursor needs room like any other.
        self.state = State::BehindInvalidate {
            until: later(now, delay),
        };
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
        let (phase, operation_time) = (answer.phase, answer.operation_time);
        let named_end = answer.cursor.post_batch_resume_token.clone();
        let before = self.place.token();
        let whole =
            self.fragments
                .take_in(answer.cursor.batch, self.config.oversize, before, phase);
        let survey = Survey::of(&whole.events, phase);
        let count = survey.count;

        let is_whole = survey.error.is_none() && whole.error.is_none() && !whole.is_cut;
        let named_end = named_end
            .filter(|_| is_whole)
            .map(|token| ResumeToken::from(token).compact())
            .or(whole.end);
        let last = survey.last.as_ref().map(view);
        let last_id = || last.and_then(EventRef::id).map(token::copy);
        let end = named_end.clone().or_else(last_id);
        let first = survey.first.as_ref().map(view);
        let is_first = phase == Phase::Open || matches!(self.loss, Loss::Behind(_));
        let gaps = self.pass_gaps(whole.gaps, first, (&end, operation_time));
        let outcome = survey.error.clone().or(whole.error).map_or(Ok(()), Err);
        if is_first && whole.events.is_empty() && end.is_none() {
            // The reply's own time lies behind an event of which only a part is there.
            self.place
                .opened_without_token(whole.cut_at.or(operation_time));
        }
        if let Some(last) = last {
            self.invalidated = last.operation_type() == Some(OperationType::Invalidate);
        }
        let is_news = self.place.advance(BatchEnd {
            token: end,
            has_events: count > 0,
            is_invalidate: self.invalidated,
        });
        if count > 0 || (is_news && phase == Phase::GetMore) {
            self.progressed();
        }
        if whole.is_cut && whole.events.is_empty() && gaps.is_empty() {
            // The consumer waits on: an answer would say that there is nothing to come.
            return outcome;
        }
        // What was demanded behind a lapse is more than that the cursor is open again.
        let was_lapsed = std::mem::replace(&mut self.lapsed, false);
        let is_answer = !was_lapsed || !whole.events.is_empty();
        if is_answer {
            self.window
                .delivered(whole.events.bytes_len(), !whole.events.is_empty());
        }
        self.actions.push_back(Action::Deliver(StreamBatch {
            events: whole.events,
            count,
            last: survey.last,
            error: survey.error,
            token: named_end,
            operation_time,
            received_at: now,
            gaps,
            is_answer,
            closes_cursor: answer.cursor.id == 0,
        }));
        outcome
    }

    fn progressed(&mut self) {
        self.backoff.progressed();
        if self.loss == Loss::Passed {
            self.loss = Loss::None;
        }
    }

    /// Publishes what was left out before the end of this batch. A lost history ends where the new
    /// cursor begins: before its first event, or at the end of its empty batch.
    fn pass_gaps(
        &mut self,
        oversize: Vec<Gap>,
        first: Option<EventRef<'_>>,
        (end, operation_time): (&Option<ResumeToken>, Option<Timestamp>),
    ) -> Vec<Gap> {
        let mut gaps = Vec::new();
        if let Loss::Behind(from) = std::mem::replace(&mut self.loss, Loss::None) {
            let to = match (self.place.operation_time(), first) {
                (Some(start), _) => GapEnd::new(None, Some(start)),
                (None, Some(first)) => GapEnd::new(None, first.cluster_time()),
                (None, None) => GapEnd::new(end.clone(), operation_time),
            };
            gaps.push(Gap {
                cause: GapCause::HistoryLost,
                from,
                to,
            });
            self.loss = Loss::Passed;
        }
        gaps.extend(oversize);
        for gap in &gaps {
            let event = StreamEvent::Gap(gap.clone());
            self.actions.push_back(Action::Publish(event));
        }
        gaps
    }

    pub(super) fn failed(&mut self, error: StreamError, now: Instant) {
        match std::mem::replace(&mut self.state, State::Finished) {
            State::Opening { phase, .. } => self.open_failed(phase, error, now),
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
        let is_skipped = self.skips_loss(&error);
        if error.class() != ErrorClass::Resumable && !is_skipped {
            return self.finish(left_over, Err(error));
        }
        if self.invalidated && self.config.invalidate == OnInvalidate::End {
            // The cursor was lost between the invalidate event and the end that follows it.
            // Nothing is missing: this is that end.
            self.release(left_over);
            return self.exhausted(now);
        }
        self.release(left_over);
        self.plan_resume(error, now);
    }

    fn open_failed(&mut self, phase: Phase, error: StreamError, now: Instant) {
        self.count_missed(&error);
        let is_skipped = self.skips_loss(&error);
        if phase == Phase::Open && is_skipped {
            self.release(None);
            return self.open(phase, self.place.start_point());
        }
        let goes_on = phase == Phase::Resume
            && !self.lapsed
            && error.class() == ErrorClass::RetryLater
            && self.backoff.goes_on(now);
        if !goes_on && !is_skipped {
            return self.finish(None, Err(error));
        }
        self.release(None);
        self.plan_resume(error, now);
    }

    /// If history is lost and the policy is to go on, the stream now stands behind the loss. That
    /// works once: a loss right behind a loss is final.
    fn skips_loss(&mut self, error: &StreamError) -> bool {
        let start = match self.config.history_lost {
            HistoryLost::Fail => return false,
            HistoryLost::FromNow => None,
            HistoryLost::FromTime(time) => Some(time),
        };
        if !error.is_history_lost() || self.loss != Loss::None {
            return false;
        }
        let lost = GapEnd::new(self.place.token().cloned(), self.place.operation_time());
        self.loss = Loss::Behind(lost);
        self.place = Place::behind_loss(start);
        true
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
        self.resume_after(delay, now);
    }

    fn resume_after(&mut self, delay: Duration, now: Instant) {
        if delay.is_zero() {
            self.resume();
        } else {
            self.state = State::BackingOff {
                until: later(now, delay),
            };
        }
    }

    /// Gives up what is under way, as long as there is something to resume.
    pub(super) fn lapse(&mut self) {
        match std::mem::replace(&mut self.state, State::Lapsed) {
            State::Open { cursor, .. } | State::Fetching { cursor, .. } => {
                self.release(Some(cursor));
            }
            State::Opening {
                phase: Phase::Resume,
                ..
            } => self.release(None),
            State::BackingOff { .. } | State::Lapsed => {}
            // The first aggregate has a limit of its own, and an end is an end.
            other => return self.state = other,
        }
        self.lapsed = true;
    }

    pub(super) fn close(&mut self, now: Instant) {
        match std::mem::replace(&mut self.state, State::Finished) {
            State::Opening { .. } => {
                self.state = State::Closing {
                    until: later(now, self.config.close_grace),
                };
            }
            State::Open { cursor, .. } | State::Fetching { cursor, .. } => {
                self.finish(Some(cursor), Ok(()));
            }
            State::BehindInvalidate { .. } | State::BackingOff { .. } | State::Lapsed => {
                self.finish(None, Ok(()));
            }
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
                database: cursor.database(),
                command: cursor.kill().into(),
            });
        }
        self.actions.push_back(Action::Unbind);
    }
}

fn view(event: &Document) -> EventRef<'_> {
    EventRef::new(event.as_raw())
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
