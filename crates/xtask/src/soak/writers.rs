//! The load: batches of inserts, updates and deletes at a pace, and a collection that is dropped
//! and renamed.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use bson::{RawArrayBuf, RawDocumentBuf, cstr, rawdoc};
use mongo_client::Client;

use super::change::{DATABASE, END, LAST_ID, LOADED, Operation, SIDE};
use super::promises::Promises;
use crate::shell;
use crate::workload::Writer;

/// How many writers share the load.
pub(crate) const WRITERS: u32 = 12;

/// The most documents of one command.
const MOST_DOCUMENTS: usize = 50;

/// How many documents a writer keeps in a collection before it prefers to delete.
const MOST_ALIVE: usize = 500;

/// What the servers' code for a collection that is not there is.
const NAMESPACE_NOT_FOUND: i32 = 26;

/// What all writers have in common.
#[derive(Clone, Debug)]
pub(crate) struct Office {
    pub(crate) client: Client,
    pub(crate) promises: Arc<Promises>,
    /// Tells the writers to end.
    pub(crate) is_closing: Arc<AtomicBool>,
    pub(crate) start: Instant,
    pub(crate) seed: u64,
}

/// One writer: its documents are nobody else's.
struct Desk {
    office: Office,
    writer: Writer,
    random: fastrand::Rng,
    next_id: i64,
    /// The documents that exist, by collection.
    alive: Vec<Vec<i64>>,
}

/// One command, and what it does to which documents.
struct Batch {
    collection: &'static str,
    operation: Operation,
    ids: Vec<i64>,
    command: RawDocumentBuf,
}

impl Office {
    fn is_closing(&self) -> bool {
        self.is_closing.load(Ordering::Relaxed)
    }

    fn sent(&self) -> i64 {
        i64::try_from(self.start.elapsed().as_micros()).unwrap_or(i64::MAX)
    }

    fn desk(&self, number: u32) -> anyhow::Result<Desk> {
        let seed = self.seed.wrapping_add(u64::from(number) << 32);
        Ok(Desk {
            writer: Writer::new(&self.client, DATABASE)?,
            random: fastrand::Rng::with_seed(seed),
            next_id: (i64::from(number) << 40) + 1,
            alive: vec![Vec::new(); LOADED.len()],
            office: self.clone(),
        })
    }

    /// Writes `rate` documents a second, as far as the set lets it, until it is told to end.
    ///
    /// # Errors
    /// There is no session for it.
    pub(crate) async fn load(self, number: u32, rate: f64) -> anyhow::Result<()> {
        let mut desk = self.desk(number)?;
        let mut due = Instant::now();
        while !self.is_closing() {
            let batch = desk.batch();
            let documents = u32::try_from(batch.ids.len()).unwrap_or(u32::MAX);
            desk.carry_out(batch).await;
            // What an outage has delayed is not made up for at once.
            let earliest = Instant::now().checked_sub(Duration::from_secs(1));
            due = earliest.map_or(due, |earliest| due.max(earliest));
            due += Duration::from_secs_f64(f64::from(documents) / rate);
            tokio::time::sleep_until(due.into()).await;
        }
        Ok(())
    }

    /// Fills the side collection, and drops or renames it, again and again until it is told to
    /// end.
    ///
    /// # Errors
    /// The set refuses something for good.
    pub(crate) async fn rearrange(self) -> anyhow::Result<()> {
        let mut desk = self.desk(WRITERS)?;
        for round in 0.. {
            for _ in 0..desk.random.usize(1..8) {
                let ids = desk.new_ids();
                let batch = desk.insert(SIDE, ids);
                desk.carry_out(batch).await;
                tokio::time::sleep(Duration::from_millis(desk.random.u64(0..400))).await;
            }
            if self.is_closing() {
                break;
            }
            if desk.random.bool() {
                self.insist(rawdoc! { "drop": SIDE }).await?;
                continue;
            }
            let (from, to) = (format!("{DATABASE}.{SIDE}"), format!("{SIDE}{round}"));
            let rename = rawdoc! { "renameCollection": from, "to": format!("{DATABASE}.{to}") };
            self.insist(rename).await?;
            self.insist(rawdoc! { "drop": to }).await?;
        }
        Ok(())
    }

    /// Writes the last document into every collection, and last of all into [`END`].
    ///
    /// # Errors
    /// It does not get through.
    pub(crate) async fn finish(&self) -> anyhow::Result<()> {
        let writer = Writer::new(&self.client, DATABASE)?;
        for collection in LOADED.into_iter().chain([SIDE, END]) {
            let last = rawdoc! { "_id": LAST_ID, "version": 0_i64, "sent": self.sent() };
            let insert = rawdoc! { "insert": collection, "documents": [last] };
            writer.write(insert, 1).await?;
        }
        Ok(())
    }

