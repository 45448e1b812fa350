//! MONGODB-AWS (Authentication specification, prose tests of `mongodb-aws.md`), against a scripted
//! server that looks for known keys and a service that plays AWS.

use std::collections::BTreeMap;
use std::io::Write as _;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use bson::{DateTime, RawDocumentBuf, rawdoc};
use integration_tests::ping;
use mongo_client::uri::AuthMechanism;
use mongo_client::{AwsCredentials, AwsFault, Client, ClientOptions, Error, Misuse};
use testbed::http::{HttpRequest, HttpService};
use testbed::scripted::{Answer, HelloScript, ScriptedServer};

use super::cloud::{Variables, binary, payload, reconnect, sasl};

const ID: &str = "AKIAI44QH8DHBEXAMPLE";
const KEY: &str = "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY";
const HOUR: i64 = 60 * 60 * 1000;

/// Lets in whoever signs with [`ID`], and remembers who came with which token.
fn server() -> (ScriptedServer, Arc<Mutex<Vec<String>>>) {
    let server = ScriptedServer::start(|me| HelloScript::primary("rs0", me, &[me])).unwrap();
    server.always("saslStart", |received| {
        assert_eq!(received.body.get_str("mechanism").unwrap(), "MONGODB-AWS");
        assert_eq!(received.database, "$external");
        let first = payload(received);
        assert_eq!(first.get_i32("p").unwrap(), 110);
        let client = first.get_binary("r").unwrap().bytes;
        assert_eq!(client.len(), 32);
        let nonce = binary([client, &[7; 32]].concat());
        sasl(
            &rawdoc! { "s": nonce, "h": "sts.eu-central-1.amazonaws.com" },
            false,
        )
    });
    let identities = Arc::new(Mutex::new(Vec::new()));
    let seen = Arc::clone(&identities);
    server.always("saslContinue", move |received| {
        let message = payload(received);
        let header = message.get_str("a").unwrap();
        let (_, rest) = header.split_once("Credential=").unwrap();
        let id = rest.split('/').next().unwrap();
        assert!(rest.contains("/eu-central-1/sts/aws4_request"), "{rest}");
        let token = message.get_str("t").unwrap_or("no token");
        seen.lock().unwrap().push(format!("{id}, {token}"));
        if id == ID {
            sasl(&RawDocumentBuf::new(), true)
        } else {
            Answer::error(18, "AuthenticationFailed", &[])
        }
    });
    (server, identities)
}

fn options(server: &ScriptedServer) -> ClientOptions {
    let uri = format!("mongodb://{}/?authMechanism=MONGODB-AWS", server.address());
    ClientOptions::parse(&uri).unwrap()
}

fn client(
    server: &ScriptedServer,
    variables: &Variables,
    services: Option<&HttpService>,
) -> Client {
    Client::with_options(variables.surround(options(server), services)).unwrap()
}

fn failure(result: Result<(), Error>) -> String {
    match result {
        Err(Error::Authentication(error)) => {
            assert_eq!(error.mechanism, AuthMechanism::MongoDbAws);
            error.to_string()
        }
        other => panic!("{other:?}"),
    }
}

/// What ECS and EC2 answer.
fn credentials(id: &str, token: &str, expires_in: i64) -> String {
    let expires = DateTime::from_millis(DateTime::now().timestamp_millis() + expires_in);
    let expires = expires.try_to_rfc3339_string().unwrap();
    format!(
        r#"{{"Code": "Success", "AccessKeyId": "{id}", "SecretAccessKey": "{KEY}",
            "Token": "{token}", "Expiration": "{expires}"}}"#
    )
}

/// A container's agent that gives credentials with a number for a token; the first ones are made
/// by `first`.
fn ecs(first: impl Fn() -> String + Send + 'static) -> HttpService {
    let count = AtomicUsize::new(0);
    HttpService::start(move |request| {
        assert_eq!((&*request.method, &*request.target), ("GET", "/v2/me"));
        let answer = match count.fetch_add(1, Ordering::Relaxed) {
            0 => first(),
            number => credentials(ID, &number.to_string(), HOUR),
        };
        (200, answer)
    })
    .unwrap()
}

