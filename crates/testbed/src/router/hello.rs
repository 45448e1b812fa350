//! A server's answer to hello, turned into a router's.

use bson::oid::ObjectId;
use bson::{RawDocument, RawDocumentBuf, cstr};

/// Who answers on a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Role {
    /// A mongos.
    Mongos,
    /// A mongos behind a load balancer, by its number.
    Service(usize),
}

/// What a member of a replica set says and a router does not.
const OF_MEMBERS: [&str; 14] = [
    "setName",
    "setVersion",
    "electionId",
    "hosts",
    "passives",
    "arbiters",
    "primary",
    "me",
    "secondary",
    "arbiterOnly",
    "hidden",
    "tags",
    "lastWrite",
    "isreplicaset",
];

/// Returns the router's answer, or `None` for a reply that is no answer to hello.
pub(super) fn rewrite(
    reply: &RawDocument,
    role: Role,
    load_balanced: bool,
) -> Option<RawDocumentBuf> {
    if !is_hello_reply(reply) {
        return None;
    }
    let mut rewritten = RawDocumentBuf::new();
    for element in reply {
        let (key, value) = element.ok()?;
        if !OF_MEMBERS.contains(&key.as_str()) {
            rewritten.append(key, value);
        }
    }
    rewritten.append(cstr!("msg"), "isdbgrid");
    if let Role::Service(number) = role
        && load_balanced
    {
        rewritten.append(cstr!("serviceId"), service_id(number));
    }
    Some(rewritten)
}

/// Such answers alone tell both the wire versions and who takes writes.
fn is_hello_reply(reply: &RawDocument) -> bool {
    let has = |key| matches!(reply.get(key), Ok(Some(_)));
    has("maxWireVersion") && (has("isWritablePrimary") || has("ismaster"))
}

/// The id of a service, made up of nothing but its number; all zeros would stand for no service.
fn service_id(number: usize) -> ObjectId {
    let mut bytes = [1; 12];
    bytes[4..].copy_from_slice(&u64::try_from(number).unwrap_or(u64::MAX).to_be_bytes());
    ObjectId::from_bytes(bytes)
}

#[cfg(test)]
mod tests {
    use bson::{Document, rawdoc};

    use super::*;

    fn rewritten(role: Role, load_balanced: bool) -> Document {
        let reply = rawdoc! {
            "isWritablePrimary": true, "setName": "rs0", "hosts": ["a:1"], "me": "a:1",
            "lastWrite": {}, "maxWireVersion": 17, "ok": 1.0, "$clusterTime": { "a": 1 },
        };
        let answer = rewrite(&reply, role, load_balanced).unwrap();
        bson::deserialize_from_slice(answer.as_bytes()).unwrap()
    }

    #[test]
    fn a_router_is_in_no_set() {
        let answer = rewritten(Role::Mongos, true);
        let keys: Vec<&str> = answer.keys().map(String::as_str).collect();
        assert_eq!(
            keys,
            [
                "isWritablePrimary",
                "maxWireVersion",
                "ok",
                "$clusterTime",
                "msg"
            ]
        );
    }

    #[test]
    fn a_service_names_itself_to_those_who_know_of_the_load_balancer() {
        assert!(!rewritten(Role::Service(1), false).contains_key("serviceId"));
        let first = rewritten(Role::Service(0), true);
        let second = rewritten(Role::Service(1), true);
        assert!(first.contains_key("serviceId"));
        assert_ne!(first.get("serviceId"), second.get("serviceId"));
    }

    #[test]
    fn other_replies_stay() {
        let reply = rawdoc! { "setName": "rs0", "ok": 1.0 };
        assert!(rewrite(&reply, Role::Mongos, false).is_none());
    }
}
