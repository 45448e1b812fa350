//! What a case expects: errors, events, log messages and spans.

use bson::{Bson, Document};
use serde::Deserialize;
use serde_json::Value;

use super::entity::{EventName, LogComponent, LogLevel};
use super::value::{Ejson, EjsonDocument, NonEmpty, not_empty_object, present};

/// What an error must be like; at least one thing is said of it.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(try_from = "Value")]
pub(in crate::unified) struct ExpectedError {
    pub(in crate::unified) is_client_error: Option<bool>,
    pub(in crate::unified) is_timeout_error: Option<bool>,
    pub(in crate::unified) contains: Option<String>,
    pub(in crate::unified) code: Option<i64>,
    pub(in crate::unified) code_name: Option<String>,
    pub(in crate::unified) labels: Vec<String>,
    pub(in crate::unified) labels_omitted: Vec<String>,
    pub(in crate::unified) response: Option<Document>,
    pub(in crate::unified) result: Option<Bson>,
    /// `writeErrors` or `writeConcernErrors`, which only client bulk writes can have.
    pub(in crate::unified) is_of_client_bulk_write: bool,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct ErrorFields {
    #[serde(default, deserialize_with = "present")]
    is_error: Option<bool>,
    #[serde(default, deserialize_with = "present")]
    is_client_error: Option<bool>,
    #[serde(default, deserialize_with = "present")]
    is_timeout_error: Option<bool>,
    #[serde(default, deserialize_with = "present")]
    error_contains: Option<String>,
    #[serde(default, deserialize_with = "present")]
    error_code: Option<i64>,
    #[serde(default, deserialize_with = "present")]
    error_code_name: Option<String>,
    #[serde(default, deserialize_with = "present")]
    error_labels_contain: Option<NonEmpty<String>>,
    #[serde(default, deserialize_with = "present")]
    error_labels_omit: Option<NonEmpty<String>>,
    #[serde(default, deserialize_with = "present")]
    write_errors: Option<EjsonDocument>,
    #[serde(default, deserialize_with = "present")]
    write_concern_errors: Option<Vec<EjsonDocument>>,
    #[serde(default, deserialize_with = "present")]
    error_response: Option<EjsonDocument>,
    #[serde(default, deserialize_with = "present")]
    expect_result: Option<Ejson>,
}

impl TryFrom<Value> for ExpectedError {
    type Error = String;

    fn try_from(value: Value) -> Result<Self, String> {
        not_empty_object(&value)?;
        let fields: ErrorFields =
            serde_json::from_value(value).map_err(|error| error.to_string())?;
        if fields.is_error == Some(false) {
            return Err("isError cannot be false".to_owned());
        }
        let list = |labels: Option<NonEmpty<String>>| labels.map_or(Vec::new(), |l| l.to_vec());
        Ok(Self {
            is_client_error: fields.is_client_error,
            is_timeout_error: fields.is_timeout_error,
            contains: fields.error_contains,
            code: fields.error_code,
            code_name: fields.error_code_name,
            labels: list(fields.error_labels_contain),
            labels_omitted: list(fields.error_labels_omit),
            response: fields.error_response.map(|response| response.0),
            result: fields.expect_result.map(|result| result.0),
            is_of_client_bulk_write: fields.write_errors.is_some()
                || fields.write_concern_errors.is_some(),
        })
    }
}

/// The sequence of events that a client is to publish.
#[derive(Clone, Debug, Deserialize)]
#[serde(try_from = "EventsFields")]
pub(in crate::unified) struct ExpectedEvents {
    pub(in crate::unified) client: String,
    pub(in crate::unified) event_type: EventType,
    pub(in crate::unified) events: Vec<ExpectedEvent>,
    pub(in crate::unified) ignore_extra: bool,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct EventsFields {
    client: String,
    #[serde(default)]
    event_type: EventType,
    events: Vec<ExpectedEvent>,
    #[serde(default)]
    ignore_extra_events: bool,
}

impl TryFrom<EventsFields> for ExpectedEvents {
    type Error = String;

