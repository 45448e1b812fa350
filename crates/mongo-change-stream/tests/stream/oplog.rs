//! A server of change streams over an oplog in memory, strict about the commands it is sent.

use std::{collections::BTreeMap, ops::Range};

use bson::{Bson, Document, Timestamp, doc};

use crate::harness::{Command, WIRE_4_2, server_error};

/// What the simulated server writes down.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Entry {
    /// An event the stream is to see.
    Matching,
    /// An event that comes in fragments.
    Large,
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
    /// The server forgot its cursors, as one does that is killed; the next one cuts large events
    /// another way.
    CursorsGone,
    /// An error nothing helps against.
    Permanent,
    /// The oplog is cut at its end.
    Forgets,
}

/// The next entry, and how many of its fragments were sent.
type Position = (usize, u32);

#[derive(Debug)]
pub(crate) struct Server {
    pub(crate) entries: Vec<Entry>,
    /// Next entry to look at, by cursor; none behind an invalidate.
    pub(crate) cursors: BTreeMap<i64, Option<Position>>,
    /// What was forgotten before a stream could see it.
    pub(crate) lost: Vec<Range<usize>>,
    /// The first entry that is still there.
    forgotten: usize,
    /// From where on a stream has been refused, which is to start anew.
    refused: Option<usize>,
    /// Cursors nobody can know of, because the reply that named them was lost.
    pub(crate) orphans: Vec<i64>,
    pub(crate) wire: i32,
    /// How many fragments a large event comes in.
    fragments: u32,
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

fn fragment(token: &Document, number: u32, of: u32) -> Document {
    let number = i32::try_from(number).unwrap();
    let of = i32::try_from(of).unwrap();
    let mut fragment = doc! { "_id": token, "splitEvent": { "fragment": number, "of": of } };
    fragment.insert(format!("part{number}"), number);
    fragment
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
            lost: Vec::new(),
            forgotten: 0,
            refused: None,
            orphans: Vec::new(),
            wire,
            fragments: 3,
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
            Fault::CursorsGone => {
                self.cursors.clear();
                self.fragments = if self.fragments == 3 { 2 } else { 3 };
            }
            Fault::Forgets => self.forgotten = self.entries.len(),
            Fault::None | Fault::ReplyLost => {}
        }
        let reply = if command.is_get_more() {
            self.get_more(command, limit)
        } else {
            self.aggregate(command, limit)
        };
        if fault != Fault::ReplyLost {
            // A cursor that is known is where the stream stands.
            if reply.contains_key("cursor") {
                self.refused = None;
            }
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
        let split = doc! { "$changeStreamSplitLargeEvent": {} };
        assert_eq!(
            command.body,
            doc! {
                "aggregate": "c",
                "pipeline": [{ "$changeStream": &stage }, user_stage(), split],
                "cursor": {},
            }
        );
        assert!(stage.len() <= 1, "one start option at most: {stage}");
        let next = match stage.iter().next() {
            None => {
                let end = self.entries.len();
                self.lost.extend(self.refused.map(|from| from..end));
                end
            }
            Some((key, Bson::Timestamp(time))) if key == "startAtOperationTime" => {
                usize::try_from(time.time).unwrap()
            }
            Some((key, Bson::Document(token))) => {
                let token = token.get_str("t").unwrap();
                assert!(
                    !token.contains('f'),
                    "the token of an unfinished group: {stage}"
                );
                assert!(key == "resumeAfter" || key == "startAfter", "{stage}");
                if key == "resumeAfter" && token.ends_with('i') {
                    return server_error(260, &[]);
                }
                next_of(token)
            }
            other => panic!("{other:?}"),
        };
        if next < self.forgotten {
            return self.refuse(next);
        }
        self.last_id += 1;
        self.answer(self.last_id, (next, 0), limit)
    }

    fn get_more(&mut self, command: &Command, limit: usize) -> Document {
        let id = command.body.get_i64("getMore").unwrap();
        assert_eq!(command.database, "model");
        assert_eq!(command.body, doc! { "getMore": id, "collection": "c" });
        match self.cursors.get(&id) {
            Some(Some((next, _))) if *next < self.forgotten => {
                let next = *next;
                self.cursors.remove(&id);
                self.refuse(next)
            }
            Some(Some(position)) => self.answer(id, *position, limit),
            Some(None) => {
                self.cursors.remove(&id);
                self.reply(0, Vec::new(), None)
            }
            None => server_error(43, &[]),
        }
    }

    fn refuse(&mut self, next: usize) -> Document {
        self.refused = Some(self.refused.map_or(next, |refused| refused.min(next)));
        server_error(286, &["NonResumableChangeStreamError"])
    }

    /// A batch of at most `limit` events from a position on.
    fn answer(&mut self, id: i64, (mut next, mut sent): Position, limit: usize) -> Document {
        let mut events = Vec::new();
        // In the middle of a group, a reply without news stands where the one before it did.
        let mut end = match sent {
            0 => token(next, "h"),
            sent => token(next, &format!("f{sent}")),
        };
        let mut invalidated = false;
        while let Some(entry) = self
            .entries
            .get(next)
            .filter(|_| events.len() < limit && !invalidated)
        {
            if *entry == Entry::Large && sent + 1 < self.fragments {
                sent += 1;
                end = token(next, &format!("f{sent}"));
                events.push(fragment(&end, sent, self.fragments));
                continue;
            }
            next += 1;
            let (operation, kind) = match entry {
                Entry::Large => {
                    sent = 0;
                    end = token(next, "e");
                    events.push(fragment(&end, self.fragments, self.fragments));
                    continue;
                }
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
        self.cursors
            .insert(id, (!invalidated).then_some((next, sent)));
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
