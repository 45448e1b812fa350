//! Who a deployment is, as far as it says so: what a checkpoint is compared with.

use std::time::Duration;

use bson::oid::ObjectId;
use bson::{RawDocument, rawdoc};
use mongo_change_stream::StreamIdentity;
use mongo_uri::{ReadPreference, ReadPreferenceMode};
use mongo_wire::CommandReply;
use tokio::time::Instant;

use crate::client::Client;
use crate::database::Database;
use crate::deadline::Deadline;
use crate::error::{Error, Result};

/// Fills in the deployment, before the deadline. A user who may not ask is no error: then the set's
/// name has to do.
///
/// # Errors
/// Whatever prevents an answer.
pub(super) async fn identify(
    client: &Client,
    identity: &mut StreamIdentity,
    deadline: Deadline,
) -> Result<()> {
    let admin = client.database("admin");
    let hello = match ask(&admin, &rawdoc! { "hello": 1 }, deadline).await {
        // Servers before 4.4.2 have another name for it.
        Err(Error::Server { .. }) => ask(&admin, &rawdoc! { "isMaster": 1 }, deadline).await?,
        reply => reply?,
    };
    let hello = hello.document().as_raw();
    identity.replica_set = hello.get_str("setName").ok().map(str::to_owned);
    // However it was reached, directly or by a load balancer: it knows what it is.
    let is_sharded = hello.get_str("msg").is_ok_and(|text| text == "isdbgrid");
    let (database, command) = if is_sharded {
        let find = rawdoc! { "find": "version", "limit": 1, "singleBatch": true };
        (client.database("config"), find)
    } else {
        (admin, rawdoc! { "replSetGetConfig": 1 })
    };
    match ask(&database, &command, deadline).await {
        Ok(reply) => {
            let id = id_in(reply.document().as_raw(), is_sharded);
            identity.deployment = id.map(|id| id.to_hex());
        }
        Err(Error::Server { .. }) => {}
        Err(error) => return Err(error),
    }
    Ok(())
}

async fn ask(
    database: &Database,
    command: &RawDocument,
    deadline: Deadline,
) -> Result<CommandReply> {
    let nearest = ReadPreference::from(ReadPreferenceMode::PrimaryPreferred);
    let asking = database.run_command(command).read_preference(nearest);
    match deadline {
        Deadline::Unset => asking.await,
        Deadline::Never => asking.timeout(Duration::ZERO).await,
        Deadline::At { until, limit } => {
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Err(Error::late(limit));
            }
            asking.timeout(left).await
        }
    }
}

fn id_in(reply: &RawDocument, is_sharded: bool) -> Option<ObjectId> {
    if is_sharded {
        let batch = reply
            .get_document("cursor")
            .ok()?
            .get_array("firstBatch")
            .ok()?;
        let version = batch.into_iter().next()?.ok()?.as_document()?;
        return version.get_object_id("clusterId").ok();
    }
    let settings = reply
        .get_document("config")
        .ok()?
        .get_document("settings")
        .ok()?;
    settings.get_object_id("replicaSetId").ok()
}
