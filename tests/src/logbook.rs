//! A subscriber that keeps every record of `tracing` that a client of this process makes.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};

use tracing::field::{Field, Visit};
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::layer::{Context, Layer, SubscriberExt};

static RECORDS: Mutex<Vec<Record>> = Mutex::new(Vec::new());

/// One record.
#[derive(Clone, Debug)]
pub struct Record {
    /// What it is about.
    pub target: &'static str,
    /// How much it matters.
    pub level: Level,
    /// Its fields as text, the message among them.
    pub fields: BTreeMap<&'static str, String>,
}

impl Record {
    /// The record's message.
    #[must_use]
    pub fn message(&self) -> &str {
        &self.fields["message"]
    }
}

/// Begins to keep the records of this process, from now on and for good.
///
/// # Panics
/// When another subscriber is there already.
pub fn open() {
    static OPENED: OnceLock<()> = OnceLock::new();
    OPENED.get_or_init(|| {
        let subscriber = tracing_subscriber::registry().with(Keeper);
        tracing::subscriber::set_global_default(subscriber).expect("the only subscriber");
    });
}

/// The records of one topology so far, under targets that end so.
#[must_use]
pub fn of(topology: u64, target: &str) -> Vec<Record> {
    let topology = topology.to_string();
    let is_wanted = |record: &&Record| {
        record.target.ends_with(target) && record.fields.get("topologyId") == Some(&topology)
    };
    records().iter().filter(is_wanted).cloned().collect()
}

fn records() -> MutexGuard<'static, Vec<Record>> {
    RECORDS.lock().unwrap_or_else(PoisonError::into_inner)
}

struct Keeper;

impl<S: Subscriber> Layer<S> for Keeper {
    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        let metadata = event.metadata();
        if metadata.target().starts_with("mongo_client") {
            let mut fields = Fields(BTreeMap::new());
            event.record(&mut fields);
            records().push(Record {
                target: metadata.target(),
                level: *metadata.level(),
                fields: fields.0,
            });
        }
    }
}

struct Fields(BTreeMap<&'static str, String>);

impl Visit for Fields {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.0.insert(field.name(), format!("{value:?}"));
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.0.insert(field.name(), value.to_owned());
    }
}
