//! Reading replies.

use bson::{RawDocumentBuf, cstr, rawdoc};

use super::*;

fn server_type(reply: &RawDocumentBuf) -> ServerType {
    HelloReply::parse(reply).unwrap().server_type
}

#[test]
fn the_type_follows_from_the_specified_signs() {
    let table = [
        (rawdoc! { "ok": 1 }, ServerType::Standalone),
        (rawdoc! { "ok": 1, "msg": "isdbgrid" }, ServerType::Mongos),
        (
            rawdoc! { "ok": 1, "setName": "rs", "ismaster": true },
            ServerType::RsPrimary,
        ),
        (
            rawdoc! { "ok": 1, "setName": "rs", "isWritablePrimary": true },
            ServerType::RsPrimary,
        ),
        (
            rawdoc! { "ok": 1, "setName": "rs", "secondary": true },
            ServerType::RsSecondary,
        ),
        (
            rawdoc! { "ok": 1, "setName": "rs", "arbiterOnly": true },
            ServerType::RsArbiter,
        ),
        (rawdoc! { "ok": 1, "setName": "rs" }, ServerType::RsOther),
        (
            rawdoc! { "ok": 1, "setName": "rs", "secondary": true, "hidden": true },
            ServerType::RsOther,
        ),
        (
            rawdoc! { "ok": 1, "isreplicaset": true, "setName": "rs" },
            ServerType::RsGhost,
        ),
    ];
    for (reply, expected) in table {
        assert_eq!(server_type(&reply), expected, "{reply:?}");
    }
}

#[test]
fn is_writable_primary_counts_before_ismaster() {
    let reply = rawdoc! {
        "ok": 1, "setName": "rs", "ismaster": true, "isWritablePrimary": false, "secondary": true,
    };
    assert_eq!(server_type(&reply), ServerType::RsSecondary);
}

#[test]
fn a_ghost_has_no_set() {
    let reply = rawdoc! { "ok": 1, "isreplicaset": true, "setName": "rs", "hosts": ["a:1"] };
    assert_eq!(HelloReply::parse(&reply).unwrap().member, Member::default());
}

#[test]
fn addresses_are_lower_cased_sorted_and_told_once() {
    let reply = rawdoc! {
        "ok": 1, "setName": "rs", "hosts": ["B:1", "a", "b:1"], "passives": ["C:1"],
        "arbiters": ["D:1"], "me": "A:27017", "primary": "B:1",
    };
    let member = HelloReply::parse(&reply).unwrap().member;
    let text: Vec<_> = member.addresses().map(ToString::to_string).collect();
    assert_eq!(text, ["a:27017", "b:1", "c:1", "d:1"]);
    assert_eq!(member.me.unwrap().to_string(), "a:27017");
    assert_eq!(member.primary.unwrap().to_string(), "b:1");
}

#[test]
fn everything_a_connection_needs_is_kept() {
    let reply = rawdoc! {
        "ok": 1.0, "helloOk": true, "maxBsonObjectSize": 1, "maxMessageSizeBytes": 2_i64,
        "maxWriteBatchSize": 3.0, "logicalSessionTimeoutMinutes": 30, "minWireVersion": 0,
        "maxWireVersion": 21, "connectionId": 7, "compression": ["zstd", "zlib"],
        "saslSupportedMechs": ["SCRAM-SHA-1"],
        "serviceId": ObjectId::from_bytes([4; 12]),
    };
    let parsed = HelloReply::parse(&reply).unwrap();
    assert!(parsed.hello_ok);
    let limits = SizeLimits {
        max_bson_object_size: 1,
        max_message_size_bytes: 2,
        max_write_batch_size: 3,
    };
    assert_eq!(parsed.limits, limits);
    assert_eq!(parsed.logical_session_timeout_minutes, Some(30));
    assert_eq!(parsed.wire_versions, WireVersions { min: 0, max: 21 });
    assert_eq!(parsed.connection_id, Some(7));
    assert_eq!(parsed.compression, ["zstd", "zlib"]);
    assert_eq!(
        parsed.sasl_supported_mechs,
        Some(vec!["SCRAM-SHA-1".to_owned()])
    );
    assert_eq!(parsed.service_id, Some(ObjectId::from_bytes([4; 12])));
    assert_eq!(parsed.document().as_bytes(), reply.as_bytes());
}

#[test]
fn odd_optional_fields_count_as_absent() {
    let reply = rawdoc! {
        "ok": true, "setVersion": "one", "hosts": "a:1", "tags": ["x"], "maxWireVersion": "new",
        "maxBsonObjectSize": -1, "topologyVersion": { "processId": 1 }, "lastWrite": 5,
    };
    let parsed = HelloReply::parse(&reply).unwrap();
    assert_eq!(
        parsed.member,
        Member {
            tags: std::iter::empty().collect(),
            ..Member::default()
        }
    );
    assert_eq!(parsed.limits, SizeLimits::default());
    assert_eq!(parsed.topology_version, None);
}

#[test]
fn a_refusal_and_a_malformed_reply_are_told_apart() {
    let refused = rawdoc! { "ok": 0, "code": 13, "errmsg": "no" };
    let error = HelloReply::parse(&refused).unwrap_err();
    assert_eq!(
        error,
        HelloError::NotOk {
            code: Some(13),
            message: "no".to_owned()
        }
    );
    assert_eq!(error.to_string(), "hello failed: no (code 13)");

    for (reply, field) in [
        (rawdoc! { "helloOk": true }, "ok"),
        (rawdoc! { "ok": 1, "hosts": ["a:1", "b c"] }, "hosts"),
        (rawdoc! { "ok": 1, "me": "a:99999" }, "me"),
    ] {
        let error = HelloReply::parse(&reply).unwrap_err();
        assert!(matches!(&error, HelloError::Malformed { field: own, .. } if *own == field));
    }
}

#[test]
fn bytes_that_are_no_document_are_an_error_and_never_a_panic() {
    let mut reply = rawdoc! { "ok": 1, "setName": "rs" };
    reply.append(cstr!("hosts"), bson::RawArrayBuf::new());
    let bytes = reply.into_bytes();
    for at in 4..bytes.len() - 1 {
        let mut broken = bytes.clone();
        broken[at] = 0xff;
        if let Ok(document) = RawDocument::from_bytes(&broken) {
            let _ = HelloReply::parse(document);
        }
    }
}
