//! The format's files as types; what the format does not know is refused while reading.
//!
//! The rules are those of the format's JSON schemas: every optional field is of the type it may
//! have or absent (`null` is not absent), and lists that must not be empty are not.

mod entity;
mod expectation;
mod kms;
mod operation;
mod value;

use serde::Deserialize;
use serde_json::Value;
use testbed::mongod::Version;

pub(super) use self::entity::{
    ClientEntity, Entity, EventName, LogComponent, LogLevel, LogLevels, ObjectOptions,
    ServerApiEntity, SessionEntity,
};
pub(super) use self::expectation::{
    ExpectedError, ExpectedEvent, ExpectedEvents, ExpectedLog, ExpectedLogs, ExpectedSpan,
    ExpectedSpans,
};
pub(super) use self::operation::{Expected, Operation};
use self::value::{AnyObject, NonEmptyDocument, present};
pub(super) use self::value::{EjsonDocument, NonEmpty, VersionText};

/// The newest version of the format that is understood; older ones of the same major version are.
pub(super) const NEWEST: Version = Version::new(1, 27, 0);

/// A whole file.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub(super) struct File {
    #[serde(rename = "description")]
    _description: String,
    #[serde(rename = "schemaVersion")]
    _schema_version: VersionText,
    #[serde(default, deserialize_with = "present")]
    pub(super) run_on_requirements: Option<NonEmpty<Requirement>>,
    #[serde(default, deserialize_with = "present")]
    pub(super) create_entities: Option<NonEmpty<Entity>>,
    #[serde(default, deserialize_with = "present")]
    pub(super) initial_data: Option<NonEmpty<CollectionData>>,
    pub(super) tests: NonEmpty<Test>,
    #[serde(default, rename = "_yamlAnchors")]
    _yaml_anchors: AnyObject,
}

/// One case.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub(super) struct Test {
    pub(super) description: String,
    #[serde(default, deserialize_with = "present")]
    pub(super) run_on_requirements: Option<NonEmpty<Requirement>>,
    #[serde(default, deserialize_with = "present")]
    pub(super) skip_reason: Option<String>,
    pub(super) operations: Vec<Operation>,
    #[serde(default, deserialize_with = "present")]
    pub(super) expect_events: Option<NonEmpty<ExpectedEvents>>,
    #[serde(default, deserialize_with = "present")]
    pub(super) expect_log_messages: Option<NonEmpty<ExpectedLogs>>,
    #[serde(default, deserialize_with = "present")]
    pub(super) expect_tracing_messages: Option<NonEmpty<ExpectedSpans>>,
    #[serde(default, deserialize_with = "present")]
    pub(super) outcome: Option<NonEmpty<CollectionData>>,
}

/// What a deployment must be for a case.
#[derive(Clone, Debug, Deserialize)]
#[serde(try_from = "Value")]
pub(super) struct Requirement(pub(super) RequirementFields);

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub(super) struct RequirementFields {
    #[serde(default, deserialize_with = "present")]
    pub(super) min_server_version: Option<VersionText>,
    #[serde(default, deserialize_with = "present")]
    pub(super) max_server_version: Option<VersionText>,
    #[serde(default, deserialize_with = "present")]
    pub(super) topologies: Option<NonEmpty<TopologyName>>,
    #[serde(default, deserialize_with = "present")]
    pub(super) serverless: Option<Serverless>,
    #[serde(default, deserialize_with = "present")]
    pub(super) server_parameters: Option<NonEmptyDocument>,
    #[serde(default, deserialize_with = "present")]
    pub(super) auth: Option<bool>,
    #[serde(default, deserialize_with = "present")]
    pub(super) auth_mechanism: Option<String>,
    #[serde(default, deserialize_with = "present")]
    pub(super) csfle: Option<Csfle>,
}

impl TryFrom<Value> for Requirement {
    type Error = String;

    fn try_from(value: Value) -> Result<Self, String> {
        value::not_empty_object(&value)?;
        serde_json::from_value(value)
            .map(Self)
            .map_err(|error| error.to_string())
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum TopologyName {
    Single,
    #[serde(rename = "replicaset")]
    ReplicaSet,
    Sharded,
    #[serde(rename = "sharded-replicaset")]
    ShardedReplicaSet,
    LoadBalanced,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Serverless {
    Require,
    Forbid,
    Allow,
}

/// Whether client-side encryption is needed.
#[derive(Clone, Debug, Deserialize)]
#[serde(untagged)]
pub(super) enum Csfle {
    Flag(bool),
    #[expect(dead_code, reason = "only its type matters")]
    Version(CsfleVersion),
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub(super) struct CsfleVersion {
    #[serde(rename = "minLibmongocryptVersion")]
    _min_libmongocrypt_version: VersionText,
}

/// What a collection holds, before or after.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub(super) struct CollectionData {
    pub(super) collection_name: String,
    pub(super) database_name: String,
    #[serde(default, deserialize_with = "present")]
    pub(super) create_options: Option<CreateOptions>,
    pub(super) documents: Vec<EjsonDocument>,
}

/// Options of `create`; a write concern is not the file's to choose.
#[derive(Clone, Debug, Deserialize)]
#[serde(try_from = "EjsonDocument")]
pub(super) struct CreateOptions(pub(super) bson::Document);

impl TryFrom<EjsonDocument> for CreateOptions {
    type Error = String;

    fn try_from(EjsonDocument(options): EjsonDocument) -> Result<Self, String> {
        if options.contains_key("writeConcern") {
            return Err("createOptions must not have a writeConcern".to_owned());
        }
        Ok(Self(options))
    }
}
