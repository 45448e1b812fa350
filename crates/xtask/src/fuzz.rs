//! `cargo xtask fuzz`: the fuzz targets on the nightly toolchain.

use std::path::Path;
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

/// Builds and runs the targets.
///
/// # Errors
/// There is no nightly toolchain, a target does not build, or it crashes.
pub(crate) fn run(arguments: &Arguments) -> anyhow::Result<()> {
    let nightly = Command::new("rustup")
        .args(["run", "nightly", "cargo", "--version"])
        .output();
    if !nightly.is_ok_and(|output| output.status.success()) {
        bail!("fuzzing needs a nightly toolchain: `rustup toolchain install nightly`");
    }
    let tools = shell::root().join("target/tools");
    install(&tools)?;
    let targets = match &arguments.target {
        Some(target) => vec![target.clone()],
        None => targets(&tools)?,
    };
    if targets.is_empty() {
        bail!("there is no fuzz target");
    }
    for target in targets {
        shell::say(&format!("fuzzing {target} for {} s", arguments.seconds));
        let mut command = fuzz(&tools);
        command.args(["run", &target, "--"]);
        command.arg(format!("-max_total_time={}", arguments.seconds));
        shell::run(command.args(["-print_final_stats=1", "-rss_limit_mb=4096"]))?;
    }
    Ok(())
}

/// `cargo fuzz` on the nightly toolchain.
fn fuzz(tools: &Path) -> Command {
    let mut command = Command::new("rustup");
    command
        .args(["run", "nightly"])
        .arg(tools.join("bin/cargo-fuzz"))
        .arg("fuzz");
    command.current_dir(shell::root());
    command
}

fn targets(tools: &Path) -> anyhow::Result<Vec<String>> {
    let mut command = fuzz(tools);
    // `list` takes no arguments after the subcommand.
    Ok(shell::read(command.arg("list"))?
        .lines()
        .map(str::to_owned)
        .collect())
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
