//! `cargo xtask fuzz`: the fuzz targets on the nightly toolchain.
//!
//! The first run of a target makes its seeds: real traffic of a real server, and texts and bytes
//! made by hand. What fuzzing finds of interest joins them in `fuzz/corpus`, which is not kept in
//! version control; a crash becomes a test of the crate it is in.

mod bytes;
mod seeds;
mod texts;
mod traffic;

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, bail};

use crate::shell;

/// What to fuzz and for how long.
#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// One target; all of them, one after the other, if it is not given.
    target: Option<String>,
    /// Seconds for each target.
    #[arg(long, default_value_t = 60)]
    seconds: u64,
}

/// A fuzz target and what suits it.
struct Target {
    name: &'static str,
    /// In `fuzz/dictionaries`; none for targets whose inputs are structured.
    dictionary: Option<&'static str>,
    /// The longest input, in bytes.
    max_len: u32,
}

const TARGETS: [Target; 7] = [
    target("frame", Some("wire.dict"), 4_096),
    target("message", Some("wire.dict"), 4_096),
    target("decompress", Some("decompress.dict"), 4_096),
    target("reply", Some("wire.dict"), 4_096),
    target("roundtrip", None, 2_048),
    target("uri", Some("uri.dict"), 1_024),
    target("topology", None, 2_048),
];

const fn target(name: &'static str, dictionary: Option<&'static str>, max_len: u32) -> Target {
    Target {
        name,
        dictionary,
        max_len,
    }
}

/// Builds and runs the targets.
///
/// # Errors
/// There is no nightly toolchain and none can be installed, a target does not build, or it crashes.
pub(crate) fn run(arguments: &Arguments) -> anyhow::Result<()> {
    let targets = chosen(arguments.target.as_deref())?;
    obtain_nightly()?;
    let tools = shell::root().join("target/tools");
    install(&tools)?;
    seeds::make(&corpus())?;
    shell::run(fuzz(&tools).arg("build").args(&arguments.target))?;
    for target in targets {
        shell::say(&format!(
            "fuzzing {} for {} s",
            target.name, arguments.seconds
        ));
        shell::run(&mut target.command(&tools, arguments.seconds))?;
    }
    Ok(())
}

fn chosen(name: Option<&str>) -> anyhow::Result<Vec<&'static Target>> {
    let is_wanted = |target: &&Target| name.is_none_or(|name| name == target.name);
    let found: Vec<_> = TARGETS.iter().filter(is_wanted).collect();
    if found.is_empty() {
        let names: Vec<_> = TARGETS.iter().map(|target| target.name).collect();
        bail!("there is no such target; there are {}", names.join(", "));
    }
    Ok(found)
}

impl Target {
    fn command(&self, tools: &Path, seconds: u64) -> Command {
        let mut command = fuzz(tools);
        command.args(["run", self.name, "--"]);
        command.arg(format!("-max_total_time={seconds}"));
        command.arg(format!("-max_len={}", self.max_len));
        if let Some(name) = self.dictionary {
            let path = shell::root().join("fuzz/dictionaries").join(name);
            command.arg(format!("-dict={}", path.display()));
        }
        command.args(["-print_final_stats=1", "-rss_limit_mb=4096", "-timeout=10"]);
        command
    }
}

/// The folder of all corpora.
fn corpus() -> PathBuf {
    shell::root().join("fuzz/corpus")
}

/// `cargo fuzz` on the nightly toolchain.
fn fuzz(tools: &Path) -> Command {
    let mut command = Command::new("rustup");
    command
        .args(["run", "nightly"])
        .arg(tools.join("bin/cargo-fuzz"))
        .arg("fuzz");
    command.current_dir(shell::root());
    // Set by the cargo that runs this program; the other toolchain has its own.
    command.env_remove("CARGO").env_remove("RUSTUP_TOOLCHAIN");
    command
}

/// Installs the nightly toolchain, unless there is one.
fn obtain_nightly() -> anyhow::Result<()> {
    let nightly = Command::new("rustup")
        .args(["run", "nightly", "cargo", "--version"])
        .output();
    if nightly.is_ok_and(|output| output.status.success()) {
        return Ok(());
    }
    shell::complain("fuzzing needs a nightly toolchain: installing it");
    let mut command = Command::new("rustup");
    command.args(["toolchain", "install", "nightly", "--profile", "minimal"]);
    shell::run(&mut command).context(
        "cannot install a nightly toolchain, which fuzzing needs; give one that `rustup run \
         nightly cargo` finds",
    )
}

/// Installs `cargo-fuzz` once, under `target/`.
fn install(tools: &Path) -> anyhow::Result<()> {
    if tools.join("bin/cargo-fuzz").exists() {
        return Ok(());
    }
    let mut command = shell::cargo();
    command
        .args(["install", "--quiet", "--locked", "cargo-fuzz", "--root"])
        .arg(tools);
    shell::run(&mut command).context("cannot install cargo-fuzz")
}
