//! Asking a deployment what it is.

use anyhow::{Context, Result};
use bson::{Document, RawDocument, rawdoc};
use mongo_client::Client;
use mongo_client::uri::ConnectionString;

use crate::unified::{Deployment, TopologyKind};

/// Asks the deployment that `uri` leads to for its kind, version and parameters.
///
/// # Errors
/// It cannot be reached, or does not answer as a server does.
pub fn probe(uri: &str) -> Result<Deployment> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    runtime.block_on(async {
        let client = Client::new(uri)?;
        let deployment = ask(&client, uri).await;
        client.shutdown().await;
        deployment
    })
}

async fn ask(client: &Client, uri: &str) -> Result<Deployment> {
    let parsed: ConnectionString = uri.parse()?;
    // A server before 4.4.2 knows the command by this name only.
    let hello = admin(client, &rawdoc! { "isMaster": 1 }).await?;
    let build = admin(client, &rawdoc! { "buildInfo": 1 }).await?;
    let topology = if parsed.options.load_balanced == Some(true) {
        TopologyKind::LoadBalanced
    } else if hello.get_str("msg").is_ok_and(|msg| msg == "isdbgrid") {
        TopologyKind::Sharded
    } else if hello.contains_key("setName") {
        TopologyKind::ReplicaSet
    } else {
        TopologyKind::Single
    };
    let version = build.get_str("version").context("buildInfo")?;
    Ok(Deployment {
        uri: uri.to_owned(),
        uri_single: None,
        uri_multiple: None,
        topology,
        server_version: version.parse()?,
        auth: parsed.credential.is_some(),
        server_parameters: admin(client, &rawdoc! { "getParameter": "*" }).await?,
    })
}

async fn admin(client: &Client, command: &RawDocument) -> Result<Document> {
    let reply = client.run_admin_command(command).await?;
    Ok(bson::deserialize_from_slice(
        reply.into_document().as_bytes(),
    )?)
}
