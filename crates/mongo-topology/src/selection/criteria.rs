//! What an operation asks of a server.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use mongo_uri::{ReadPreference, ServerAddress};

use super::error::SelectionError;
use crate::description::TopologyDescription;
use crate::server::ServerDescription;

/// An application's own rule: it takes out of the suitable servers those it does not want.
pub type ServerSelector = dyn Fn(&mut Vec<&Arc<ServerDescription>>) + Send + Sync;

/// The least `maxStalenessSeconds` (Max Staleness, "Smallest allowed value").
const SMALLEST_MAX_STALENESS: Duration = Duration::from_secs(90);
/// How often an idle primary writes (Max Staleness, "idleWritePeriodMS").
const IDLE_WRITE_PERIOD: Duration = Duration::from_secs(10);

/// Which servers an operation can do with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operation<'a> {
    /// One that writes: it needs a server that takes writes.
    Write,
    /// One that reads where the preference lets it. A command given by the user counts as a read.
    Read(&'a ReadPreference),
}

/// What a selection goes by.
#[derive(Clone, Copy)]
#[non_exhaustive]
pub struct SelectionCriteria<'a> {
    /// What is to be done with the server.
    pub operation: Operation<'a>,
    /// Servers to be taken only if no other will do, as after an error that is being retried.
    pub deprioritized: &'a [ServerAddress],
    /// The application's own rule, applied to the suitable servers before latency is looked at.
    pub selector: Option<&'a ServerSelector>,
}

impl<'a> SelectionCriteria<'a> {
    /// For a read.
    #[must_use]
    pub const fn read(preference: &'a ReadPreference) -> Self {
        Self {
            operation: Operation::Read(preference),
            deprioritized: &[],
            selector: None,
        }
    }

    /// For a write.
    #[must_use]
    pub const fn write() -> Self {
        Self {
            operation: Operation::Write,
            deprioritized: &[],
            selector: None,
        }
    }

    /// The same, rather without these servers.
    #[must_use]
    pub const fn deprioritizing(mut self, servers: &'a [ServerAddress]) -> Self {
        self.deprioritized = servers;
        self
    }

    /// The same, with an application's own rule.
    #[must_use]
    pub fn with_selector(mut self, selector: Option<&'a ServerSelector>) -> Self {
        self.selector = selector;
        self
    }

    /// Refuses what no server could satisfy (Server Selection, "maxStalenessSeconds" and
    /// "tag_sets"). Staleness means something to replica sets only.
    pub(super) fn check(&self, topology: &TopologyDescription) -> Result<(), SelectionError> {
        let Operation::Read(preference) = self.operation else {
            return Ok(());
        };
        if !preference.is_valid() {
            return Err(SelectionError::InvalidPreference(
                "mode primary takes neither tag sets nor a maximum staleness".to_owned(),
            ));
        }
        let Some(limit) = preference.max_staleness else {
            return Ok(());
        };
        let least = SMALLEST_MAX_STALENESS.max(topology.heartbeat_frequency + IDLE_WRITE_PERIOD);
        if topology.topology_type.is_replica_set() && limit < least {
            return Err(SelectionError::InvalidPreference(format!(
                "maxStalenessSeconds must be at least {} (90, or the heartbeat and 10 more), not {}",
                least.as_secs_f64(),
                limit.as_secs_f64()
            )));
        }
        Ok(())
    }
}

impl fmt::Debug for SelectionCriteria<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SelectionCriteria")
            .field("operation", &self.operation)
            .field("deprioritized", &self.deprioritized)
            .field("selector", &self.selector.map(|_| "custom"))
            .finish()
    }
}

/// `a read with mode secondary, tag sets [dc:ny], max staleness 90 s`.
impl fmt::Display for SelectionCriteria<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.operation {
            Operation::Write => write!(f, "a write")?,
            Operation::Read(preference) => {
                write!(f, "a read with mode {}", preference.mode)?;
                if !preference.tag_sets.is_empty() {
                    write!(f, ", tag sets")?;
                    for tags in &preference.tag_sets {
                        write!(f, " [{tags}]")?;
                    }
                }
                if let Some(limit) = preference.max_staleness {
                    write!(f, ", max staleness {} s", limit.as_secs_f64())?;
                }
            }
        }
        if self.selector.is_some() {
            write!(f, ", custom selector")?;
        }
        Ok(())
    }
}
