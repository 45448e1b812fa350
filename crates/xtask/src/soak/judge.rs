//! Reads the oplog, by a connection that has nothing in common with the client but the codec, and
//! tells every book what it should hold.
//!
//! It is read with majority concern: what the judge has read is never rolled back, so it can be
//! read while the set is being struck, from whichever member answers.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use anyhow::Context as _;
use bson::{RawBsonRef, RawDocument, RawDocumentBuf, Timestamp, rawdoc};
use testbed::cluster::{Member, ReplicaSet};

use super::book::Book;
use super::change::{DATABASE, LAST_ID, Operation, Record, Scope};
use super::promises::Promises;

/// How long a member may take to answer; one may be frozen.
const PATIENCE: Duration = Duration::from_secs(2);

/// The pause between two looks.
const PACE: Duration = Duration::from_millis(200);

/// Where the oplog has been read to, and how much of it was the soak's.
#[derive(Debug)]
pub(crate) struct Judge {
    read_to: Timestamp,
    books: Vec<Book>,
    is_complete: bool,
}

/// What others see of the judge's work.
#[derive(Debug, Default)]
pub(crate) struct Progress {
    pub(crate) entries: AtomicU64,
    /// Tells the judge that nobody needs its judgement any more.
    pub(crate) is_abandoned: AtomicBool,
}

impl Judge {
    /// Judges what happens from now on.
    ///
    /// # Errors
    /// The primary does not answer.
    pub(crate) fn new(set: &ReplicaSet, books: Vec<Book>) -> anyhow::Result<Self> {
        let newest = rawdoc! {
            "find": "oplog.rs", "sort": { "$natural": -1 }, "limit": 1, "projection": { "ts": 1 },
        };
        let reply = set.primary()?.run_command("local", &newest)?;
        let newest = batch(&reply)?.next().context("an empty oplog")??;
        Ok(Self {
            read_to: newest.get_timestamp("ts")?,
            books,
            is_complete: false,
        })
    }

    /// Reads until the last write of all.
    ///
    /// # Errors
    /// The oplog has something that nobody here writes.
    pub(crate) fn judge(
        mut self,
        set: &ReplicaSet,
        promises: &Promises,
        progress: &Progress,
    ) -> anyhow::Result<()> {
        let mut members = set.members().iter().cycle();
        while !self.is_complete && !progress.is_abandoned.load(Ordering::Relaxed) {
            let member = members.next().filter(|member| member.is_running());
            // Whoever does not answer now may do so later, and others may.
            let entries = member.and_then(|member| self.read(member).ok());
            let entries = entries.unwrap_or_default();
            if entries.is_empty() {
                thread::sleep(PACE);
            }
            for entry in &entries {
                self.take(entry, promises)?;
            }
            let count = u64::try_from(entries.len())?;
            progress.entries.fetch_add(count, Ordering::Relaxed);
        }
        Ok(())
    }

    /// The soak's entries behind those that were read.
    fn read(&mut self, member: &Member) -> anyhow::Result<Vec<RawDocumentBuf>> {
        let mut connection = member.connect(PATIENCE)?;
        let command = rawdoc! {
            "find": "oplog.rs",
            "filter": { "ts": { "$gt": self.read_to } },
            "projection": {
                "ts": 1, "op": 1, "ns": 1, "o._id": 1, "o2._id": 1, "o.drop": 1,
                "o.renameCollection": 1,
            },
            "readConcern": { "level": "majority" },
            "$readPreference": { "mode": "nearest" },
            "singleBatch": true,
            "batchSize": 20_000,
            "maxTimeMS": 1_500,
        };
        let reply = connection.run_command("local", &command)?;
        let (mut ours, mut read_to) = (Vec::new(), self.read_to);
        for entry in batch(&reply)? {
            let entry = entry?;
            read_to = entry.get_timestamp("ts")?;
            if entry.get_str("ns").unwrap_or_default().starts_with("soak.") {
                ours.push(entry.to_owned());
            }
        }
        self.read_to = read_to;
        Ok(ours)
    }

    fn take(&mut self, entry: &RawDocument, promises: &Promises) -> anyhow::Result<()> {
        let record = record(entry).with_context(|| format!("{entry:?}"))?;
        let Some(record) = record else { return Ok(()) };
        for book in &self.books {
            book.expect(&record);
        }
        if record.id > 0 {
            promises.kept(&record);
        }
        self.is_complete |= Scope::Cluster.is_last(&record);
        Ok(())
    }
}

fn batch(
    reply: &RawDocument,
) -> anyhow::Result<impl Iterator<Item = anyhow::Result<&RawDocument>>> {
    let batch = reply.get_document("cursor")?.get_array("firstBatch")?;
    Ok(batch.into_iter().map(|entry| {
        let entry = entry?;
        entry.as_document().context("an entry is a document")
    }))
}

/// What an entry of the oplog stands for; nothing, for what streams do not show.
fn record(entry: &RawDocument) -> anyhow::Result<Option<Record>> {
    let time = entry.get_timestamp("ts")?;
    let object = entry.get_document("o")?;
    let name = entry.get_str("ns")?;
    let prefix = format!("{DATABASE}.");
    let bare = |name: &str| name.strip_prefix(&prefix).map(str::to_owned);
    let collection = bare(name).context("an entry from elsewhere")?;
    let (operation, collection, id) = match entry.get_str("op")? {
        "i" => (Operation::Insert, collection, object.get_i64("_id")?),
        "u" => {
            let id = entry.get_document("o2")?.get_i64("_id")?;
            (Operation::Update, collection, id)
        }
        "d" => (Operation::Delete, collection, object.get_i64("_id")?),
        "c" => match (object.get("drop")?, object.get("renameCollection")?) {
            (Some(RawBsonRef::String(name)), _) => (Operation::Drop, name.to_owned(), 0),
            (_, Some(RawBsonRef::String(name))) => {
                let name = bare(name).context("a rename from elsewhere")?;
                (Operation::Rename, name, 0)
            }
            // A collection or an index is made.
            _ => return Ok(None),
        },
        other => anyhow::bail!("an entry of type {other}"),
    };
    anyhow::ensure!(id >= LAST_ID, "a document of nobody's");
    Ok(Some(Record {
        time: (time.time, time.increment),
        operation,
        collection,
        id,
    }))
}
