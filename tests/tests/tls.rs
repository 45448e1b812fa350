//! TLS against real servers with certificates made for the test, and against a server of the
//! test's own for what no mongod would show.

#![allow(clippy::unwrap_used, reason = "a test and its helpers")]

use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

use bson::rawdoc;
use integration_tests::certificates::{Authority, Identity, write};
use integration_tests::{insert, ping, why_unreachable, within};
use mongo_client::rustls::pki_types::pem::PemObject as _;
use mongo_client::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use mongo_client::rustls::{ClientConfig, RootCertStore, ServerConfig, crypto};
use mongo_client::{Client, ClientOptions, Error, IoAction, Misuse, TlsFailure, TlsFileProblem};
use pkcs8::{PrivateKeyInfoRef, pkcs5::pbes2};
use testbed::cluster::{ReplicaSet, ReplicaSetOptions, Standalone};
use testbed::home::Home;
use testbed::mongod::{MongodOptions, ServerVersion};
use tokio::sync::mpsc;

const PASSWORD: &str = "open sesame";

/// The servers of this program and the files that clients of them need.
struct World {
    /// Takes any client; its certificate is for localhost and the loopback addresses.
    open: ReplicaSet,
    /// Insists on a client certificate; its own is for elsewhere.example alone.
    strict: Standalone,
    authority: Authority,
    files: Home,
}

impl World {
    fn get() -> &'static Self {
        static WORLD: OnceLock<World> = OnceLock::new();
        WORLD.get_or_init(Self::start)
    }

    fn start() -> Self {
        let files = Home::new().unwrap();
        let folder = files.path();
        let authority = Authority::new("the right one");
        write(folder, "ca.pem", &authority.pem());
        write(folder, "other-ca.pem", &Authority::new("another one").pem());
        let loopback = authority.sign("server", &["localhost", "127.0.0.1", "::1"]);
        write(folder, "server.pem", &loopback.pem());
        let elsewhere = authority.sign("elsewhere", &["elsewhere.example"]);
        write(folder, "elsewhere.pem", &elsewhere.pem());
        let client = authority.sign("client", &["client.example"]);
        write(folder, "client.pem", &client.pem());
        write(folder, "encrypted.pem", &encrypted(&client));
        let foreign = Authority::new("a foreign one").sign("client", &["client.example"]);
        write(folder, "foreign.pem", &foreign.pem());
        let mismatched = client.certificate.clone() + &foreign.key.serialize_pem();
        write(folder, "mismatched.pem", &mismatched);
        write(folder, "text.pem", "no PEM at all\n");

        let mut set = ReplicaSetOptions::new(1);
        set.mongod = tls_options(folder, "server.pem");
        set.mongod.unix_socket = true;
        set.mongod
            .args
            .push("--tlsAllowConnectionsWithoutCertificates".into());
        let strict = tls_options(folder, "elsewhere.pem");
        Self {
            open: set.start().unwrap(),
            strict: Standalone::start_with(ServerVersion::Default, strict).unwrap(),
            authority,
            files,
        }
    }

    fn file(&self, name: &str) -> PathBuf {
        self.files.path().join(name)
    }

    /// A connection string for the set, with these options; `@` stands for the folder of files.
    fn open_uri(&self, options: &str) -> String {
        format!("{}&{}", self.open.uri(), self.expanded(options))
    }

    fn strict_uri(&self, options: &str) -> String {
        format!("{}?{}", self.strict.uri(), self.expanded(options))
    }

    fn expanded(&self, options: &str) -> String {
        let folder = self.files.path().to_str().unwrap().replace('/', "%2F");
        options.replace('@', &format!("{folder}%2F"))
    }
}

fn tls_options(folder: &Path, identity: &str) -> MongodOptions {
    let mut options = MongodOptions::default();
    let arg = |name: &str, file: &str| [name.into(), folder.join(file).into()];
    options
        .args
        .extend(["--tlsMode".into(), "preferTLS".into()]);
    options
        .args
        .extend(arg("--tlsCertificateKeyFile", identity));
    options.args.extend(arg("--tlsCAFile", "ca.pem"));
    options
}

