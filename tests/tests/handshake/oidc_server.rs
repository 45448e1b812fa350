//! A scripted server that takes tokens, and an application that has some.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};

use bson::{RawDocument, RawDocumentBuf, rawdoc};
use mongo_client::uri::AuthMechanism;
use mongo_client::{AuthenticationError, Client, ClientOptions, Error, OidcContext, OidcToken};
use testbed::scripted::{Answer, HelloScript, ScriptedServer};

use super::cloud::{binary, payload, payload_of, sasl};
use super::within;

/// A server, which tokens it takes, and which it was offered.
pub(crate) struct Guarded {
    pub(crate) server: ScriptedServer,
    revoked: Arc<Mutex<BTreeSet<String>>>,
    offered: Arc<Mutex<Vec<String>>>,
}

impl Guarded {
    /// Takes every token that begins with `good`, unless it is revoked.
    pub(crate) fn start() -> Self {
        let server = ScriptedServer::start(|_| HelloScript::standalone()).unwrap();
        let (revoked, offered) = (Arc::<Mutex<BTreeSet<String>>>::default(), Arc::default());
        let guarded = Self {
            server,
            revoked,
            offered,
        };
        let judge = guarded.judge();
        guarded.server.always("saslStart", move |received| {
            assert_eq!(received.database, "$external");
            let mechanism = received.body.get_str("mechanism").unwrap();
            assert_eq!(mechanism, "MONGODB-OIDC");
            let message = payload(received);
            match message.get_str("jwt") {
                Ok(token) => judge(token),
                Err(_) => idp(message.get_str("n").ok()),
            }
        });
        let judge = guarded.judge();
        guarded.server.always("saslContinue", move |received| {
            judge(payload(received).get_str("jwt").unwrap())
        });
        let judge = guarded.judge();
        guarded.server.always("hello", move |received| {
            let mut hello = rawdoc! { "ok": 1.0, "isWritablePrimary": true, "maxWireVersion": 21,
            "maxMessageSizeBytes": 48_000_000, "logicalSessionTimeoutMinutes": 30 };
            let speculated = received.body.get_document("speculativeAuthenticate");
            if let Ok(command) = speculated {
                assert_eq!(command.get_str("db").unwrap(), "$external");
                let token = payload_of(command);
                if is_done(&judge(token.get_str("jwt").unwrap())) {
                    let answer = rawdoc! {
                        "conversationId": 1, "done": true, "payload": binary(Vec::new()),
                    };
                    hello.append(bson::cstr!("speculativeAuthenticate"), answer);
                }
            }
            Answer::reply(hello)
        });
        for command in ["find", "insert"] {
            guarded.server.always(command, |_| Answer::ok());
        }
        guarded
    }

    fn judge(&self) -> impl Fn(&str) -> Answer + Send + Sync + 'static {
        let (revoked, offered) = (Arc::clone(&self.revoked), Arc::clone(&self.offered));
        move |token| {
            offered.lock().unwrap().push(token.to_owned());
            if token.starts_with("good") && !revoked.lock().unwrap().contains(token) {
                sasl(&RawDocumentBuf::new(), true)
            } else {
                Answer::error(18, "AuthenticationFailed", &[])
            }
        }
    }

    pub(crate) fn revoke(&self, token: &str) {
        self.revoked.lock().unwrap().insert(token.to_owned());
    }

    /// All tokens so far, in hellos and in SASL messages.
    pub(crate) fn offered(&self) -> Vec<String> {
        self.offered.lock().unwrap().clone()
    }

    pub(crate) fn started(&self) -> usize {
        self.server.received_named("saslStart").len()
    }

    /// A connection string with a user before the host and properties.
    pub(crate) fn options(&self, user: &str, properties: &str) -> ClientOptions {
        let address = self.server.address();
        let uri = format!(
            "mongodb://{user}{address}/?directConnection=true&retryReads=false\
             &authMechanism=MONGODB-OIDC{properties}"
        );
        ClientOptions::parse(&uri).unwrap()
    }

    /// The next command of this name fails, as by a fail point.
    pub(crate) fn fails_once(&self, command: &str, code: i32) {
        self.server
            .once(command, Answer::error(code, "Scripted", &[]));
    }

    /// Ends the connection of the next command.
    pub(crate) fn hangs_up_once(&self, command: &str) {
        self.server.once(command, Answer::silence().then_close());
    }
}

fn is_done(answer: &Answer) -> bool {
    format!("{answer:?}") == format!("{:?}", sasl(&RawDocumentBuf::new(), true))
}

/// What the server says of its identity providers: it has one for humans, one for machines, and
/// one for the user `nobody`, who has none.
fn idp(user: Option<&str>) -> Answer {
    let message = match user {
        Some("nobody") => return Answer::error(18, "AuthenticationFailed", &[]),
        Some("test_machine") => rawdoc! { "issuer": "https://machines" },
        _ => rawdoc! {
            "issuer": "https://humans", "clientId": "app", "requestScopes": ["a", "b"],
        },
    };
    sasl(&message, false)
}

/// What an application's callback was told, and what it gives.
#[derive(Clone, Default)]
pub(crate) struct Application {
    calls: Arc<Mutex<Vec<OidcContext>>>,
}

impl Application {
    /// Gives what `give` makes of the number of the call, which begins at 1, and its context.
    pub(crate) fn callback(
        &self,
        give: impl Fn(usize, &OidcContext) -> OidcToken + Send + Sync + 'static,
    ) -> impl Fn(OidcContext) -> std::future::Ready<Result<OidcToken, Error>> + Send + Sync + 'static
    {
        let calls = Arc::clone(&self.calls);
        move |context| {
            let mut calls = calls.lock().unwrap();
            let token = give(calls.len() + 1, &context);
            calls.push(context);
            std::future::ready(Ok(token))
        }
    }

    pub(crate) fn calls(&self) -> Vec<OidcContext> {
        self.calls.lock().unwrap().clone()
    }

    pub(crate) fn count(&self) -> usize {
        self.calls().len()
    }
}

/// `good 1`, `good 2` and so on.
pub(crate) fn good(number: usize, _: &OidcContext) -> OidcToken {
    OidcToken::new(format!("good {number}"))
}

/// A good one, and bad ones after that.
pub(crate) fn good_once(number: usize, _: &OidcContext) -> OidcToken {
    let quality = if number == 1 { "good" } else { "bad" };
    OidcToken::new(format!("{quality} {number}"))
}

async fn run(client: &Client, command: &RawDocument) -> Result<(), Error> {
    let answer = within(client.database("db").run_command(command)).await;
    answer.map(drop)
}

pub(crate) async fn find(client: &Client) -> Result<(), Error> {
    run(client, &rawdoc! { "find": "c" }).await
}

pub(crate) async fn insert(client: &Client) -> Result<(), Error> {
    run(
        client,
        &rawdoc! { "insert": "c", "documents": [{ "_id": 1 }] },
    )
    .await
}

pub(crate) fn failure(result: Result<(), Error>) -> AuthenticationError {
    match result {
        Err(Error::Authentication(error)) => {
            assert_eq!(error.mechanism, AuthMechanism::MongoDbOidc);
            *error
        }
        other => panic!("{other:?}"),
    }
}