    fn try_from(fields: EventsFields) -> Result<Self, String> {
        let wanted = fields.event_type;
        if let Some(other) = fields
            .events
            .iter()
            .find(|event| event.name.kind() != wanted)
        {
            return Err(format!("{:?} is no event of type {wanted:?}", other.name));
        }
        Ok(Self {
            client: fields.client,
            event_type: wanted,
            events: fields.events,
            ignore_extra: fields.ignore_extra_events,
        })
    }
}

/// Which specification an event belongs to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(in crate::unified) enum EventType {
    #[default]
    Command,
    Cmap,
    Sdam,
}

impl EventName {
    pub(in crate::unified) fn kind(self) -> EventType {
        match self {
            Self::CommandStartedEvent | Self::CommandSucceededEvent | Self::CommandFailedEvent => {
                EventType::Command
            }
            Self::ServerDescriptionChangedEvent
            | Self::ServerHeartbeatStartedEvent
            | Self::ServerHeartbeatSucceededEvent
            | Self::ServerHeartbeatFailedEvent
            | Self::TopologyDescriptionChangedEvent
            | Self::TopologyOpeningEvent
            | Self::TopologyClosedEvent => EventType::Sdam,
            _ => EventType::Cmap,
        }
    }
}

/// One event: its name and what is said of its fields.
#[derive(Clone, Debug, Deserialize)]
#[serde(try_from = "Value")]
pub(in crate::unified) struct ExpectedEvent {
    pub(in crate::unified) name: EventName,
    /// The fields that are compared, under their names in events: those that the format writes
    /// as `has...` are not among them.
    pub(in crate::unified) fields: Document,
    pub(in crate::unified) has_service_id: Option<bool>,
    pub(in crate::unified) has_server_connection_id: Option<bool>,
}

/// What a field of an event may be.
#[derive(Clone, Copy)]
enum FieldType {
    Text,
    Flag,
    Document,
    Server,
    Topology,
}

const SERVER_TYPES: &[&str] = &[
    "Standalone",
    "Mongos",
    "PossiblePrimary",
    "RSPrimary",
    "RSSecondary",
    "RSOther",
    "RSArbiter",
    "RSGhost",
    "LoadBalancer",
    "Unknown",
];

const TOPOLOGY_TYPES: &[&str] = &[
    "Single",
    "Unknown",
    "ReplicaSetNoPrimary",
    "ReplicaSetWithPrimary",
    "Sharded",
    "LoadBalanced",
];

/// The fields that something may be said of.
fn fields_of(name: EventName) -> &'static [(&'static str, FieldType)] {
    use FieldType::{Document, Flag, Server, Text, Topology};
    match name {
        EventName::CommandStartedEvent => &[
            ("command", Document),
            ("commandName", Text),
            ("databaseName", Text),
            ("hasServiceId", Flag),
            ("hasServerConnectionId", Flag),
        ],
        EventName::CommandSucceededEvent => &[
            ("reply", Document),
            ("commandName", Text),
            ("databaseName", Text),
            ("hasServiceId", Flag),
            ("hasServerConnectionId", Flag),
        ],
        EventName::CommandFailedEvent => &[
            ("commandName", Text),
            ("databaseName", Text),
            ("hasServiceId", Flag),
            ("hasServerConnectionId", Flag),
        ],
        EventName::PoolClearedEvent => {
            &[("hasServiceId", Flag), ("interruptInUseConnections", Flag)]
        }
        EventName::ConnectionClosedEvent | EventName::ConnectionCheckOutFailedEvent => {
            &[("reason", Text)]
        }
        EventName::ServerDescriptionChangedEvent => {
            &[("previousDescription", Server), ("newDescription", Server)]
        }
        EventName::TopologyDescriptionChangedEvent => &[
            ("previousDescription", Topology),
            ("newDescription", Topology),
        ],
        EventName::ServerHeartbeatStartedEvent
        | EventName::ServerHeartbeatSucceededEvent
        | EventName::ServerHeartbeatFailedEvent => &[("awaited", Flag)],
        _ => &[],
    }
}

impl FieldType {
    fn allows(self, value: &Value) -> bool {
        let described = |types: &[&str]| {
            value.as_object().is_some_and(|description| {
                description.iter().all(|(key, value)| {
                    key == "type" && value.as_str().is_some_and(|name| types.contains(&name))
                })
            })
        };
        match self {
            Self::Text => value.is_string(),
            Self::Flag => value.is_boolean(),
            Self::Document => value.is_object(),
            Self::Server => described(SERVER_TYPES),
            Self::Topology => described(TOPOLOGY_TYPES),
        }
    }
}

impl TryFrom<Value> for ExpectedEvent {
    type Error = String;

    fn try_from(value: Value) -> Result<Self, String> {
        let event = not_empty_object(&value)?;
        let (Some((name, said)), 1) = (event.iter().next(), event.len()) else {
            return Err("an event has one key".to_owned());
        };
        let fields = said.as_object().ok_or("an event's fields are an object")?;
        let name = EventName::parse(name)?;
        for (field, value) in fields {
            let known = fields_of(name).iter().find(|(known, _)| known == field);
            if !known.is_some_and(|(_, kind)| kind.allows(value)) {
                return Err(format!("{field} of {name:?} cannot be {value}"));
            }
        }
        let flag = |key: &str| fields.get(key).and_then(Value::as_bool);
        let (has_service_id, has_server_connection_id) =
            (flag("hasServiceId"), flag("hasServerConnectionId"));
        let EjsonDocument(mut fields) =
            serde_json::from_value(said.clone()).map_err(|error| error.to_string())?;
        fields.remove("hasServiceId");
        fields.remove("hasServerConnectionId");
        Ok(Self {
            name,
            fields,
            has_service_id,
            has_server_connection_id,
        })
    }
}

/// The sequence of log messages that a client is to write.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub(in crate::unified) struct ExpectedLogs {
    pub(in crate::unified) client: String,
    pub(in crate::unified) messages: Vec<ExpectedLog>,
    #[serde(default)]
    pub(in crate::unified) ignore_messages: Vec<ExpectedLog>,
    #[serde(default, rename = "ignoreExtraMessages")]
    pub(in crate::unified) ignore_extra: bool,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub(in crate::unified) struct ExpectedLog {
    pub(in crate::unified) level: LogLevel,
    pub(in crate::unified) component: LogComponent,
    pub(in crate::unified) data: EjsonDocument,
    #[serde(default, deserialize_with = "present")]
    pub(in crate::unified) failure_is_redacted: Option<bool>,
}

/// The spans that a client is to have, in the order in which they begin.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub(in crate::unified) struct ExpectedSpans {
    pub(in crate::unified) client: String,
    #[serde(default, rename = "ignoreExtraSpans")]
    pub(in crate::unified) ignore_extra: bool,
    pub(in crate::unified) spans: NonEmpty<ExpectedSpan>,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(in crate::unified) struct ExpectedSpan {
    pub(in crate::unified) name: String,
    pub(in crate::unified) attributes: EjsonDocument,
    /// The spans in this one.
    #[serde(default, deserialize_with = "present")]
    pub(in crate::unified) nested: Option<NonEmpty<ExpectedSpan>>,
}
