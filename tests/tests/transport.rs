//! Ways to a server other than plain TCP to its IPv4 address: unix sockets, IPv6, names with
//! several addresses, a SOCKS5 proxy.

#![allow(clippy::unwrap_used, reason = "a test and its helpers")]

use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use integration_tests::{insert, ping, why_unreachable, within};
use mongo_client::uri::{SrvRecord, TxtRecord};
use mongo_client::{
    Client, ClientOptions, Error, IoAction, Lookup, ProxyFailure, ProxyRefusal, Resolver,
};
use testbed::cluster::{ReplicaSet, ReplicaSetOptions};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

/// One server for all tests, with a unix socket and, where the machine has it, IPv6.
async fn set() -> &'static ReplicaSet {
    static SET: OnceLock<ReplicaSet> = OnceLock::new();
    let start = || {
        let mut options = ReplicaSetOptions::new(1);
        options.mongod.unix_socket = true;
        options.mongod.ipv6 = has_ipv6();
        options.start().unwrap()
    };
    tokio::task::spawn_blocking(move || SET.get_or_init(start))
        .await
        .unwrap()
}

fn has_ipv6() -> bool {
    std::net::TcpListener::bind("[::1]:0").is_ok()
}

fn port(set: &ReplicaSet) -> u16 {
    let address = set.addresses().remove(0);
    address.rsplit_once(':').unwrap().1.parse().unwrap()
}

async fn works(uri: &str) {
    ping(&Client::new(uri).unwrap()).await.unwrap();
}

/// What the monitor of the only server meets.
async fn failure(uri: &str) -> Arc<Error> {
    why_unreachable(uri).await.0
}

