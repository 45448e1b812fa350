//! The examples of RFC 5802, RFC 7677 and the Authentication specification, and servers that
//! break the rules.

use bson::spec::BinarySubtype;
use bson::{Binary, RawBsonRef};

use super::*;

struct Example {
    hash: Hash,
    password: Zeroizing<String>,
    nonce: &'static str,
    server_first: &'static str,
    client_final: &'static str,
    server_final: &'static str,
}

fn examples() -> [Example; 3] {
    [
        // RFC 5802, section 5: the password as it is.
        Example {
            hash: Hash::Sha1,
            password: Zeroizing::new("pencil".to_owned()),
            nonce: "fyko+d2lbbFgONRv9qkxdawL",
            server_first: "r=fyko+d2lbbFgONRv9qkxdawL3rfcNHYJY1ZVvWVs7j,s=QSXCR+Q6sek8bf92,i=4096",
            client_final: "c=biws,r=fyko+d2lbbFgONRv9qkxdawL3rfcNHYJY1ZVvWVs7j,\
                           p=v0X8v3Bz2T0CJGbJQyF0X+HI4Ts=",
            server_final: "v=rmF9pqV8S7suAoZWja4dJRkFsKQ=",
        },
        // The Authentication specification: its digest.
        Example {
            hash: Hash::Sha1,
            password: Hash::Sha1.password("user", "pencil").unwrap(),
            nonce: "fyko+d2lbbFgONRv9qkxdawL",
            server_first: "r=fyko+d2lbbFgONRv9qkxdawLHo+Vgk7qvUOKUwuWLIWg4l/9SraGMHEE,\
                           s=rQ9ZY3MntBeuP3E1TDVC4w==,i=10000",
            client_final: "c=biws,r=fyko+d2lbbFgONRv9qkxdawLHo+Vgk7qvUOKUwuWLIWg4l/9SraGMHEE,\
                           p=MC2T8BvbmWRckDw8oWl5IVghwCY=",
            server_final: "v=UMWeI25JD1yNYZRMpZ4VHvhZ9e0=",
        },
        // RFC 7677, section 3.
        Example {
            hash: Hash::Sha256,
            password: Hash::Sha256.password("user", "pencil").unwrap(),
            nonce: "rOprNGfwEbeRWgbNEkqO",
            server_first: "r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,\
                           s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096",
            client_final: "c=biws,r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,\
                           p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ=",
            server_final: "v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4=",
        },
    ]
}

impl Example {
    fn begin(&self) -> Scram {
        let nonce = self.nonce.to_owned();
        Scram::new(self.hash, "user", self.password.clone(), nonce)
    }

    /// As far as the server's last message.
    fn until_proof(&self) -> (Scram, RawDocumentBuf) {
        let mut scram = self.begin();
        let keys = self.derivation(&mut scram).run();
        let step = scram.derived(keys).unwrap();
        let Step::Send(command) = step else {
            panic!("{step:?}")
        };
        (scram, command)
    }

    fn derivation(&self, scram: &mut Scram) -> Derivation {
        let step = scram.handle(&reply(self.server_first, false)).unwrap();
        let Step::Derive(derivation) = step else {
            panic!("{step:?}")
        };
        derivation
    }
}

fn reply(payload: &str, done: bool) -> RawDocumentBuf {
    let payload = Binary {
        subtype: BinarySubtype::Generic,
        bytes: payload.as_bytes().to_vec(),
    };
    rawdoc! { "conversationId": 7, "payload": payload, "done": done, "ok": 1 }
}

fn payload(command: &RawDocument) -> &str {
    let Some(RawBsonRef::Binary(binary)) = command.get("payload").unwrap() else {
        panic!("{command:?}")
    };
    std::str::from_utf8(binary.bytes).unwrap()
}

fn fault(result: Result<Step, AuthFailure>) -> ScramFault {
    match result {
        Err(AuthFailure::Scram(fault)) => fault,
        other => panic!("{other:?}"),
    }
}

