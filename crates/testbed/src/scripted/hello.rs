//! What a scripted server says of itself.

use bson::oid::ObjectId;
use bson::{Bson, Document, RawDocumentBuf, doc};

/// The answer to hello, as a document that a test may change key by key.
#[derive(Debug, Clone)]
pub struct HelloScript {
    document: Document,
    streaming: bool,
}

impl HelloScript {
    /// A server outside any deployment, of the wire version of 6.0.
    #[must_use]
    pub fn standalone() -> Self {
        let document = doc! {
            "helloOk": true,
            "isWritablePrimary": true,
            "ismaster": true,
            "maxBsonObjectSize": 16_777_216,
            "maxMessageSizeBytes": 48_000_000,
            "maxWriteBatchSize": 100_000,
            "logicalSessionTimeoutMinutes": 30,
            "minWireVersion": 0,
            "maxWireVersion": 17,
            "readOnly": false,
            "ok": 1.0,
        };
        Self {
            document,
            streaming: false,
        }
    }

    /// A router of a sharded cluster.
    #[must_use]
    pub fn mongos() -> Self {
        Self::standalone().with("msg", "isdbgrid")
    }

    /// A server behind a load balancer, which is told apart by `service_id`.
    #[must_use]
    pub fn load_balanced(service_id: ObjectId) -> Self {
        Self::mongos().with("serviceId", service_id)
    }

    /// The primary of a replica set, by its own address and those of all members.
    #[must_use]
    pub fn primary(set_name: &str, me: &str, hosts: &[&str]) -> Self {
        Self::member(set_name, me, hosts)
            .with("primary", me)
            .with("electionId", ObjectId::from_bytes([0x7f; 12]))
    }

    /// A secondary of a replica set, which knows no primary until it is told one by `with`.
    #[must_use]
    pub fn secondary(set_name: &str, me: &str, hosts: &[&str]) -> Self {
        Self::member(set_name, me, hosts)
            .with("isWritablePrimary", false)
            .with("ismaster", false)
            .with("secondary", true)
    }

    fn member(set_name: &str, me: &str, hosts: &[&str]) -> Self {
        Self::standalone()
            .with("setName", set_name)
            .with("setVersion", 1)
            .with("me", me)
            .with(
                "hosts",
                hosts
                    .iter()
                    .map(|&host| Bson::from(host))
                    .collect::<Vec<_>>(),
            )
            .with("secondary", false)
    }

    /// Sets a key, or replaces its value.
    #[must_use]
    pub fn with(mut self, key: &str, value: impl Into<Bson>) -> Self {
        self.document.insert(key, value.into());
        self
    }

    /// Leaves a key out.
    #[must_use]
    pub fn without(mut self, key: &str) -> Self {
        self.document.remove(key);
        self
    }

    /// Says a topologyVersion, as servers from 4.4 on do: a client may then wait for a change,
    /// and have the changes streamed to it.
    #[must_use]
    pub fn streaming(mut self) -> Self {
        self.streaming = true;
        self
    }

    pub(super) fn is_streaming(&self) -> bool {
        self.streaming
    }

    /// The answer on a connection, when the script was changed `version` times.
    pub(crate) fn reply(
        &self,
        connection: u64,
        version: i64,
    ) -> bson::error::Result<RawDocumentBuf> {
        let mut document = self.document.clone();
        if !document.contains_key("connectionId") {
            document.insert(
                "connectionId",
                i32::try_from(connection).unwrap_or(i32::MAX),
            );
        }
        if self.streaming && !document.contains_key("topologyVersion") {
            let process = ObjectId::from_bytes(*b"scripted srv");
            let version = doc! { "processId": process, "counter": version };
            document.insert("topologyVersion", version);
        }
        RawDocumentBuf::try_from(&document)
    }
}
