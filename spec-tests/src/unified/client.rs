//! A client entity: a real client, and what the case observes of it.

use std::sync::Arc;
use std::time::Duration;

use bson::Document;
use mongo_client::uri::{ConnectionString, ServerAddress};
use mongo_client::{Client, ClientOptions, ServerApi, ServerApiVersion, TracingOptions};

use super::deployment::{Deployment, ExtraOptions, TopologyKind};
use super::events::{EventLog, document};
use super::logs::{ClientLogs, Logs};
use super::schema::{ClientEntity, EventName, LogLevels, ServerApiEntity};
use super::stop::{Run, Stop};
use super::uri::Uri;

/// `heartbeatFrequencyMS` where fail points make servers look dead: as short as it may be.
const SHORT_HEARTBEAT: &str = "500";

/// How much is logged of a document: all, for only the whole can be compared.
const LOGGED: usize = 1_000_000;

/// A client of the case.
#[derive(Debug)]
pub(super) struct CaseClient {
    pub(super) client: Client,
    pub(super) events: Arc<EventLog>,
    pub(super) logs: ClientLogs,
    pub(super) log_levels: Option<LogLevels>,
    pub(super) is_traced: bool,
    /// The write concern of its connection string, as commands carry it.
    pub(super) write_concern: Option<Document>,
    /// `timeoutMS` of its connection string.
    pub(super) timeout: Option<Duration>,
    pub(super) stored_events: Vec<(String, Vec<EventName>)>,
}

/// What every client of a case is made with.
#[derive(Clone, Copy, Debug)]
pub(super) struct Surroundings<'a> {
    pub(super) deployment: &'a Deployment,
    pub(super) extra: &'a ExtraOptions,
    pub(super) logs: &'a Logs,
    pub(super) uses_fail_points: bool,
}

impl CaseClient {
    /// Makes the client, and waits for full pools if the entity says so.
    pub(super) async fn create(entity: &ClientEntity, around: Surroundings<'_>) -> Run<Self> {
        let text = connection_string(entity, around)?.to_string();
        let uri = ConnectionString::parse(&text);
        let uri = uri.map_err(|error| Stop::fail(format!("{text}: {error}")))?;
        let timeout = uri.options.timeout;
        let write_concern = uri.options.write_concern.as_ref();
        let write_concern = write_concern.map(|concern| document(&concern.to_document()));
        let pool_size =
            usize::try_from(uri.options.pool.min_size.unwrap_or(0)).unwrap_or(usize::MAX);
        let events = EventLog::new(entity);
        let awaited = entity.await_min_pool_size_ms.filter(|_| pool_size > 0);
        if awaited.is_none() {
            events.keep();
        }
        let listener = events.listener();
        let mut options = ClientOptions::from(uri)
            .max_log_document_length(LOGGED)
            .tracing(tracing(entity));
        options = match &around.extra.wrapper {
            None => options.on_event(listener),
            Some(wrapper) => {
                let wrapper = Arc::clone(wrapper);
                options.on_event(move |event| wrapper.event(event, &listener))
            }
        };
        if let Some(api) = &entity.server_api {
            options = options.server_api(server_api(api)?);
        }
        let mut start = around.logs.len();
        let client = Client::with_options(options)
            .map_err(|error| Stop::fail(format!("{}: {error}", entity.id)))?;
        if let Some(limit) = awaited {
            let limit = Duration::from_millis(limit);
            let servers = || data_bearing(&client);
            events.wait_for_pools(servers, pool_size, limit).await?;
            events.keep();
            start = around.logs.len();
        }
        let topology = i64::try_from(client.topology_id()).unwrap_or(i64::MAX);
        let stored = entity.store_events_as_entities.as_deref();
        let stored = stored.unwrap_or_default().iter().map(|stored| {
            let names = stored.events.iter().map(|name| name.0).collect();
            (stored.id.clone(), names)
        });
        Ok(Self {
            client,
            events,
            logs: ClientLogs { topology, start },
            log_levels: entity.observe_log_messages.clone(),
            is_traced: entity.observe_tracing_messages.is_some(),
            write_concern: write_concern.filter(|concern| !concern.is_empty()),
            timeout,
            stored_events: stored.collect(),
        })
    }
}

fn data_bearing(client: &Client) -> Vec<ServerAddress> {
    let topology = client.topology();
    let servers = topology.servers.iter();
    let data_bearing = servers.filter(|server| server.server_type().is_data_bearing());
    data_bearing
        .map(|server| server.address().clone())
        .collect()
}

fn connection_string(entity: &ClientEntity, around: Surroundings<'_>) -> Run<Uri> {
    let deployment = around.deployment;
    let several = matches!(
        deployment.topology,
        TopologyKind::Sharded | TopologyKind::LoadBalanced
    );
    let text = match entity.use_multiple_mongoses {
        Some(true) if several => deployment
            .uri_multiple
            .as_ref()
            .ok_or_else(|| Stop::skip("needs several mongos servers"))?,
        Some(false) if several => deployment.uri_single.as_ref().unwrap_or(&deployment.uri),
        None if deployment.topology == TopologyKind::LoadBalanced => {
            deployment.uri_multiple.as_ref().unwrap_or(&deployment.uri)
        }
        _ => &deployment.uri,
    };
    let mut uri = Uri::parse(text)?;
    for (name, value) in &around.extra.uri_options {
        uri.set(name, value);
    }
    uri.apply(&entity.uri_options.0)?;
    if around.uses_fail_points && !uri.has("heartbeatFrequencyMS") {
        uri.set("heartbeatFrequencyMS", SHORT_HEARTBEAT);
    }
    Ok(uri)
}

/// Spans only where they are asked for, whatever the environment says.
fn tracing(entity: &ClientEntity) -> TracingOptions {
    let observed = entity.observe_tracing_messages;
    let has_text = observed.is_some_and(|observed| observed.enable_command_payload);
    let mut tracing = TracingOptions::default();
    tracing.enabled = Some(observed.is_some());
    tracing.query_text_max_length = Some(if has_text { LOGGED } else { 0 });
    tracing
}

fn server_api(entity: &ServerApiEntity) -> Run<ServerApi> {
    if entity.version != ServerApiVersion::V1.as_str() {
        return Err(Stop::fail(format!(
            "the server API version {:?} is unknown",
            entity.version
        )));
    }
    let mut api = ServerApi::new(ServerApiVersion::V1);
    api.strict = entity.strict;
    api.deprecation_errors = entity.deprecation_errors;
    Ok(api)
}
