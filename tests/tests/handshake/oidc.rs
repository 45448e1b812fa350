//! The machine flow of MONGODB-OIDC: the prose tests of `mongodb-oidc.md`, by their numbers.

use std::io::Write as _;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use mongo_client::uri::CredentialError;
use mongo_client::{
    AuthFailure, Client, ClientOptions, Error, Misuse, OidcContext, OidcFault, OidcToken,
    SessionOptions,
};
use testbed::http::HttpService;

use super::cloud::Variables;
use super::oidc_server::{Application, Guarded, failure, find, good, good_once, insert};
use super::within;

/// A client whose callback gives these tokens.
fn client(
    guarded: &Guarded,
    application: &Application,
    give: impl Fn(usize, &OidcContext) -> OidcToken + Send + Sync + 'static,
) -> Client {
    let options = guarded
        .options("", "")
        .oidc_callback(application.callback(give));
    Client::with_options(options).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn prose_1_1_the_callback_is_called_during_authentication() {
    let (guarded, application) = (Guarded::start(), Application::default());
    let client = client(&guarded, &application, good);
    find(&client).await.unwrap();
    assert_eq!((application.count(), guarded.started()), (1, 1));
}

#[tokio::test(flavor = "multi_thread")]
async fn prose_1_2_the_callback_is_called_once_for_many_connections() {
    let (guarded, application) = (Guarded::start(), Application::default());
    let client = client(&guarded, &application, good);
    let finds: Vec<_> = (0..10)
        .map(|_| {
            let client = client.clone();
            tokio::spawn(async move {
                for _ in 0..100 {
                    find(&client).await.unwrap();
                }
            })
        })
        .collect();
    for find in finds {
        find.await.unwrap();
    }
    assert_eq!(application.count(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn prose_2_1_the_callback_hears_what_it_has_to() {
    for (properties, limit) in [
        ("", Duration::from_secs(60)),
        ("&timeoutMS=5000", Duration::from_secs(5)),
        (
            "&timeoutMS=50000&connectTimeoutMS=7000",
            Duration::from_secs(7),
        ),
    ] {
        let (guarded, application) = (Guarded::start(), Application::default());
        let options = guarded.options("me@", properties);
        let options = options.oidc_callback(application.callback(good));
        find(&Client::with_options(options).unwrap()).await.unwrap();
        let context = application.calls().remove(0);
        assert_eq!((context.version, context.timeout), (1, limit));
        assert_eq!(context.username.as_deref(), Some("me"));
        assert!(context.idp_info.is_none() && context.refresh_token.is_none());
    }
}

/// 2.2 and 2.3, in a language without null.
#[tokio::test(flavor = "multi_thread")]
async fn prose_2_2_and_2_3_no_token_is_an_error() {
    let (guarded, application) = (Guarded::start(), Application::default());
    let empty = client(&guarded, &application, |_, _| OidcToken::new(""));
    let error = failure(find(&empty).await);
    assert!(matches!(
        error.failure,
        AuthFailure::Oidc(OidcFault::NoToken(_))
    ));
    let options = guarded.options("", "");
    let options = options.oidc_callback(async |_| Err("the vault is sealed"));
    let error = failure(find(&Client::with_options(options).unwrap()).await);
    assert!(error.to_string().contains("the vault is sealed"), "{error}");
    assert_eq!(guarded.started(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_callback_that_takes_too_long_is_given_up() {
    let guarded = Guarded::start();
    let options = guarded.options("", "&timeoutMS=20000&connectTimeoutMS=1000");
    let never = |_| std::future::pending::<Result<OidcToken, Error>>();
    let client = Client::with_options(options.oidc_callback(never)).unwrap();
    let limit = Duration::from_secs(1);
    let error = failure(find(&client).await);
    assert_eq!(error.failure, AuthFailure::Oidc(OidcFault::Timeout(limit)));
}

#[tokio::test(flavor = "multi_thread")]
async fn prose_2_4_and_2_5_wrong_configurations_are_refused() {
    let parse = |text: &str| ClientOptions::parse(&format!("mongodb://localhost/?{text}")).unwrap();
    let token = async |_| Ok::<_, Error>(OidcToken::new("x"));
    let oidc = "authMechanism=MONGODB-OIDC";
    let test = "authMechanism=MONGODB-OIDC&authMechanismProperties=ENVIRONMENT:test";
    let azure = "authMechanism=MONGODB-OIDC\
                 &authMechanismProperties=ENVIRONMENT:azure,TOKEN_RESOURCE:r";
    let nowhere: [&str; 0] = [];
    for (options, expected) in [
        (
            parse(test).oidc_callback(token),
            "ENVIRONMENT and a callback",
        ),
        (
            parse(test).oidc_human_callback(token),
            "ENVIRONMENT and a callback",
        ),
        (
            parse(oidc).oidc_callback(token).oidc_human_callback(token),
            "oidc_callback and oidc_human_callback",
        ),
        (
            parse(azure).oidc_allowed_hosts(nowhere),
            "which is for humans",
        ),
        (
            parse(oidc).oidc_callback(token).oidc_allowed_hosts(nowhere),
            "which is for humans",
        ),
        (
            parse("").oidc_callback(token),
            "add authMechanism=MONGODB-OIDC",
        ),
        (parse(oidc), "give a callback in code"),
    ] {
        let error = Client::with_options(options).unwrap_err();
        assert!(matches!(error, Error::Misuse(_)), "{error}");
        assert!(error.to_string().contains(expected), "{error}");
    }
    let reason = CredentialError::NoTokens;
    let error = Client::with_options(parse(oidc)).unwrap_err();
    assert!(matches!(error, Error::Misuse(Misuse::Credential { reason: r }) if r == reason));
}

#[tokio::test(flavor = "multi_thread")]
async fn prose_3_1_a_kept_token_that_is_refused_is_replaced() {
    let (guarded, application) = (Guarded::start(), Application::default());
    let client = client(&guarded, &application, good);
    find(&client).await.unwrap();
    guarded.revoke("good 1");
    guarded.hangs_up_once("find");
    find(&client).await.unwrap_err();
    find(&client).await.unwrap();
    assert_eq!(application.count(), 2);
    // In the hello, which proves nothing, once more to hear why, and the new one.
    let offered = ["good 1", "good 1", "good 1", "good 2"];
    assert_eq!(guarded.offered(), offered);
}

#[tokio::test(flavor = "multi_thread")]
async fn prose_3_2_a_fresh_token_that_is_refused_is_an_error() {
    let (guarded, application) = (Guarded::start(), Application::default());
    let client = client(&guarded, &application, |_, _| OidcToken::new("bad"));
    let error = failure(find(&client).await);
    assert!(error.to_string().contains("the token's issuer"), "{error}");
    assert!(!format!("{error} {error:?}").contains("bad"));
    assert_eq!(application.count(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn prose_3_3_another_error_does_not_clear_the_cache() {
    let (guarded, application) = (Guarded::start(), Application::default());
    let client = client(&guarded, &application, good);
    guarded.fails_once("saslStart", 20);
    failure(find(&client).await);
    assert_eq!(application.count(), 1);
    find(&client).await.unwrap();
    assert_eq!(application.count(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn prose_4_1_reauthentication_succeeds() {
    let (guarded, application) = (Guarded::start(), Application::default());
    let client = client(&guarded, &application, good);
    guarded.fails_once("find", 391);
    find(&client).await.unwrap();
    assert_eq!(application.count(), 2);
    assert_eq!(guarded.offered(), ["good 1", "good 2"]);
    let finds = guarded.server.received_named("find");
    assert_eq!(finds[0].connection, finds[1].connection);
}

#[tokio::test(flavor = "multi_thread")]
async fn prose_4_2_and_4_3_commands_fail_if_reauthentication_does() {
    let (guarded, application) = (Guarded::start(), Application::default());
    let reader = client(&guarded, &application, good_once);
    find(&reader).await.unwrap();
    guarded.fails_once("find", 391);
    failure(find(&reader).await);
    assert_eq!(application.count(), 2);

    let application = Application::default();
    let writer = client(&guarded, &application, good_once);
    insert(&writer).await.unwrap();
    guarded.fails_once("insert", 391);
    failure(insert(&writer).await);
    assert_eq!(application.count(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn prose_4_4_reauthentication_does_not_speculate() {
    let (guarded, application) = (Guarded::start(), Application::default());
    let client = client(&guarded, &application, good);
    find(&client).await.unwrap();
    guarded.hangs_up_once("find");
    find(&client).await.unwrap_err();
    let (calls, started) = (application.count(), guarded.started());
    // A new connection, authenticated by its hello.
    insert(&client).await.unwrap();
    assert_eq!((application.count(), guarded.started()), (calls, started));
    let hellos = |guarded: &Guarded| {
        let received = guarded.server.received().into_iter();
        received
            .filter(|r| r.body.get("speculativeAuthenticate").unwrap().is_some())
            .count()
    };
    let speculated = hellos(&guarded);
    guarded.fails_once("insert", 391);
    insert(&client).await.unwrap();
    assert_eq!(
        (application.count(), guarded.started()),
        (calls + 1, started + 1)
    );
    assert_eq!((speculated, hellos(&guarded)), (1, 1));
}

#[tokio::test(flavor = "multi_thread")]
async fn prose_4_5_reauthentication_succeeds_in_a_session() {
    let (guarded, application) = (Guarded::start(), Application::default());
    let client = client(&guarded, &application, good);
    guarded.fails_once("find", 391);
    let session = client.start_session(SessionOptions::default()).unwrap();
    let database = client.database("db");
    let command = bson::rawdoc! { "find": "c" };
    within(database.run_command(&command).session(&session))
        .await
        .unwrap();
    assert_eq!(application.count(), 2);
    let sessions: Vec<_> = guarded
        .server
        .received_named("find")
        .iter()
        .map(|find| find.body.get_document("lsid").unwrap().to_owned())
        .collect();
    assert_eq!(sessions.len(), 2);
    assert_eq!(sessions[0], sessions[1]);
}

/// The second connection finds what the first one got, for which it was waiting.
#[tokio::test(flavor = "multi_thread")]
async fn two_connections_that_reauthenticate_share_one_new_token() {
    let (guarded, application) = (Guarded::start(), Application::default());
    let client = client(&guarded, &application, good);
    for _ in 0..2 {
        let held = testbed::scripted::Answer::silence().then_hold("both");
        let error = bson::rawdoc! { "ok": 0.0, "code": 391, "errmsg": "again" };
        guarded.server.once("find", held.then_reply(error));
    }
    let finds = [(), ()].map(|()| {
        let client = client.clone();
        tokio::spawn(async move { find(&client).await })
    });
    guarded
        .server
        .wait_for(super::PATIENCE, |received| {
            received.iter().filter(|r| r.name == "find").count() == 2
        })
        .unwrap();
    guarded.server.release("both");
    for find in finds {
        find.await.unwrap().unwrap();
    }
    assert_eq!(application.count(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn calls_never_overlap_and_are_a_tenth_of_a_second_apart() {
    let guarded = Guarded::start();
    let (running, calls) = (
        Arc::new(AtomicUsize::new(0)),
        Arc::new(Mutex::new(Vec::new())),
    );
    let began = Arc::clone(&calls);
    let options = guarded.options("", "").oidc_callback(move |_| {
        let running = Arc::clone(&running);
        began.lock().unwrap().push(Instant::now());
        async move {
            assert_eq!(running.fetch_add(1, Ordering::SeqCst), 0);
            tokio::task::yield_now().await;
            running.fetch_sub(1, Ordering::SeqCst);
            Err::<OidcToken, _>("not today")
        }
    });
    let client = Client::with_options(options).unwrap();
    while calls.lock().unwrap().len() < 4 {
        let (one, other) = tokio::join!(find(&client), find(&client));
        failure(one);
        failure(other);
    }
    let calls = calls.lock().unwrap();
    for pair in calls.windows(2) {
        let apart = pair[1] - pair[0];
        assert!(apart >= Duration::from_millis(99), "{apart:?}");
    }
}

fn in_cloud(guarded: &Guarded, user: &str, environment: &str) -> ClientOptions {
    let properties = format!("&authMechanismProperties=ENVIRONMENT:{environment}");
    guarded.options(user, &properties)
}

#[tokio::test(flavor = "multi_thread")]
async fn prose_5_1_and_5_2_azure_gives_tokens_to_whom_it_knows() {
    let guarded = Guarded::start();
    let azure = HttpService::start(|request| {
        assert_eq!(request.header("metadata"), Some("true"));
        assert_eq!(request.header("accept"), Some("application/json"));
        let (path, query) = request.target.split_once('?').unwrap();
        assert_eq!(path, "/metadata/identity/oauth2/token");
        let resource = "api-version=2018-02-01&resource=api%3A%2F%2Fx";
        match query.strip_prefix(resource).unwrap() {
            "" => (
                200,
                r#"{"access_token": "good azure", "expires_in": "3599"}"#.to_owned(),
            ),
            "&client_id=bad" => (400, "no such identity".to_owned()),
            other => (500, other.to_owned()),
        }
    })
    .unwrap();
    let environment = "azure,TOKEN_RESOURCE:api%3A//x";
    for (user, expected) in [
        ("", None),
        ("bad@", Some("400 Bad Request: no such identity")),
    ] {
        let options = in_cloud(&guarded, user, environment);
        let options = Variables::default().surround(options, Some(&azure));
        let result = find(&Client::with_options(options).unwrap()).await;
        match expected {
            None => result.unwrap(),
            Some(expected) => {
                let error = failure(result);
                assert!(error.to_string().contains(expected), "{error}");
            }
        }
    }
    assert_eq!(guarded.offered(), ["good azure"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn google_gives_the_token_as_it_is() {
    let guarded = Guarded::start();
    let google = HttpService::start(|request| {
        assert_eq!(request.header("metadata-flavor"), Some("Google"));
        let path = "/computeMetadata/v1/instance/service-accounts/default/identity";
        assert_eq!(request.target, format!("{path}?audience=x%2Cy"));
        (200, "good google\n".to_owned())
    })
    .unwrap();
    // With a comma, the resource cannot stand in a connection string.
    let mut uri = mongo_client::uri::ConnectionString::parse(&format!(
        "mongodb://{}/?directConnection=true&authMechanism=MONGODB-OIDC\
         &authMechanismProperties=ENVIRONMENT:gcp,TOKEN_RESOURCE:x",
        guarded.server.address()
    ))
    .unwrap();
    let properties = &mut uri.credential.as_mut().unwrap().properties;
    properties.token_resource = Some("x,y".to_owned());
    let options = Variables::default().surround(uri.into(), Some(&google));
    find(&Client::with_options(options).unwrap()).await.unwrap();
    assert_eq!(guarded.offered(), ["good google"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn token_files_are_found_by_their_variables() {
    let file = |token: &str| {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        writeln!(file, "{token}").unwrap();
        file
    };
    let files = [file("good azure"), file("good aws"), file("good test")];
    let [azure, aws, test] = files.each_ref().map(|file| file.path().to_str().unwrap());
    let azure = ("AZURE_FEDERATED_TOKEN_FILE", azure);
    let aws = ("AWS_WEB_IDENTITY_TOKEN_FILE", aws);
    let test = ("OIDC_TOKEN_FILE", test);
    for (environment, set, expected) in [
        ("k8s", &[azure, aws, test][..], Ok("good azure")),
        ("k8s", &[aws, test], Ok("good aws")),
        (
            "k8s",
            &[test],
            Err("/var/run/secrets/kubernetes.io/serviceaccount/token: "),
        ),
        ("test", &[azure, aws, test], Ok("good test")),
        ("test", &[azure], Err("OIDC_TOKEN_FILE is not set")),
    ] {
        let guarded = Guarded::start();
        let options = in_cloud(&guarded, "", environment);
        let options = Variables::of(set).surround(options, None);
        let result = find(&Client::with_options(options).unwrap()).await;
        match expected {
            Ok(token) => {
                result.unwrap();
                assert_eq!(guarded.offered(), [token]);
            }
            Err(expected) => {
                let error = failure(result);
                assert!(error.to_string().contains(expected), "{error}");
            }
        }
    }
}
