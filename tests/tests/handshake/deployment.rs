//! The replica set with access control that the tests share, and its users.

use std::io::Write as _;

use bson::{RawArrayBuf, RawDocumentBuf, cstr, rawdoc};
use mongo_client::Client;
use testbed::cluster::{ReplicaSet, ReplicaSetOptions};
use tokio::sync::OnceCell;

/// User, password, mechanisms; all in `admin`, with the role `root`.
pub(crate) const USERS: [(&str, &str, &[&str]); 6] = [
    ("sha1", "pw1", &["SCRAM-SHA-1"]),
    ("sha256", "pw256", &["SCRAM-SHA-256"]),
    ("both", "pwboth", &["SCRAM-SHA-1", "SCRAM-SHA-256"]),
    ("IX", "IX", &["SCRAM-SHA-256"]),
    ("\u{2168}", "\u{2163}", &["SCRAM-SHA-256"]),
    (
        "a=b,c:d@e/f",
        "p=,%:@/\u{e9}",
        &["SCRAM-SHA-1", "SCRAM-SHA-256"],
    ),
];

/// The set, with its users.
pub(crate) async fn set() -> &'static ReplicaSet {
    static SET: OnceCell<ReplicaSet> = OnceCell::const_new();
    SET.get_or_init(|| async {
        let set = tokio::task::spawn_blocking(start).await.unwrap();
        let client = Client::new(&uri_of(&set, "root", "rootpw", "")).unwrap();
        for (user, password, mechanisms) in USERS {
            let command = create_user(user, password, mechanisms);
            client.run_admin_command(&command).await.unwrap();
        }
        let app = create_user("app", "pwapp", &["SCRAM-SHA-256"]);
        client
            .database("elsewhere")
            .run_command(&app)
            .await
            .unwrap();
        client.shutdown().await;
        set
    })
    .await
}

fn start() -> ReplicaSet {
    // Servers want a file that only its owner can read, which a temporary one is; once they run
    // they do not need it.
    let mut key = tempfile::NamedTempFile::new().unwrap();
    key.write_all(b"bW9uZ28tY2xpZW50IGlzIHRlc3RlZCB3aXRoIHRoaXM=")
        .unwrap();
    let mut options = ReplicaSetOptions::new(1);
    options.mongod.args = vec!["--auth".into(), "--keyFile".into(), key.path().into()];
    let set = options.start().unwrap();
    // As long as there is no user, one may be made over loopback.
    let root = create_user("root", "rootpw", &["SCRAM-SHA-1", "SCRAM-SHA-256"]);
    set.primary().unwrap().run_command("admin", &root).unwrap();
    set
}

fn create_user(user: &str, password: &str, mechanisms: &[&str]) -> RawDocumentBuf {
    let mechanisms: RawArrayBuf = mechanisms.iter().copied().collect();
    let mut command = rawdoc! {
        "createUser": user, "pwd": password, "roles": [{ "role": "root", "db": "admin" }],
    };
    command.append(cstr!("mechanisms"), mechanisms);
    command
}

/// A connection string of the set for a user; options begin with `&`.
pub(crate) async fn uri(user: &str, password: &str, options: &str) -> String {
    uri_of(set().await, user, password, options)
}

fn uri_of(set: &ReplicaSet, user: &str, password: &str, options: &str) -> String {
    let hosts = set.uri().replacen("mongodb://", "", 1);
    let (user, password) = (escaped(user), escaped(password));
    format!("mongodb://{user}:{password}@{hosts}{options}")
}

fn escaped(text: &str) -> String {
    text.bytes().map(|byte| format!("%{byte:02X}")).collect()
}
