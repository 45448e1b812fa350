//! Several writes to one collection, in as few commands as their order allows.

use std::time::{Duration, Instant};

use bson::{Bson, Document, doc};

use super::Given;
use super::call::Call;
use super::write::{delete_statement, identified, kind_of, number, update_statement};
use crate::unified::arguments::{Arguments, Required};
use crate::unified::case::Yield;
use crate::unified::entities::Target;
use crate::unified::errors::{Op, OpError, WriteError};
use crate::unified::stop::{Run, Stop};

/// Statements of the same kind, one after the other.
struct Batch {
    /// The command's name and the key of its list.
    names: (&'static str, &'static str),
    statements: Vec<Document>,
    /// Where each of them stands in the whole.
    places: Vec<usize>,
}

pub(super) async fn write(target: &Target, given: Given) -> Op<Yield> {
    let (mut arguments, common) = given;
    let requests = arguments.documents("requests").required("requests")?;
    let ordered = arguments.flag("ordered")?.unwrap_or(true);
    let mut shared = Document::new();
    arguments.copy(&["bypassDocumentValidation", "let", "comment"], &mut shared);
    arguments.finish()?;
    if requests.is_empty() {
        return Err(OpError::Invalid("there is nothing to write".to_owned()));
    }
    let mut common = common;
    let began = Instant::now();
    let limit = common
        .effective_timeout(target)
        .filter(|limit| !limit.is_zero());
    let mut result = Tally::default();
    let mut failed: Option<WriteError> = None;
    for batch in batches(requests)? {
        let (name, list) = batch.names;
        let mut command = doc! {
            name: target.name()?, "ordered": ordered, list: batch.statements.clone(),
        };
        command.extend(shared.clone());
        if let Some(limit) = limit {
            // The whole has one limit; none left is not the same as no limit.
            let left = limit.saturating_sub(began.elapsed());
            common.timeout = Some(left.max(Duration::from_nanos(1)));
        }
        let given = (Arguments::new(Document::new()), common.clone());
        let kind = kind_of(&command);
        let call = Call::new((command, kind), target, given)?;
        let reply = match call.run(target).await {
            Ok(reply) => reply,
            Err(OpError::Client(error, _)) => {
                return Err(OpError::Client(error, Some(result.document())));
            }
            Err(other) => return Err(other),
        };
        result.add(&batch, &reply);
        if let Some(error) = WriteError::of(&reply) {
            failed = Some(error);
            if ordered {
                break;
            }
        }
    }
    let result = result.document();
    match failed {
        None => Ok(Yield::Value(result)),
        Some(mut error) => {
            error.result = Some(result);
            Err(OpError::Write(Box::new(error)))
        }
    }
}

fn batches(requests: Vec<Document>) -> Run<Vec<Batch>> {
    let mut batches: Vec<Batch> = Vec::new();
    for (place, request) in requests.into_iter().enumerate() {
        let Some((model, Bson::Document(fields))) = request.into_iter().next() else {
            return Err(Stop::fail("a request has no model"));
        };
        let mut arguments = Arguments::new(fields);
        let (names, statement) = match model.as_str() {
            "insertOne" => {
                let document = arguments.document("document").required("document")?;
                (("insert", "documents"), identified(document))
            }
            "updateOne" | "updateMany" | "replaceOne" => {
                let statement = update_statement(&model, &mut arguments)?;
                (("update", "updates"), statement)
            }
            "deleteOne" | "deleteMany" => {
                let statement = delete_statement(&model, &mut arguments)?;
                (("delete", "deletes"), statement)
            }
            other => return Err(Stop::fail(format!("{other} is no model"))),
        };
        arguments.finish()?;
        match batches.last_mut().filter(|batch| batch.names == names) {
            Some(batch) => {
                batch.statements.push(statement);
                batch.places.push(place);
            }
            None => batches.push(Batch {
                names,
                statements: vec![statement],
                places: vec![place],
            }),
        }
    }
    Ok(batches)
}

/// What all batches together have done.
#[derive(Default)]
struct Tally {
    inserted: i64,
    inserted_ids: Document,
    matched: i64,
    modified: i64,
    upserted_ids: Document,
    deleted: i64,
}

impl Tally {
    fn add(&mut self, batch: &Batch, reply: &Document) {
        let done = number(reply, "n");
        match batch.names.0 {
            "insert" => {
                self.inserted += done;
                for (place, document) in batch.places.iter().zip(&batch.statements) {
                    if let Some(id) = document.get("_id") {
                        self.inserted_ids.insert(place.to_string(), id.clone());
                    }
                }
            }
            "delete" => self.deleted += done,
            _ => {
                let upserted = reply.get_array("upserted").map_or(&[][..], Vec::as_slice);
                for upserted in upserted.iter().filter_map(Bson::as_document) {
                    let index = usize::try_from(number(upserted, "index")).ok();
                    let place = index.and_then(|index| batch.places.get(index));
                    if let (Some(place), Some(id)) = (place, upserted.get("_id")) {
                        self.upserted_ids.insert(place.to_string(), id.clone());
                    }
                }
                self.matched += done - i64::try_from(upserted.len()).unwrap_or(i64::MAX);
                self.modified += number(reply, "nModified");
            }
        }
    }

    fn document(self) -> Bson {
        let upserted = i64::try_from(self.upserted_ids.len()).unwrap_or(i64::MAX);
        doc! {
            "insertedCount": self.inserted,
            "insertedIds": self.inserted_ids,
            "matchedCount": self.matched,
            "modifiedCount": self.modified,
            "upsertedCount": upserted,
            "upsertedIds": self.upserted_ids,
            "deletedCount": self.deleted,
        }
        .into()
    }
}