    /// A command that may be done twice: the second time there is nothing left to do.
    async fn insist(&self, mut command: RawDocumentBuf) -> anyhow::Result<()> {
        const PATIENCE: Duration = Duration::from_secs(120);
        command.append(cstr!("writeConcern"), rawdoc! { "w": "majority" });
        let is_rename = command.get("renameCollection")?.is_some();
        let database = self
            .client
            .database(if is_rename { "admin" } else { DATABASE });
        let started = Instant::now();
        loop {
            match database.run_command(&command).await {
                Ok(_) => return Ok(()),
                Err(error) if error.code() == Some(NAMESPACE_NOT_FOUND) => return Ok(()),
                Err(error) if started.elapsed() > PATIENCE => return Err(error.into()),
                Err(_) => {}
            }
        }
    }
}

impl Desk {
    fn batch(&mut self) -> Batch {
        let place = self.random.usize(..LOADED.len());
        let collection = LOADED[place];
        let alive = self.alive[place].len();
        let count = self.random.usize(1..=MOST_DOCUMENTS);
        let kind = self.random.usize(..100);
        if alive < MOST_DOCUMENTS || (kind < 50 && alive < MOST_ALIVE) {
            let ids = self.new_ids();
            self.insert(collection, ids)
        } else if kind < 80 {
            let ids = self.random.choose_multiple(&self.alive[place], count);
            let ids = ids.into_iter().copied().collect();
            self.update(collection, ids)
        } else {
            self.random.shuffle(&mut self.alive[place]);
            let ids = self.alive[place].split_off(alive - count);
            delete(collection, ids)
        }
    }

    /// Documents that nobody has had before.
    fn new_ids(&mut self) -> Vec<i64> {
        let count = self.random.usize(1..=MOST_DOCUMENTS);
        let ids: Vec<_> = (self.next_id..).take(count).collect();
        self.next_id = ids.last().map_or(self.next_id, |last| last + 1);
        ids
    }

    fn insert(&mut self, collection: &'static str, ids: Vec<i64>) -> Batch {
        let mut documents = RawArrayBuf::new();
        for id in &ids {
            let padding = self.padding();
            let sent = self.office.sent();
            documents
                .push(rawdoc! { "_id": *id, "version": 0_i64, "sent": sent, "padding": padding });
        }
        let mut command = rawdoc! { "insert": collection };
        command.append(cstr!("documents"), documents);
        Batch {
            collection,
            operation: Operation::Insert,
            ids,
            command,
        }
    }

    fn update(&mut self, collection: &'static str, ids: Vec<i64>) -> Batch {
        let mut updates = RawArrayBuf::new();
        for id in &ids {
            let mut set = rawdoc! { "sent": self.office.sent() };
            if self.random.u8(..4) == 0 {
                set.append(cstr!("padding"), self.padding());
            }
            let change = rawdoc! { "$inc": { "version": 1_i64 }, "$set": set };
            updates.push(rawdoc! { "q": { "_id": *id }, "u": change });
        }
        let mut command = rawdoc! { "update": collection };
        command.append(cstr!("updates"), updates);
        Batch {
            collection,
            operation: Operation::Update,
            ids,
            command,
        }
    }

    /// Mostly small; one in some thousands is up to 2 MB.
    fn padding(&mut self) -> String {
        let size = match self.random.u32(..10_000) {
            0..2 => self.random.usize(500_000..2_000_000),
            2..40 => self.random.usize(10_000..100_000),
            _ => self.random.usize(10..600),
        };
        "x".repeat(size)
    }

    /// Does it and notes what was promised. Documents of a batch that did not get through are in
    /// a state that nobody knows, and are left alone from then on.
    async fn carry_out(&mut self, batch: Batch) {
        let Batch {
            collection,
            operation,
            ids,
            command,
        } = batch;
        let count = i32::try_from(ids.len()).unwrap_or(i32::MAX);
        let keys = ids.iter().map(|id| (collection.to_owned(), *id, operation));
        let place = LOADED.iter().position(|name| *name == collection);
        let alive = place.map(|place| &mut self.alive[place]);
        match self.writer.write(command, count).await {
            Ok(()) => {
                self.office.promises.make(keys);
                if let (Some(alive), Operation::Insert) = (alive, operation) {
                    alive.extend(&ids);
                }
            }
            Err(error) => {
                shell::complain(&format!("{operation:?} in {collection}: {error:#}"));
                self.office.promises.leave_open(keys);
                if let Some(alive) = alive {
                    alive.retain(|id| !ids.contains(id));
                }
            }
        }
    }
}

fn delete(collection: &'static str, ids: Vec<i64>) -> Batch {
    let deletes = ids
        .iter()
        .map(|id| rawdoc! { "q": { "_id": *id }, "limit": 1 });
    let mut command = rawdoc! { "delete": collection };
    command.append(cstr!("deletes"), deletes.collect::<RawArrayBuf>());
    Batch {
        collection,
        operation: Operation::Delete,
        ids,
        command,
    }
}
