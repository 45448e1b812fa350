//! What a client tells whoever listens: discovery, pools and commands as they happen.
//!
//! A listener is given to [`ClientOptions::on_event`](crate::ClientOptions::on_event). It is called
//! where the event happens, and what has caused it waits meanwhile, so that events arrive in the
//! order the specifications want: it must be quick and must not block. It may ask what the client
//! knows, and how it is displayed; but it must not drop a cursor, whose connection goes back to its
//! pool with further events. Whatever takes longer belongs behind a channel. A panic in a listener is
//! caught and goes no further.
//!
//! Without a listener no event is put together: nothing is cloned and nothing allocated for it.

mod cmap;
mod command;

use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use mongo_topology::{SdamEvent, ServerId};

pub use cmap::{CheckOutFailure, CloseReason, CmapEvent};
pub use command::{CommandEvent, CommandFailure, CommandStep};
pub(crate) use command::{CommandOrigin, Observation, REDACTED, as_sent, is_sensitive, name_of};

use crate::logs::Logs;
use crate::spans::Spans;

/// Something that happened in a client.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Event {
    /// In discovery (Server Discovery and Monitoring Logging and Monitoring).
    Sdam {
        /// The client's; see [`Client::topology_id`](crate::Client::topology_id).
        topology_id: u64,
        /// What happened.
        event: SdamEvent,
    },
    /// In a server's pool (Connection Monitoring and Pooling).
    Cmap {
        /// Whose pool: the address, and which of its stays in the topology.
        server: ServerId,
        /// What happened.
        event: CmapEvent,
    },
    /// To a command (Command Logging and Monitoring). The hello and the authentication that open
    /// a connection, and the checks of monitors, are no commands in this sense.
    Command(CommandEvent),
}

/// What a client calls for each event; see the [module](self).
pub type EventListener = Arc<dyn Fn(&Event) + Send + Sync>;

/// The way of events to the listener, if there is one, into the logs and spans.
#[derive(Clone)]
pub(crate) struct Events(Arc<Hub>);

struct Hub {
    listener: Option<EventListener>,
    logs: Logs,
    spans: Spans,
    operations: AtomicU64,
}

impl Events {
    pub(crate) fn new(listener: Option<EventListener>, logs: Logs, spans: Spans) -> Self {
        Self(Arc::new(Hub {
            listener,
            logs,
            spans,
            operations: AtomicU64::new(0),
        }))
    }

    pub(crate) fn logs(&self) -> Logs {
        self.0.logs
    }

    pub(crate) fn spans(&self) -> &Spans {
        &self.0.spans
    }

    /// Whether commands are worth the trouble of being observed.
    pub(crate) fn want_commands(&self) -> bool {
        self.0.listener.is_some() || Logs::want_commands()
    }

    /// Whether what happens in pools is.
    pub(crate) fn want_pools(&self) -> bool {
        self.0.listener.is_some() || Logs::want_pools()
    }

    pub(crate) fn command(&self, event: &CommandEvent) {
        self.0.logs.command(event);
        self.publish(|| Event::Command(event.clone()));
    }

    pub(crate) fn sdam(&self, event: SdamEvent) {
        self.0.logs.sdam(&event);
        let topology_id = self.0.logs.topology_id;
        self.publish(|| Event::Sdam { topology_id, event });
    }

    /// `error` says why, where the event alone does not.
    pub(crate) fn cmap(&self, server: &ServerId, event: CmapEvent, error: Option<&str>) {
        self.0.logs.cmap(&server.address, &event, error);
        self.publish(|| Event::Cmap {
            server: server.clone(),
            event,
        });
    }

    /// Tells the listener; the event is made only if there is one.
    fn publish(&self, event: impl FnOnce() -> Event) {
        if let Some(listener) = &self.0.listener {
            let event = event();
            // Half of a pool's work must not be left undone because somebody's listener fails; the
            // panic hook has told of it.
            let _ = catch_unwind(AssertUnwindSafe(|| listener(&event)));
        }
    }

    /// A number for the commands of one operation, from 1 on.
    pub(crate) fn next_operation(&self) -> u64 {
        self.0.operations.fetch_add(1, Ordering::Relaxed) + 1
    }
}

impl fmt::Debug for Events {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Events(heard: {})", self.0.listener.is_some())
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use super::*;
    use crate::spans::TracingOptions;

    const LOGS: Logs = Logs {
        topology_id: 1,
        max_document_length: 0,
    };

    fn events(listener: Option<EventListener>) -> Events {
        let spans = Spans::new(TracingOptions::default(), |_| None, LOGS.topology_id);
        Events::new(listener, LOGS, spans)
    }

    #[test]
    fn without_a_listener_no_event_is_made() {
        let events = events(None);
        events.publish(|| unreachable!("nobody listens"));
        assert!(!events.want_commands());
    }

    #[test]
    fn a_panic_of_a_listener_goes_no_further() {
        let heard = Arc::new(Mutex::new(0));
        let count = Arc::clone(&heard);
        let listener = Arc::new(move |_: &Event| {
            *count.lock().unwrap() += 1;
            std::panic::resume_unwind(Box::new("a bad listener"));
        });
        let events = events(Some(listener));
        for _ in 0..2 {
            events.sdam(SdamEvent::TopologyOpening);
        }
        assert_eq!(*heard.lock().unwrap_or_else(|e| e.into_inner()), 2);
    }
}
