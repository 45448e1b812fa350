//! The reply to hello or legacy hello, read once into the fields that discovery, selection and a
//! connection need (SDAM, "Parsing a hello or legacy hello response").

mod parse;

use std::collections::BTreeMap;

use bson::oid::ObjectId;
use bson::{DateTime, RawDocument, RawDocumentBuf};
use mongo_uri::ServerAddress;

pub(crate) use parse::{i32_value, truth};

use crate::server::ServerType;
use crate::topology_version::TopologyVersion;

/// What a server said about itself, in answer to `hello` or to legacy hello.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct HelloReply {
    /// The kind of server that these fields describe; never `Unknown`.
    pub server_type: ServerType,
    /// The wire protocol versions the server speaks.
    pub wire_versions: WireVersions,
    /// How large a message may be on the connection that got this reply.
    pub limits: SizeLimits,
    /// Minutes until the server forgets an idle session; `None` when it has no sessions.
    pub logical_session_timeout_minutes: Option<i64>,
    /// Present when the server can await and stream its hello replies.
    pub topology_version: Option<TopologyVersion>,
    /// True when `hello` may be used in place of legacy hello from now on.
    pub hello_ok: bool,
    /// What a replica set member says about its set; empty for all others.
    pub member: Member,
    /// The service behind a load balancer that this connection reached.
    pub service_id: Option<ObjectId>,
    /// The server's own number for this connection.
    pub connection_id: Option<i64>,
    /// The compressors of the client's list that the server knows, in the server's order.
    pub compression: Vec<String>,
    /// The mechanisms that the asked-for user may authenticate with; `None` when not listed.
    pub sasl_supported_mechs: Option<Vec<String>>,
    /// True for mongocryptd, which is no database server.
    pub is_cryptd: bool,
    document: RawDocumentBuf,
}

impl HelloReply {
    /// Reads a reply.
    ///
    /// Unknown fields are left alone and an optional field of an unexpected type counts as
    /// absent, so that a server that only resembles MongoDB can still be described.
    ///
    /// # Errors
    /// [`HelloError::NotOk`] when the server refused the command, [`HelloError::Malformed`] when
    /// the document cannot be walked, when it has no `ok`, or when it lists an address that is
    /// none.
    pub fn parse(document: &RawDocument) -> Result<Self, HelloError> {
        parse::parse(document)
    }

    /// The reply as the server sent it.
    #[must_use]
    pub fn document(&self) -> &RawDocument {
        &self.document
    }
}

/// What a replica set member says about itself and its set.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Member {
    /// The name of the set.
    pub set_name: Option<String>,
    /// The version of the set's configuration.
    pub set_version: Option<i64>,
    /// Names the election that made this member the primary.
    pub election_id: Option<ObjectId>,
    /// The address the set knows this member by.
    pub me: Option<ServerAddress>,
    /// The primary, in this member's opinion.
    pub primary: Option<ServerAddress>,
    /// Members that may become primary, sorted, each once.
    pub hosts: Vec<ServerAddress>,
    /// Members of priority zero, sorted, each once.
    pub passives: Vec<ServerAddress>,
    /// Members without data, sorted, each once.
    pub arbiters: Vec<ServerAddress>,
    /// The member's tags.
    pub tags: BTreeMap<String, String>,
    /// The primary's wall clock at the newest write this member has.
    pub last_write_date: Option<DateTime>,
}

impl Member {
    /// Every address of the set that this member knows: hosts, then passives, then arbiters.
    pub fn addresses(&self) -> impl Iterator<Item = &ServerAddress> {
        self.hosts
            .iter()
            .chain(&self.passives)
            .chain(&self.arbiters)
    }

    /// Whether this member counts `address` among the set's members.
    #[must_use]
    pub fn lists(&self, address: &ServerAddress) -> bool {
        [&self.hosts, &self.passives, &self.arbiters]
            .into_iter()
            .any(|list| list.binary_search(address).is_ok())
    }
}

/// A range of wire protocol versions, both ends included.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct WireVersions {
    /// `minWireVersion`, 0 when the server gave none.
    pub min: i32,
    /// `maxWireVersion`, 0 when the server gave none.
    pub max: i32,
}

/// The size limits of one connection, each as the server gave it, or the protocol's default where
/// it gave none, or one that is not positive. They are the server's word, however large.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SizeLimits {
    /// `maxBsonObjectSize` in bytes.
    pub max_bson_object_size: u32,
    /// `maxMessageSizeBytes` in bytes.
    pub max_message_size_bytes: u32,
    /// `maxWriteBatchSize` in operations.
    pub max_write_batch_size: u32,
}

impl Default for SizeLimits {
    fn default() -> Self {
        Self {
            max_bson_object_size: 16 * 1024 * 1024,
            max_message_size_bytes: 48_000_000,
            max_write_batch_size: 100_000,
        }
    }
}

/// Which of the two commands to send.
///
/// The first hello of a connection is the legacy one with `helloOk: true`, unless a server API
/// version or load balancing is asked for (Handshake, "Connection handshake").
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HelloCommand {
    /// `isMaster`.
    Legacy,
    /// `hello`.
    Hello,
}

impl HelloCommand {
    /// The command's name, the first key of its document.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Legacy => "isMaster",
            Self::Hello => "hello",
        }
    }
}

/// Why a reply to hello gives no description of a server.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum HelloError {
    /// The document, or the named field of it, does not hold what the protocol says.
    #[error("malformed hello reply: {field}: {reason}")]
    Malformed {
        /// The field at fault.
        field: &'static str,
        /// What is wrong with it.
        reason: String,
    },
    /// The server answered `ok: 0`.
    #[error("hello failed: {message}{}", code.map(|code| format!(" (code {code})")).unwrap_or_default())]
    NotOk {
        /// The server's error code.
        code: Option<i32>,
        /// The server's `errmsg`.
        message: String,
    },
}

#[cfg(test)]
mod tests;
