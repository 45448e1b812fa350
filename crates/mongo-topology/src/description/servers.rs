//! The servers of a topology: sorted by address, and ranked by type and speed.
//!
//! A snapshot is made for every hello, so copying must be cheap: one reference count a server, no
//! strings. A selection is made for every operation, so it must not look at every server: the
//! ranking has those of one type side by side, the fastest first.

use std::sync::Arc;
use std::time::Duration;

use mongo_uri::ServerAddress;

use crate::server::{ServerDescription, ServerType};

/// The servers of a topology by address.
#[derive(Clone, Debug, Default)]
pub struct Servers {
    /// In the order of their addresses.
    entries: Vec<Entry>,
    /// Indices of `entries` in the order of [`Entry::rank`].
    ranking: Vec<u32>,
}

/// A server and what it is ranked by.
#[derive(Clone, Debug)]
pub(crate) struct Entry {
    pub(crate) server_type: ServerType,
    /// The average round trip time, zero when there is none.
    pub(crate) round_trip: Duration,
    pub(crate) description: Arc<ServerDescription>,
}

impl Entry {
    fn new(description: Arc<ServerDescription>) -> Self {
        Self {
            server_type: description.server_type(),
            round_trip: description.average_round_trip_time().unwrap_or_default(),
            description,
        }
    }

    fn rank(&self) -> (ServerType, Duration) {
        (self.server_type, self.round_trip)
    }
}

impl Servers {
    /// The server at `address`.
    #[must_use]
    pub fn get(&self, address: &ServerAddress) -> Option<&Arc<ServerDescription>> {
        self.position(address)
            .ok()
            .map(|at| &self.entries[at].description)
    }

    /// Whether `address` is in the topology.
    #[must_use]
    pub fn contains(&self, address: &ServerAddress) -> bool {
        self.position(address).is_ok()
    }

    /// How many servers there are.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether there is no server.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// The servers in the order of their addresses.
    #[must_use]
    pub fn iter(&self) -> Iter<'_> {
        self.into_iter()
    }

    /// The addresses, in order.
    pub fn addresses(&self) -> impl Iterator<Item = &ServerAddress> + Clone {
        self.entries.iter().map(|entry| entry.description.address())
    }

    /// The servers of one type, the fastest first.
    pub fn of_type(&self, wanted: ServerType) -> impl Iterator<Item = &Arc<ServerDescription>> {
        self.ranked(wanted).iter().map(|entry| &entry.description)
    }

    /// The servers of one type, the fastest first.
    pub(crate) fn ranked(&self, wanted: ServerType) -> Ranked<'_> {
        let server_type = |index: &u32| self.entry(*index).server_type;
        let from = self
            .ranking
            .partition_point(|index| server_type(index) < wanted);
        let rest = &self.ranking[from..];
        let to = rest.partition_point(|index| server_type(index) == wanted);
        Ranked {
            servers: self,
            indices: &rest[..to],
        }
    }

    /// All servers, those of one type side by side.
    pub(crate) fn all_ranked(&self) -> Ranked<'_> {
        Ranked {
            servers: self,
            indices: &self.ranking,
        }
    }

    /// Adds the server, in place of one with its address.
    pub(crate) fn insert(
        &mut self,
        description: Arc<ServerDescription>,
    ) -> Option<Arc<ServerDescription>> {
        match self.position(description.address()) {
            Ok(at) => {
                self.unrank(at);
                let before = std::mem::replace(&mut self.entries[at], Entry::new(description));
                self.rank(at);
                Some(before.description)
            }
            Err(at) => {
                for index in self
                    .ranking
                    .iter_mut()
                    .filter(|index| at <= **index as usize)
                {
                    *index += 1;
                }
                self.entries.insert(at, Entry::new(description));
                self.rank(at);
                None
            }
        }
    }

    pub(crate) fn remove(&mut self, address: &ServerAddress) -> Option<Arc<ServerDescription>> {
        let at = self.position(address).ok()?;
        self.unrank(at);
        for index in self
            .ranking
            .iter_mut()
            .filter(|index| at < **index as usize)
        {
            *index -= 1;
        }
        Some(self.entries.remove(at).description)
    }

    fn position(&self, address: &ServerAddress) -> Result<usize, usize> {
        self.entries
            .binary_search_by(|entry| entry.description.address().cmp(address))
    }

    fn entry(&self, index: u32) -> &Entry {
        &self.entries[index as usize]
    }

    /// Where the server at this position stands in the ranking, or would stand. Among equals the
    /// position decides, so that the place is one alone.
    fn place(&self, at: usize) -> usize {
        let key = (self.entries[at].rank(), at);
        self.ranking
            .partition_point(|index| (self.entry(*index).rank(), *index as usize) < key)
    }

    fn rank(&mut self, at: usize) {
        let place = self.place(at);
        let index = u32::try_from(at).expect("a topology has fewer than 2^32 servers");
        self.ranking.insert(place, index);
    }

    fn unrank(&mut self, at: usize) {
        let place = self.place(at);
        self.ranking.remove(place);
    }
}

/// A part of the ranking.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Ranked<'a> {
    servers: &'a Servers,
    indices: &'a [u32],
}

impl<'a> Ranked<'a> {
    /// No server.
    pub(crate) const fn nothing(servers: &'a Servers) -> Self {
        Self {
            servers,
            indices: &[],
        }
    }

    pub(crate) const fn len(&self) -> usize {
        self.indices.len()
    }

    pub(crate) fn get(&self, at: usize) -> Option<&'a Entry> {
        self.indices.get(at).map(|index| self.servers.entry(*index))
    }

    pub(crate) fn iter(self) -> impl Iterator<Item = &'a Entry> {
        self.indices
            .iter()
            .map(move |index| self.servers.entry(*index))
    }

    /// Those that are not slower; all must be of one type.
    pub(crate) fn up_to(self, slowest: Duration) -> Self {
        let round_trip = |index: &u32| self.servers.entry(*index).round_trip;
        let end = self
            .indices
            .partition_point(|index| round_trip(index) <= slowest);
        Self {
            indices: &self.indices[..end],
            ..self
        }
    }
}

impl FromIterator<Arc<ServerDescription>> for Servers {
    /// The last of several descriptions of one address stays.
    fn from_iter<I: IntoIterator<Item = Arc<ServerDescription>>>(descriptions: I) -> Self {
        let mut servers = Self::default();
        for description in descriptions {
            servers.insert(description);
        }
        servers
    }
}

impl<'a> IntoIterator for &'a Servers {
    type Item = &'a Arc<ServerDescription>;
    type IntoIter = Iter<'a>;

    fn into_iter(self) -> Iter<'a> {
        Iter(self.entries.iter())
    }
}

/// The servers in the order of their addresses.
#[derive(Clone, Debug)]
pub struct Iter<'a>(std::slice::Iter<'a, Entry>);

impl<'a> Iterator for Iter<'a> {
    type Item = &'a Arc<ServerDescription>;

    fn next(&mut self) -> Option<Self::Item> {
        self.0.next().map(|entry| &entry.description)
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        self.0.size_hint()
    }
}

impl PartialEq for Servers {
    fn eq(&self, other: &Self) -> bool {
        self.len() == other.len()
            && self
                .iter()
                .zip(other)
                .all(|(one, two)| Arc::ptr_eq(one, two) || one == two)
    }
}

#[cfg(test)]
mod tests;
