//! Who a deployment is, as far as it says so: what a checkpoint is compared with.

use bson::oid::ObjectId;
use bson::{RawDocument, rawdoc};
use mongo_change_stream::StreamIdentity;
use mongo_topology::TopologyType;
use mongo_uri::{ReadPreference, ReadPreferenceMode};

use crate::client::Client;
use crate::error::{Error, Result};

/// Fills in the deployment. A user who may not ask is no error: then the set's name has to do.
///
/// # Errors
/// Whatever prevents an answer.
pub(super) async fn identify(client: &Client, identity: &mut StreamIdentity) -> Result<()> {
    let nearest = ReadPreference::from(ReadPreferenceMode::PrimaryPreferred);
    let admin = client.database("admin");
    // Who it is, is known by then at the latest.
    let hello = rawdoc! { "hello": 1 };
    let legacy = rawdoc! { "isMaster": 1 };
    let hello = match admin
        .run_command(&hello)
        .read_preference(nearest.clone())
        .await
    {
        // Servers before 4.4.2 have another name for it.
        Err(Error::Server { .. }) => {
            admin
                .run_command(&legacy)
                .read_preference(nearest.clone())
                .await?
        }
        reply => reply?,
    };
    let name = hello.document().as_raw().get_str("setName");
    identity.replica_set = name.ok().map(str::to_owned);
    let is_sharded = client.topology().topology_type == TopologyType::Sharded;
    let (database, command) = if is_sharded {
        let find = rawdoc! { "find": "version", "limit": 1, "singleBatch": true };
        (client.database("config"), find)
    } else {
        (admin, rawdoc! { "replSetGetConfig": 1 })
    };
    match database
        .run_command(&command)
        .read_preference(nearest.clone())
        .await
    {
        Ok(reply) => {
            let id = id_in(reply.document().as_raw(), is_sharded);
            identity.deployment = id.map(|id| id.to_hex());
        }
        Err(Error::Server { .. }) => {}
        Err(error) => return Err(error),
    }
    Ok(())
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
