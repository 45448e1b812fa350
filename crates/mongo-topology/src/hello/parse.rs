//! One walk over the reply's fields, then the server type from what was seen.

use std::collections::BTreeMap;

use bson::{RawBsonRef, RawDocument};
use mongo_uri::ServerAddress;

use super::{HelloError, HelloReply, Member, SizeLimits, WireVersions};
use crate::server::ServerType;
use crate::topology_version::TopologyVersion;

pub(super) fn parse(document: &RawDocument) -> Result<HelloReply, HelloError> {
    let mut fields = Fields::new(document);
    for element in document {
        let (key, value) = element.map_err(|error| malformed("document", &error))?;
        let key = key.as_str();
        fields.role_field(key, value);
        fields.connection_field(key, value);
        fields.member_field(key, value)?;
    }
    fields.finish()
}

/// The reply being read, and the signs that decide the server's type.
struct Fields {
    reply: HelloReply,
    ok: Option<bool>,
    code: Option<i32>,
    message: Option<String>,
    is_writable_primary: Option<bool>,
    is_master: bool,
    is_dbgrid: bool,
    is_replica_set: bool,
    secondary: bool,
    arbiter_only: bool,
    hidden: bool,
}

impl Fields {
    fn new(document: &RawDocument) -> Self {
        let reply = HelloReply {
            server_type: ServerType::Standalone,
            wire_versions: WireVersions::default(),
            limits: SizeLimits::default(),
            logical_session_timeout_minutes: None,
            topology_version: None,
            hello_ok: false,
            member: Member::default(),
            service_id: None,
            connection_id: None,
            compression: Vec::new(),
            sasl_supported_mechs: None,
            is_cryptd: false,
            document: document.to_owned(),
        };
        Self {
            reply,
            ok: None,
            code: None,
            message: None,
            is_writable_primary: None,
            is_master: false,
            is_dbgrid: false,
            is_replica_set: false,
            secondary: false,
            arbiter_only: false,
            hidden: false,
        }
    }

    fn role_field(&mut self, key: &str, value: RawBsonRef<'_>) {
        match key {
            "ok" => self.ok = Some(truth(value)),
            "code" => self.code = i32_value(value),
            "errmsg" => self.message = text(value),
            "isWritablePrimary" => self.is_writable_primary = Some(truth(value)),
            "ismaster" => self.is_master = truth(value),
            "msg" => self.is_dbgrid = value.as_str() == Some("isdbgrid"),
            "isreplicaset" => self.is_replica_set = truth(value),
            "secondary" => self.secondary = truth(value),
            "arbiterOnly" => self.arbiter_only = truth(value),
            "hidden" => self.hidden = truth(value),
            _ => {}
        }
    }

    fn connection_field(&mut self, key: &str, value: RawBsonRef<'_>) {
        let reply = &mut self.reply;
        match key {
            "minWireVersion" => reply.wire_versions.min = i32_value(value).unwrap_or(0),
            "maxWireVersion" => reply.wire_versions.max = i32_value(value).unwrap_or(0),
            "maxBsonObjectSize" => set_size(&mut reply.limits.max_bson_object_size, value),
            "maxMessageSizeBytes" => set_size(&mut reply.limits.max_message_size_bytes, value),
            "maxWriteBatchSize" => set_size(&mut reply.limits.max_write_batch_size, value),
            "logicalSessionTimeoutMinutes" => {
                reply.logical_session_timeout_minutes = integer(value);
            }
            "topologyVersion" => {
                reply.topology_version =
                    value.as_document().and_then(TopologyVersion::from_document);
            }
            "helloOk" => reply.hello_ok = truth(value),
            "serviceId" => reply.service_id = value.as_object_id(),
            "connectionId" => reply.connection_id = integer(value),
            "compression" => reply.compression = texts(value).unwrap_or_default(),
            "saslSupportedMechs" => reply.sasl_supported_mechs = texts(value),
            "iscryptd" => reply.is_cryptd = truth(value),
            _ => {}
        }
    }

    fn member_field(&mut self, key: &str, value: RawBsonRef<'_>) -> Result<(), HelloError> {
        let member = &mut self.reply.member;
        match key {
            "setName" => member.set_name = text(value),
            "setVersion" => member.set_version = integer(value),
            "electionId" => member.election_id = value.as_object_id(),
            "me" => member.me = address("me", value)?,
            "primary" => member.primary = address("primary", value)?,
            "hosts" => member.hosts = addresses("hosts", value)?,
            "passives" => member.passives = addresses("passives", value)?,
            "arbiters" => member.arbiters = addresses("arbiters", value)?,
            "tags" => member.tags = tags(value),
            "lastWrite" => {
                member.last_write_date = value
                    .as_document()
                    .and_then(|write| write.get("lastWriteDate").ok().flatten())
                    .and_then(RawBsonRef::as_datetime);
            }
            _ => {}
        }
        Ok(())
    }

