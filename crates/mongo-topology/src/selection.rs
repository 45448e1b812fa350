//! Choosing a server for an operation (Server Selection, "Multi-threaded or asynchronous server
//! selection").
//!
//! A selection walks the snapshot and allocates nothing, unless a custom selector asks for a list.
//! Waiting for a better snapshot, and asking for checks meanwhile, is the client's part.

mod criteria;
mod error;
mod filter;
mod read_preference;
mod staleness;
mod window;

use std::sync::Arc;

use mongo_uri::ServerAddress;

pub use criteria::{Operation, SelectionCriteria, ServerSelector};
pub use error::{Reason, SelectionError, Unsuitable};
pub use read_preference::read_preference_document;

use crate::description::{Ranked, TopologyDescription};
use crate::rng::Rng;
use crate::server::ServerDescription;
use filter::Filter;

impl TopologyDescription {
    /// Selects a server: of two picked at random from the latency window, the one with fewer
    /// operations running.
    ///
    /// # Errors
    /// [`SelectionError::Incompatible`] and [`SelectionError::InvalidPreference`] will not go away
    /// by waiting; [`SelectionError::NoSuitableServer`] may, with the next snapshot.
    pub fn select(
        &self,
        criteria: &SelectionCriteria<'_>,
        operation_count: impl Fn(&ServerAddress) -> u32,
        rng: &mut Rng,
    ) -> Result<&Arc<ServerDescription>, SelectionError> {
        let filter = self.filter(criteria)?;
        let (one, two) = match criteria.selector {
            None => window::pick_two(self, &filter, rng),
            Some(_) => {
                let chosen = self.chosen(&filter, criteria)?;
                let near: Vec<_> = window::nearest(chosen, self.local_threshold).collect();
                window::pick_two_of(&near, rng)
            }
        }
        .ok_or_else(|| SelectionError::unsuitable(self, criteria))?;
        let Some(two) = two else { return Ok(one) };
        let is_better = operation_count(two.address()) < operation_count(one.address());
        Ok(if is_better { two } else { one })
    }

    /// All servers that may serve the operation, before latency is looked at.
    ///
    /// # Errors
    /// As for [`select`](Self::select).
    pub fn suitable(
        &self,
        criteria: &SelectionCriteria<'_>,
    ) -> Result<Vec<&Arc<ServerDescription>>, SelectionError> {
        let filter = self.filter(criteria)?;
        self.chosen(&filter, criteria)
    }

    /// The suitable servers that are no more than the local threshold slower than the fastest.
    ///
    /// # Errors
    /// As for [`select`](Self::select).
    pub fn in_latency_window(
        &self,
        criteria: &SelectionCriteria<'_>,
    ) -> Result<Vec<&Arc<ServerDescription>>, SelectionError> {
        let suitable = self.suitable(criteria)?;
        Ok(window::nearest(suitable, self.local_threshold).collect())
    }

    fn filter<'a>(&self, criteria: &SelectionCriteria<'a>) -> Result<Filter<'a>, SelectionError> {
        if let Some(error) = &self.compatibility_error {
            return Err(SelectionError::Incompatible(error.clone()));
        }
        criteria.check(self)?;
        Filter::resolve(self, criteria).ok_or_else(|| SelectionError::unsuitable(self, criteria))
    }

    /// What the filter lets through and the custom selector leaves.
    fn chosen(
        &self,
        filter: &Filter<'_>,
        criteria: &SelectionCriteria<'_>,
    ) -> Result<Vec<&Arc<ServerDescription>>, SelectionError> {
        let ranges = filter.ranges(self).into_iter().flat_map(Ranked::iter);
        let suitable = ranges.filter(|entry| filter.admits(entry));
        let mut servers: Vec<_> = suitable.map(|entry| &entry.description).collect();
        if let Some(selector) = criteria.selector {
            selector(&mut servers);
        }
        if servers.is_empty() {
            return Err(SelectionError::unsuitable(self, criteria));
        }
        Ok(servers)
    }
}

#[cfg(test)]
mod tests;
