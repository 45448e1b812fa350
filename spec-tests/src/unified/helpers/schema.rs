//! What makes, changes and removes collections and indexes.

use bson::{Bson, Document, doc};

use super::Given;
use super::call::{Call, Kind};
use crate::unified::arguments::Required;
use crate::unified::case::Yield;
use crate::unified::entities::Target;
use crate::unified::errors::{Op, OpError, WriteError};

/// The code that says that there is nothing to drop.
const NAMESPACE_NOT_FOUND: i32 = 26;

/// Runs a command of which nothing but success matters.
pub(super) async fn run(command: Document, target: &Target, given: Given) -> Op<Yield> {
    succeed(Call::new((command, Kind::Write), target, given)?, target).await
}

async fn succeed(call: Call, target: &Target) -> Op<Yield> {
    let reply = call.run(target).await?;
    match WriteError::of(&reply) {
        Some(error) => Err(OpError::Write(Box::new(error))),
        None => Ok(Yield::Nothing),
    }
}

pub(super) async fn create_collection(target: &Target, given: Given) -> Op<Yield> {
    let (mut arguments, common) = given;
    let name = arguments.text("collection").required("collection")?;
    let mut collection = target.clone();
    collection.collection = Some(name.clone());
    let mut command = doc! { "create": name };
    let plain = [
        "capped",
        "size",
        "max",
        "viewOn",
        "pipeline",
        "collation",
        "validator",
        "timeseries",
        "expireAfterSeconds",
        "clusteredIndex",
        "changeStreamPreAndPostImages",
        "storageEngine",
        "validationLevel",
        "validationAction",
        "indexOptionDefaults",
        "encryptedFields",
    ];
    arguments.copy(&plain, &mut command);
    let call = Call::new((command, Kind::Write), target, (arguments, common))?;
    succeed(call.named("createCollection"), target).await?;
    Ok(Yield::Target(Box::new(collection)))
}

pub(super) async fn drop_collection(target: &Target, given: Given) -> Op<Yield> {
    let (mut arguments, common) = given;
    let name = arguments.text("collection").required("collection")?;
    let command = doc! { "drop": name };
    let call = Call::new((command, Kind::Write), target, (arguments, common))?;
    match succeed(call.named("dropCollection"), target).await {
        // To drop what is not there is done already.
        Err(OpError::Client(error, _)) if error.code() == Some(NAMESPACE_NOT_FOUND) => {
            Ok(Yield::Nothing)
        }
        other => other,
    }
}

pub(super) async fn modify_collection(target: &Target, given: Given) -> Op<Yield> {
    let (mut arguments, common) = given;
    let name = arguments.text("collection").required("collection")?;
    let mut command = doc! { "collMod": name };
    let plain = [
        "index",
        "validator",
        "validationLevel",
        "changeStreamPreAndPostImages",
    ];
    arguments.copy(&plain, &mut command);
    run(command, target, (arguments, common)).await
}

pub(super) async fn create_index(target: &Target, given: Given) -> Op<Yield> {
    let (mut arguments, common) = given;
    let keys = arguments.document("keys").required("keys")?;
    let default_name = || {
        let part = |(key, order): (&String, &Bson)| format!("{key}_{order}");
        keys.iter().map(part).collect::<Vec<_>>().join("_")
    };
    let name = arguments.text("name")?.unwrap_or_else(default_name);
    let mut index = doc! { "key": keys, "name": name.as_str() };
    let plain = [
        "unique",
        "sparse",
        "hidden",
        "expireAfterSeconds",
        "partialFilterExpression",
    ];
    arguments.copy(&plain, &mut index);
    let mut command = doc! { "createIndexes": target.name()?, "indexes": [index] };
    arguments.copy(&["commitQuorum"], &mut command);
    run(command, target, (arguments, common)).await?;
    Ok(Yield::Value(name.into()))
}

pub(super) async fn drop_indexes(name: &str, target: &Target, given: Given) -> Op<Yield> {
    let (mut arguments, common) = given;
    let index = if name == "dropIndex" {
        arguments.text("name").required("name")?
    } else {
        "*".to_owned()
    };
    let command = doc! { "dropIndexes": target.name()?, "index": index };
    run(command, target, (arguments, common)).await
}

pub(super) async fn rename(target: &Target, given: Given) -> Op<Yield> {
    let (mut arguments, common) = given;
    let to = arguments.text("to").required("to")?;
    let mut command = doc! {
        "renameCollection": format!("{}.{}", target.database, target.name()?),
        "to": format!("{}.{to}", target.database),
    };
    arguments.copy(&["dropTarget"], &mut command);
    let mut admin = target.clone();
    "admin".clone_into(&mut admin.database);
    run(command, &admin, (arguments, common)).await
}
