//! The runner's own clients: initial data, outcomes, fail points.

use bson::{Bson, Document, doc};
use mongo_client::uri::ServerAddress;
use mongo_client::{Client, Error};

use super::arguments::raw;
use super::deployment::Deployment;
use super::events::document;
use super::matching::sorted_document;
use super::schema::CollectionData;
use super::stop::{Problem, Run, Stop, diff};
use super::uri::Uri;

/// The code that says that there is nothing to drop.
const NAMESPACE_NOT_FOUND: i32 = 26;

/// A client that a case does not see.
#[derive(Debug)]
pub(super) struct Internal(Client);

impl Internal {
    pub(super) fn connect(deployment: &Deployment) -> Run<Self> {
        let uri = deployment.uri_single.as_ref().unwrap_or(&deployment.uri);
        Self::open(uri)
    }

    fn open(uri: &str) -> Run<Self> {
        let client = Client::new(uri);
        client
            .map(Self)
            .map_err(|error| Stop::fail(error.to_string()))
    }

    async fn run(&self, database: &str, command: &Document) -> Run<Document> {
        self.try_run(database, command)
            .await?
            .map_err(|error| Stop::fail(format!("{command} on {database} failed: {error}")))
    }

    async fn try_run(&self, database: &str, command: &Document) -> Run<Result<Document, Error>> {
        let raw = raw(command)?;
        let reply = self.0.database(database).run_command(&raw).await;
        Ok(reply.map(|reply| document(reply.document().as_raw())))
    }

    /// Switches a fail point off on the server where it was set.
    pub(super) async fn disable(
        deployment: &Deployment,
        server: &ServerAddress,
        name: &str,
    ) -> Run {
        let uri = Uri::parse(&deployment.uri)?.direct(&server.to_string());
        let direct = Self::open(&uri.to_string())?;
        let command = doc! { "configureFailPoint": name, "mode": "off" };
        direct.run("admin", &command).await?;
        direct.0.shutdown().await;
        Ok(())
    }

    /// Makes a collection hold exactly these documents.
    pub(super) async fn fill(&self, data: &CollectionData) -> Run {
        let (database, name) = (data.database_name.as_str(), data.collection_name.as_str());
        let majority = doc! { "w": "majority" };
        let drop = doc! { "drop": name, "writeConcern": majority.clone() };
        match self.try_run(database, &drop).await? {
            Err(error) if error.code() != Some(NAMESPACE_NOT_FOUND) => {
                return Err(Stop::fail(format!("{drop} failed: {error}")));
            }
            _ => {}
        }
        let options = data
            .create_options
            .as_ref()
            .map(|options| options.0.clone());
        if options.is_some() || data.documents.is_empty() {
            let mut create = doc! { "create": name, "writeConcern": majority.clone() };
            create.extend(options.unwrap_or_default());
            self.run(database, &create).await?;
        }
        if data.documents.is_empty() {
            return Ok(());
        }
        let documents: Vec<_> = data.documents.iter().map(|d| d.0.clone()).collect();
        let insert = doc! { "insert": name, "documents": documents, "writeConcern": majority };
        let reply = self.run(database, &insert).await?;
        match reply.get("writeErrors") {
            Some(errors) => Err(Stop::fail(format!("initial data: {errors}"))),
            None => Ok(()),
        }
    }

    /// Compares what a collection holds with what it is to hold.
    pub(super) async fn check(&self, data: &CollectionData) -> Run {
        let find = doc! {
            "find": data.collection_name.as_str(),
            "filter": {},
            "sort": { "_id": 1 },
            "readConcern": { "level": "local" },
            "batchSize": i32::MAX,
        };
        let reply = self.run(&data.database_name, &find).await?;
        let batch = reply
            .get_document("cursor")
            .and_then(|cursor| cursor.get_array("firstBatch"));
        let batch = batch.map_err(|error| Stop::fail(format!("{reply}: {error}")))?;
        let actual: Vec<Bson> = batch
            .iter()
            .map(|document| document.as_document().map(sorted_document).into())
            .collect();
        let expected: Vec<Bson> = data
            .documents
            .iter()
            .map(|document| sorted_document(&document.0).into())
            .collect();
        if expected == actual {
            return Ok(());
        }
        let namespace = format!("{}.{}", data.database_name, data.collection_name);
        Err(Stop::Fail(Problem {
            message: format!("outcome: {namespace} does not hold what is expected"),
            diff: Some(diff(&expected.into(), Some(&actual.into()))),
        }))
    }

    pub(super) async fn has_collection(&self, database: &str, name: &str) -> Run<bool> {
        let command = doc! { "listCollections": 1, "filter": { "name": name }, "nameOnly": true };
        let reply = self.run(database, &command).await?;
        let batch = reply
            .get_document("cursor")
            .and_then(|cursor| cursor.get_array("firstBatch"));
        Ok(batch.is_ok_and(|batch| !batch.is_empty()))
    }

    pub(super) async fn has_index(&self, (database, name): (&str, &str), index: &str) -> Run<bool> {
        let command = doc! { "listIndexes": name, "cursor": { "batchSize": i32::MAX } };
        let reply = match self.try_run(database, &command).await? {
            Ok(reply) => reply,
            Err(error) if error.code() == Some(NAMESPACE_NOT_FOUND) => return Ok(false),
            Err(error) => return Err(Stop::fail(format!("{command} failed: {error}"))),
        };
        let batch = reply
            .get_document("cursor")
            .and_then(|cursor| cursor.get_array("firstBatch"));
        let mut indexes = batch.into_iter().flatten().filter_map(Bson::as_document);
        Ok(indexes.any(|found| found.get_str("name").is_ok_and(|name| name == index)))
    }

    pub(super) async fn close(self) {
        self.0.shutdown().await;
    }
}
