//! A subscriber that keeps every record of `tracing` that a client of this process makes.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{LazyLock, Once};

use testbed::journal::Journal;
use tracing::field::{Field, Visit};
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::layer::{Context, Layer, SubscriberExt};
use tracing_subscriber::util::SubscriberInitExt;

static RECORDS: LazyLock<Journal<Vec<Record>>> = LazyLock::new(Journal::default);

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
    static OPENED: Once = Once::new();
    OPENED.call_once(|| tracing_subscriber::registry().with(Keeper).init());
}

/// The records of one topology so far, under targets that end so.
#[must_use]
pub fn of(topology: u64, target: &str) -> Vec<Record> {
    let topology = topology.to_string();
    let is_wanted = |record: &&Record| {
        record.target.ends_with(target) && record.fields.get("topologyId") == Some(&topology)
    };
    RECORDS.read().iter().filter(is_wanted).cloned().collect()
}

struct Keeper;

impl<S: Subscriber> Layer<S> for Keeper {
    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        let metadata = event.metadata();
        if metadata.target().starts_with("mongo_client") {
            let mut fields = Fields(BTreeMap::new());
            event.record(&mut fields);
            let record = Record {
                target: metadata.target(),
                level: *metadata.level(),
                fields: fields.0,
            };
            RECORDS.write(|records| records.push(record));
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
