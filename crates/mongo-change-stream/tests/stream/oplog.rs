//! A server of change streams over an oplog in memory, strict about the commands it is sent.

use std::collections::BTreeMap;

use bson::{Bson, Document, Timestamp, doc};

use crate::harness::{Command, WIRE_4_2, server_error};

/// What the simulated server writes down.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Entry {
    /// An event the stream is to see.
    Matching,
    /// Something the stream's filter drops.
    Other,
    /// The end of a stream, and the first event of none.
    Invalidate,
}

/// Why a command did not simply work.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fault {
    None,
    /// The command never arrived.
    NotSent,
    /// The command was run and its reply lost.
    ReplyLost,
    /// The member stepped down.
    StateChange,
    /// The server forgot its cursors.
    CursorsGone,
    /// An error nothing helps against.
    Permanent,
}

#[derive(Debug)]
pub(crate) struct Server {
    pub(crate) entries: Vec<Entry>,
    /// Next entry to look at, by cursor; none behind an invalidate.
    pub(crate) cursors: BTreeMap<i64, Option<usize>>,
    /// Cursors nobody can know of, because the reply that named them was lost.
    pub(crate) orphans: Vec<i64>,
    pub(crate) wire: i32,
    /// Whether replies carry `postBatchResumeToken`.
    names_end: bool,
    /// Whether a cursor outlives the batch with its invalidate, to end with the reply after it.
    lingers: bool,
    last_id: i64,
}

/// The stage the model's streams add, to be found again in every aggregate.
pub(crate) fn user_stage() -> Document {
    doc! { "$match": { "model": true } }
}

/// Tokens name the next entry: behind an event, or a place between events.
fn token(next: usize, kind: &str) -> Document {
    doc! { "t": format!("{next:06}{kind}") }
}

/// The next entry behind a token.
pub(crate) fn next_of(token: &str) -> usize {
    token[..6].parse().unwrap()
}

impl Server {
    pub(crate) fn new(names_end: bool, lingers: bool, wire: i32) -> Self {
        Self {
            entries: Vec::new(),
            cursors: BTreeMap::new(),
            orphans: Vec::new(),
            wire,
            names_end,
            lingers,
            last_id: 0,
        }
    }

    /// Runs a command; `None` if its reply is lost.
    pub(crate) fn run(
        &mut self,
        command: &Command,
        fault: Fault,
        limit: usize,
    ) -> Option<Document> {
        match fault {
            Fault::NotSent => return None,
            Fault::StateChange => return Some(self.state_change()),
            Fault::Permanent => return Some(server_error(1, &[])),
            Fault::CursorsGone => self.cursors.clear(),
            Fault::None | Fault::ReplyLost => {}
        }
        let reply = if command.is_get_more() {
            self.get_more(command, limit)
        } else {
            self.aggregate(command, limit)
        };
        if fault != Fault::ReplyLost {
            return Some(reply);
        }
        if !command.is_get_more() {
            self.orphans.extend(self.cursors.keys().next_back());
        }
        None
    }

    pub(crate) fn kill(&mut self, command: &Document) {
        let cursors = command.get_array("cursors").unwrap();
        let [Bson::Int64(id)] = cursors[..] else {
            panic!("{command}")
        };
        assert!(
            (1..=self.last_id).contains(&id),
            "a cursor nobody opened: {command}"
        );
        assert_eq!(
            command,
            &doc! { "killCursors": "c", "cursors": [id], "$db": "model" }
        );
        self.cursors.remove(&id);
    }

    fn state_change(&self) -> Document {
        if self.wire > WIRE_4_2 {
            server_error(189, &["ResumableChangeStreamError"])
        } else {
            server_error(189, &[])
        }
    }

    fn aggregate(&mut self, command: &Command, limit: usize) -> Document {
        let stage = command.stage().clone();
        assert_eq!(
            command.body,
            doc! { "aggregate": "c", "pipeline": [{ "$changeStream": &stage }, user_stage()], "cursor": {} }
        );
        assert!(stage.len() <= 1, "one start option at most: {stage}");
        let next = match stage.iter().next() {
            None => self.entries.len(),
            Some((key, Bson::Timestamp(time))) if key == "startAtOperationTime" => {
                usize::try_from(time.time).unwrap()
            }
            Some((key, Bson::Document(token))) => {
                let token = token.get_str("t").unwrap();
                assert!(key == "resumeAfter" || key == "startAfter", "{stage}");
                if key == "resumeAfter" && token.ends_with('i') {
                    return server_error(260, &[]);
                }
                next_of(token)
            }
            other => panic!("{other:?}"),
        };
        self.last_id += 1;
        self.answer(self.last_id, next, limit)
    }

    fn get_more(&mut self, command: &Command, limit: usize) -> Document {
        let id = command.body.get_i64("getMore").unwrap();
        assert_eq!(command.database, "model");
        assert_eq!(command.body, doc! { "getMore": id, "collection": "c" });
        match self.cursors.get(&id) {
            Some(Some(next)) => self.answer(id, *next, limit),
            Some(None) => {
                self.cursors.remove(&id);
                self.reply(0, Vec::new(), None)
            }
            None => server_error(43, &[]),
        }
    }

    /// A batch of at most `limit` events from `next` on.
    fn answer(&mut self, id: i64, mut next: usize, limit: usize) -> Document {
        let mut events = Vec::new();
        let mut end = token(next, "h");
        let mut invalidated = false;
        while let Some(entry) = self
            .entries
            .get(next)
            .filter(|_| events.len() < limit && !invalidated)
        {
            next += 1;
            let (operation, kind) = match entry {
                Entry::Matching => ("insert", "e"),
                Entry::Invalidate => ("invalidate", "i"),
                Entry::Other => {
                    end = token(next, "h");
                    continue;
                }
            };
            end = token(next, kind);
            events.push(doc! { "_id": end.clone(), "operationType": operation });
            invalidated = *entry == Entry::Invalidate;
        }
        if invalidated && !self.lingers {
            self.cursors.remove(&id);
            return self.reply(0, events, Some(end));
        }
        self.cursors.insert(id, (!invalidated).then_some(next));
        self.reply(id, events, Some(end))
    }

    fn reply(&self, id: i64, events: Vec<Document>, end: Option<Document>) -> Document {
        let mut cursor = doc! { "id": id, "ns": "model.c", "nextBatch": events };
        if let Some(end) = end.filter(|_| self.names_end) {
            cursor.insert("postBatchResumeToken", end);
        }
        let time = u32::try_from(self.entries.len()).unwrap();
        doc! { "cursor": cursor, "operationTime": Timestamp { time, increment: 0 }, "ok": 1 }
    }
}
