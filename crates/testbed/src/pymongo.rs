//! PyMongo, the independent client that this workspace is held against: obtained once with pip at
//! a pinned version, and kept under `target/testbed`.

use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result, ensure};
use tempfile::TempDir;

/// PyMongo, and what it compresses with.
const PACKAGES: [&str; 3] = [
    "pymongo==4.20.0",
    "python-snappy==0.7.3",
    "backports.zstd==1.8.0",
];

/// Runs Python with PyMongo at hand and returns what it prints.
///
/// # Errors
/// When python3 or pip is missing or fails, with what it wrote to standard error.
pub fn python(library: &Path, args: &[&OsStr]) -> Result<String> {
    run(Command::new("python3")
        .args(args)
        .env("PYTHONPATH", library))
}

/// The folder with the packages. It is named after the interpreter, whose version they are built
/// for, and is filled aside and moved into place, so that nobody ever sees half of it.
///
/// # Errors
/// When python3 or pip is missing, or the registry cannot be reached.
pub fn obtain() -> Result<PathBuf> {
    let version = "import sys; print('%d.%d' % sys.version_info[:2], end='')";
    let version = run(Command::new("python3").args(["-c", version]))?;
    let workspace = Path::new(env!("CARGO_MANIFEST_DIR")).ancestors().nth(2);
    let workspace = workspace.context("this crate lies in a workspace")?;
    let cache = workspace.join("target/testbed");
    let place = cache.join(format!("pymongo-4.20.0-python{version}"));
    if place.is_dir() {
        return Ok(place);
    }
    fs::create_dir_all(&cache)?;
    let work = TempDir::with_prefix_in(".pip-", &cache)?;
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
        .args(PACKAGES))?;
    // Another process may have been faster.
    fs::rename(&ready, &place).or_else(|error| match place.is_dir() {
        true => Ok(()),
        false => Err(error),
    })?;
    Ok(place)
}

fn run(command: &mut Command) -> Result<String> {
    let output = command
        .stdin(Stdio::null())
        .output()
        .context("python3 is not on PATH")?;
    let stderr = String::from_utf8_lossy(&output.stderr);
    ensure!(
        output.status.success(),
        "{command:?}: {}\n{stderr}",
        output.status
    );
    Ok(String::from_utf8(output.stdout)?)
}