/// Certificate and encrypted key, with few iterations, since tests are not optimised.
fn encrypted(identity: &Identity) -> String {
    let params =
        pbes2::Parameters::generate_pbkdf2_sha256_aes256cbc(1000, &[1; 16], [2; 16]).unwrap();
    let der = identity.key.serialize_der();
    let key = PrivateKeyInfoRef::try_from(der.as_slice()).unwrap();
    let key = key.encrypt_with_params(params, PASSWORD).unwrap();
    let pem = key.to_pem("ENCRYPTED PRIVATE KEY", pkcs8::LineEnding::LF);
    identity.certificate.clone() + pem.unwrap().as_str()
}

async fn world() -> &'static World {
    tokio::task::spawn_blocking(World::get).await.unwrap()
}

async fn works(uri: &str) {
    ping(&Client::new(uri).unwrap()).await.unwrap();
}

/// What the monitor of the only server meets.
async fn failure(uri: &str) -> Arc<Error> {
    let (cause, reason) = why_unreachable(uri).await;
    // Who only reads the message is told as much.
    assert!(reason.contains("TLS"), "{reason}");
    cause
}

async fn tls_failure(uri: &str) -> TlsFailure {
    match &*failure(uri).await {
        Error::Tls { failure, .. } => TlsFailure::clone(failure),
        other => panic!("{uri}: {other:?}"),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_change_stream_runs_over_tls() {
    let client = Client::new(&world().await.open_uri("tls=true&tlsCAFile=@ca.pem")).unwrap();
    let database = client.database("tls");
    let things = database.collection("things");
    let mut stream = within(things.watch().into_future()).await.unwrap();
    within(insert(&database, "things", 0..100)).await;
    for id in 0..100 {
        let event = within(stream.next()).await.unwrap().unwrap();
        assert_eq!(event.document_key.unwrap().get_i32("_id").unwrap(), id);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn each_way_not_to_trust_the_server_is_an_error_of_its_own() {
    let world = world().await;
    let own = TlsServer::start(&world.authority.sign_expired("expired", &["localhost"])).await;
    let expired = format!(
        "mongodb://localhost:{}/?{}",
        own.port,
        world.expanded("tlsCAFile=@ca.pem")
    );
    for (uri, expected) in [
        (
            world.open_uri("tls=true&tlsCAFile=@other-ca.pem"),
            TlsFailure::UnknownIssuer,
        ),
        (
            world.strict_uri("tlsCAFile=@ca.pem"),
            TlsFailure::WrongHostName {
                names: vec!["elsewhere.example".to_owned()],
            },
        ),
        (expired, TlsFailure::Expired),
    ] {
        assert_eq!(tls_failure(&uri).await, expected, "{uri}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_options_that_trust_more_trust_that_much_more() {
    let world = world().await;
    let client = "tlsCertificateKeyFile=@client.pem";
    for options in [
        "tls=true&tlsCAFile=@other-ca.pem&tlsAllowInvalidCertificates=true",
        "tls=true&tlsAllowInvalidCertificates=true",
        "tls=true&tlsInsecure=true",
    ] {
        works(&world.open_uri(options)).await;
    }
    for options in [
        "tlsCAFile=@ca.pem&tlsAllowInvalidHostnames=true",
        "tlsAllowInvalidCertificates=true&tlsAllowInvalidHostnames=true",
        "tlsInsecure=true",
    ] {
        works(&world.strict_uri(&format!("{options}&{client}"))).await;
    }
    let name = tls_failure(&world.strict_uri("tlsAllowInvalidCertificates=true")).await;
    assert!(matches!(name, TlsFailure::WrongHostName { .. }), "{name}");
    let issuer = "tlsCAFile=@other-ca.pem&tlsAllowInvalidHostnames=true";
    let issuer = tls_failure(&world.strict_uri(issuer)).await;
    assert_eq!(issuer, TlsFailure::UnknownIssuer);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_wants_a_client_certificate_gets_one_or_is_told_of() {
    let world = world().await;
    let server = "tlsCAFile=@ca.pem&tlsAllowInvalidHostnames=true&tlsCertificateKeyFile=";
    works(&world.strict_uri(&format!("{server}@client.pem"))).await;
    let encrypted = format!("{server}@encrypted.pem&tlsCertificateKeyFilePassword=open%20sesame");
    works(&world.strict_uri(&encrypted)).await;

    let without = "tlsCAFile=@ca.pem&tlsAllowInvalidHostnames=true";
    let missing = tls_failure(&world.strict_uri(without)).await;
    assert_eq!(missing, TlsFailure::ClientCertificateMissing);
    let foreign = tls_failure(&world.strict_uri(&format!("{server}@foreign.pem"))).await;
    assert_eq!(foreign, TlsFailure::ClientCertificateRefused);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_that_cannot_be_used_is_named_before_anything_is_sent() {
    let world = world().await;
    let refusal = |options: &str| match Client::new(&world.strict_uri(options)) {
        Err(Error::TlsFile {
            option,
            file,
            problem,
        }) => (option, file, problem),
        other => panic!("{options}: {other:?}"),
    };
    let (option, file, problem) = refusal("tlsCAFile=@nowhere.pem");
    assert_eq!((option, file), ("tlsCAFile", world.file("nowhere.pem")));
    assert!(
        matches!(problem, TlsFileProblem::Unreadable(_)),
        "{problem}"
    );
    let (option, file, problem) = refusal("tlsInsecure=true&tlsCertificateKeyFile=@encrypted.pem");
    let expected = ("tlsCertificateKeyFile", world.file("encrypted.pem"));
    assert_eq!((option, file), expected);
    assert!(
        matches!(problem, TlsFileProblem::PasswordMissing),
        "{problem}"
    );
    for (options, expected) in [
        ("tlsCAFile=@text.pem", "no usable certificate"),
        ("tlsCertificateKeyFile=@text.pem", "no usable certificate"),
        ("tlsCertificateKeyFile=@ca.pem", "no private key"),
        ("tlsCertificateKeyFile=@mismatched.pem", "does not belong"),
        (
            "tlsCertificateKeyFile=@encrypted.pem&tlsCertificateKeyFilePassword=wrong",
            "cannot be decrypted",
        ),
    ] {
        let (_, _, problem) = refusal(&format!("{options}&tlsAllowInvalidHostnames=true"));
        assert!(
            problem.to_string().contains(expected),
            "{options}: {problem}"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_configuration_of_the_callers_own_is_used_as_it_is() {
    let world = world().await;
    let mut roots = RootCertStore::empty();
    let authority = CertificateDer::from_pem_slice(world.authority.pem().as_bytes()).unwrap();
    roots.add(authority).unwrap();
    let provider = Arc::new(crypto::ring::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    let config = Arc::new(config);
    let options = |uri: &str| {
        ClientOptions::parse(uri)
            .unwrap()
            .rustls(Arc::clone(&config))
    };
    let uri = world.open.uri();
    ping(&Client::with_options(options(&uri)).unwrap())
        .await
        .unwrap();
    for beside in ["tls=false", "tlsInsecure=true"] {
        let contradiction = Client::with_options(options(&format!("{uri}&{beside}")));
        assert!(
            matches!(
                contradiction,
                Err(Error::Misuse(Misuse::Contradiction { .. }))
            ),
            "{contradiction:?}"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_without_tls_is_suspected_of_just_that() {
    let plain = tokio::task::spawn_blocking(|| Standalone::start().unwrap());
    let plain = plain.await.unwrap();
    let error = failure(&format!("{}?tlsInsecure=true", plain.uri())).await;
    let Error::Io { action, .. } = &*error else {
        panic!("{error:?}");
    };
    assert_eq!(*action, IoAction::Tls);
    assert!(error.to_string().contains("TLS on?"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_listens_on_a_unix_socket_is_localhost() {
    let world = world().await;
    let socket = world.open.member(0).unix_socket().unwrap();
    let path = socket.to_str().unwrap().replace('/', "%2F");
    let options = world.expanded("directConnection=true&tlsCAFile=@ca.pem");
    works(&format!("mongodb://{path}/?{options}")).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_server_is_told_a_host_name_but_no_address() {
    let world = world().await;
    let identity = world.authority.sign("any", &["localhost"]);
    for (host, expected) in [("localhost", Some("localhost")), ("127.0.0.1", None)] {
        let mut server = TlsServer::start(&identity).await;
        let uri = format!("mongodb://{host}:{}/?tlsInsecure=true", server.port);
        let _client = Client::new(&uri).unwrap();
        let name = within(server.names.recv()).await.unwrap();
        assert_eq!(name.as_deref(), expected);
    }
}

/// A server that can have any certificate and says nothing behind the handshake.
struct TlsServer {
    port: u16,
    /// The host name that each client has asked for.
    names: mpsc::UnboundedReceiver<Option<String>>,
}

impl TlsServer {
    async fn start(identity: &Identity) -> Self {
        let chain = CertificateDer::from_pem_slice(identity.certificate.as_bytes()).unwrap();
        let key = PrivateKeyDer::from_pem_slice(identity.key.serialize_pem().as_bytes()).unwrap();
        let provider = Arc::new(crypto::ring::default_provider());
        let config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![chain], key)
            .unwrap();
        let acceptor = tokio_rustls::TlsAcceptor::from(Arc::new(config));
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let (asked, names) = mpsc::unbounded_channel();
        tokio::spawn(async move {
            let mut open = Vec::new();
            while let Ok((stream, _)) = listener.accept().await {
                // The client's refusal is no failure of this server.
                if let Ok(stream) = acceptor.accept(stream).await {
                    let name = stream.get_ref().1.server_name().map(str::to_owned);
                    let _ = asked.send(name);
                    open.push(stream);
                }
            }
        });
        Self { port, names }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_plain_client_of_a_server_that_requires_tls_is_told_what_to_do() {
    let world = World::get();
    let options = tls_options(world.files.path(), "server.pem");
    let server = Standalone::start_with(ServerVersion::Default, options).unwrap();
    // The testbed itself talks in the clear, so it is told only now.
    server
        .server()
        .run_command(
            "admin",
            &rawdoc! { "setParameter": 1, "tlsMode": "requireTLS" },
        )
        .unwrap();
    let (_, message) = why_unreachable(&format!("{}?tls=false", server.uri())).await;
    assert!(message.contains("tls=true"), "{message}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_certificate_is_a_credential_too() {
    let world = World::get();
    let user = rawdoc! { "createUser": "CN=client", "roles": [{ "role": "read", "db": "test" }] };
    let created = tokio::task::spawn_blocking(move || {
        let primary = world.open.primary().unwrap();
        primary.run_command("$external", &user).map(drop)
    });
    created.await.unwrap().unwrap();
    let uri = |file: &str| {
        world.open_uri(&format!(
            "tls=true&tlsCAFile=@ca.pem&tlsCertificateKeyFile=@{file}\
             &authMechanism=MONGODB-X509&authSource=$external&serverSelectionTimeoutMS=5000"
        ))
    };
    let client = Client::new(&uri("client.pem")).unwrap();
    let command = rawdoc! { "connectionStatus": 1 };
    let status = client.run_admin_command(&command).await.unwrap();
    let info = status.document().as_raw().get_document("authInfo").unwrap();
    let users = info.get_array("authenticatedUsers").unwrap();
    let user = users.get_document(0).unwrap();
    assert_eq!(user.get_str("user").unwrap(), "CN=client");

    // A certificate that is trusted, of nobody whom the server knows.
    let client = Client::new(&uri("elsewhere.pem")).unwrap();
    let error = client
        .run_admin_command(&rawdoc! { "ping": 1 })
        .await
        .unwrap_err();
    assert!(matches!(error, Error::Authentication(_)), "{error}");
    assert!(error.to_string().contains("CN=elsewhere"), "{error}");
}
