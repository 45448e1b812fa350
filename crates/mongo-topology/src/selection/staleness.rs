//! How far a secondary may lag at worst (Max Staleness, "Client").

use std::time::{Duration, Instant};

use crate::description::{TopologyDescription, TopologyType};
use crate::server::{ServerDescription, ServerType};

/// A limit, and what secondaries are held against.
#[derive(Clone, Copy, Debug)]
pub(super) struct Staleness {
    limit_ms: i64,
    heartbeat_ms: i64,
    reference: Option<Reference>,
}

#[derive(Clone, Copy, Debug)]
enum Reference {
    /// The primary: when it was checked, and its last write then, in milliseconds since 1970.
    Primary { checked: Instant, write_ms: i64 },
    /// The greatest last write among the secondaries.
    NewestSecondary { write_ms: i64 },
}

impl Staleness {
    pub(super) fn new(topology: &TopologyDescription, limit: Duration) -> Self {
        let reference = match topology.topology_type {
            TopologyType::ReplicaSetWithPrimary => topology.primary().and_then(|primary| {
                let (checked, write_ms) = checked_and_written(primary)?;
                Some(Reference::Primary { checked, write_ms })
            }),
            _ => topology
                .servers
                .of_type(ServerType::RsSecondary)
                .filter_map(|secondary| Some(secondary.last_write_date()?.timestamp_millis()))
                .max()
                .map(|write_ms| Reference::NewestSecondary { write_ms }),
        };
        let heartbeat_ms = millis(topology.heartbeat_frequency);
        Self {
            limit_ms: millis(limit),
            heartbeat_ms,
            reference,
        }
    }

    /// Whether the server is fresh enough. All but secondaries are; a secondary that tells no last
    /// write cannot be known to be.
    pub(super) fn admits(&self, server: &ServerDescription) -> bool {
        server.server_type() != ServerType::RsSecondary
            || self
                .of(server)
                .is_some_and(|staleness| staleness <= self.limit_ms)
    }

    /// The estimate for a secondary in milliseconds.
    pub(super) fn of(&self, secondary: &ServerDescription) -> Option<i64> {
        let (checked, write_ms) = checked_and_written(secondary)?;
        let behind_ms = match self.reference? {
            // (S.lastUpdateTime - S.lastWriteDate) - (P.lastUpdateTime - P.lastWriteDate)
            Reference::Primary {
                checked: primary_checked,
                write_ms: primary_write_ms,
            } => signed_millis_between(primary_checked, checked)
                .saturating_sub(write_ms)
                .saturating_add(primary_write_ms),
            Reference::NewestSecondary {
                write_ms: newest_ms,
            } => newest_ms.saturating_sub(write_ms),
        };
        Some(behind_ms.saturating_add(self.heartbeat_ms))
    }
}

fn checked_and_written(server: &ServerDescription) -> Option<(Instant, i64)> {
    Some((
        server.last_update_time()?,
        server.last_write_date()?.timestamp_millis(),
    ))
}

fn millis(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)
}

/// `to - from`, negative when `to` is the earlier.
fn signed_millis_between(from: Instant, to: Instant) -> i64 {
    match to.checked_duration_since(from) {
        Some(after) => millis(after),
        None => -millis(from.saturating_duration_since(to)),
    }
}
