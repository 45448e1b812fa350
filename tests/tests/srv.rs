//! DNS seed lists with a resolver and routers of the test's own (Initial DNS Seedlist Discovery,
//! Polling SRV Records for mongos Discovery).

#![allow(clippy::unwrap_used, reason = "a test and its helpers")]

use integration_tests::{PATIENCE, ping};
use std::collections::BTreeSet;
use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use mongo_client::sdam::TopologyType;
use mongo_client::uri::{SrvRecord, TxtRecord};
use mongo_client::{Client, ClientOptions, DnsFailure, Error, Lookup, Misuse, Resolver, testing};
use testbed::scripted::{HelloScript, ScriptedServer};

const INTERVAL: Duration = Duration::from_millis(50);
const HOST: &str = "localhost.test.build.10gen.cc";

/// What the resolver says to the SRV question.
#[derive(Clone, Debug)]
enum Says {
    Ports(Vec<u16>),
    Nothing,
    Failure,
}

#[derive(Clone, Debug)]
struct Zone {
    says: Arc<Mutex<Says>>,
    asked: Arc<Mutex<Vec<String>>>,
    txt: &'static str,
}

impl Zone {
    fn new(ports: &[u16]) -> Self {
        Self {
            says: Arc::new(Mutex::new(Says::Ports(ports.to_vec()))),
            asked: Arc::default(),
            txt: "",
        }
    }

    fn say(&self, says: Says) {
        *self.says.lock().unwrap() = says;
    }

