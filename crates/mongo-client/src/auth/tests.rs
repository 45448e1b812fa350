//! From a credential and a hello's reply to the right exchange.

use bson::spec::BinarySubtype;
use bson::{Binary, rawdoc};
use mongo_uri::ConnectionString;

use super::*;

const NONCE: Nonce = Nonce([7; Nonce::LEN]);

fn authenticator(userinfo: &str, options: &str) -> Result<Authenticator, Misuse> {
    let uri = format!("mongodb://{userinfo}h/?{options}");
    let credential = ConnectionString::parse(&uri).unwrap().credential.unwrap();
    Authenticator::new(credential)
}

fn ready(userinfo: &str, options: &str) -> Authenticator {
    authenticator(userinfo, options).unwrap()
}

/// What the first hello says besides.
fn asked(authenticator: &Authenticator) -> RawDocumentBuf {
    let mut hello = RawDocumentBuf::new();
    let opening = authenticator.open(NONCE);
    opening.append_to(&mut hello);
    hello
}

fn hello(more: &RawDocument) -> HelloReply {
    let mut reply = rawdoc! { "ok": 1, "isWritablePrimary": true, "maxWireVersion": 17 };
    for element in more {
        let (key, value) = element.unwrap();
        reply.append(key, value);
    }
    HelloReply::parse(&reply).unwrap()
}

fn mechanisms(names: &[&str]) -> RawDocumentBuf {
    let names: bson::RawArrayBuf = names.iter().copied().collect();
    rawdoc! { "saslSupportedMechs": names }
}

fn payload(text: &str) -> Binary {
    Binary {
        subtype: BinarySubtype::Generic,
        bytes: text.as_bytes().to_vec(),
    }
}

/// The name of the mechanism in the first command after the hello.
fn started(authenticator: &Authenticator, reply: &HelloReply) -> String {
    let opening = authenticator.open(NONCE);
    let (conversation, step) = opening.proceed(reply).unwrap().unwrap();
    let Step::Send(command) = step else {
        panic!("{step:?}")
    };
    let mechanism = command.get_str("mechanism").unwrap();
    assert_eq!(mechanism, conversation.mechanism().as_str());
    mechanism.to_owned()
}

#[test]
fn the_hello_asks_for_mechanisms_only_when_none_is_given() {
    for (userinfo, options, listed, speculated) in [
        ("u:p@", "", Some("admin.u"), Some("SCRAM-SHA-256")),
        (
            "a%2eb:p@",
            "authSource=db",
            Some("db.a.b"),
            Some("SCRAM-SHA-256"),
        ),
        (
            "%E2%85%A8:p@",
            "",
            Some("admin.\u{2168}"),
            Some("SCRAM-SHA-256"),
        ),
        (
            "u:p@",
            "authMechanism=SCRAM-SHA-1",
            None,
            Some("SCRAM-SHA-1"),
        ),
        (
            "u:p@",
            "authMechanism=SCRAM-SHA-256",
            None,
            Some("SCRAM-SHA-256"),
        ),
        ("", "authMechanism=MONGODB-X509", None, Some("MONGODB-X509")),
        ("u:p@", "authMechanism=PLAIN", None, None),
        // SASLprep refuses the password, but the server may want SHA-1, which takes it.
        ("u:%07@", "", Some("admin.u"), None),
    ] {
        let hello = asked(&ready(userinfo, options));
        assert_eq!(
            hello.get_str("saslSupportedMechs").ok(),
            listed,
            "{options}"
        );
        let speculation = hello.get_document("speculativeAuthenticate").ok();
        let mechanism = speculation.and_then(|s| s.get_str("mechanism").ok());
        assert_eq!(mechanism, speculated, "{options}");
        if let Some(speculation) = speculation {
            assert!(speculation.get("db").unwrap().is_some(), "{options}");
        }
    }
}

#[test]
fn the_mechanism_is_the_one_given_or_sha_256_if_listed_or_sha_1() {
    let absent = hello(&RawDocumentBuf::new());
    let (sha1, sha256) = ("SCRAM-SHA-1", "SCRAM-SHA-256");
    for (list, expected) in [
        (&[sha1, sha256][..], sha256),
        (&["UNHEARD-OF", sha256], sha256),
        (&[sha1], sha1),
        (&["UNHEARD-OF"], sha1),
        (&[], sha1),
    ] {
        let reply = hello(&mechanisms(list));
        assert_eq!(started(&ready("u:p@", ""), &reply), expected, "{list:?}");
    }
    assert_eq!(started(&ready("u:p@", ""), &absent), sha1);
    for given in [sha1, sha256, "PLAIN"] {
        let options = format!("authMechanism={given}");
        let reply = hello(&mechanisms(&[sha256, sha1]));
        assert_eq!(started(&ready("u:p@", &options), &reply), given);
        assert_eq!(started(&ready("u:p@", &options), &absent), given);
    }
}

