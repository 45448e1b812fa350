use std::collections::BTreeSet;
use std::time::Duration;

use super::{Rescan, SrvError, SrvRecord, TxtRecord};
use crate::{ConnectionString, ServerAddress, UriError};

fn uri(text: &str) -> ConnectionString {
    ConnectionString::parse(&format!("mongodb+srv://{text}")).expect(text)
}

fn record(target: &str, seconds: u64) -> SrvRecord {
    SrvRecord {
        target: target.to_owned(),
        port: 27017,
        ttl: Duration::from_secs(seconds),
    }
}

fn txt(text: &str) -> Vec<TxtRecord> {
    vec![TxtRecord(vec![text.as_bytes().to_vec()])]
}

fn host(name: &str) -> ServerAddress {
    ServerAddress::tcp(name, 27017)
}

#[test]
fn dns_is_asked_for_the_service_and_the_host() {
    let question = uri("A.Example").srv_question().expect("a question");
    assert_eq!(question.srv, "_mongodb._tcp.a.example");
    assert_eq!(question.txt, "a.example");
    let question = uri("a.example/?srvServiceName=x")
        .srv_question()
        .expect("a question");
    assert_eq!(question.srv, "_x._tcp.a.example");
}

#[test]
fn targets_must_lie_below_the_domain() {
    let table = [
        ("localhost", "localhost.mongodb", false),
        ("localhost", "localhost", false),
        ("localhost", "test_1.cluster_1localhost", false),
        ("localhost", "a.localhost", true),
        ("mongo.local", "test_1.evil.local", false),
        ("mongo.local", "mongo.local", false),
        ("mongo.local", "test_1.my_hostmongo.local", false),
        ("mongo.local", "a.mongo.local", true),
        ("blogs.mongodb.com", "blogs.evil.com", false),
        ("blogs.mongodb.com", "cluster.testmongodb.com", false),
        ("blogs.mongodb.com", "mongodb.com", false),
        ("blogs.mongodb.com", "blogs.mongodb.com", true),
        ("blogs.mongodb.com", "CLUSTER.MongoDB.com.", true),
        (
            "blogs.mongodb.com/?srvAllowedHostsSuffix=.evil.com",
            "CLUSTER.Evil.com.",
            true,
        ),
        (
            "blogs.mongodb.com/?srvAllowedHostsSuffix=.evil.com",
            "blogs.mongodb.com",
            false,
        ),
        (
            "cluster.localhost/?srvAllowedHostsSuffix=localhost",
            "db.cluster.localhost",
            true,
        ),
    ];
    for (text, target, accepted) in table {
        let resolved = uri(text).resolve(&[record(target, 60)], &[], 0);
        match resolved {
            Ok(resolved) => {
                assert!(accepted, "{text}: {target}");
                let expected = target.trim_end_matches('.').to_lowercase();
                assert_eq!(resolved.hosts, [host(&expected)]);
            }
            Err(UriError::Srv(SrvError::ForeignTarget { .. })) => {
                assert!(!accepted, "{text}: {target}");
            }
            Err(error) => panic!("{text}: {target}: {error}"),
        }
    }
}

#[test]
fn unusable_answers_are_refused() {
    let uri = uri("a.b.example");
    let good = [record("h.b.example", 60)];
    let srv = |error| Err(UriError::Srv(error));
    let name = || "a.b.example".to_owned();
    let no_records = SrvError::NoRecords {
        name: "_mongodb._tcp.a.b.example".to_owned(),
    };
    assert_eq!(uri.resolve(&[], &[], 0), srv(no_records));
    let two = [txt("replicaSet=a"), txt("replicaSet=b")].concat();
    assert_eq!(
        uri.resolve(&good, &two, 0),
        srv(SrvError::SeveralTxtRecords { name: name() })
    );
    let option = || "ssl".to_owned();
    assert_eq!(
        uri.resolve(&good, &txt("ssl=false"), 0),
        srv(SrvError::TxtOption { option: option() })
    );
    assert!(matches!(
        uri.resolve(&good, &txt("authSource"), 0),
        Err(UriError::Srv(SrvError::Txt(_)))
    ));
    let bytes = [TxtRecord(vec![vec![0xff]])];
    assert_eq!(uri.resolve(&good, &bytes, 0), srv(SrvError::TxtNotUtf8));
    let no_port = SrvRecord {
        port: 0,
        ..record("h.b.example", 60)
    };
    let bad = SrvError::BadTarget {
        target: "h.b.example".to_owned(),
    };
    assert_eq!(uri.resolve(&[no_port], &[], 0), srv(bad));
    let plain = ConnectionString::parse("mongodb://a").expect("a valid URI");
    assert_eq!(plain.resolve(&good, &[], 0), srv(SrvError::NotSrv));
}

