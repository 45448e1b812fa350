//! What `createEntities` holds.

use std::collections::BTreeMap;

use bson::Document;
use serde::Deserialize;

use super::kms::KmsProviders;
use super::value::{AnyObject, EjsonDocument, NonEmpty, present};

/// A thing with a name that operations work on.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(in crate::unified) enum Entity {
    Client(Box<ClientEntity>),
    #[expect(dead_code, reason = "only its type matters")]
    ClientEncryption(ClientEncryptionEntity),
    Database(DatabaseEntity),
    Collection(CollectionEntity),
    Session(SessionEntity),
    Bucket(BucketEntity),
    Thread(ThreadEntity),
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub(in crate::unified) struct ClientEntity {
    pub(in crate::unified) id: String,
    #[serde(default)]
    pub(in crate::unified) uri_options: EjsonDocument,
    #[serde(default, deserialize_with = "present")]
    pub(in crate::unified) use_multiple_mongoses: Option<bool>,
    #[serde(default, deserialize_with = "present")]
    pub(in crate::unified) observe_events: Option<NonEmpty<EventName>>,
    #[serde(default, deserialize_with = "present")]
    pub(in crate::unified) ignore_command_monitoring_events: Option<NonEmpty<String>>,
    #[serde(default)]
    pub(in crate::unified) observe_sensitive_commands: bool,
    #[serde(default, deserialize_with = "present")]
    pub(in crate::unified) observe_log_messages: Option<LogLevels>,
    #[serde(default, deserialize_with = "present")]
    pub(in crate::unified) observe_tracing_messages: Option<ObservedTracing>,
    #[serde(default, deserialize_with = "present")]
    pub(in crate::unified) server_api: Option<ServerApiEntity>,
    #[serde(default, deserialize_with = "present")]
    pub(in crate::unified) auto_encrypt_opts: Option<AutoEncryptOptions>,
    #[serde(default, rename = "awaitMinPoolSizeMS", deserialize_with = "present")]
    pub(in crate::unified) await_min_pool_size_ms: Option<u64>,
    #[serde(default, deserialize_with = "present")]
    pub(in crate::unified) store_events_as_entities: Option<NonEmpty<StoredEvents>>,
}

/// The kinds of events that a client may be asked to keep.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
#[expect(clippy::enum_variant_names, reason = "they are the format's names")]
pub(in crate::unified) enum EventName {
    CommandStartedEvent,
    CommandSucceededEvent,
    CommandFailedEvent,
    PoolCreatedEvent,
    PoolReadyEvent,
    PoolClearedEvent,
    PoolClosedEvent,
    ConnectionCreatedEvent,
    ConnectionReadyEvent,
    ConnectionClosedEvent,
    ConnectionCheckOutStartedEvent,
    ConnectionCheckOutFailedEvent,
    ConnectionCheckedOutEvent,
    ConnectionCheckedInEvent,
    ServerDescriptionChangedEvent,
    ServerHeartbeatStartedEvent,
    ServerHeartbeatSucceededEvent,
    ServerHeartbeatFailedEvent,
    TopologyDescriptionChangedEvent,
    TopologyOpeningEvent,
    TopologyClosedEvent,
}

/// Events that are to be found as an entity in the end.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(in crate::unified) struct StoredEvents {
    pub(in crate::unified) id: String,
    pub(in crate::unified) events: NonEmpty<StoredEventName>,
}

/// An event's name, whose first letter is a capital one here.
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(try_from = "String")]
pub(in crate::unified) struct StoredEventName(pub(in crate::unified) EventName);

impl TryFrom<String> for StoredEventName {
    type Error = String;

    fn try_from(name: String) -> Result<Self, String> {
        let mut letters = name.chars();
        let first = letters.next().filter(char::is_ascii_uppercase);
        let first = first.ok_or_else(|| format!("unknown event {name:?}"))?;
        let small = format!("{}{}", first.to_ascii_lowercase(), letters.as_str());
        EventName::parse(&small).map(Self)
    }
}

impl EventName {
    /// Reads the format's name.
    pub(in crate::unified) fn parse(name: &str) -> Result<Self, String> {
        serde_json::from_value(name.into()).map_err(|_| format!("unknown event {name:?}"))
    }
}

/// The lowest level of messages that are kept, for each component.
#[derive(Clone, Debug, Deserialize)]
#[serde(try_from = "BTreeMap<LogComponent, LogLevel>")]
pub(in crate::unified) struct LogLevels(pub(in crate::unified) BTreeMap<LogComponent, LogLevel>);

