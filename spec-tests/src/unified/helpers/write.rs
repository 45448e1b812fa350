//! Inserts, updates, deletes, and finds that write.

use bson::oid::ObjectId;
use bson::{Bson, Document, doc};

use super::call::{Call, Kind};
use super::{Common, Given};
use crate::unified::arguments::{Arguments, Required};
use crate::unified::case::Yield;
use crate::unified::entities::Target;
use crate::unified::errors::{Op, OpError, WriteError};
use crate::unified::stop::{Run, Stop};

pub(super) async fn insert_one(target: &Target, given: Given) -> Op<Yield> {
    let (mut arguments, common) = given;
    let document = identified(arguments.document("document").required("document")?);
    let id = document.get("_id").cloned().unwrap_or(Bson::Null);
    let mut command = doc! { "insert": target.name()?, "ordered": true, "documents": [document] };
    arguments.copy(&["bypassDocumentValidation"], &mut command);
    run(command, target, (arguments, common)).await?;
    Ok(Yield::Value(doc! { "insertedId": id }.into()))
}

pub(super) async fn insert_many(target: &Target, given: Given) -> Op<Yield> {
    let (mut arguments, common) = given;
    let documents = arguments.documents("documents").required("documents")?;
    if documents.is_empty() {
        return Err(OpError::Invalid(
            "there is no document to insert".to_owned(),
        ));
    }
    let documents: Vec<_> = documents.into_iter().map(identified).collect();
    let ids = inserted_ids(&documents);
    let ordered = arguments.flag("ordered")?.unwrap_or(true);
    let mut command = doc! {
        "insert": target.name()?, "ordered": ordered, "documents": documents,
    };
    arguments.copy(&["bypassDocumentValidation"], &mut command);
    let reply = run(command, target, (arguments, common)).await?;
    let count = reply.get("n").cloned().unwrap_or(Bson::Null);
    Ok(Yield::Value(
        doc! { "insertedIds": ids, "insertedCount": count }.into(),
    ))
}

/// The ids of documents, under their places.
pub(super) fn inserted_ids(documents: &[Document]) -> Document {
    let ids = documents.iter().enumerate();
    ids.filter_map(|(place, document)| Some((place.to_string(), document.get("_id")?.clone())))
        .collect()
}

/// The document with an `_id` before everything else, unless it has one.
pub(super) fn identified(document: Document) -> Document {
    if document.contains_key("_id") {
        return document;
    }
    let mut identified = doc! { "_id": ObjectId::new() };
    identified.extend(document);
    identified
}

pub(super) async fn update(name: &str, target: &Target, given: Given) -> Op<Yield> {
    let (mut arguments, common) = given;
    let statement = update_statement(name, &mut arguments)?;
    check_change(name, statement.get("u"))?;
    let mut command = doc! { "update": target.name()?, "ordered": true, "updates": [statement] };
    arguments.copy(&["bypassDocumentValidation", "let"], &mut command);
    let reply = run(command, target, (arguments, common)).await?;
    let upserted = reply.get_array("upserted").map_or(&[][..], Vec::as_slice);
    let count = |key: &str| number(&reply, key);
    let upserted_count = i64::try_from(upserted.len()).unwrap_or(i64::MAX);
    let mut result = doc! {
        "matchedCount": count("n") - upserted_count,
        "modifiedCount": count("nModified"),
        "upsertedCount": upserted_count,
    };
    let id = upserted.first().and_then(Bson::as_document);
    if let Some(id) = id.and_then(|upserted| upserted.get("_id")) {
        result.insert("upsertedId", id.clone());
    }
    Ok(Yield::Value(result.into()))
}

/// Refuses an update that replaces, and a replacement that updates.
pub(super) fn check_change(name: &str, change: Option<&Bson>) -> Op<()> {
    let first = change
        .and_then(Bson::as_document)
        .and_then(|change| change.keys().next());
    let updates = first.map(|key| key.starts_with('$'));
    let replaces = name.to_lowercase().contains("replace");
    match updates {
        Some(updates) if updates == replaces => {
            let what = if replaces { "replacement" } else { "update" };
            Err(OpError::Invalid(format!("{change:?} is no {what}")))
        }
        _ => Ok(()),
    }
}