    fn finish(mut self) -> Result<HelloReply, HelloError> {
        match self.ok {
            Some(true) => {}
            Some(false) => {
                let message = self.message.unwrap_or_else(|| "no errmsg".to_owned());
                return Err(HelloError::NotOk {
                    code: self.code,
                    message,
                });
            }
            None => return Err(malformed("ok", &"missing")),
        }
        self.reply.server_type = self.server_type();
        if self.reply.server_type == ServerType::RsGhost {
            // A ghost has no set to speak of: whatever it lists must not be used.
            self.reply.member = Member::default();
        }
        Ok(self.reply)
    }

    fn server_type(&self) -> ServerType {
        if self.is_replica_set {
            ServerType::RsGhost
        } else if self.reply.member.set_name.is_some() {
            if self.hidden {
                ServerType::RsOther
            } else if self.is_writable_primary.unwrap_or(self.is_master) {
                ServerType::RsPrimary
            } else if self.secondary {
                ServerType::RsSecondary
            } else if self.arbiter_only {
                ServerType::RsArbiter
            } else {
                ServerType::RsOther
            }
        } else if self.is_dbgrid {
            ServerType::Mongos
        } else {
            ServerType::Standalone
        }
    }
}

fn malformed(field: &'static str, reason: &impl ToString) -> HelloError {
    HelloError::Malformed {
        field,
        reason: reason.to_string(),
    }
}

/// Servers answer booleans and `ok` as a boolean, an integer or a double.
pub(crate) fn truth(value: RawBsonRef<'_>) -> bool {
    match value {
        RawBsonRef::Boolean(flag) => flag,
        RawBsonRef::Int32(number) => number != 0,
        RawBsonRef::Int64(number) => number != 0,
        RawBsonRef::Double(number) => number != 0.0,
        _ => false,
    }
}

/// A whole number in any of BSON's three numeric shapes.
pub(crate) fn integer(value: RawBsonRef<'_>) -> Option<i64> {
    match value {
        RawBsonRef::Int32(number) => Some(i64::from(number)),
        RawBsonRef::Int64(number) => Some(number),
        RawBsonRef::Double(number) if number.fract() == 0.0 => format!("{number:.0}").parse().ok(),
        _ => None,
    }
}

pub(crate) fn i32_value(value: RawBsonRef<'_>) -> Option<i32> {
    integer(value).and_then(|number| i32::try_from(number).ok())
}

/// A size that leaves room for nothing, or is none, counts as not given.
fn set_size(limit: &mut u32, value: RawBsonRef<'_>) {
    let size = integer(value).and_then(|size| u32::try_from(size).ok());
    if let Some(size) = size.filter(|size| *size > 0) {
        *limit = size;
    }
}

fn text(value: RawBsonRef<'_>) -> Option<String> {
    value.as_str().map(str::to_owned)
}

fn texts(value: RawBsonRef<'_>) -> Option<Vec<String>> {
    let array = value.as_array()?;
    Some(
        array
            .into_iter()
            .filter_map(|item| text(item.ok()?))
            .collect(),
    )
}

fn tags(value: RawBsonRef<'_>) -> BTreeMap<String, String> {
    let Some(document) = value.as_document() else {
        return BTreeMap::new();
    };
    document
        .into_iter()
        .filter_map(|tag| {
            let (key, value) = tag.ok()?;
            Some((key.as_str().to_owned(), text(value)?))
        })
        .collect()
}

fn address(
    field: &'static str,
    value: RawBsonRef<'_>,
) -> Result<Option<ServerAddress>, HelloError> {
    match value.as_str() {
        None | Some("") => Ok(None),
        Some(text) => text
            .parse()
            .map(Some)
            .map_err(|error| malformed(field, &error)),
    }
}

fn addresses(field: &'static str, value: RawBsonRef<'_>) -> Result<Vec<ServerAddress>, HelloError> {
    let Some(array) = value.as_array() else {
        return Ok(Vec::new());
    };
    let mut found = Vec::new();
    for item in array {
        let item = item.map_err(|error| malformed(field, &error))?;
        found.extend(address(field, item)?);
    }
    found.sort_unstable();
    found.dedup();
    Ok(found)
}