const ECS: (&str, &str) = ("AWS_CONTAINER_CREDENTIALS_RELATIVE_URI", "/v2/me");

/// Scenarios 1, 4 and 6 of the specification.
#[tokio::test(flavor = "multi_thread")]
async fn keys_come_from_the_environment_with_a_token_or_without() {
    let (server, seen) = server();
    let key = [("AWS_ACCESS_KEY_ID", ID), ("AWS_SECRET_ACCESS_KEY", KEY)];
    let variables = Variables::of(&key);
    let client = client(&server, &variables, None);
    ping(&client).await.unwrap();
    // They are read again for each connection.
    let [id, secret] = key;
    variables.set(&[id, secret, ("AWS_SESSION_TOKEN", "a/token")]);
    reconnect(&server, &client).await;
    ping(&client).await.unwrap();
    let expected = [format!("{ID}, no token"), format!("{ID}, a/token")];
    assert_eq!(*seen.lock().unwrap(), expected);
    // Nothing of it stands in a hello.
    let received = server.received();
    for hello in received.iter().filter(|received| received.is_hello()) {
        let speculated = hello.body.get("speculativeAuthenticate").unwrap();
        assert!(speculated.is_none());
    }
}

/// Scenario 2.
#[tokio::test(flavor = "multi_thread")]
async fn a_virtual_machine_asks_its_metadata_service() {
    let (server, seen) = server();
    let metadata = HttpService::start(|request| {
        let token = request.header("x-aws-ec2-metadata-token");
        let roles = "/latest/meta-data/iam/security-credentials/";
        match (&*request.method, &*request.target) {
            ("PUT", "/latest/api/token") => {
                let seconds = request.header("x-aws-ec2-metadata-token-ttl-seconds");
                assert_eq!(seconds, Some("30"));
                (200, "session".to_owned())
            }
            _ if token != Some("session") => (401, String::new()),
            ("GET", target) if target == roles => (200, "role\n".to_owned()),
            ("GET", target) if target == format!("{roles}role") => {
                (200, credentials(ID, "ec2", HOUR))
            }
            _ => (404, String::new()),
        }
    })
    .unwrap();
    let client = client(&server, &Variables::default(), Some(&metadata));
    ping(&client).await.unwrap();
    assert_eq!(*seen.lock().unwrap(), [format!("{ID}, ec2")]);
    assert_eq!(metadata.received().len(), 3);
}

/// Scenario 3.
#[tokio::test(flavor = "multi_thread")]
async fn a_container_asks_its_agent() {
    let (server, seen) = server();
    let agent = ecs(|| credentials(ID, "ecs", HOUR));
    let client = client(&server, &Variables::of(&[ECS]), Some(&agent));
    ping(&client).await.unwrap();
    assert_eq!(*seen.lock().unwrap(), [format!("{ID}, ecs")]);
}

