//! Reads: generic commands, finds, aggregations and counts.

use bson::{Bson, Document, doc};
use mongo_client::{CursorType, TimeoutMode};

use super::call::{Call, CursorOptions, Kind, exhaust};
use super::{Given, documents_of};
use crate::unified::arguments::Required;
use crate::unified::case::Yield;
use crate::unified::entities::Target;
use crate::unified::errors::{Op, OpError};
use crate::unified::stop::{Run, Stop};

pub(super) async fn run_command(target: &Target, given: Given) -> Op<Yield> {
    let (mut arguments, common) = given;
    let call = Call::given(&mut arguments, common)?;
    arguments.finish()?;
    Ok(Yield::Value(call.run(target).await?.into()))
}

pub(super) async fn run_cursor_command(target: &Target, given: Given) -> Op<Yield> {
    match create_command_cursor(target, given).await? {
        Yield::Cursor(cursor) => exhaust(*cursor).await,
        other => Ok(other),
    }
}

pub(super) async fn create_command_cursor(target: &Target, given: Given) -> Op<Yield> {
    let (mut arguments, common) = given;
    let call = Call::given(&mut arguments, common)?;
    let mut options = CursorOptions::take(&mut arguments)?;
    options.max_await = arguments.millis("maxTimeMS")?;
    options.comment = arguments.value("comment");
    arguments.finish()?;
    let cursor = call.cursor(target, options).await?;
    Ok(Yield::Cursor(Box::new(cursor)))
}

pub(super) async fn find(target: &Target, given: Given) -> Op<Yield> {
    let (call, options) = find_call(target, given, None)?;
    exhaust(call.cursor(target, options).await?).await
}

pub(super) async fn create_find_cursor(target: &Target, given: Given) -> Op<Yield> {
    let (call, options) = find_call(target, given, None)?;
    let cursor = call.cursor(target, options).await?;
    Ok(Yield::Cursor(Box::new(cursor)))
}

pub(super) async fn find_one(target: &Target, given: Given) -> Op<Yield> {
    let (call, options) = find_call(target, given, Some(-1))?;
    match exhaust(call.cursor(target, options).await?).await? {
        Yield::Documents(found) => Ok(Yield::Value(found.into_iter().next().unwrap_or(Bson::Null))),
        other => Ok(other),
    }
}

fn find_call(target: &Target, given: Given, limit: Option<i64>) -> Run<(Call, CursorOptions)> {
    let (mut arguments, common) = given;
    let filter = arguments.document("filter").required("filter")?;
    let mut command = doc! { "find": target.name()?, "filter": filter };
    let mut options = CursorOptions::take(&mut arguments)?;
    match options.cursor_type {
        CursorType::NonTailable => {}
        CursorType::Tailable => {
            command.insert("tailable", true);
        }
        CursorType::TailableAwait => {
            command.insert("tailable", true);
            command.insert("awaitData", true);
        }
    }
    let mut batch_size = options.batch_size;
    // A negative limit asks for no more than one batch.
    match limit.or(arguments.number("limit")?) {
        Some(limit) if limit < 0 => {
            command.insert("limit", -limit);
            command.insert("singleBatch", true);
        }
        Some(limit) => {
            command.insert("limit", limit);
            // What is left after the first batch, for servers that do not count themselves.
            let left = |size: u32| {
                u32::try_from(limit)
                    .ok()?
                    .checked_sub(size)
                    .filter(|n| *n > 0)
            };
            batch_size = batch_size.map(|size| left(size).unwrap_or(size).min(size));
        }
        None => {}
    }
    if let Some(size) = options.batch_size {
        command.insert("batchSize", i64::from(size));
    }
    options.batch_size = batch_size;
    let plain = [
        "sort",
        "projection",
        "hint",
        "skip",
        "max",
        "min",
        "returnKey",
        "showRecordId",
        "collation",
        "allowDiskUse",
        "let",
        "noCursorTimeout",
        "allowPartialResults",
    ];
    arguments.copy(&plain, &mut command);
    let call = Call::new((command, Kind::Read), target, (arguments, common))?;
    Ok((call, options))
}

