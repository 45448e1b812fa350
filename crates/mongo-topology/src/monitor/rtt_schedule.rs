//! When to measure round trips on their own socket (Server Monitoring, "Measuring RTT").

use std::time::Instant;

/// The schedule of one server's measurements, which are made only while the server streams.
///
/// ```text
///          streaming begins              outcome
///   Idle ------------------> Measuring ----------> Waiting
///    ^                           ^                   |  |
///    |                           +-------------------+  |
///    |                              due, streaming      | due, not streaming
///    +--------------------------------------------------+
/// ```
#[derive(Clone, Copy, Debug, Default)]
pub(crate) enum RttSchedule {
    /// The server does not stream, so plain hellos measure.
    #[default]
    Idle,
    /// A measurement is with the client.
    Measuring,
    /// The next measurement is due then.
    Waiting(Instant),
}

impl RttSchedule {
    pub(crate) const fn due(self) -> Option<Instant> {
        match self {
            Self::Waiting(due) => Some(due),
            Self::Idle | Self::Measuring => None,
        }
    }

    /// Whether a measurement is to begin now.
    pub(crate) fn begin(&mut self, streams: bool, now: Instant) -> bool {
        match *self {
            Self::Measuring => return false,
            Self::Waiting(due) if due > now => return false,
            Self::Idle | Self::Waiting(_) => {}
        }
        *self = if streams { Self::Measuring } else { Self::Idle };
        streams
    }

    /// A measurement has ended; false when none was running.
    pub(crate) fn end(&mut self, next: Instant) -> bool {
        let measuring = matches!(self, Self::Measuring);
        if measuring {
            *self = Self::Waiting(next);
        }
        measuring
    }
}