impl TryFrom<BTreeMap<LogComponent, LogLevel>> for LogLevels {
    type Error = &'static str;

    fn try_from(levels: BTreeMap<LogComponent, LogLevel>) -> Result<Self, Self::Error> {
        if levels.is_empty() {
            return Err("at least one component is expected");
        }
        Ok(Self(levels))
    }
}

/// What a log message is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(in crate::unified) enum LogComponent {
    Command,
    Topology,
    ServerSelection,
    Connection,
}

/// How grave a log message is; the gravest first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(in crate::unified) enum LogLevel {
    Emergency,
    Alert,
    Critical,
    Error,
    Warning,
    Notice,
    Info,
    Debug,
    Trace,
}

/// What spans are to tell.
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub(in crate::unified) struct ObservedTracing {
    /// Whether they hold the text of commands.
    #[serde(default)]
    pub(in crate::unified) enable_command_payload: bool,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub(in crate::unified) struct ServerApiEntity {
    pub(in crate::unified) version: String,
    #[serde(default, deserialize_with = "present")]
    pub(in crate::unified) strict: Option<bool>,
    #[serde(default, deserialize_with = "present")]
    pub(in crate::unified) deprecation_errors: Option<bool>,
}

/// Client-side encryption, which is read so that malformed files are refused, and never used.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
#[expect(dead_code, reason = "only their types matter")]
pub(in crate::unified) struct AutoEncryptOptions {
    key_vault_namespace: String,
    kms_providers: KmsProviders,
    #[serde(default)]
    bypass_auto_encryption: bool,
    #[serde(default)]
    schema_map: BTreeMap<String, AnyObject>,
    #[serde(default)]
    extra_options: AnyObject,
    #[serde(default)]
    encrypted_fields_map: BTreeMap<String, AnyObject>,
    #[serde(default)]
    bypass_query_analysis: bool,
    #[serde(default, rename = "keyExpirationMS")]
    key_expiration_ms: i64,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
#[expect(dead_code, reason = "only their types matter")]
pub(in crate::unified) struct ClientEncryptionEntity {
    id: String,
    client_encryption_opts: ClientEncryptionOptions,
}

/// See [`AutoEncryptOptions`].
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
#[expect(dead_code, reason = "only their types matter")]
pub(in crate::unified) struct ClientEncryptionOptions {
    key_vault_client: String,
    key_vault_namespace: String,
    kms_providers: KmsProviders,
    #[serde(default, rename = "keyExpirationMS")]
    key_expiration_ms: i64,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub(in crate::unified) struct DatabaseEntity {
    pub(in crate::unified) id: String,
    pub(in crate::unified) client: String,
    pub(in crate::unified) database_name: String,
    #[serde(default, rename = "databaseOptions")]
    pub(in crate::unified) options: ObjectOptions,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub(in crate::unified) struct CollectionEntity {
    pub(in crate::unified) id: String,
    pub(in crate::unified) database: String,
    pub(in crate::unified) collection_name: String,
    #[serde(default, rename = "collectionOptions")]
    pub(in crate::unified) options: ObjectOptions,
}

/// What a database or a collection prescribes to the operations on it.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub(in crate::unified) struct ObjectOptions {
    #[serde(default, deserialize_with = "present")]
    pub(in crate::unified) read_concern: Option<EjsonDocument>,
    #[serde(default, deserialize_with = "present")]
    pub(in crate::unified) read_preference: Option<EjsonDocument>,
    #[serde(default, deserialize_with = "present")]
    pub(in crate::unified) write_concern: Option<EjsonDocument>,
    #[serde(default, rename = "timeoutMS", deserialize_with = "present")]
    pub(in crate::unified) timeout_ms: Option<i64>,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub(in crate::unified) struct SessionEntity {
    pub(in crate::unified) id: String,
    pub(in crate::unified) client: String,
    #[serde(default)]
    pub(in crate::unified) session_options: EjsonDocument,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub(in crate::unified) struct BucketEntity {
    pub(in crate::unified) id: String,
    pub(in crate::unified) database: String,
    #[serde(default, rename = "bucketOptions")]
    pub(in crate::unified) options: EjsonDocument,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub(in crate::unified) struct ThreadEntity {
    pub(in crate::unified) id: String,
}

impl SessionEntity {
    /// The options, as a document whose keys are taken out one after the other.
    pub(in crate::unified) fn options(&self) -> Document {
        self.session_options.0.clone()
    }
}