#[test]
fn an_answer_to_the_speculation_spares_the_first_command() {
    let first = format!("r={}x,s=QSXCR+Q6sek8bf92,i=4096", NONCE.text());
    let first = payload(&first);
    let answer = rawdoc! { "conversationId": 1, "done": false, "payload": first };
    let mut reply = mechanisms(&["SCRAM-SHA-256"]);
    reply.append(cstr!("speculativeAuthenticate"), answer.clone());
    let authenticator = ready("u:p@", "");
    let opening = authenticator.open(NONCE);
    let (_, step) = opening.proceed(&hello(&reply)).unwrap().unwrap();
    assert!(matches!(step, Step::Derive(_)), "{step:?}");

    // It is of no use when the user has another mechanism.
    let mut reply = mechanisms(&["SCRAM-SHA-1"]);
    reply.append(cstr!("speculativeAuthenticate"), answer);
    assert_eq!(started(&authenticator, &hello(&reply)), "SCRAM-SHA-1");

    let answer = rawdoc! { "dbname": "$external", "user": "CN=client" };
    let reply = rawdoc! { "speculativeAuthenticate": answer };
    let authenticator = ready("", "authMechanism=MONGODB-X509");
    let opening = authenticator.open(NONCE);
    let (_, step) = opening.proceed(&hello(&reply)).unwrap().unwrap();
    assert!(matches!(step, Step::Done), "{step:?}");
}

#[test]
fn an_arbiter_authenticates_nobody() {
    let arbiter = rawdoc! {
        "ok": 1, "setName": "rs", "arbiterOnly": true, "maxWireVersion": 17, "hosts": ["h:1"],
    };
    let arbiter = HelloReply::parse(&arbiter).unwrap();
    let authenticator = ready("u:p@", "");
    let opening = authenticator.open(NONCE);
    assert!(opening.proceed(&arbiter).unwrap().is_none());
}

#[test]
fn a_password_that_sha_256_cannot_take_fails_only_where_it_is_needed() {
    let authenticator = ready("u:%07@", "");
    let sha1 = hello(&mechanisms(&["SCRAM-SHA-1"]));
    assert_eq!(started(&authenticator, &sha1), "SCRAM-SHA-1");
    let opening = authenticator.open(NONCE);
    let sha256 = hello(&mechanisms(&["SCRAM-SHA-256"]));
    let (mechanism, failure) = opening.proceed(&sha256).unwrap_err();
    assert_eq!(mechanism, AuthMechanism::ScramSha256);
    assert_eq!(failure, AuthFailure::ForbiddenPassword);
}

#[test]
fn plain_is_the_specifications_example() {
    let authenticator = ready("user:pencil@", "authMechanism=PLAIN");
    let opening = authenticator.open(NONCE);
    let reply = hello(&RawDocumentBuf::new());
    let (mut conversation, step) = opening.proceed(&reply).unwrap().unwrap();
    assert_eq!(conversation.database(), "$external");
    let Step::Send(command) = step else {
        panic!("{step:?}")
    };
    let expected = rawdoc! {
        "saslStart": 1, "mechanism": "PLAIN", "payload": payload("\0user\0pencil"),
    };
    assert_eq!(command, expected);
    let reply = |done| rawdoc! { "conversationId": 1, "done": done, "payload": payload("") };
    assert!(matches!(conversation.handle(&reply(true)), Ok(Step::Done)));
    assert!(conversation.handle(&reply(false)).is_err());
}

#[test]
fn x509_names_the_user_only_if_the_application_did() {
    for (userinfo, expected) in [
        (
            "",
            rawdoc! { "authenticate": 1, "mechanism": "MONGODB-X509" },
        ),
        (
            "CN%3Dme@",
            rawdoc! { "authenticate": 1, "mechanism": "MONGODB-X509", "user": "CN=me" },
        ),
    ] {
        let authenticator = ready(userinfo, "authMechanism=MONGODB-X509");
        let opening = authenticator.open(NONCE);
        let reply = hello(&RawDocumentBuf::new());
        let (mut conversation, step) = opening.proceed(&reply).unwrap().unwrap();
        let Step::Send(command) = step else {
            panic!("{step:?}")
        };
        assert_eq!((command, conversation.database()), (expected, "$external"));
        let end = conversation.handle(&rawdoc! { "ok": 1 });
        assert!(matches!(end, Ok(Step::Done)));
    }
}

#[test]
fn what_cannot_be_used_is_refused_at_once() {
    for (userinfo, options, expected) in [
        ("u@", "authMechanism=GSSAPI", "GSSAPI"),
        #[cfg(not(feature = "aws"))]
        ("", "authMechanism=MONGODB-AWS", "the feature `aws`"),
        #[cfg(not(feature = "oidc"))]
        ("", "authMechanism=MONGODB-OIDC", "the feature `oidc`"),
        ("u@", "", "needs a password"),
    ] {
        let misuse = authenticator(userinfo, options).unwrap_err();
        assert!(misuse.to_string().contains(expected), "{misuse}");
    }
}

#[test]
fn an_error_names_server_user_and_mechanism_and_no_secret() {
    let authenticator = ready("ann:hunter2@", "");
    let server = mongo_uri::ServerAddress::tcp("h", 1);
    let refused = rawdoc! { "ok": 0, "code": 18, "errmsg": "Authentication failed." };
    let reply = mongo_wire::CommandReply::new(refused.into());
    let refused = reply.server_error().unwrap().unwrap();
    let failure = AuthFailure::Refused(Box::new(refused));
    let error = authenticator.error(server, AuthMechanism::ScramSha256, failure);
    assert_eq!(
        error.to_string(),
        "h:1: authentication of \"ann\" on admin by SCRAM-SHA-256 failed: server error 18: \
         Authentication failed.; check the user name, the password, authSource, and whether the \
         user has this mechanism"
    );
    let opening = authenticator.open(NONCE);
    let all = format!("{authenticator:?} {opening:?} {error:?}");
    assert!(!all.contains("hunter2"), "{all}");
}
