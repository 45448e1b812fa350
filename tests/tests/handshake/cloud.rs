//! What the tests of MONGODB-AWS and MONGODB-OIDC share: a server's half of a SASL conversation, and
//! a program's surroundings.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use bson::spec::BinarySubtype;
use bson::{Binary, RawBsonRef, RawDocument, RawDocumentBuf, rawdoc};
use integration_tests::ping;
use mongo_client::{Client, ClientOptions};
use testbed::http::HttpService;
use testbed::scripted::{Answer, Received, ScriptedServer};

pub(crate) fn binary(bytes: Vec<u8>) -> Binary {
    let subtype = BinarySubtype::Generic;
    Binary { subtype, bytes }
}

pub(crate) fn sasl(message: &RawDocument, done: bool) -> Answer {
    let payload = binary(message.as_bytes().to_vec());
    Answer::reply(rawdoc! { "conversationId": 1, "payload": payload, "done": done, "ok": 1.0 })
}

pub(crate) fn payload(received: &Received) -> RawDocumentBuf {
    payload_of(&received.body)
}

pub(crate) fn payload_of(command: &RawDocument) -> RawDocumentBuf {
    let Some(RawBsonRef::Binary(binary)) = command.get("payload").unwrap() else {
        panic!("{command:?}")
    };
    RawDocumentBuf::from_bytes(binary.bytes.to_vec()).unwrap()
}

/// Environment variables that a test changes as it goes.
#[derive(Clone, Default)]
pub(crate) struct Variables(Arc<Mutex<BTreeMap<String, String>>>);

impl Variables {
    pub(crate) fn of(set: &[(&str, &str)]) -> Self {
        let variables = Self::default();
        variables.set(set);
        variables
    }

    /// In the place of this process's own, and of all services of a cloud.
    pub(crate) fn surround(
        &self,
        options: ClientOptions,
        services: Option<&HttpService>,
    ) -> ClientOptions {
        let Self(set) = self.clone();
        let variable = move |name: &str| set.lock().unwrap().get(name).cloned();
        let services = services.map(HttpService::url);
        // Nobody may ask the real ones.
        let services = services.unwrap_or_else(|| "http://127.0.0.1:1".to_owned());
        options.surroundings(variable, Some(services))
    }

    pub(crate) fn set(&self, set: &[(&str, &str)]) {
        let owned = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
        *self.0.lock().unwrap() = set.iter().map(owned).collect();
    }
}

/// Makes the next command need a new connection.
pub(crate) async fn reconnect(server: &ScriptedServer, client: &Client) {
    server.once("ping", Answer::silence().then_close());
    ping(client).await.unwrap_err();
}
