//! A listener that keeps everything it hears.

use bson::RawDocumentBuf;
use mongo_client::events::{CmapEvent, CommandStep};
use mongo_client::{Client, ClientOptions, Event};
use testbed::journal::Journal;

use crate::{PATIENCE, shared_set};

/// A client of the shared set that is listened to, with more options of the connection string.
///
/// # Panics
/// When the set cannot be started, or an option is refused.
pub async fn heard(options: &str) -> (Client, Recorder) {
    let uri = tokio::task::spawn_blocking(|| shared_set().uri()).await;
    listen(&format!("{}{options}", uri.expect("the set has a URI")))
}

/// A client that is listened to.
///
/// # Panics
/// When the connection string is refused.
#[must_use]
pub fn listen(uri: &str) -> (Client, Recorder) {
    let recorder = Recorder::default();
    let options = ClientOptions::parse(uri).expect("a connection string");
    let client = Client::with_options(options.on_event(recorder.listener()));
    (client.expect("options that fit"), recorder)
}

/// Keeps a client's events in their order.
#[derive(Clone, Debug, Default)]
pub struct Recorder(Journal<Vec<Event>>);

impl Recorder {
    /// What to give to `on_event`.
    pub fn listener(&self) -> impl Fn(&Event) + Send + Sync + 'static {
        let journal = self.0.clone();
        move |event| journal.write(|events| events.push(event.clone()))
    }

    /// Everything so far.
    #[must_use]
    pub fn events(&self) -> Vec<Event> {
        self.0.read().clone()
    }

    /// The events of pools so far.
    #[must_use]
    pub fn pool_events(&self) -> Vec<CmapEvent> {
        let pool = |event: &Event| match event {
            Event::Cmap { event, .. } => Some(*event),
            _ => None,
        };
        self.0.read().iter().filter_map(pool).collect()
    }

    /// The commands of this name that were sent so far, as they were sent.
    #[must_use]
    pub fn sent(&self, name: &str) -> Vec<RawDocumentBuf> {
        sent(&self.0.read(), name)
    }

    /// The replies to commands of this name that succeeded so far.
    #[must_use]
    pub fn replies(&self, name: &str) -> Vec<RawDocumentBuf> {
        replies(&self.0.read(), name)
    }

    /// Whether a pool was cleared, and somebody got no connection then.
    #[must_use]
    pub fn check_out_failed_after_a_clear(&self) -> bool {
        let is_cleared = |event: &CmapEvent| matches!(event, CmapEvent::PoolCleared { .. });
        let has_failed = |event: CmapEvent| matches!(event, CmapEvent::CheckOutFailed { .. });
        let mut events = self.pool_events().into_iter();
        events.by_ref().any(|event| is_cleared(&event)) && events.any(has_failed)
    }

    /// Waits until the events so far are accepted, and returns them.
    ///
    /// # Panics
    /// When they are not within [`PATIENCE`].
    pub async fn wait_for(&self, reached: impl Fn(&[Event]) -> bool) -> Vec<Event> {
        let accepted = self.0.wait(PATIENCE, |events| reached(events)).await;
        let events = self.events();
        assert!(accepted, "{:?}: {events:#?}", Counts::of(&events));
        events
    }
}

/// The commands of this name among events, as they were sent.
#[must_use]
pub fn sent(events: &[Event], name: &str) -> Vec<RawDocumentBuf> {
    steps(events, name, |step| match step {
        CommandStep::Started { command } => Some(command.clone()),
        _ => None,
    })
}

/// The replies to commands of this name that succeeded, among events.
#[must_use]
pub fn replies(events: &[Event], name: &str) -> Vec<RawDocumentBuf> {
    steps(events, name, |step| match step {
        CommandStep::Succeeded { reply, .. } => Some(reply.to_raw_document_buf()),
        _ => None,
    })
}

fn steps<T>(events: &[Event], name: &str, of: impl Fn(&CommandStep) -> Option<T>) -> Vec<T> {
    let step = |event: &Event| match event {
        Event::Command(event) if event.command_name == name => of(&event.step),
        _ => None,
    };
    events.iter().filter_map(step).collect()
}

/// How often what has begun, and how often it has ended.
#[derive(Clone, Copy, Debug, Default)]
pub struct Counts {
    /// Check-outs begun.
    pub checks_out_started: usize,
    /// Check-outs without a connection.
    pub checks_out_failed: usize,
    /// Check-outs with one.
    pub checked_out: usize,
    /// Connections given back.
    pub checked_in: usize,
    /// Connections begun.
    pub created: usize,
    /// Connections closed.
    pub closed: usize,
    /// Commands begun.
    pub commands_started: usize,
    /// Commands that succeeded or failed.
    pub commands_ended: usize,
}

impl Counts {
    /// Counts events.
    #[must_use]
    pub fn of(events: &[Event]) -> Self {
        let mut counts = Self::default();
        for event in events {
            let count = match event {
                Event::Cmap { event, .. } => match event {
                    CmapEvent::CheckOutStarted => &mut counts.checks_out_started,
                    CmapEvent::CheckOutFailed { .. } => &mut counts.checks_out_failed,
                    CmapEvent::CheckedOut { .. } => &mut counts.checked_out,
                    CmapEvent::CheckedIn { .. } => &mut counts.checked_in,
                    CmapEvent::ConnectionCreated { .. } => &mut counts.created,
                    CmapEvent::ConnectionClosed { .. } => &mut counts.closed,
                    _ => continue,
                },
                Event::Command(event) => match event.step {
                    CommandStep::Started { .. } => &mut counts.commands_started,
                    _ => &mut counts.commands_ended,
                },
                _ => continue,
            };
            *count += 1;
        }
        counts
    }

    /// Whether nothing is under way.
    #[must_use]
    pub fn everything_has_ended(&self) -> bool {
        self.checks_out_started == self.checks_out_failed + self.checked_out
            && self.checked_out == self.checked_in
            && self.created == self.closed
            && self.commands_started == self.commands_ended
    }
}
