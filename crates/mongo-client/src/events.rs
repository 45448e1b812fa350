//! What a client tells whoever listens: discovery, pools and commands as they happen.
//!
//! A listener is given to [`ClientOptions::on_event`](crate::ClientOptions::on_event). It is called
//! where the event happens, sometimes with a pool's lock held, so that events arrive in the order
//! the specifications want: it must be quick and must not block. Whatever takes longer belongs
//! behind a channel. A panic in a listener is caught and goes no further.
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
pub(crate) use command::{CommandOrigin, Observation};

/// Something that happened in a client.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Event {
    /// In discovery (Server Discovery and Monitoring Logging and Monitoring).
    Sdam(SdamEvent),
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

/// The way of events to the listener, if there is one.
#[derive(Clone, Default)]
pub(crate) struct Events(Option<Arc<Hub>>);

struct Hub {
    listener: EventListener,
    operations: AtomicU64,
}

impl Events {
    pub(crate) fn new(listener: Option<EventListener>) -> Self {
        Self(listener.map(|listener| {
            let operations = AtomicU64::new(0);
            Arc::new(Hub {
                listener,
                operations,
            })
        }))
    }

    /// Whether events are worth the trouble.
    pub(crate) fn are_heard(&self) -> bool {
        self.0.is_some()
    }

    /// Tells the listener; the event is made only if there is one.
    pub(crate) fn publish(&self, event: impl FnOnce() -> Event) {
        if let Some(hub) = &self.0 {
            let event = event();
            // Half of a pool's work must not be left undone because somebody's listener fails; the
            // panic hook has told of it.
            let _ = catch_unwind(AssertUnwindSafe(|| (hub.listener)(&event)));
        }
    }

    /// A number for the commands of one operation, from 1 on; 0 when nobody listens.
    pub(crate) fn next_operation(&self) -> u64 {
        let hub = self.0.as_ref();
        hub.map_or(0, |hub| hub.operations.fetch_add(1, Ordering::Relaxed) + 1)
    }
}

impl fmt::Debug for Events {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Events(heard: {})", self.are_heard())
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use super::*;

    #[test]
    fn without_a_listener_no_event_is_made() {
        let events = Events::default();
        events.publish(|| unreachable!("nobody listens"));
        assert_eq!(events.next_operation(), 0);
    }

    #[test]
    fn a_panic_of_a_listener_goes_no_further() {
        let heard = Arc::new(Mutex::new(0));
        let count = Arc::clone(&heard);
        let events = Events::new(Some(Arc::new(move |_: &Event| {
            *count.lock().unwrap() += 1;
            std::panic::resume_unwind(Box::new("a bad listener"));
        })));
        for _ in 0..2 {
            events.publish(|| Event::Sdam(SdamEvent::TopologyOpening));
        }
        assert_eq!(*heard.lock().unwrap_or_else(|e| e.into_inner()), 2);
    }
}
