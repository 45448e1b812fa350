//! The example that stands between a client and a server, with PyMongo as the client.

use std::ffi::OsStr;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use crate::{peer, python::python};

/// A running program that ends with the test.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        // Both fail only for a program that is gone already.
        let _ = (self.0.kill(), self.0.wait());
    }
}

/// The example, which a test run of the whole workspace has built beside this program; built here
/// if only this package is tested.
fn example() -> PathBuf {
    let here = std::env::current_exe().unwrap();
    let profile = here.ancestors().nth(2).unwrap();
    let program = profile.join("examples/proxy");
    let source =
        Path::new(env!("CARGO_MANIFEST_DIR")).join("../crates/mongo-wire/examples/proxy.rs");
    let changed = |path: &Path| path.metadata().and_then(|about| about.modified()).ok();
    if changed(&program) > changed(&source) {
        return program;
    }
    let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    cargo.args([
        "build",
        "--quiet",
        "--package",
        "mongo-wire",
        "--all-features",
    ]);
    cargo
        .args(["--example", "proxy", "--target-dir"])
        .arg(profile.parent().unwrap());
    if profile.ends_with("release") {
        cargo.arg("--release");
    }
    let status = cargo
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .status()
        .unwrap();
    assert!(status.success());
    program
}

const CLIENT: &str = r#"
import sys, pymongo
uri = "mongodb://%s/?directConnection=true&compressors=%s"
for compressor in ["snappy", "zlib", "zstd"]:
    with pymongo.MongoClient(uri % (sys.argv[1], compressor)) as client:
        things = client["proxied"][compressor]
        things.insert_many([{"_id": number, "text": "event " * 20} for number in range(300)])
        assert [thing["_id"] for thing in things.find(sort=[("_id", 1)])] == list(range(300))
        try:
            client["admin"].command("nonsense")
        except pymongo.errors.OperationFailure as error:
            assert error.code == 59
"#;

#[test]
fn proxy_passes_pymongo_through_and_tells_what_it_does() {
    let mut proxy = Command::new(example());
    proxy
        .arg("127.0.0.1:0")
        .arg(peer::address())
        .stdout(Stdio::piped());
    let mut proxy = Running(proxy.spawn().unwrap());
    let mut lines = BufReader::new(proxy.0.stdout.take().unwrap())
        .lines()
        .map(Result::unwrap);
    let first = lines.next().unwrap();
    let address = first.split([' ', ',']).nth(2).unwrap().to_owned();

    python(&[OsStr::new("-c"), CLIENT.as_ref(), address.as_ref()]);
    drop(proxy);
    let said: Vec<String> = lines.collect();
    for compressor in ["snappy", "zlib", "zstd"] {
        for command in ["insert", "find", "getMore", "nonsense"] {
            let is_it = |line: &&String| line.contains(command) && line.contains(compressor);
            assert!(
                said.iter().any(|line| is_it(&line)),
                "{command} {compressor}: {said:#?}"
            );
        }
    }
    assert!(
        said.iter().any(|line| line.contains("CommandNotFound")),
        "{said:#?}"
    );
    assert!(
        !said.iter().any(|line| line.contains("unreadable")),
        "{said:#?}"
    );
}
