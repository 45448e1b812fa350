//! The human flow of MONGODB-OIDC: the prose tests of `mongodb-oidc.md`, by their numbers.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bson::rawdoc;
use integration_tests::recorder::{Counts, Recorder};
use integration_tests::{batch, within};
use mongo_client::events::CommandStep;
use mongo_client::{
    AuthFailure, Client, ClientOptions, Error, Event, OidcContext, OidcFault, OidcToken,
};
use testbed::scripted::Answer;

use super::oidc_server::{Application, Guarded, failure, find, good};

/// A good token with a refresh token.
fn refreshable(number: usize, _: &OidcContext) -> OidcToken {
    OidcToken::new(format!("good {number}")).refresh_token(format!("refresh {number}"))
}

fn client(
    guarded: &Guarded,
    user: &str,
    application: &Application,
    give: impl Fn(usize, &OidcContext) -> OidcToken + Send + Sync + 'static,
) -> Client {
    let options = guarded.options(user, "");
    let options = options.oidc_human_callback(application.callback(give));
    Client::with_options(options).unwrap()
}

/// Finds, and once more when the server wants the connection to authenticate again.
async fn find_twice(client: &Client, guarded: &Guarded) {
    find(client).await.unwrap();
    guarded.fails_once("find", 391);
    find(client).await.unwrap();
}