#[tokio::test(flavor = "multi_thread")]
async fn a_change_stream_runs_over_a_unix_socket() {
    let socket = set().await.member(0).unix_socket().unwrap();
    let path = socket.to_str().unwrap().replace('/', "%2F");
    let client = Client::new(&format!("mongodb://{path}/?directConnection=true")).unwrap();
    let database = client.database("unix");
    let mut stream = within(database.watch().into_future()).await.unwrap();
    insert(&database, "things", 0..10).await;
    for id in 0..10 {
        let event = within(stream.next()).await.unwrap().unwrap();
        assert_eq!(event.document_key.unwrap().get_i32("_id").unwrap(), id);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_unix_socket_that_nobody_listens_on_is_named() {
    let uri = "mongodb://%2Fnowhere%2Fmongodb.sock/?directConnection=true";
    let error = failure(uri).await;
    let message = error.to_string();
    assert!(
        matches!(
            *error,
            Error::Io {
                action: IoAction::Connect,
                ..
            }
        ),
        "{message}"
    );
    assert!(message.starts_with("/nowhere/mongodb.sock"), "{message}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_ipv6_address_works_where_there_is_ipv6() {
    let port = port(set().await);
    let uri = format!("mongodb://[::1]:{port}/?directConnection=true");
    if has_ipv6() {
        works(&uri).await;
    } else {
        let error = failure(&uri).await;
        assert!(
            error.to_string().starts_with(&format!("[::1]:{port}")),
            "{error}"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_name_works_when_only_some_of_its_addresses_do() {
    // The machine's own resolver may give ::1 first, where nobody listens.
    let server = testbed::scripted::ScriptedServer::start(|me| {
        testbed::scripted::HelloScript::primary("rs0", me, &[me])
    })
    .unwrap();
    let uri = server.uri();
    let port = uri
        .split([':', '/'])
        .find_map(|part| part.parse::<u16>().ok());
    let port = port.expect("the URI has a port");
    works(&format!(
        "mongodb://localhost:{port}/?directConnection=true"
    ))
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn every_connection_goes_through_the_proxy_and_names_unresolved() {
    let set = set().await;
    let proxy = Proxy::start(None, port(set)).await;
    // Nobody but the proxy knows this name.
    let uri = format!(
        "mongodb://only-the-proxy-knows.invalid:27017/?directConnection=true&proxyHost=localhost\
         &proxyPort={}",
        proxy.port
    );
    let client = Client::new(&uri).unwrap();
    let database = client.database("socks");
    let mut stream = within(database.watch().into_future()).await.unwrap();
    insert(&database, "things", 0..10).await;
    for id in 0..10 {
        let event = within(stream.next()).await.unwrap().unwrap();
        assert_eq!(event.document_key.unwrap().get_i32("_id").unwrap(), id);
    }
    // The monitor's connection, and the pool's.
    assert!(proxy.opened.load(Ordering::Relaxed) >= 2);
}

/// Knows one name, in the place of the machine's DNS.
#[derive(Debug)]
struct Registry;

impl Resolver for Registry {
    fn srv<'a>(&'a self, _name: &'a str) -> Lookup<'a, Vec<SrvRecord>> {
        Box::pin(async { Ok(Vec::new()) })
    }

    fn txt<'a>(&'a self, _name: &'a str) -> Lookup<'a, Vec<TxtRecord>> {
        Box::pin(async { Ok(Vec::new()) })
    }

    fn addresses<'a>(&'a self, host: &'a str, port: u16) -> Lookup<'a, Vec<SocketAddr>> {
        let known = host == "proxy.invalid";
        let found = known.then(|| SocketAddr::from(([127, 0, 0, 1], port)));
        Box::pin(async move { Ok(found.into_iter().collect()) })
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_applications_resolver_knows_the_proxy() {
    let proxy = Proxy::start(None, port(set().await)).await;
    let uri = format!(
        "mongodb://db.invalid/?directConnection=true&proxyHost=proxy.invalid&proxyPort={}",
        proxy.port
    );
    let options = ClientOptions::parse(&uri).unwrap().resolver(Registry);
    ping(&Client::with_options(options).unwrap()).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_proxy_with_a_password_gets_it_or_refuses() {
    let set = set().await;
    let proxy = Proxy::start(Some(("me", "p@ss")), port(set)).await;
    let uri = format!(
        "mongodb://{}/?directConnection=true&proxyHost=127.0.0.1&proxyPort={}",
        set.addresses().remove(0),
        proxy.port
    );
    works(&format!("{uri}&proxyUsername=me&proxyPassword=p%40ss")).await;
    let wrong = failure(&format!("{uri}&proxyUsername=me&proxyPassword=other")).await;
    let none = failure(&uri).await;
    assert!(
        matches!(proxy_failure(&wrong), ProxyFailure::AuthenticationRefused),
        "{wrong}"
    );
    assert!(
        matches!(proxy_failure(&none), ProxyFailure::AuthenticationRequired),
        "{none}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_proxy_that_cannot_reach_the_server_or_be_reached_says_so() {
    let proxy = Proxy::start(None, 1).await;
    let uri = |port: u16| {
        format!("mongodb://db.invalid/?directConnection=true&proxyHost=127.0.0.1&proxyPort={port}")
    };
    let refused = failure(&uri(proxy.port)).await;
    let expected = ProxyRefusal::ConnectionRefused;
    assert!(
        matches!(proxy_failure(&refused), ProxyFailure::Refused { refusal } if *refusal == expected),
        "{refused}"
    );
    let message = refused.to_string();
    let start = format!("db.invalid:27017: by way of 127.0.0.1:{}", proxy.port);
    assert!(message.starts_with(&start), "{message}");
    let unreachable = failure(&uri(1)).await;
    assert!(
        matches!(proxy_failure(&unreachable), ProxyFailure::Unreachable(_)),
        "{unreachable}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_peer_that_accepts_and_is_silent_runs_into_the_limit_of_its_phase() {
    let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = silent.local_addr().unwrap().port();
    for (options, expected) in [
        ("connectTimeoutMS=100", IoAction::Handshake),
        ("connectTimeoutMS=100&tlsInsecure=true", IoAction::Tls),
        (
            &format!("connectTimeoutMS=100&proxyHost=127.0.0.1&proxyPort={port}"),
            IoAction::Proxy,
        ),
    ] {
        let error = failure(&format!(
            "mongodb://127.0.0.1:{port}/?directConnection=true&{options}"
        ))
        .await;
        let Error::Timeout { action, limit, .. } = &*error else {
            panic!("{error:?}");
        };
        assert_eq!((*action, *limit), (expected, Duration::from_millis(100)));
    }
}

fn proxy_failure(error: &Error) -> &ProxyFailure {
    match error {
        Error::Proxy { failure, .. } => failure,
        other => panic!("{other:?}"),
    }
}

/// A SOCKS5 proxy that knows one server, whatever it is asked for.
struct Proxy {
    port: u16,
    opened: Arc<AtomicUsize>,
}

impl Proxy {
    async fn start(login: Option<(&'static str, &'static str)>, server: u16) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let opened = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&opened);
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(serve(stream, login, server, Arc::clone(&count)));
            }
        });
        Self { port, opened }
    }
}

/// `None` when the client, or the server, goes.
async fn serve(
    mut client: TcpStream,
    login: Option<(&str, &str)>,
    server: u16,
    opened: Arc<AtomicUsize>,
) -> Option<()> {
    let methods = counted(&mut client, 1).await?;
    let method = if login.is_some() { 2 } else { 0 };
    if !methods.contains(&method) {
        client.write_all(&[5, 0xff]).await.ok()?;
        return None;
    }
    client.write_all(&[5, method]).await.ok()?;
    if let Some((name, password)) = login {
        let given_name = counted(&mut client, 1).await?;
        let given_password = counted(&mut client, 0).await?;
        let is_right = given_name == name.as_bytes() && given_password == password.as_bytes();
        client.write_all(&[1, u8::from(!is_right)]).await.ok()?;
        if !is_right {
            return None;
        }
    }
    let mut request = [0; 4];
    client.read_exact(&mut request).await.ok()?;
    match request[3] {
        1 => drop(client.read_exact(&mut [0; 4]).await.ok()?),
        _ => drop(counted(&mut client, 0).await?),
    }
    client.read_u16().await.ok()?;
    match TcpStream::connect(("127.0.0.1", server)).await {
        Ok(mut server) => {
            opened.fetch_add(1, Ordering::Relaxed);
            client
                .write_all(&[5, 0, 0, 1, 0, 0, 0, 0, 0, 0])
                .await
                .ok()?;
            tokio::io::copy_bidirectional(&mut client, &mut server)
                .await
                .ok()?;
            Some(())
        }
        Err(_) => {
            client
                .write_all(&[5, 5, 0, 1, 0, 0, 0, 0, 0, 0])
                .await
                .ok()?;
            None
        }
    }
}

/// Bytes behind their count, which stands behind so many other bytes.
async fn counted(client: &mut TcpStream, skipped: usize) -> Option<Vec<u8>> {
    let mut head = vec![0; skipped + 1];
    client.read_exact(&mut head).await.ok()?;
    let mut bytes = vec![0; usize::from(head[skipped])];
    client.read_exact(&mut bytes).await.ok()?;
    Some(bytes)
}