pub(super) async fn aggregate(target: &Target, given: Given) -> Op<Yield> {
    let (mut arguments, common) = given;
    let pipeline = arguments.array("pipeline").required("pipeline")?;
    let stages = documents_of(&pipeline);
    let writes = stages.iter().flat_map(Document::keys);
    let writes = writes
        .into_iter()
        .any(|stage| stage == "$out" || stage == "$merge");
    let of_what = target
        .collection
        .clone()
        .map_or(Bson::Int32(1), Bson::String);
    let options = CursorOptions::take(&mut arguments)?;
    if writes && options.timeout_mode == Some(TimeoutMode::Iteration) {
        let message = "an aggregation that writes is not iterated".to_owned();
        return Err(OpError::Invalid(message));
    }
    let mut cursor = Document::new();
    // What only writes has no batch.
    if let Some(size) = options.batch_size.filter(|_| !writes) {
        cursor.insert("batchSize", i64::from(size));
    }
    let mut command = doc! { "aggregate": of_what, "pipeline": pipeline, "cursor": cursor };
    let plain = [
        "allowDiskUse",
        "collation",
        "let",
        "hint",
        "bypassDocumentValidation",
    ];
    arguments.copy(&plain, &mut command);
    let kind = if writes {
        Kind::ReadAndWrite
    } else {
        Kind::Read
    };
    let call = Call::new((command, kind), target, (arguments, common))?;
    exhaust(call.cursor(target, options).await?).await
}

pub(super) async fn count(target: &Target, given: Given) -> Op<Yield> {
    let (mut arguments, common) = given;
    let query = arguments.document("filter").required("filter")?;
    let mut command = doc! { "count": target.name()?, "query": query };
    arguments.copy(&["skip", "limit", "hint", "collation"], &mut command);
    let call = Call::new((command, Kind::Read), target, (arguments, common))?;
    field(call.run(target).await?, "n")
}

pub(super) async fn estimated_document_count(target: &Target, given: Given) -> Op<Yield> {
    let call = Call::new(
        (doc! { "count": target.name()? }, Kind::Read),
        target,
        given,
    )?;
    field(call.run(target).await?, "n")
}

pub(super) async fn count_documents(target: &Target, given: Given) -> Op<Yield> {
    let (mut arguments, common) = given;
    let filter = arguments.document("filter").required("filter")?;
    let mut pipeline = vec![doc! { "$match": filter }];
    for (argument, stage) in [("skip", "$skip"), ("limit", "$limit")] {
        if let Some(number) = arguments.number(argument)? {
            pipeline.push(doc! { stage: number });
        }
    }
    pipeline.push(doc! { "$group": { "_id": 1, "n": { "$sum": 1 } } });
    let mut command = doc! { "aggregate": target.name()?, "pipeline": pipeline, "cursor": {} };
    arguments.copy(&["hint", "collation"], &mut command);
    let call = Call::new((command, Kind::Read), target, (arguments, common))?;
    let cursor = call.cursor(target, CursorOptions::default()).await?;
    match exhaust(cursor).await? {
        Yield::Documents(found) => match found.first().and_then(Bson::as_document) {
            Some(group) => field(group.clone(), "n"),
            None => Ok(Yield::Value(0.into())),
        },
        other => Ok(other),
    }
}

pub(super) async fn distinct(target: &Target, given: Given) -> Op<Yield> {
    let (mut arguments, common) = given;
    let key = arguments.text("fieldName").required("fieldName")?;
    let query = arguments.document("filter").required("filter")?;
    let mut command = doc! { "distinct": target.name()?, "key": key, "query": query };
    arguments.copy(&["collation", "hint"], &mut command);
    let call = Call::new((command, Kind::Read), target, (arguments, common))?;
    field(call.run(target).await?, "values")
}

pub(super) async fn map_reduce(target: &Target, given: Given) -> Op<Yield> {
    let (mut arguments, common) = given;
    let mut command = doc! { "mapReduce": target.name()? };
    for key in ["map", "reduce", "out"] {
        let value = arguments.value(key);
        command.insert(
            key,
            value.ok_or_else(|| Stop::fail(format!("{key} is missing")))?,
        );
    }
    let is_inline = command
        .get_document("out")
        .is_ok_and(|out| out.contains_key("inline"));
    // Never sent again, as the specification of retryable reads has it.
    let kind = if is_inline { Kind::Once } else { Kind::Write };
    let call = Call::new((command, kind), target, (arguments, common))?;
    let reply = call.run(target).await?;
    match reply.get_array("results") {
        Ok(results) => Ok(Yield::Documents(results.clone())),
        Err(_) => Ok(Yield::Nothing),
    }
}

/// A field of a reply, as the result.
fn field(mut reply: Document, key: &str) -> Op<Yield> {
    match reply.remove(key) {
        Some(value) => Ok(Yield::Value(value)),
        None => Err(Stop::fail(format!("{key} is missing in {reply}")).into()),
    }
}
