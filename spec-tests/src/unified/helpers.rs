//! The operations on entities. Those that are not this stack's business are made of
//! `run_command` and `run_cursor_command` here, and are no part of the product.

mod bulk;
mod call;
mod gridfs;
mod iterable;
mod list;
mod read;
mod schema;
mod session;
mod stream;
mod write;

use std::sync::Arc;
use std::time::Duration;

use bson::{Bson, Document};
use mongo_client::{ClientSession, DriverInfo};

pub(super) use self::gridfs::perform as bucket;
pub(super) use self::iterable::perform as iterable;
pub(super) use self::session::perform as session;
use super::arguments::{Arguments, Required};
use super::case::{Yield, unsupported};
use super::client::CaseClient;
use super::entities::{Entities, Target};
use super::errors::Op;
use super::stop::Run;

/// What every operation that sends commands may be given.
#[derive(Clone, Debug)]
pub(super) struct Common {
    session: Option<ClientSession>,
    timeout: Option<Duration>,
}

/// What is left of an operation's arguments, and what was taken from them.
pub(super) type Given = (Arguments, Common);

impl Common {
    pub(super) fn take(mut arguments: Arguments, entities: &Entities) -> Run<Given> {
        let session = arguments.text("session")?;
        let session = session.map(|name| entities.session(&name)).transpose()?;
        let timeout = arguments.millis("timeoutMS")?;
        Ok((arguments, Self { session, timeout }))
    }
}

/// An operation on a client.
pub(super) async fn client(
    name: &str,
    client: Arc<CaseClient>,
    (arguments, entities): (Arguments, &Entities),
) -> Op<Yield> {
    match name {
        "close" => {
            arguments.finish()?;
            client.client.shutdown().await;
            return Ok(Yield::Nothing);
        }
        "appendMetadata" => return append_metadata(&client, arguments),
        _ => {}
    }
    let (mut arguments, common) = Common::take(arguments, entities)?;
    let admin = Target::database(Arc::clone(&client), "admin");
    match name {
        "createChangeStream" => {
            let watch = client.client.watch();
            stream::open(watch, &admin, (arguments, common)).await
        }
        "listDatabases" | "listDatabaseObjects" | "listDatabaseNames" => {
            list::databases(name, &admin, (arguments, common)).await
        }
        "dropDatabase" => {
            let database = arguments.text("database").required("database")?;
            let target = Target::database(client, &database);
            schema::run(
                bson::doc! { "dropDatabase": 1 },
                &target,
                (arguments, common),
            )
            .await
        }
        other => Err(unsupported(other, "a client").into()),
    }
}

fn append_metadata(client: &CaseClient, mut arguments: Arguments) -> Op<Yield> {
    let info = arguments.document("driverInfoOptions");
    let mut info = Arguments::new(info.required("driverInfoOptions")?);
    arguments.finish()?;
    let library = DriverInfo {
        name: info.text("name").required("name")?,
        version: info.text("version")?,
        platform: info.text("platform")?,
    };
    info.finish()?;
    client.client.append_metadata(library)?;
    Ok(Yield::Nothing)
}

/// An operation on a database.
pub(super) async fn database(name: &str, target: Target, given: Given) -> Op<Yield> {
    match name {
        "createChangeStream" => stream::open(target.handle().watch(), &target, given).await,
        "runCommand" => read::run_command(&target, given).await,
        "runCursorCommand" => read::run_cursor_command(&target, given).await,
        "createCommandCursor" => read::create_command_cursor(&target, given).await,
        "aggregate" => read::aggregate(&target, given).await,
        "listCollections" | "listCollectionObjects" | "listCollectionNames" => {
            list::collections(name, &target, given).await
        }
        "createCollection" => schema::create_collection(&target, given).await,
        "dropCollection" => schema::drop_collection(&target, given).await,
        "modifyCollection" => schema::modify_collection(&target, given).await,
        other => Err(unsupported(other, "a database").into()),
    }
}

/// An operation on a collection.
pub(super) async fn collection(name: &str, target: Target, given: Given) -> Op<Yield> {
    match name {
        "createChangeStream" => {
            let collection = target.handle().collection(target.name()?);
            stream::open(collection.watch(), &target, given).await
        }
        "find" => read::find(&target, given).await,
        "findOne" => read::find_one(&target, given).await,
        "createFindCursor" => read::create_find_cursor(&target, given).await,
        "aggregate" => read::aggregate(&target, given).await,
        "count" => read::count(&target, given).await,
        "estimatedDocumentCount" => read::estimated_document_count(&target, given).await,
        "countDocuments" => read::count_documents(&target, given).await,
        "distinct" => read::distinct(&target, given).await,
        "mapReduce" => read::map_reduce(&target, given).await,
        "listIndexes" | "listIndexNames" => list::indexes(name, &target, given).await,
        "insertOne" => write::insert_one(&target, given).await,
        "insertMany" => write::insert_many(&target, given).await,
        "updateOne" | "updateMany" | "replaceOne" => write::update(name, &target, given).await,
        "deleteOne" | "deleteMany" => write::delete(name, &target, given).await,
        "findOneAndDelete" | "findOneAndReplace" | "findOneAndUpdate" => {
            write::find_one_and(name, &target, given).await
        }
        "bulkWrite" => bulk::write(&target, given).await,
        "createIndex" => schema::create_index(&target, given).await,
        "dropIndex" | "dropIndexes" => schema::drop_indexes(name, &target, given).await,
        "rename" => schema::rename(&target, given).await,
        other => Err(unsupported(other, "a collection").into()),
    }
}

/// The documents of a list that is a value.
fn documents_of(list: &[Bson]) -> Vec<Document> {
    let documents = list.iter().filter_map(Bson::as_document);
    documents.cloned().collect()
}