/// 1.1 to 1.5, and 1.8.
#[tokio::test(flavor = "multi_thread")]
async fn prose_1_1_to_1_5_and_1_8_whoever_has_a_provider_logs_in_there() {
    for (user, issuer, client_id) in [
        ("", "https://humans", Some("app")),
        ("test_user1@", "https://humans", Some("app")),
        ("test_user2@", "https://humans", Some("app")),
        ("test_machine@", "https://machines", None),
    ] {
        let (guarded, application) = (Guarded::start(), Application::default());
        find(&client(&guarded, user, &application, refreshable))
            .await
            .unwrap();
        let context = application.calls().remove(0);
        let idp = context.idp_info.unwrap();
        assert_eq!(
            (&*idp.issuer, idp.client_id.as_deref()),
            (issuer, client_id)
        );
    }
    let (guarded, application) = (Guarded::start(), Application::default());
    failure(find(&client(&guarded, "nobody@", &application, refreshable)).await);
    assert_eq!(application.count(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn prose_1_6_hosts_that_are_not_allowed_learn_nothing() {
    for hosts in [&[][..], &["example.com"]] {
        let (guarded, application) = (Guarded::start(), Application::default());
        let options = guarded.options("", "&ignored=example.com");
        let options = options
            .oidc_human_callback(application.callback(refreshable))
            .oidc_allowed_hosts(hosts.iter().copied());
        let error = failure(find(&Client::with_options(options).unwrap()).await);
        assert_eq!(error.failure, AuthFailure::Oidc(OidcFault::HostNotAllowed));
        assert!(error.to_string().contains("oidc_allowed_hosts"), "{error}");
        assert_eq!((application.count(), guarded.started()), (0, 0));
    }
}

#[test]
fn prose_1_7_allowed_hosts_stand_in_no_connection_string() {
    let uri = "mongodb+srv://example.com/?authMechanism=MONGODB-OIDC\
               &authMechanismProperties=ALLOWED_HOSTS:%5B%22example.com%22%5D";
    let error = ClientOptions::parse(uri).unwrap_err();
    assert!(error.to_string().contains("set it in code"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn prose_2_1_the_callback_hears_what_it_has_to() {
    let (guarded, application) = (Guarded::start(), Application::default());
    find(&client(&guarded, "me@", &application, refreshable))
        .await
        .unwrap();
    let context = application.calls().remove(0);
    assert_eq!(
        (context.version, context.timeout),
        (1, Duration::from_secs(300))
    );
    assert_eq!(context.username.as_deref(), Some("me"));
    assert_eq!(context.idp_info.unwrap().request_scopes, ["a", "b"]);
    assert!(context.refresh_token.is_none());
}

#[tokio::test(flavor = "multi_thread")]
async fn prose_2_2_no_token_is_an_error() {
    let (guarded, application) = (Guarded::start(), Application::default());
    let empty = |_: usize, _: &OidcContext| OidcToken::new("");
    let error = failure(find(&client(&guarded, "", &application, empty)).await);
    assert!(matches!(
        error.failure,
        AuthFailure::Oidc(OidcFault::NoToken(_))
    ));
}

#[tokio::test(flavor = "multi_thread")]
async fn prose_2_3_the_refresh_token_is_passed_to_the_callback() {
    let (guarded, application) = (Guarded::start(), Application::default());
    let client = client(&guarded, "", &application, refreshable);
    find_twice(&client, &guarded).await;
    let calls = application.calls();
    let refresh: Vec<_> = calls
        .iter()
        .map(|call| call.refresh_token.as_ref().map(|token| token.expose()))
        .collect();
    assert_eq!(refresh, [None, Some("refresh 1")]);
    assert_eq!(calls[1].idp_info, calls[0].idp_info);
}

#[tokio::test(flavor = "multi_thread")]
async fn prose_3_1_a_kept_token_goes_into_the_hello() {
    let (guarded, application) = (Guarded::start(), Application::default());
    let client = client(&guarded, "", &application, refreshable);
    find(&client).await.unwrap();
    guarded.hangs_up_once("find");
    find(&client).await.unwrap_err();
    guarded.fails_once("saslStart", 18);
    find(&client).await.unwrap();
    assert_eq!(application.count(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn prose_3_2_without_a_token_nothing_is_speculated() {
    let (guarded, application) = (Guarded::start(), Application::default());
    let client = client(&guarded, "", &application, refreshable);
    guarded.fails_once("saslStart", 18);
    failure(find(&client).await);
    assert_eq!(application.count(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn prose_4_1_reauthentication_succeeds_and_can_be_seen() {
    let (guarded, application) = (Guarded::start(), Application::default());
    let recorder = Recorder::default();
    let options = guarded.options("", "").on_event(recorder.listener());
    let options = options.oidc_human_callback(application.callback(refreshable));
    let client = Client::with_options(options).unwrap();
    find(&client).await.unwrap();
    assert_eq!(application.count(), 1);
    let before = recorder.events().len();
    guarded.fails_once("find", 391);
    find(&client).await.unwrap();
    assert_eq!(application.count(), 2);
    let events = recorder.events().split_off(before);
    let steps: Vec<_> = events
        .iter()
        .filter_map(|event| match event {
            Event::Command(event) => Some((
                event.command_name.as_str(),
                match event.step {
                    CommandStep::Started { .. } => "started",
                    CommandStep::Succeeded { .. } => "succeeded",
                    _ => "failed",
                },
            )),
            _ => None,
        })
        .collect();
    let expected = ["started", "failed", "started", "succeeded"].map(|step| ("find", step));
    assert_eq!(steps, expected);
}

#[tokio::test(flavor = "multi_thread")]
async fn prose_4_2_reauthentication_succeeds_without_a_refresh_token() {
    let (guarded, application) = (Guarded::start(), Application::default());
    let client = client(&guarded, "", &application, good);
    find_twice(&client, &guarded).await;
    let calls = application.calls();
    assert_eq!(calls.len(), 2);
    assert!(calls.iter().all(|call| call.refresh_token.is_none()));
}

#[tokio::test(flavor = "multi_thread")]
async fn prose_4_3_reauthentication_succeeds_though_refreshing_fails() {
    let (guarded, application) = (Guarded::start(), Application::default());
    let client = client(&guarded, "", &application, refreshable);
    find(&client).await.unwrap();
    // What is had for the refresh token is refused, and the human logs in again.
    guarded.revoke("good 2");
    guarded.fails_once("find", 391);
    find(&client).await.unwrap();
    let calls = application.calls();
    let had: Vec<_> = calls
        .iter()
        .map(|call| call.refresh_token.is_some())
        .collect();
    assert_eq!(had, [false, true, false]);
    assert_eq!(guarded.offered(), ["good 1", "good 2", "good 3"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn prose_4_4_reauthentication_fails_in_the_end() {
    let (guarded, application) = (Guarded::start(), Application::default());
    let client = client(&guarded, "", &application, |number, _| {
        let quality = if number == 1 { "good" } else { "bad" };
        OidcToken::new(quality).refresh_token("of no use")
    });
    find(&client).await.unwrap();
    assert_eq!(application.count(), 1);
    guarded.fails_once("find", 391);
    failure(find(&client).await);
    assert_eq!(application.count(), 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_operation_waits_for_the_log_in_and_not_only_for_a_server() {
    let guarded = Guarded::start();
    let options = guarded.options("", "&serverSelectionTimeoutMS=1000&connectTimeoutMS=1000");
    let options = options.oidc_human_callback(async |_| {
        // A human reads the page.
        tokio::time::sleep(Duration::from_secs(3)).await;
        Ok::<_, Error>(OidcToken::new("good"))
    });
    find(&Client::with_options(options).unwrap()).await.unwrap();
}

/// The connection that the cursor was opened on is closed meanwhile, and its token is refused.
#[tokio::test(flavor = "multi_thread")]
async fn the_next_batch_waits_for_the_log_in_too() {
    let guarded = Guarded::start();
    let server = &guarded.server;
    server.always("find", |_| Answer::reply(batch::first(41, [])));
    server.always("getMore", |_| Answer::reply(batch::next(0, [])));
    let recorder = Recorder::default();
    let limits = "&serverSelectionTimeoutMS=200&connectTimeoutMS=200&maxIdleTimeMS=1";
    let count = AtomicUsize::new(0);
    let options = guarded.options("", limits).on_event(recorder.listener());
    let options = options.oidc_human_callback(move |_| {
        let number = count.fetch_add(1, Ordering::Relaxed);
        async move {
            // A human reads the page.
            tokio::time::sleep(Duration::from_millis(600)).await;
            Ok::<_, Error>(OidcToken::new(format!("good {number}")))
        }
    });
    let database = Client::with_options(options).unwrap().database("test");
    let command = rawdoc! { "find": "test" };
    let mut cursor = within(database.run_cursor_command(&command)).await.unwrap();
    let is_closed = |events: &[Event]| Counts::of(events).closed == 1;
    recorder.wait_for(is_closed).await;
    guarded.revoke("good 0");
    let next = within(cursor.next()).await;
    assert!(next.is_none(), "{next:?}");
    assert_eq!(guarded.offered().last().unwrap(), "good 1");
}

/// Two connections are opened at once, and the human is asked once.
#[tokio::test(flavor = "multi_thread")]
async fn one_log_in_serves_all_connections() {
    let (guarded, application) = (Guarded::start(), Application::default());
    let client = client(&guarded, "", &application, refreshable);
    let finds: Vec<_> = (0..10)
        .map(|_| {
            let client = client.clone();
            tokio::spawn(async move { find(&client).await })
        })
        .collect();
    for find in finds {
        find.await.unwrap().unwrap();
    }
    assert_eq!(application.count(), 1);
}