#[test]
fn the_txt_record_gives_way_to_the_connection_string() {
    let records = [record("h.b.example", 60)];
    let text = txt("authSource=t&replicaSet=t&LOADBALANCED=false");
    let resolved = uri("u:p@a.b.example")
        .resolve(&records, &text, 0)
        .expect("resolved");
    assert_eq!(resolved.options.replica_set.as_deref(), Some("t"));
    assert_eq!(resolved.options.load_balanced, Some(false));
    assert_eq!(resolved.credential.expect("a credential").source, "t");

    let own = uri("u:p@a.b.example/d?authSource=o&replicaSet=o");
    let resolved = own.resolve(&records, &text, 0).expect("resolved");
    assert_eq!(resolved.options.replica_set.as_deref(), Some("o"));
    let credential = resolved.credential.expect("a credential");
    assert_eq!(credential.source, "o");
    assert_eq!(credential.password.expect("a password").expose(), "p");
}

#[test]
fn rules_between_options_are_checked_after_the_txt_record() {
    let records = [record("h.b.example", 60), record("i.b.example", 60)];
    let resolve = |text: &str, options: &str| uri(text).resolve(&records, &txt(options), 0);
    assert!(resolve("a.b.example", "loadBalanced=true").is_err());
    assert!(resolve("a.b.example/?srvMaxHosts=1", "replicaSet=s").is_err());
    assert!(resolve("a.b.example/?authMechanism=MONGODB-X509", "authSource=s").is_err());
}

#[test]
fn a_choice_of_hosts_depends_on_the_seed_alone() {
    let records: Vec<_> = (0..20)
        .map(|n| record(&format!("h{n}.b.example"), 60))
        .collect();
    let uri = uri("a.b.example/?srvMaxHosts=3");
    let choice = |seed| uri.resolve(&records, &[], seed).expect("resolved").hosts;
    let mut seen = BTreeSet::new();
    for seed in 0..100 {
        let hosts = choice(seed);
        assert_eq!(hosts, choice(seed));
        assert_eq!(hosts.iter().collect::<BTreeSet<_>>().len(), 3);
        seen.extend(hosts);
    }
    assert_eq!(seen.len(), 20, "every host gets its turn");
}

#[test]
fn repeated_records_are_one_host() {
    let records = [record("h.b.example", 60), record("H.b.example.", 90)];
    let resolved = uri("a.b.example")
        .resolve(&records, &[], 0)
        .expect("resolved");
    assert_eq!(resolved.hosts, [host("h.b.example")]);
}

#[test]
fn a_rescan_keeps_what_is_listed_and_reports_what_is_foreign() {
    let uri = uri("a.b.example");
    let current = BTreeSet::from([host("h1.b.example"), host("h2.b.example")]);
    let records = [
        record("h2.b.example", 300),
        record("h3.b.example", 120),
        record("evil.example", 1),
    ];
    let rescan = uri.rescan(&records, &current, 0);
    assert_eq!(
        rescan.hosts,
        Some(BTreeSet::from([host("h2.b.example"), host("h3.b.example")]))
    );
    assert_eq!(rescan.rejected.len(), 1);
    assert_eq!(rescan.next, Some(Duration::from_secs(120)));
}

#[test]
fn a_rescan_without_a_valid_record_changes_nothing() {
    let uri = uri("a.b.example");
    let current = BTreeSet::from([host("h1.b.example")]);
    assert_eq!(uri.rescan(&[], &current, 0), Rescan::default());
    let rescan = uri.rescan(&[record("evil.example", 300)], &current, 0);
    assert_eq!((rescan.hosts, rescan.next), (None, None));
    assert_eq!(rescan.rejected.len(), 1);
}

#[test]
fn a_rescan_is_due_no_sooner_than_a_minute() {
    let rescan = uri("a.b.example").rescan(&[record("h.b.example", 5)], &BTreeSet::new(), 0);
    assert_eq!(rescan.next, Some(super::MIN_RESCAN_INTERVAL));
}

#[test]
fn a_rescan_fills_up_to_the_limit_with_new_hosts() {
    let records: Vec<_> = (0..9)
        .map(|n| record(&format!("h{n}.b.example"), 60))
        .collect();
    let uri = uri("a.b.example/?srvMaxHosts=3");
    let current = BTreeSet::from([host("h1.b.example"), host("gone.b.example")]);
    for seed in 0..50 {
        let hosts = uri.rescan(&records, &current, seed).hosts.expect("hosts");
        assert_eq!(hosts.len(), 3);
        assert!(hosts.contains(&host("h1.b.example")));
        assert!(!hosts.contains(&host("gone.b.example")));
    }
}
