//! The latency window and the random picks from it (Server Selection, "Filtering suitable servers
//! based on the latency window").

use std::sync::Arc;
use std::time::Duration;

use super::filter::Filter;
use crate::description::{Entry, Ranked, TopologyDescription};
use crate::rng::Rng;
use crate::server::ServerDescription;

/// How often servers are drawn blindly before all of them are asked.
const DRAWS: usize = 8;

/// One server, and another unless it is the only one; any two in any order are as likely as any
/// other.
pub(super) type Picks<'a> = (
    &'a Arc<ServerDescription>,
    Option<&'a Arc<ServerDescription>>,
);

/// Picks from the servers that the filter admits and that are within the local threshold of the
/// fastest of them; `None` when the filter admits none.
pub(super) fn pick_two<'a>(
    topology: &'a TopologyDescription,
    filter: &Filter<'_>,
    rng: &mut Rng,
) -> Option<Picks<'a>> {
    let ranges = filter.ranges(topology);
    let fastest_of = |range: Ranked<'a>| range.iter().find(|entry| filter.admits(entry));
    let fastest = ranges
        .into_iter()
        .filter_map(fastest_of)
        .map(|entry| entry.round_trip)
        .min()?;
    let slowest = fastest.saturating_add(topology.local_threshold);
    let [one, two] = ranges.map(|range| range.up_to(slowest));
    let count = one.len() + two.len();
    let at = |index: usize| one.get(index).or_else(|| two.get(index - one.len()));
    if filter.admits_all() {
        let picked = |index| at(index).map(|entry| &entry.description);
        let (first, second) = two_of(count, rng)?;
        return Some((picked(first)?, second.and_then(picked)));
    }
    let admitted = |index| at(index).filter(|entry| filter.admits(entry));
    if count > DRAWS
        && let Some(picks) = draw_two(count, admitted, rng)
    {
        return Some(picks);
    }
    sample_two(
        one.iter()
            .chain(two.iter())
            .filter(|entry| filter.admits(entry)),
        rng,
    )
}

/// Two that are admitted, by drawing blindly a few times: where many are admitted this finds them
/// without asking every server. All pairs are equally likely to be drawn, and so they are when
/// the draws come to nothing and a walk decides.
fn draw_two<'a>(
    count: usize,
    admitted: impl Fn(usize) -> Option<&'a Entry>,
    rng: &mut Rng,
) -> Option<Picks<'a>> {
    let mut first: Option<(usize, &Entry)> = None;
    for _ in 0..DRAWS {
        let index = rng.below(count);
        let Some(entry) = admitted(index) else {
            continue;
        };
        match first {
            None => first = Some((index, entry)),
            Some((same, _)) if same == index => {}
            Some((_, one)) => return Some((&one.description, Some(&entry.description))),
        }
    }
    None
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
    let (first, second) = two_of(servers.len(), rng)?;
    Some((servers[first], second.map(|second| servers[second])))
}

/// Two different indices below `count`; one if there is only one.
fn two_of(count: usize, rng: &mut Rng) -> Option<(usize, Option<usize>)> {
    match count {
        0 => None,
        1 => Some((0, None)),
        _ => {
            let first = rng.below(count);
            let other = rng.below(count - 1);
            Some((first, Some(if other < first { other } else { other + 1 })))
        }
    }
}

/// Two of a sequence whose length shows only at its end, in one walk.
fn sample_two<'a>(entries: impl Iterator<Item = &'a Entry>, rng: &mut Rng) -> Option<Picks<'a>> {
    let mut sample: [Option<&'a Entry>; 2] = [None, None];
    for (index, entry) in entries.enumerate() {
        let slot = if index < sample.len() {
            index
        } else {
            rng.below(index + 1)
        };
        if let Some(kept) = sample.get_mut(slot) {
            *kept = Some(entry);
        }
    }
    if sample[1].is_some() && rng.below(2) == 1 {
        sample.reverse();
    }
    let [first, second] = sample.map(|entry| entry.map(|entry| &entry.description));
    Some((first?, second))
}