/// Scenario 5, with `AWS_ROLE_SESSION_NAME` and without.
#[tokio::test(flavor = "multi_thread")]
async fn a_web_identity_is_exchanged_for_a_role() {
    let sts = HttpService::start(|request| {
        assert_eq!((&*request.method, &*request.target), ("POST", "/"));
        assert_eq!(request.header("accept"), Some("application/json"));
        let expires = DateTime::now().timestamp_millis() / 1000 + 3600;
        let answer = format!(
            r#"{{"Credentials": {{"AccessKeyId": "{ID}", "SecretAccessKey": "{KEY}",
                "SessionToken": "role", "Expiration": {expires}}}}}"#
        );
        (200, answer)
    })
    .unwrap();
    let mut file = tempfile::NamedTempFile::new().unwrap();
    writeln!(file, "header.payload+/=").unwrap();
    let path = file.path().to_str().unwrap();
    let role = [
        ("AWS_WEB_IDENTITY_TOKEN_FILE", path),
        ("AWS_ROLE_ARN", "arn:aws:iam::1:role/r"),
    ];
    let named = [role[0], role[1], ("AWS_ROLE_SESSION_NAME", "app1")];
    for set in [&role[..], &named] {
        let (server, seen) = server();
        let client = client(&server, &Variables::of(set), Some(&sts));
        ping(&client).await.unwrap();
        assert_eq!(*seen.lock().unwrap(), [format!("{ID}, role")]);
    }
    let fields = |request: &HttpRequest| -> BTreeMap<String, String> {
        let pairs = request.body.split('&');
        let owned = |(name, value): (&str, &str)| (name.to_owned(), value.to_owned());
        pairs
            .map(|pair| owned(pair.split_once('=').unwrap()))
            .collect()
    };
    let received = sts.received();
    for (request, name) in received.iter().zip([None, Some("app1")]) {
        let mut fields = fields(request);
        let session = fields.remove("RoleSessionName").unwrap();
        match name {
            Some(name) => assert_eq!(session, name),
            None => assert!(session.starts_with("mongo-client-"), "{session}"),
        }
        let expected = [
            ("Action", "AssumeRoleWithWebIdentity"),
            ("RoleArn", "arn%3Aaws%3Aiam%3A%3A1%3Arole%2Fr"),
            ("Version", "2011-06-15"),
            ("WebIdentityToken", "header.payload%2B%2F%3D"),
        ];
        let found: Vec<_> = fields
            .iter()
            .map(|(name, value)| (&**name, &**value))
            .collect();
        assert_eq!(found, expected);
    }
    assert_eq!(received.len(), 2);
}

/// "Cached Credentials", steps 1 to 12.
#[tokio::test(flavor = "multi_thread")]
async fn what_a_service_gave_is_kept_until_it_expires_or_fails() {
    let (server, seen) = server();
    let variables = Variables::of(&[ECS]);
    // Within five minutes of its end: used once and not again.
    let agent = ecs(|| credentials(ID, "late", HOUR / 60));
    let client = client(&server, &variables, Some(&agent));
    ping(&client).await.unwrap();
    for _ in 0..2 {
        reconnect(&server, &client).await;
        ping(&client).await.unwrap();
    }
    let of = |token: &str| format!("{ID}, {token}");
    assert_eq!(*seen.lock().unwrap(), [of("late"), of("1"), of("1")]);
    assert_eq!(agent.received().len(), 2);
    // Nothing that was refused is tried again, though it is valid for another hour.
    reconnect(&server, &client).await;
    server.once("saslStart", Answer::error(18, "AuthenticationFailed", &[]));
    let message = failure(ping(&client).await);
    assert!(
        message.contains("check that AWS takes the credentials"),
        "{message}"
    );
    ping(&client).await.unwrap();
    assert_eq!(seen.lock().unwrap().last().unwrap(), &of("2"));
}

/// The same of credentials that AWS itself no longer takes.
#[tokio::test(flavor = "multi_thread")]
async fn credentials_that_are_refused_are_asked_for_again() {
    let (server, seen) = server();
    let agent = ecs(|| credentials("poisoned", "0", HOUR));
    let client = client(&server, &Variables::of(&[ECS]), Some(&agent));
    failure(ping(&client).await);
    ping(&client).await.unwrap();
    let expected = ["poisoned, 0".to_owned(), format!("{ID}, 1")];
    assert_eq!(*seen.lock().unwrap(), expected);
}

/// "Cached Credentials", the second list: what is kept goes before what is set later.
#[tokio::test(flavor = "multi_thread")]
async fn the_environment_does_not_replace_what_is_kept() {
    let (server, seen) = server();
    let variables = Variables::of(&[ECS]);
    let agent = ecs(|| credentials(ID, "kept", HOUR));
    let client = client(&server, &variables, Some(&agent));
    ping(&client).await.unwrap();
    variables.set(&[
        ("AWS_ACCESS_KEY_ID", "invalid"),
        ("AWS_SECRET_ACCESS_KEY", "x"),
    ]);
    reconnect(&server, &client).await;
    ping(&client).await.unwrap();
    // A client that has kept nothing reads it, and keeps nothing of it.
    let other = self::client(&server, &variables, Some(&agent));
    failure(ping(&other).await);
    variables.set(&[ECS]);
    ping(&other).await.unwrap();
    let kept = format!("{ID}, kept");
    let expected = [
        kept.clone(),
        kept,
        "invalid, no token".to_owned(),
        format!("{ID}, 1"),
    ];
    assert_eq!(*seen.lock().unwrap(), expected);
}

