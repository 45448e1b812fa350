//! Users of a real replica set.

use integration_tests::{in_time, within};
use std::time::Duration;

use bson::{RawDocument, rawdoc};
use mongo_client::uri::AuthMechanism;
use mongo_client::{AuthFailure, AuthenticationError, Client, Error};

use super::deployment::{USERS, set, uri};

/// Who the server takes a client for: user and database.
async fn who(uri: &str) -> Result<(String, String), Error> {
    let client = Client::new(uri)?;
    let reply = within(client.run_admin_command(&rawdoc! { "connectionStatus": 1 })).await?;
    let info = reply.document().as_raw().get_document("authInfo").unwrap();
    let users = info.get_array("authenticatedUsers").unwrap();
    let user = users.get_document(0).unwrap();
    let text = |key| user.get_str(key).unwrap().to_owned();
    Ok((text("user"), text("db")))
}

async fn failure(uri: &str) -> AuthenticationError {
    match who(uri).await {
        Err(Error::Authentication(error)) => *error,
        other => panic!("{other:?}"),
    }
}

fn code(error: &AuthenticationError) -> Option<i32> {
    match &error.failure {
        AuthFailure::Refused(error) => error.code,
        _ => None,
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_user_gets_in_by_each_mechanism_it_has_and_by_none_given() {
    for (user, password, mechanisms) in USERS {
        let mut options = vec![String::new()];
        options.extend(mechanisms.iter().map(|m| format!("&authMechanism={m}")));
        for options in options {
            let found = who(&uri(user, password, &options).await).await;
            let expected = (user.to_owned(), "admin".to_owned());
            assert_eq!(found.unwrap(), expected, "{options}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn passwords_may_come_in_any_form_that_saslprep_makes_one() {
    for (user, password) in [
        ("IX", "I\u{ad}X"),
        ("\u{2168}", "IV"),
        ("\u{2168}", "I\u{ad}V"),
    ] {
        let found = who(&uri(user, password, "").await).await.unwrap();
        assert_eq!(found.0, user);
    }
    // The user's name is another matter.
    let error = failure(&uri("I\u{ad}X", "IX", "").await).await;
    assert_eq!(code(&error), Some(18));
}

#[tokio::test(flavor = "multi_thread")]
async fn auth_source_says_where_the_user_is() {
    let found = who(&uri("app", "pwapp", "&authSource=elsewhere").await).await;
    assert_eq!(found.unwrap(), ("app".to_owned(), "elsewhere".to_owned()));
    let error = failure(&uri("app", "pwapp", "").await).await;
    assert_eq!((error.database.as_str(), code(&error)), ("admin", Some(18)));
}

#[tokio::test(flavor = "multi_thread")]
async fn wrong_credentials_fail_soon_and_say_what_to_look_at() {
    let address = set().await.addresses().remove(0);
    for (user, password, options, mechanism) in [
        ("both", "hunter2", "", AuthMechanism::ScramSha256),
        ("sha1", "hunter2", "", AuthMechanism::ScramSha1),
        ("nobody", "hunter2", "", AuthMechanism::ScramSha1),
        (
            "nobody",
            "hunter2",
            "&authMechanism=SCRAM-SHA-256",
            AuthMechanism::ScramSha256,
        ),
        (
            "sha1",
            "pw1",
            "&authMechanism=SCRAM-SHA-256",
            AuthMechanism::ScramSha256,
        ),
        (
            "sha256",
            "pw256",
            "&authMechanism=SCRAM-SHA-1",
            AuthMechanism::ScramSha1,
        ),
    ] {
        let uri = uri(user, password, options).await;
        let error = in_time(Duration::from_secs(10), failure(&uri)).await;
        assert_eq!(
            (error.mechanism, code(&error)),
            (mechanism, Some(18)),
            "{user}"
        );
        let message = error.to_string();
        for part in [&address, user, mechanism.as_str(), "check the user name"] {
            assert!(message.contains(part), "{message}");
        }
        assert!(
            !format!("{error:?} {message}").contains(password),
            "{message}"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_mechanism_that_the_server_lacks_is_named() {
    let error = failure(&uri("both", "pwboth", "&authMechanism=PLAIN").await).await;
    assert_eq!(error.mechanism, AuthMechanism::Plain);
    let message = error.to_string();
    assert!(
        message.contains("PLAIN") && code(&error).is_some(),
        "{message}"
    );
    // A client without a certificate is nobody to X.509.
    let hosts = set().await.uri();
    let error = failure(&format!("{hosts}&authMechanism=MONGODB-X509")).await;
    assert_eq!(
        (error.mechanism, error.user),
        (AuthMechanism::MongoDbX509, None)
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn access_control_is_on() {
    let client = Client::new(&set().await.uri()).unwrap();
    let command = rawdoc! { "listDatabases": 1 };
    let error = within(client.run_admin_command(&command))
        .await
        .unwrap_err();
    assert_eq!(error.code(), Some(13));
}

/// The counter of successful first messages in hellos.
fn speculated(status: &RawDocument) -> i64 {
    let mut document = status;
    for key in ["security", "authentication", "mechanisms", "SCRAM-SHA-256"] {
        document = document.get_document(key).unwrap();
    }
    let counters = document.get_document("speculativeAuthenticate").unwrap();
    counters.get_i64("successful").unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_connection_authenticates_within_its_hello() {
    let status = rawdoc! { "serverStatus": 1 };
    let uri = uri("both", "pwboth", "").await;
    let (mut counts, mut clients) = (Vec::new(), Vec::new());
    for _ in 0..2 {
        let client = Client::new(&uri).unwrap();
        let reply = within(client.run_admin_command(&status)).await.unwrap();
        counts.push(speculated(reply.document().as_raw()));
        clients.push(client);
    }
    assert!(counts[0] < counts[1], "{counts:?}");
}
