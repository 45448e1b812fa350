//! PyMongo, obtained once at a pinned version and kept under `target/testbed`.

use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::LazyLock;

use tempfile::TempDir;

/// PyMongo, and what it compresses with.
const PACKAGES: [&str; 3] = [
    "pymongo==4.20.0",
    "python-snappy==0.7.3",
    "backports.zstd==1.8.0",
];

static LIBRARY: LazyLock<PathBuf> = LazyLock::new(obtain);

/// Runs Python with PyMongo at hand and returns what it prints.
pub(crate) fn python(args: &[&OsStr]) -> String {
    run(Command::new("python3")
        .args(args)
        .env("PYTHONPATH", &*LIBRARY))
}

pub(crate) fn script() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/wire/messages.py")
}

/// The folder is named after the interpreter, whose version the packages are built for. It is
/// filled aside and moved into place, so that nobody ever sees half of it.
fn obtain() -> PathBuf {
    let version = "import sys; print('%d.%d' % sys.version_info[:2], end='')";
    let version = run(Command::new("python3").args(["-c", version]));
    let cache = Path::new(env!("CARGO_MANIFEST_DIR"))
        .with_file_name("target")
        .join("testbed");
    let place = cache.join(format!("pymongo-4.20.0-python{version}"));
    if place.is_dir() {
        return place;
    }
    fs::create_dir_all(&cache).unwrap();
    let work = TempDir::with_prefix_in(".pip-", &cache).unwrap();
    let ready = work.path().join("ready");
    let flags = [
        "--quiet",
        "--disable-pip-version-check",
        "--only-binary",
        ":all:",
        "--target",
    ];
    run(Command::new("python3")
        .args(["-m", "pip", "install"])
        .args(flags)
        .arg(&ready)
        .args(PACKAGES));
    if let Err(error) = fs::rename(&ready, &place) {
        assert!(place.is_dir(), "{error}");
    }
    place
}

fn run(command: &mut Command) -> String {
    let output = command
        .stdin(Stdio::null())
        .output()
        .expect("python3 is on PATH");
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(
        output.status.success(),
        "{command:?}: {}\n{stderr}",
        output.status
    );
    String::from_utf8(output.stdout).unwrap()
}