    /// Waits until the SRV records were looked up twice more, the second time from scratch.
    async fn asked_again(&self) {
        let before = self.asked.lock().unwrap().len();
        let asked = async {
            while self.asked.lock().unwrap().len() < before + 2 {
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(PATIENCE, asked)
            .await
            .expect("it is looked up again");
    }
}

impl Resolver for Zone {
    fn srv<'a>(&'a self, name: &'a str) -> Lookup<'a, Vec<SrvRecord>> {
        self.asked.lock().unwrap().push(name.to_owned());
        let says = self.says.lock().unwrap().clone();
        Box::pin(async move {
            match says {
                Says::Ports(ports) => Ok(ports.into_iter().map(record).collect()),
                Says::Nothing => Ok(Vec::new()),
                Says::Failure => Err(io::Error::other("no such domain")),
            }
        })
    }

    fn txt<'a>(&'a self, _name: &'a str) -> Lookup<'a, Vec<TxtRecord>> {
        let text = self.txt.as_bytes().to_vec();
        Box::pin(async move { Ok(vec![TxtRecord(vec![text])]) })
    }

    fn addresses<'a>(&'a self, host: &'a str, port: u16) -> Lookup<'a, Vec<SocketAddr>> {
        assert_eq!(host, HOST);
        Box::pin(async move { Ok(vec![([127, 0, 0, 1], port).into()]) })
    }
}

fn record(port: u16) -> SrvRecord {
    let target = format!("{HOST}.");
    let ttl = Duration::from_secs(86_400);
    SrvRecord { target, port, ttl }
}

/// Routers, and their ports.
fn routers(count: usize) -> (Vec<ScriptedServer>, Vec<u16>) {
    let start = |_| ScriptedServer::start(|_| HelloScript::mongos()).unwrap();
    let routers: Vec<_> = (0..count).map(start).collect();
    let port = |server: &ScriptedServer| {
        let address = server.address();
        address.rsplit(':').next().unwrap().parse().unwrap()
    };
    let ports = routers.iter().map(port).collect();
    (routers, ports)
}

async fn client(zone: &Zone, host: &str, options: &str) -> Client {
    let uri = format!("mongodb+srv://{host}.test.build.10gen.cc/?tls=false&{options}");
    let options = ClientOptions::parse(&uri).unwrap().resolver(zone.clone());
    let options = testing::rescan_interval(options.resolve().await.unwrap(), INTERVAL);
    Client::with_options(options).unwrap()
}

fn ports(client: &Client) -> BTreeSet<u16> {
    let topology = client.topology();
    topology
        .servers
        .iter()
        .map(|server| server.address().port().unwrap())
        .collect()
}

/// Waits until the topology has exactly these servers.
async fn becomes(client: &Client, expected: &[u16]) {
    let expected = expected.iter().copied().collect();
    let mut changes = client.topology_changes();
    let reached = async {
        while ports(client) != expected {
            changes.next().await.unwrap();
        }
    };
    let reached = tokio::time::timeout(PATIENCE, reached).await;
    assert!(
        reached.is_ok(),
        "expected {expected:?}, is {}",
        client.topology()
    );
}

/// Prose tests 1 to 5, 10 and 11.
#[tokio::test(flavor = "multi_thread")]
async fn changed_records_change_the_topology() {
    let (_routers, port) = routers(4);
    for (options, later, expected) in [
        ("", vec![0, 1, 2], vec![0, 1, 2]),
        ("", vec![0], vec![0]),
        ("", vec![0, 2], vec![0, 2]),
        ("", vec![2], vec![2]),
        ("", vec![2, 3], vec![2, 3]),
        ("srvMaxHosts=0", vec![0, 2, 3], vec![0, 2, 3]),
        ("srvMaxHosts=2", vec![2, 3], vec![2, 3]),
    ] {
        let zone = Zone::new(&port[..2]);
        let client = client(&zone, "test1", options).await;
        ping(&client).await.unwrap();
        assert_eq!(client.topology().topology_type, TopologyType::Sharded);
        let pick = |places: &[usize]| places.iter().map(|place| port[*place]).collect::<Vec<_>>();
        zone.say(Says::Ports(pick(&later)));
        becomes(&client, &pick(&expected)).await;
        ping(&client).await.unwrap();
    }
}

/// Prose test 12.
#[tokio::test(flavor = "multi_thread")]
async fn of_more_records_than_wanted_those_that_are_used_stay() {
    let (_routers, port) = routers(4);
    let zone = Zone::new(&port[..2]);
    let client = client(&zone, "test1", "srvMaxHosts=2").await;
    ping(&client).await.unwrap();
    zone.say(Says::Ports(vec![port[0], port[2], port[3]]));
    zone.asked_again().await;
    let now = ports(&client);
    assert!(
        now.len() == 2 && now.contains(&port[0]) && !now.contains(&port[1]),
        "{now:?}"
    );
}

/// Prose tests 6 to 8.
#[tokio::test(flavor = "multi_thread")]
async fn a_look_up_that_finds_nothing_changes_nothing() {
    let (_routers, port) = routers(2);
    let zone = Zone::new(&port);
    let client = client(&zone, "test1", "heartbeatFrequencyMS=500").await;
    ping(&client).await.unwrap();
    for says in [Says::Failure, Says::Nothing] {
        zone.say(says);
        zone.asked_again().await;
        assert_eq!(ports(&client).len(), 2);
    }
    // And it goes on looking.
    zone.say(Says::Ports(vec![port[1]]));
    becomes(&client, &[port[1]]).await;
}

/// Prose test 13.
#[tokio::test(flavor = "multi_thread")]
async fn another_service_is_asked_for_by_its_name() {
    let (_routers, port) = routers(3);
    let zone = Zone::new(&port[..1]);
    let client = client(&zone, "test22", "srvServiceName=customname").await;
    ping(&client).await.unwrap();
    zone.say(Says::Ports(port[1..].to_vec()));
    becomes(&client, &port[1..]).await;
    let asked = zone.asked.lock().unwrap();
    let name = "_customname._tcp.test22.test.build.10gen.cc";
    assert!(asked.iter().all(|asked| asked == name), "{asked:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replica_sets_name_may_come_with_its_hosts() {
    let zone = Zone {
        txt: "replicaSet=rs0",
        ..Zone::new(&[])
    };
    let server = ScriptedServer::start(|me| {
        let port = me.rsplit(':').next().unwrap();
        zone.say(Says::Ports(vec![port.parse().unwrap()]));
        let me = format!("{HOST}:{port}");
        HelloScript::primary("rs0", &me, &[&me])
    });
    let _server = server.unwrap();
    let client = client(&zone, "test1", "").await;
    ping(&client).await.unwrap();
    let set_name = client.topology().set_name.clone();
    assert_eq!(set_name.as_deref(), Some("rs0"), "from the TXT record");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_looked_up_says_what_to_do() {
    let uri = "mongodb+srv://cluster.example.com/";
    let error = Client::new(uri).unwrap_err();
    assert!(
        matches!(error, Error::Misuse(Misuse::Unresolved)),
        "{error}"
    );

    let zone = Zone::new(&[]);
    let options = ClientOptions::parse(uri).unwrap().resolver(zone.clone());
    let error = options.clone().resolve().await.unwrap_err();
    assert!(error.to_string().contains("srvServiceName"), "{error}");

    zone.say(Says::Failure);
    let error = options.clone().resolve().await.unwrap_err();
    assert!(
        matches!(
            &error,
            Error::Dns {
                failure: DnsFailure::Failed(_),
                ..
            }
        ),
        "{error}"
    );
    assert!(
        error
            .to_string()
            .contains("_mongodb._tcp.cluster.example.com"),
        "{error}"
    );

    // A host outside the domain.
    zone.say(Says::Ports(vec![27_017]));
    let error = options.resolve().await.unwrap_err();
    assert!(error.to_string().contains("outside the domain"), "{error}");
}