#[test]
fn the_specifications_examples_come_out() {
    for example in examples() {
        let first = example.begin().first_command();
        assert_eq!(payload(&first), format!("n,,n=user,r={}", example.nonce));
        assert_eq!(
            first.get_str("mechanism").unwrap(),
            example.hash.mechanism()
        );
        let options = first.get_document("options").unwrap();
        assert!(options.get_bool("skipEmptyExchange").unwrap());

        let (mut scram, command) = example.until_proof();
        assert_eq!(command.get_i32("saslContinue").unwrap(), 1);
        assert_eq!(command.get_i32("conversationId").unwrap(), 7);
        assert_eq!(payload(&command), example.client_final);
        let end = scram.handle(&reply(example.server_final, true)).unwrap();
        assert!(matches!(end, Step::Done), "{end:?}");
    }
}

#[test]
fn a_server_that_does_not_skip_the_empty_exchange_gets_it() {
    let [example, ..] = examples();
    let (mut scram, _) = example.until_proof();
    let step = scram.handle(&reply(example.server_final, false)).unwrap();
    let Step::Send(command) = step else {
        panic!("{step:?}")
    };
    assert_eq!(payload(&command), "");
    assert!(matches!(scram.handle(&reply("", true)), Ok(Step::Done)));
    assert_eq!(fault(scram.handle(&reply("", false))), ScramFault::Endless);
}

#[test]
fn keys_are_known_by_salt_count_and_mechanism_once_the_server_has_proved_them() {
    let mut known = ScramKeys::default();
    for (example, count) in examples().iter().zip(1..) {
        let derivation = example.derivation(&mut example.begin());
        assert!(known.find(&derivation).is_none());
        let (mut scram, first) = example.until_proof();
        assert!(scram.proved().is_none());
        scram.handle(&reply(example.server_final, true)).unwrap();
        for _ in 0..2 {
            known.keep(scram.proved().unwrap().clone());
            assert_eq!(known.len(), count);
        }
        // They do what new ones would.
        let mut scram = example.begin();
        let keys = known.find(&example.derivation(&mut scram)).unwrap();
        let step = scram.derived(keys).unwrap();
        let Step::Send(command) = step else {
            panic!("{step:?}")
        };
        assert_eq!(command, first);
    }
}

#[test]
fn kept_keys_are_bounded() {
    let mut known = ScramKeys::default();
    for salt in 0..40 {
        let of = keys::KeyId {
            hash: Hash::Sha1,
            salt: vec![salt],
            iterations: 1,
        };
        let password = Zeroizing::new("p".to_owned());
        known.keep(Derivation { of, password }.run());
    }
    assert_eq!(known.len(), 16);
}

#[test]
fn a_server_that_breaks_the_rules_is_found_out() {
    let malformed = |expected| ScramFault::Malformed { expected };
    let iterations = |found| ScramFault::Iterations {
        found,
        minimum: 4096,
        maximum: 10_000_000,
    };
    let salt = "s=QSXCR+Q6sek8bf92";
    for (server_first, expected) in [
        (format!("r=other,{salt},i=4096"), ScramFault::Nonce),
        // Our nonce with nothing added is what an echo would say.
        (format!("r=NONCE,{salt},i=4096"), ScramFault::Nonce),
        (format!("r=NONCEx,{salt},i=4095"), iterations(4095)),
        (
            format!("r=NONCEx,{salt},i=10000001"),
            iterations(10_000_001),
        ),
        (format!("r=NONCEx,{salt},i=+5000"), malformed("i=count")),
        (
            format!("r=NONCEx,{salt},i=99999999999"),
            malformed("i=count"),
        ),
        (format!("r=NONCEx,{salt},i="), malformed("i=count")),
        (format!("r=NONCEx,{salt}"), malformed("i=count")),
        ("r=NONCEx,s=%,i=4096".to_owned(), malformed("base64")),
        ("r=NONCEx,s=,i=4096".to_owned(), malformed("s=salt")),
        ("r=,s=,i=".to_owned(), malformed("r=nonce")),
        (String::new(), malformed("r=nonce")),
        ("\u{20ac}".to_owned(), malformed("r=nonce")),
        (
            format!("m=x,r=NONCEx,{salt},i=4096"),
            malformed("no mandatory extension"),
        ),
        (
            "e=other-error".to_owned(),
            ScramFault::Server("other-error".to_owned()),
        ),
    ] {
        let [example, ..] = examples();
        let mut scram = example.begin();
        let message = server_first.replace("NONCE", example.nonce);
        let found = fault(scram.handle(&reply(&message, false)));
        assert_eq!(found, expected, "{server_first}");
        // It stays so.
        assert!(scram.handle(&reply(example.server_first, false)).is_err());
        assert!(scram.handle(&reply("", true)).is_err());
    }
}

