//! A resolver that knows the records which the Initial DNS Seedlist Discovery tests ask for.

use std::time::Duration;

use mongo_uri::{ConnectionString, SrvRecord, TxtRecord, UriError};

/// Time to live of every record.
const TTL: Duration = Duration::from_secs(86_400);

/// SRV records below `10gen.cc`: service, owner, and target with its ports.
#[rustfmt::skip]
const SRV: &[(&str, &str, &str, &[u16])] = &[
    ("mongodb", "build", "build", &[27017]),
    ("mongodb", "test.build", "test.build", &[27017]),
    ("mongodb", "test1.test.build", "localhost.test.build", &[27017, 27018]),
    ("mongodb", "test2.test.build", "localhost.test.build", &[27018, 27019]),
    ("mongodb", "test3.test.build", "localhost.test.build", &[27017]),
    ("mongodb", "test5.test.build", "localhost.test.build", &[27017]),
    ("mongodb", "test6.test.build", "localhost.test.build", &[27017]),
    ("mongodb", "test7.test.build", "localhost.test.build", &[27017]),
    ("mongodb", "test8.test.build", "localhost.test.build", &[27017]),
    ("mongodb", "test10.test.build", "localhost.test.build", &[27017]),
    ("mongodb", "test11.test.build", "localhost.test.build", &[27017]),
    ("mongodb", "test12.test.build", "localhost.build", &[27017]),
    ("mongodb", "test13.test.build", "test.build", &[27017]),
    ("mongodb", "test14.test.build", "localhost.not-test.build", &[27017]),
    ("mongodb", "test15.test.build", "localhost.test.not-build", &[27017]),
    ("mongodb", "test18.test.build", "localhost.sub.test.build", &[27017]),
    ("mongodb", "test19.test.build", "localhost.evil.build", &[27017]),
    ("mongodb", "test19.test.build", "localhost.test.build", &[27017]),
    ("mongodb", "test20.test.build", "localhost.test.build", &[27017]),
    ("mongodb", "test21.test.build", "localhost.test.build", &[27017]),
    // The published zone has one of the two, the case that uses it expects both.
    ("customname", "test22.test.build", "localhost.test.build", &[27017, 27018]),
    ("mongodb", "test23.test.build", "localhost.test.build", &[8000]),
    ("mongodb", "test24.test.build", "localhost.test.build", &[8000]),
];

/// SRV records whose target lies in another domain: owner below `10gen.cc`, whole target.
const FOREIGN_SRV: &[(&str, &str)] = &[
    ("test16.test.build", "localhost.test.build.not-10gen.cc"),
    ("test17.test.build", "localhost.test.build.10gen.not-cc"),
];

/// TXT records: owner below `10gen.cc`, and the strings of one record.
const TXT: &[(&str, &[&str])] = &[
    ("test5.test.build", &["replicaSet=repl0&authSource=thisDB"]),
    ("test6.test.build", &["replicaSet=repl0"]),
    ("test6.test.build", &["authSource=otherDB"]),
    ("test7.test.build", &["ssl=false"]),
    ("test8.test.build", &["authSource"]),
    ("test10.test.build", &["socketTimeoutMS=500"]),
    ("test11.test.build", &["replicaS", "et=rep", "l0"]),
    ("test20.test.build", &["loadBalanced=true"]),
    ("test21.test.build", &["loadBalanced=false"]),
    ("test24.test.build", &["loadBalanced=true"]),
];

/// The SRV records of a name such as `_mongodb._tcp.test1.test.build.10gen.cc`.
pub fn srv_records(name: &str) -> Vec<SrvRecord> {
    let record = |target: String, port| SrvRecord {
        target,
        port,
        ttl: TTL,
    };
    let own = SRV
        .iter()
        .filter(|(service, owner, ..)| format!("_{service}._tcp.{owner}.10gen.cc") == name)
        .flat_map(|(.., target, ports)| {
            ports
                .iter()
                .map(move |port| record(format!("{target}.10gen.cc."), *port))
        });
    let foreign = FOREIGN_SRV
        .iter()
        .filter(|(owner, _)| format!("_mongodb._tcp.{owner}.10gen.cc") == name)
        .map(|(_, target)| record(format!("{target}."), 27017));
    own.chain(foreign).collect()
}

/// The TXT records of a name.
pub fn txt_records(name: &str) -> Vec<TxtRecord> {
    TXT.iter()
        .filter(|(owner, _)| format!("{owner}.10gen.cc") == name)
        .map(|(_, strings)| TxtRecord(strings.iter().map(|s| s.as_bytes().to_vec()).collect()))
        .collect()
}

/// Asks what a `mongodb+srv` connection string asks and resolves it with the answer.
pub fn resolve(uri: &ConnectionString, seed: u64) -> Result<ConnectionString, UriError> {
    let (srv, txt) = match uri.srv_question() {
        Some(question) => (srv_records(&question.srv), txt_records(&question.txt)),
        None => (Vec::new(), Vec::new()),
    };
    uri.resolve(&srv, &txt, seed)
}
