//! Signatures held against those of botocore 1.44, and servers that break the rules.

use bson::spec::BinarySubtype;
use bson::{Binary, RawBsonRef};

use super::*;

/// 2019-11-07, 00:26:07 UTC.
const NOW: DateTime = DateTime::from_millis(1_573_086_367_000);
const KEY: &str = "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY";

fn nonce() -> Nonce {
    let mut bytes = [0; 32];
    for (index, byte) in bytes.iter_mut().enumerate() {
        *byte = u8::try_from(index).unwrap();
    }
    Nonce::new(bytes)
}

fn server_nonce() -> Vec<u8> {
    (0..32).chain(100..132).collect()
}

fn reply(message: &RawDocument, done: bool) -> RawDocumentBuf {
    let payload = sasl::binary(message.as_bytes());
    rawdoc! { "conversationId": 7, "done": done, "payload": payload, "ok": 1 }
}

fn challenge(nonce: &[u8], host: &str) -> RawDocumentBuf {
    reply(&rawdoc! { "s": sasl::binary(nonce), "h": host }, false)
}

fn payload(command: &RawDocument) -> RawDocumentBuf {
    let Some(RawBsonRef::Binary(binary)) = command.get("payload").unwrap() else {
        panic!("{command:?}")
    };
    RawDocumentBuf::from_bytes(binary.bytes.to_vec()).unwrap()
}

#[test]
fn the_first_message_is_the_nonce_and_no_channel_binding() {
    let first = Aws::new(nonce()).first_command();
    assert_eq!(first.get_str("mechanism").unwrap(), "MONGODB-AWS");
    let r = Binary {
        subtype: BinarySubtype::Generic,
        bytes: (0..32).collect(),
    };
    assert_eq!(payload(&first), rawdoc! { "r": r, "p": 110_i32 });
}

#[test]
fn the_second_message_is_signed_as_by_botocore() {
    let short = "content-length;content-type;host;x-amz-date;x-mongodb-gs2-cb-flag;\
                 x-mongodb-server-nonce";
    let long = "content-length;content-type;host;x-amz-date;x-amz-security-token;\
                x-mongodb-gs2-cb-flag;x-mongodb-server-nonce";
    for (host, region, token, headers, signature) in [
        (
            "sts.amazonaws.com",
            "us-east-1",
            None,
            short,
            "d2ded01faedfe3154632958ac54bac88d99092c08891bb5f6944d96baaa75075",
        ),
        (
            "sts.us-west-2.amazonaws.com",
            "us-west-2",
            Some("TOKEN/+="),
            long,
            "25ba2286074e901e3298e2b022363261d818ac3bbce3599ba30e4ce6db3d02bb",
        ),
        (
            "localhost",
            "us-east-1",
            None,
            short,
            "759b484fc64113ef868dd6a153379aac585ea600410fb6694db2733c81913175",
        ),
    ] {
        let mut credentials = AwsCredentials::new("AKIAI44QH8DHBEXAMPLE", KEY);
        if let Some(token) = token {
            credentials = credentials.session_token(token);
        }
        let mut aws = Aws::new(nonce());
        let step = aws.handle(&challenge(&server_nonce(), host)).unwrap();
        assert!(matches!(step, Step::Identify), "{step:?}");
        let step = aws.identified(&credentials, NOW).unwrap();
        let Step::Send(command) = step else {
            panic!("{step:?}")
        };
        assert_eq!(command.get_i32("saslContinue").unwrap(), 1);
        assert_eq!(command.get_i32("conversationId").unwrap(), 7);
        let message = payload(&command);
        let expected = format!(
            "AWS4-HMAC-SHA256 Credential=AKIAI44QH8DHBEXAMPLE/20191107/{region}/sts/aws4_request, \
             SignedHeaders={headers}, Signature={signature}"
        );
        assert_eq!(message.get_str("a").unwrap(), expected);
        assert_eq!(message.get_str("d").unwrap(), "20191107T002607Z");
        assert_eq!(message.get_str("t").ok(), token);
        let step = aws.handle(&reply(&RawDocumentBuf::new(), true)).unwrap();
        assert!(matches!(step, Step::Done), "{step:?}");
    }
}

#[test]
fn the_region_is_the_second_label_of_the_host() {
    let long = format!("a.{}", "b".repeat(253));
    for (host, expected) in [
        ("sts.amazonaws.com", "us-east-1"),
        ("sts.us-west-2.amazonaws.com", "us-west-2"),
        ("sts.us-west-2.amazonaws.com.ch", "us-west-2"),
        ("example.com", "com"),
        ("localhost", "us-east-1"),
        (&long, &long[2..]),
    ] {
        assert!(is_host(host), "{host}");
        assert_eq!(region(host), expected);
    }
    let too_long = format!("{long}b");
    for host in [
        "sts..com",
        ".amazonaws.com",
        "sts.amazonaws.",
        "",
        ".",
        &too_long,
        "sts.x\nx-evil:1.com",
        "sts x.com",
    ] {
        let mut aws = Aws::new(nonce());
        let failure = aws.handle(&challenge(&server_nonce(), host)).unwrap_err();
        assert_eq!(failure, AwsFault::Host.into(), "{host:?}");
    }
}

#[test]
fn a_nonce_that_does_not_continue_ours_is_refused() {
    let mut foreign = server_nonce();
    foreign[31] ^= 1;
    let mut long = server_nonce();
    long.push(0);
    for nonce_of_server in [&foreign, &long, &server_nonce()[..63], &[][..]] {
        let mut aws = Aws::new(nonce());
        let failure = aws.handle(&challenge(nonce_of_server, "h")).unwrap_err();
        assert_eq!(failure, AwsFault::Nonce.into());
        // It does not come back from that.
        assert!(aws.handle(&challenge(&server_nonce(), "h")).is_err());
        let credentials = AwsCredentials::new("id", KEY);
        assert!(aws.identified(&credentials, NOW).is_err());
    }
}

#[test]
fn what_is_no_challenge_is_malformed() {
    let s = || sasl::binary(&server_nonce());
    for (message, field) in [
        (rawdoc! { "h": "h" }, "s"),
        (rawdoc! { "s": "text", "h": "h" }, "s"),
        (rawdoc! { "s": s() }, "h"),
        (rawdoc! { "s": s(), "h": 1 }, "h"),
    ] {
        let failure = Aws::new(nonce()).handle(&reply(&message, false));
        assert_eq!(failure.unwrap_err(), AuthFailure::Malformed { field });
    }
    let no_document = rawdoc! { "conversationId": 1, "done": false, "payload": "?" };
    let failure = Aws::new(nonce()).handle(&no_document).unwrap_err();
    assert_eq!(failure, AuthFailure::Malformed { field: "payload" });
}

#[test]
fn an_exchange_that_ends_too_early_or_not_at_all_is_refused() {
    let done = AuthFailure::Malformed { field: "done" };
    let early = reply(
        &rawdoc! { "s": sasl::binary(&server_nonce()), "h": "h" },
        true,
    );
    assert_eq!(Aws::new(nonce()).handle(&early).unwrap_err(), done);
    let mut aws = Aws::new(nonce());
    let first = challenge(&server_nonce(), "h");
    aws.handle(&first).unwrap();
    aws.identified(&AwsCredentials::new("id", KEY), NOW)
        .unwrap();
    assert_eq!(aws.handle(&first).unwrap_err(), done);
}
