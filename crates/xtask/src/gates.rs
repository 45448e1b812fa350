//! The rules of the house that no compiler checks: what each crate may stand on.

use std::collections::BTreeSet;

use anyhow::bail;

use crate::shell;

/// Crates that must not bring an async runtime, whatever they use by default.
const CORES: [&str; 4] = [
    "mongo-wire",
    "mongo-uri",
    "mongo-topology",
    "mongo-change-stream",
];

/// Prefixes of crates that only the client and the programs may use.
const RUNTIME: [&str; 4] = ["tokio", "mio", "async-std", "smol"];

/// The most crates that `mongo-wire` alone may bring, itself included.
const WIRE_CRATES: usize = 15;

/// The most crates that `mongo-client` may bring, itself included, by its features.
const CLIENT_CRATES: [(&[&str], usize); 2] = [(&[], 130), (&["--no-default-features"], 75)];

/// Which of our crates each may name as its dependency, whatever its features.
const ARROWS: [(&str, &[&str]); 6] = [
    ("mongo-wire", &[]),
    ("mongo-uri", &[]),
    ("mongo-topology", &["mongo-uri"]),
    ("mongo-change-stream", &["mongo-wire"]),
    ("mongo-client", &CORES),
    ("mongo-watch", &["mongo-client"]),
];

/// Checks every gate.
///
/// # Errors
/// The first gate that does not hold.
pub(crate) fn run() -> anyhow::Result<()> {
    for core in CORES {
        let tree = tree(core, &[])?;
        if let Some(found) = tree
            .iter()
            .find(|name| RUNTIME.iter().any(|r| name.starts_with(r)))
        {
            bail!("{core} depends on {found}: only mongo-client may know a runtime");
        }
    }
    for (package, allowed) in ARROWS {
        let direct = tree(package, &["--depth", "1", "--all-features"])?;
        let mut ours = direct
            .iter()
            .filter(|name| name.starts_with("mongo-") && *name != package);
        if let Some(found) = ours.find(|name| !allowed.contains(&name.as_str())) {
            bail!("{package} depends on {found}: the house allows {allowed:?}");
        }
    }
    let bare = tree("mongo-wire", &["--no-default-features"])?;
    if bare.len() > WIRE_CRATES {
        bail!(
            "mongo-wire without features brings {} crates, more than {WIRE_CRATES}",
            bare.len()
        );
    }
    let banned = ["bson", "tokio", "snap", "flate2", "zstd"];
    if let Some(found) = banned.iter().find(|name| bare.contains(**name)) {
        bail!("mongo-wire without features brings {found}");
    }
    for (flags, most) in CLIENT_CRATES {
        let found = tree("mongo-client", flags)?.len();
        if found > most {
            bail!("mongo-client {flags:?} brings {found} crates, more than {most}");
        }
    }
    let counts: Vec<String> = ["mongo-client", "mongo-watch"]
        .iter()
        .map(|name| Ok(format!("{name} {}", tree(name, &[])?.len())))
        .collect::<anyhow::Result<_>>()?;
    shell::say(&format!(
        "gates hold; crates: mongo-wire bare {}, {}",
        bare.len(),
        counts.join(", ")
    ));
    Ok(())
}

/// The names of a package's normal dependencies, itself included.
fn tree(package: &str, flags: &[&str]) -> anyhow::Result<BTreeSet<String>> {
    let mut command = shell::cargo();
    command.args([
        "tree",
        "--edges",
        "normal",
        "--prefix",
        "none",
        "--package",
        package,
    ]);
    let listing = shell::read(command.args(flags))?;
    let names = listing
        .lines()
        .filter_map(|line| line.split_whitespace().next());
    Ok(names.map(str::to_owned).collect())
}
