//! The things of a case, by name.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bson::{Bson, Document};
use mongo_client::sdam::TopologyDescription;
use mongo_client::uri::{ReadConcern, ReadPreference};
use mongo_client::{ChangeStream, ClientSession, Cursor};
use tokio::sync::Mutex as AsyncMutex;

use super::arguments::{read_concern, read_preference, write_concern};
use super::client::CaseClient;
use super::events::document;
use super::matching::Lookup;
use super::schema::ObjectOptions;
use super::stop::{Run, Stop};
use super::threads::Thread;

/// A thing that has a name. Cheap to clone; clones are the same thing.
#[derive(Clone, Debug)]
pub(super) enum Held {
    Client(Arc<CaseClient>),
    /// A database or a collection.
    Target(Target),
    /// A bucket of files in a database.
    Bucket(Target),
    Session(ClientSession),
    Iterable(Arc<AsyncMutex<Iterable>>),
    Thread(Thread),
    Topology(Arc<TopologyDescription>),
    Value(Bson),
}

/// What can be iterated.
#[derive(Debug)]
pub(super) enum Iterable {
    Cursor(Box<Cursor>),
    Stream(ChangeStream<Document>),
}

/// What commands are sent to, and what it prescribes to them.
#[derive(Clone, Debug)]
pub(super) struct Target {
    pub(super) client: Arc<CaseClient>,
    pub(super) database: String,
    /// `None` if the database itself is meant.
    pub(super) collection: Option<String>,
    pub(super) read_concern: Option<ReadConcern>,
    pub(super) read_preference: Option<ReadPreference>,
    pub(super) write_concern: Option<Document>,
    pub(super) timeout: Option<Duration>,
}

impl Target {
    /// A database with nothing to prescribe.
    pub(super) fn database(client: Arc<CaseClient>, database: &str) -> Self {
        Self {
            write_concern: client.write_concern.clone(),
            client,
            database: database.to_owned(),
            collection: None,
            read_concern: None,
            read_preference: None,
            timeout: None,
        }
    }

    /// The same, where what the options say goes before.
    pub(super) fn with(mut self, options: &ObjectOptions) -> Run<Self> {
        if let Some(concern) = &options.read_concern {
            self.read_concern = Some(read_concern(&concern.0)?);
        }
        if let Some(preference) = &options.read_preference {
            self.read_preference = Some(read_preference(&preference.0)?);
        }
        if let Some(concern) = &options.write_concern {
            self.write_concern = Some(write_concern(&concern.0)?);
        }
        if let Some(millis) = options.timeout_ms {
            let millis = u64::try_from(millis);
            let millis = millis.map_err(|_| Stop::fail("timeoutMS cannot be negative"))?;
            self.timeout = Some(Duration::from_millis(millis));
        }
        Ok(self)
    }

    /// The client's own handle.
    pub(super) fn handle(&self) -> mongo_client::Database {
        self.client.client.database(self.database.as_str())
    }

    /// The collection's name.
    pub(super) fn name(&self) -> Run<&str> {
        let name = self.collection.as_deref();
        name.ok_or_else(|| Stop::fail("the operation needs a collection"))
    }
}

/// All things of a case; threads use them at the same time.
#[derive(Debug, Default)]
pub(super) struct Entities(Mutex<BTreeMap<String, Held>>);

impl Entities {
    pub(super) fn add(&self, name: &str, held: Held) -> Run {
        match self.map().entry(name.to_owned()) {
            std::collections::btree_map::Entry::Occupied(_) => {
                Err(Stop::fail(format!("there is an entity {name} already")))
            }
            std::collections::btree_map::Entry::Vacant(place) => {
                place.insert(held);
                Ok(())
            }
        }
    }

    pub(super) fn get(&self, name: &str) -> Run<Held> {
        let held = self.map().get(name).cloned();
        held.ok_or_else(|| Stop::fail(format!("there is no entity {name}")))
    }

    pub(super) fn client(&self, name: &str) -> Run<Arc<CaseClient>> {
        match self.get(name)? {
            Held::Client(client) => Ok(client),
            _ => Err(wrong(name, "client")),
        }
    }

    pub(super) fn session(&self, name: &str) -> Run<ClientSession> {
        match self.get(name)? {
            Held::Session(session) => Ok(session),
            _ => Err(wrong(name, "session")),
        }
    }

    pub(super) fn database(&self, name: &str) -> Run<Target> {
        match self.get(name)? {
            Held::Target(target) if target.collection.is_none() => Ok(target),
            _ => Err(wrong(name, "database")),
        }
    }

    pub(super) fn thread(&self, name: &str) -> Run<Thread> {
        match self.get(name)? {
            Held::Thread(thread) => Ok(thread),
            _ => Err(wrong(name, "thread")),
        }
    }

    pub(super) fn topology(&self, name: &str) -> Run<Arc<TopologyDescription>> {
        match self.get(name)? {
            Held::Topology(topology) => Ok(topology),
            _ => Err(wrong(name, "topology description")),
        }
    }

    /// All of them, by name.
    pub(super) fn all(&self) -> Vec<(String, Held)> {
        let map = self.map();
        let pairs = map.iter();
        pairs
            .map(|(name, held)| (name.clone(), held.clone()))
            .collect()
    }

    /// Forgets all of them.
    pub(super) fn clear(&self) {
        let all = std::mem::take(&mut *self.map());
        drop(all);
    }

    fn map(&self) -> MutexGuard<'_, BTreeMap<String, Held>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn wrong(name: &str, kind: &str) -> Stop {
    Stop::fail(format!("the entity {name} is no {kind}"))
}

impl Lookup for Entities {
    fn value(&self, name: &str) -> Option<Bson> {
        match self.get(name) {
            Ok(Held::Value(value)) => Some(value),
            _ => None,
        }
    }

    fn lsid(&self, name: &str) -> Option<Bson> {
        let session = self.session(name).ok()?;
        Some(document(&session.id()).into())
    }
}
