//! What databases, collections and indexes there are.

use bson::{Bson, Document, doc};

use super::call::{Call, CursorOptions, Kind, exhaust};
use super::{Given, documents_of};
use crate::unified::case::Yield;
use crate::unified::entities::Target;
use crate::unified::errors::Op;

pub(super) async fn databases(name: &str, target: &Target, given: Given) -> Op<Yield> {
    let (mut arguments, common) = given;
    let names = name == "listDatabaseNames";
    let mut command = doc! { "listDatabases": 1 };
    if names {
        command.insert("nameOnly", true);
    }
    arguments.copy(&["filter", "nameOnly", "authorizedDatabases"], &mut command);
    let call = Call::new((command, Kind::List), target, (arguments, common))?;
    let reply = call.run(target).await?;
    let found = reply.get_array("databases").cloned().unwrap_or_default();
    Ok(listed(found, names))
}

pub(super) async fn collections(name: &str, target: &Target, given: Given) -> Op<Yield> {
    let mut command = doc! { "listCollections": 1 };
    let names = name == "listCollectionNames";
    if names {
        command.insert("nameOnly", true);
    }
    cursor(command, target, (given, names)).await
}

pub(super) async fn indexes(name: &str, target: &Target, given: Given) -> Op<Yield> {
    let command = doc! { "listIndexes": target.name()? };
    cursor(command, target, (given, name == "listIndexNames")).await
}

async fn cursor(
    mut command: Document,
    target: &Target,
    ((mut arguments, common), names): (Given, bool),
) -> Op<Yield> {
    let options = CursorOptions::take(&mut arguments)?;
    let mut cursor = Document::new();
    if let Some(size) = options.batch_size {
        cursor.insert("batchSize", i64::from(size));
    }
    command.insert("cursor", cursor);
    arguments.copy(
        &["filter", "nameOnly", "authorizedCollections"],
        &mut command,
    );
    let call = Call::new((command, Kind::List), target, (arguments, common))?;
    match exhaust(call.cursor(target, options).await?).await? {
        Yield::Documents(found) => Ok(listed(found, names)),
        other => Ok(other),
    }
}

fn listed(found: Vec<Bson>, names: bool) -> Yield {
    if !names {
        return Yield::Documents(found);
    }
    let names = documents_of(&found).into_iter();
    let names = names.filter_map(|mut document| document.remove("name"));
    Yield::Value(names.collect::<Vec<_>>().into())
}