#[test]
fn an_extension_that_may_be_ignored_is() {
    let [example, ..] = examples();
    let mut scram = example.begin();
    let message = format!("{},x=whatever", example.server_first);
    assert!(matches!(
        scram.handle(&reply(&message, false)),
        Ok(Step::Derive(_))
    ));
}

#[test]
fn a_server_that_does_not_know_the_password_is_found_out() {
    for end in [
        "v=rmF9pqV8S7suAoZWja4dJRkFsKR=",
        "v=rmF9pqV8S7suAoZWja4dJRkFsKI=",
        "v=",
        "v=!",
        "",
        "x",
    ] {
        for done in [true, false] {
            let [example, ..] = examples();
            let (mut scram, _) = example.until_proof();
            let found = fault(scram.handle(&reply(end, done)));
            assert_eq!(found, ScramFault::ServerSignature, "{end}");
            assert!(scram.proved().is_none());
        }
    }
    // Nor does it get away with ending the exchange before its proof.
    let [example, ..] = examples();
    let mut scram = example.begin();
    let found = fault(scram.handle(&reply(example.server_first, true)));
    assert_eq!(found, ScramFault::ServerSignature);
}

#[test]
fn replies_without_a_field_are_malformed() {
    let [example, ..] = examples();
    for (reply, expected) in [
        (rawdoc! { "done": false, "payload": "" }, "conversationId"),
        (rawdoc! { "conversationId": 1, "payload": "" }, "done"),
        (rawdoc! { "conversationId": 1, "done": false }, "payload"),
        (
            rawdoc! { "conversationId": 1, "done": false, "payload": 1 },
            "payload",
        ),
        (
            rawdoc! { "conversationId": "x", "done": false, "payload": "" },
            "conversationId",
        ),
    ] {
        let failure = example.begin().handle(&reply);
        let expected = AuthFailure::Malformed { field: expected };
        assert_eq!(failure.unwrap_err(), expected);
    }
}

#[test]
fn names_are_escaped_and_not_prepared() {
    for (user, expected) in [
        ("a=b,c", "n=a=3Db=2Cc,r=N"),
        ("\u{2168}", "n=\u{2168},r=N"),
        ("I\u{ad}X", "n=I\u{ad}X,r=N"),
    ] {
        assert_eq!(message::client_first_bare(user, "N"), expected);
    }
}

#[test]
fn passwords_are_prepared_for_sha_256_and_digested_for_sha_1() {
    for (password, prepared) in [
        ("IX", Some("IX")),
        ("I\u{ad}X", Some("IX")),
        ("\u{2168}", Some("IX")),
        ("a\u{a0}b", Some("a b")),
        ("a\u{7}b", None),
        ("\u{627}1", None),
    ] {
        let found = Hash::Sha256.password("user", password);
        match prepared {
            Some(prepared) => assert_eq!(found.unwrap().as_str(), prepared),
            None => assert_eq!(found, Err(AuthFailure::ForbiddenPassword)),
        }
        assert_eq!(Hash::Sha1.password("user", password).unwrap().len(), 32);
    }
    let digest = Hash::Sha1.password("user", "pencil").unwrap();
    assert_eq!(digest.as_str(), "1c33006ec1ffd90f9cadcbcc0e118200");
}

#[test]
fn nothing_secret_is_shown() {
    let [example, ..] = examples();
    let (scram, _) = example.until_proof();
    assert_eq!(
        format!("{scram:?}"),
        "Scram { hash: Sha1, state: \"Proving\", .. }"
    );
    let mut scram = example.begin();
    let step = scram.handle(&reply(example.server_first, false)).unwrap();
    assert!(!format!("{step:?}").contains("pencil"));
    let Step::Derive(derivation) = step else {
        panic!("{step:?}")
    };
    assert_eq!(format!("{:?}", derivation.run()), "DerivedKeys(Sha1)");
}
