//! The examples of the Authentication specification, and every way from a token to an end.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use bson::{RawBsonRef, rawdoc};
use mongo_uri::Secret;

use super::*;

fn token(generation: u64, origin: Origin) -> Token {
    Token {
        text: Secret::new("abcd1234"),
        generation,
        origin,
    }
}

fn reply(payload: &RawDocument, done: bool) -> RawDocumentBuf {
    let payload = sasl::binary(payload.as_bytes());
    rawdoc! { "conversationId": 1, "done": done, "payload": payload, "ok": 1 }
}

fn taken() -> RawDocumentBuf {
    rawdoc! { "conversationId": 1, "done": true, "payload": sasl::binary(b""), "ok": 1 }
}

fn refusal(code: i32) -> ServerError {
    let reply = rawdoc! { "ok": 0, "code": code, "errmsg": "no" };
    let reply = mongo_wire::CommandReply::new(reply.into());
    reply.server_error().unwrap().unwrap()
}

/// The command's name and its payload in base64.
fn sent(step: Step) -> (String, String) {
    let Step::Send(command) = step else {
        panic!("{step:?}")
    };
    let Some(RawBsonRef::Binary(payload)) = command.get("payload").unwrap() else {
        panic!("{command:?}")
    };
    let name = command.iter().next().unwrap().unwrap().0;
    (name.as_str().to_owned(), BASE64.encode(payload.bytes))
}

fn wish(step: Option<Step>) -> Wish {
    match step {
        Some(Step::Token(wish)) => wish,
        other => panic!("{other:?}"),
    }
}

const JWT: &str = "FwAAAAJqd3QACQAAAGFiY2QxMjM0AAA=";

#[test]
fn one_step_is_the_specifications_example() {
    let mut oidc = Oidc::new(None);
    let step = oidc.given(Some(&token(3, Origin::Fresh))).unwrap();
    assert_eq!(sent(step), ("saslStart".to_owned(), JWT.to_owned()));
    assert_eq!(oidc.taken(), None);
    assert!(matches!(oidc.handle(&taken()), Ok(Step::Done)));
    assert_eq!(oidc.taken(), Some(3));
}

#[test]
fn two_steps_are_the_specifications_example() {
    let mut oidc = Oidc::new(Some("myidp".to_owned()));
    let step = oidc.given(None).unwrap();
    let principal = "EgAAAAJuAAYAAABteWlkcAAA";
    assert_eq!(sent(step), ("saslStart".to_owned(), principal.to_owned()));
    let idp = "WQAAAAJpc3N1ZXIADwAAAGh0dHBzOi8vaXNzdWVyAAJjbGllbnRJZAAFAAAAYWJjZAAEcmVxdWVzdFNj\
               b3BlcwAXAAAAAjAAAgAAAGEAAjEAAgAAAGIAAAA=";
    let idp = RawDocumentBuf::from_bytes(BASE64.decode(idp).unwrap()).unwrap();
    let step = oidc.handle(&reply(&idp, false)).unwrap();
    let expected = OidcIdpInfo {
        issuer: "https://issuer".to_owned(),
        client_id: Some("abcd".to_owned()),
        request_scopes: vec!["a".to_owned(), "b".to_owned()],
    };
    let wish = wish(Some(step));
    assert_eq!((wish.refused, wish.idp), (None, Some(expected)));
    let step = oidc.given(Some(&token(1, Origin::Fresh))).unwrap();
    assert_eq!(sent(step), ("saslContinue".to_owned(), JWT.to_owned()));
    assert!(matches!(oidc.handle(&taken()), Ok(Step::Done)));
    assert_eq!(oidc.taken(), Some(1));
}

#[test]
fn without_a_user_name_the_first_step_names_nobody() {
    let step = Oidc::new(None).given(None).unwrap();
    let empty = BASE64.encode(RawDocumentBuf::new().as_bytes());
    assert_eq!(sent(step).1, empty);
}

#[test]
fn a_refused_token_is_replaced_unless_it_was_fresh() {
    for (origin, code, replaced, forgets_refresh) in [
        (Origin::Kept, 18, true, false),
        (Origin::Refreshed, 18, true, true),
        (Origin::Fresh, 18, false, false),
        (Origin::Kept, 20, false, false),
        (Origin::Refreshed, 391, false, false),
    ] {
        let mut oidc = Oidc::new(None);
        oidc.given(Some(&token(7, origin))).unwrap();
        let step = oidc.refused(&refusal(code));
        if !replaced {
            assert!(step.is_none(), "{origin:?} {code}: {step:?}");
            continue;
        }
        let expected = Wish {
            refused: Some(7),
            forgets_refresh,
            idp: None,
        };
        assert_eq!(wish(step), expected);
        // From the beginning, with whatever there is.
        let step = oidc.given(Some(&token(8, Origin::Fresh))).unwrap();
        assert_eq!(sent(step).0, "saslStart");
        assert!(oidc.refused(&refusal(18)).is_none());
    }
}

#[test]
fn a_token_of_a_human_who_has_just_logged_in_is_not_asked_for_twice() {
    let mut oidc = Oidc::new(None);
    oidc.given(None).unwrap();
    let idp = rawdoc! { "issuer": "i" };
    oidc.handle(&reply(&idp, false)).unwrap();
    // Though another connection has waited for it and so finds it kept.
    oidc.given(Some(&token(1, Origin::Kept))).unwrap();
    assert!(oidc.refused(&refusal(18)).is_none());
}

#[test]
fn a_server_that_refuses_everything_is_given_up() {
    let mut oidc = Oidc::new(None);
    for generation in 1..=2 {
        oidc.given(Some(&token(generation, Origin::Kept))).unwrap();
        wish(oidc.refused(&refusal(18)));
    }
    oidc.given(Some(&token(3, Origin::Kept))).unwrap();
    assert!(oidc.refused(&refusal(18)).is_none());
}

#[test]
fn what_breaks_the_rules_ends_the_exchange() {
    let done = AuthFailure::Malformed { field: "done" };
    let mut oidc = Oidc::new(None);
    oidc.given(Some(&token(1, Origin::Fresh))).unwrap();
    let more = reply(&rawdoc! { "issuer": "i" }, false);
    assert_eq!(oidc.handle(&more).unwrap_err(), done);
    assert_eq!(oidc.handle(&taken()).unwrap_err(), done);

    for (idp, field) in [
        (rawdoc! {}, "issuer"),
        (rawdoc! { "issuer": 1 }, "issuer"),
        (
            rawdoc! { "issuer": "i", "requestScopes": [1] },
            "requestScopes",
        ),
    ] {
        let mut oidc = Oidc::new(None);
        oidc.given(None).unwrap();
        let failure = oidc.handle(&reply(&idp, false)).unwrap_err();
        assert_eq!(failure, AuthFailure::Malformed { field });
    }
    let mut oidc = Oidc::new(None);
    oidc.given(None).unwrap();
    assert_eq!(oidc.handle(&taken()).unwrap_err(), done);
    assert!(oidc.given(None).is_err());
}
