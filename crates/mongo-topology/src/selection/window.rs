//! The latency window and the random picks from it (Server Selection, "Filtering suitable servers
//! based on the latency window").

use std::sync::Arc;
use std::time::Duration;

use super::filter::Filter;
use crate::description::{Entry, TopologyDescription};
use crate::rng::Rng;
use crate::server::ServerDescription;

/// One server, and another unless it is the only one.
pub(super) type Picks<'a> = (
    &'a Arc<ServerDescription>,
    Option<&'a Arc<ServerDescription>>,
);

/// How slow a server may be, and how many suitable ones are not slower.
#[derive(Clone, Copy, Debug)]
pub(super) struct Window {
    slowest: Duration,
    count: usize,
}

impl Window {
    pub(super) fn of(topology: &TopologyDescription, filter: &Filter<'_>) -> Self {
        let suitable = || {
            topology
                .servers
                .entries()
                .iter()
                .filter(|entry| filter.admits(entry))
        };
        let fastest = suitable()
            .map(|entry| entry.round_trip)
            .min()
            .unwrap_or_default();
        let slowest = fastest.saturating_add(topology.local_threshold);
        Self {
            slowest,
            count: suitable()
                .filter(|entry| entry.round_trip <= slowest)
                .count(),
        }
    }

    /// Two different servers of the window, any two in any order as likely as any other; `None` when
    /// it is empty.
    pub(super) fn pick_two<'a>(
        &self,
        topology: &'a TopologyDescription,
        filter: &Filter<'_>,
        rng: &mut Rng,
    ) -> Option<Picks<'a>> {
        let is_inside = |entry: &&Entry| entry.round_trip <= self.slowest && filter.admits(entry);
        let mut inside = topology.servers.entries().iter().filter(is_inside);
        let (one, two) = two_of(self.count, rng)?;
        let low = &inside.nth(one.min(two))?.description;
        if one == two {
            return Some((low, None));
        }
        let high = &inside.nth(one.abs_diff(two) - 1)?.description;
        Some(if one < two {
            (low, Some(high))
        } else {
            (high, Some(low))
        })
    }
}

/// Those of `servers` that are within `threshold` of the fastest of them.
pub(super) fn nearest(
    servers: Vec<&Arc<ServerDescription>>,
    threshold: Duration,
) -> impl Iterator<Item = &Arc<ServerDescription>> {
    let round_trip =
        |server: &ServerDescription| server.average_round_trip_time().unwrap_or_default();
    let fastest = servers
        .iter()
        .map(|server| round_trip(server))
        .min()
        .unwrap_or_default();
    let slowest = fastest.saturating_add(threshold);
    servers
        .into_iter()
        .filter(move |server| round_trip(server) <= slowest)
}

pub(super) fn pick_two_of<'a>(
    servers: &[&'a Arc<ServerDescription>],
    rng: &mut Rng,
) -> Option<Picks<'a>> {
    let (one, two) = two_of(servers.len(), rng)?;
    Some((servers[one], (one != two).then(|| servers[two])))
}

/// Two different indices below `count`; twice 0 if that is the only one.
fn two_of(count: usize, rng: &mut Rng) -> Option<(usize, usize)> {
    match count {
        0 => None,
        1 => Some((0, 0)),
        _ => {
            let one = rng.below(count);
            let other = rng.below(count - 1);
            Some((one, if other < one { other } else { other + 1 }))
        }
    }
}
