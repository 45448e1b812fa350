//! The servers of a topology, in one sorted vector.
//!
//! A snapshot is made for every hello, so copying must be cheap: one reference count a server, no
//! strings. The two facts that every selection asks of every server stand beside the pointer, so
//! that a walk over a thousand routers stays in one run of memory.

use std::sync::Arc;
use std::time::Duration;

use mongo_uri::ServerAddress;

use crate::server::{ServerDescription, ServerType};

/// The servers of a topology by address.
#[derive(Clone, Debug, Default)]
pub struct Servers {
    entries: Vec<Entry>,
}

/// A server and what selection first asks about it.
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

    /// The servers of one type, in the order of their addresses.
    pub fn of_type(&self, wanted: ServerType) -> impl Iterator<Item = &Arc<ServerDescription>> {
        self.entries
            .iter()
            .filter(move |entry| entry.server_type == wanted)
            .map(|entry| &entry.description)
    }

    pub(crate) fn entries(&self) -> &[Entry] {
        &self.entries
    }

    /// Adds the server, in place of one with its address.
    pub(crate) fn insert(
        &mut self,
        description: Arc<ServerDescription>,
    ) -> Option<Arc<ServerDescription>> {
        match self.position(description.address()) {
            Ok(at) => {
                let before = std::mem::replace(&mut self.entries[at], Entry::new(description));
                Some(before.description)
            }
            Err(at) => {
                self.entries.insert(at, Entry::new(description));
                None
            }
        }
    }

    pub(crate) fn remove(&mut self, address: &ServerAddress) -> Option<Arc<ServerDescription>> {
        let at = self.position(address).ok()?;
        Some(self.entries.remove(at).description)
    }

    fn position(&self, address: &ServerAddress) -> Result<usize, usize> {
        self.entries
            .binary_search_by(|entry| entry.description.address().cmp(address))
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