/// One element of `updates`.
pub(super) fn update_statement(name: &str, arguments: &mut Arguments) -> Run<Document> {
    let filter = arguments.document("filter").required("filter")?;
    let key = if name == "replaceOne" {
        "replacement"
    } else {
        "update"
    };
    let change = arguments.value(key);
    let change = change.ok_or_else(|| Stop::fail(format!("the argument {key} is missing")))?;
    let mut statement = doc! { "q": filter, "u": change };
    if name == "updateMany" {
        statement.insert("multi", true);
    }
    let plain = ["upsert", "arrayFilters", "hint", "collation", "sort"];
    arguments.copy(&plain, &mut statement);
    Ok(statement)
}

pub(super) async fn delete(name: &str, target: &Target, given: Given) -> Op<Yield> {
    let (mut arguments, common) = given;
    let statement = delete_statement(name, &mut arguments)?;
    let mut command = doc! { "delete": target.name()?, "ordered": true, "deletes": [statement] };
    arguments.copy(&["let"], &mut command);
    let reply = run(command, target, (arguments, common)).await?;
    Ok(Yield::Value(
        doc! { "deletedCount": number(&reply, "n") }.into(),
    ))
}

/// One element of `deletes`.
pub(super) fn delete_statement(name: &str, arguments: &mut Arguments) -> Run<Document> {
    let filter = arguments.document("filter").required("filter")?;
    let limit = i32::from(name == "deleteOne");
    let mut statement = doc! { "q": filter, "limit": limit };
    arguments.copy(&["hint", "collation"], &mut statement);
    Ok(statement)
}

pub(super) async fn find_one_and(name: &str, target: &Target, given: Given) -> Op<Yield> {
    let (mut arguments, common) = given;
    let filter = arguments.document("filter").required("filter")?;
    let mut command = doc! { "findAndModify": target.name()?, "query": filter };
    let change = match name {
        "findOneAndReplace" => Some("replacement"),
        "findOneAndUpdate" => Some("update"),
        _ => None,
    };
    match change {
        None => {
            command.insert("remove", true);
        }
        Some(key) => {
            let change = arguments.value(key);
            let change = change.ok_or_else(|| Stop::fail(format!("{key} is missing")))?;
            check_change(name, Some(&change))?;
            command.insert("update", change);
            let which = arguments
                .text("returnDocument")?
                .unwrap_or_else(|| "Before".to_owned());
            match which.to_lowercase().as_str() {
                "before" => {}
                "after" => {
                    command.insert("new", true);
                }
                _ => return Err(Stop::fail(format!("returnDocument cannot be {which:?}")).into()),
            }
        }
    }
    if let Some(fields) = arguments.document("projection")? {
        command.insert("fields", fields);
    }
    let plain = [
        "sort",
        "upsert",
        "arrayFilters",
        "collation",
        "hint",
        "let",
        "bypassDocumentValidation",
    ];
    arguments.copy(&plain, &mut command);
    let mut reply = run(command, target, (arguments, common)).await?;
    Ok(Yield::Value(reply.remove("value").unwrap_or(Bson::Null)))
}

/// Sends a write, whose reply must tell of no error.
async fn run(command: Document, target: &Target, given: (Arguments, Common)) -> Op<Document> {
    let kind = kind_of(&command);
    let call = Call::new((command, kind), target, given)?;
    let reply = call.run(target).await?;
    match WriteError::of(&reply) {
        Some(error) => Err(OpError::Write(Box::new(error))),
        None => Ok(reply),
    }
}

/// Whether one statement of a write may change many documents.
pub(super) fn kind_of(command: &Document) -> Kind {
    let list = |key: &str| command.get_array(key).map_or(&[][..], Vec::as_slice).iter();
    let statements = list("updates").chain(list("deletes"));
    let mut statements = statements.filter_map(Bson::as_document);
    let is_of_many = |statement: &Document| {
        statement.get_bool("multi").unwrap_or(false)
            || statement.get_i32("limit").is_ok_and(|limit| limit == 0)
    };
    if statements.any(is_of_many) {
        Kind::Write
    } else {
        Kind::WriteOnce
    }
}

/// A count in a reply; 0 if it is not there.
pub(super) fn number(reply: &Document, key: &str) -> i64 {
    match reply.get(key) {
        Some(Bson::Int32(number)) => i64::from(*number),
        Some(Bson::Int64(number)) => *number,
        _ => 0,
    }
}