/// "Testing custom credential providers", 1 and 2, case 2.
#[tokio::test(flavor = "multi_thread")]
async fn the_applications_provider_goes_before_everything_else() {
    let (server, seen) = server();
    let calls = Arc::new(AtomicUsize::new(0));
    let counter = Arc::clone(&calls);
    let environment = |name: &str| name.starts_with("AWS_").then(|| "invalid".to_owned());
    let options = options(&server)
        .surroundings(environment, Some("http://127.0.0.1:1".to_owned()))
        .aws_credentials(move || {
            let number = counter.fetch_add(1, Ordering::Relaxed);
            async move {
                match number {
                    0 => Ok(AwsCredentials::new(ID, KEY).session_token("provided")),
                    _ => Err("the vault is sealed"),
                }
            }
        });
    let client = Client::with_options(options).unwrap();
    ping(&client).await.unwrap();
    assert_eq!(*seen.lock().unwrap(), [format!("{ID}, provided")]);
    reconnect(&server, &client).await;
    let message = failure(ping(&client).await);
    assert!(
        message.contains("provider: the vault is sealed"),
        "{message}"
    );
    assert_eq!(calls.load(Ordering::Relaxed), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn no_credentials_is_an_error_that_says_where_they_were_looked_for() {
    let down = HttpService::start(|_| (503, "try later".to_owned())).unwrap();
    for (set, services, expected) in [
        (&[][..], None, "http://127.0.0.1:1/latest/api/token"),
        (
            &[][..],
            Some(&down),
            "HTTP status 503 Service Unavailable: try later",
        ),
        (&[ECS], Some(&down), "/v2/me: HTTP status 503"),
        (
            &[("AWS_ACCESS_KEY_ID", ID)],
            None,
            "AWS_SECRET_ACCESS_KEY is not set beside the other variables",
        ),
        (
            &[
                ("AWS_WEB_IDENTITY_TOKEN_FILE", "/no/such/file"),
                ("AWS_ROLE_ARN", "arn"),
            ],
            None,
            "AWS_WEB_IDENTITY_TOKEN_FILE: /no/such/file: No such file",
        ),
    ] {
        let (server, _) = server();
        let client = client(&server, &Variables::of(set), services);
        let message = failure(ping(&client).await);
        assert!(message.contains("no AWS credentials: "), "{message}");
        assert!(message.contains(expected), "{message}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_cheats_gets_no_signature() {
    let (server, seen) = server();
    server.always("saslStart", |received| {
        let client = payload(received).get_binary("r").unwrap().bytes.to_vec();
        let nonce = binary([client, vec![7; 32]].concat());
        sasl(&rawdoc! { "s": nonce, "h": "evil..example" }, false)
    });
    let key = [("AWS_ACCESS_KEY_ID", ID), ("AWS_SECRET_ACCESS_KEY", KEY)];
    let client = client(&server, &Variables::of(&key), None);
    let message = failure(ping(&client).await);
    assert!(message.contains(&AwsFault::Host.to_string()), "{message}");
    assert!(seen.lock().unwrap().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_in_a_connection_string_and_a_provider_for_nothing_are_refused() {
    let uri = "mongodb://id:hunter2@localhost/?authMechanism=MONGODB-AWS";
    let message = Client::new(uri).unwrap_err().to_string();
    assert!(message.contains("set AWS_ACCESS_KEY_ID"), "{message}");
    assert!(!message.contains("hunter2"), "{message}");
    for uri in ["mongodb://localhost", "mongodb://u:p@localhost"] {
        let options = ClientOptions::parse(uri)
            .unwrap()
            .aws_credentials(async || Ok::<_, Error>(AwsCredentials::new(ID, KEY)));
        let error = Client::with_options(options).unwrap_err();
        assert!(
            matches!(error, Error::Misuse(Misuse::OtherMechanism { .. })),
            "{error}"
        );
    }
}
