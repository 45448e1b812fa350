//! `cargo xtask test`: every test of the workspace.

use crate::{shell, spec_tests};

/// What to run.
#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// Passed on to the test programs (a filter, `--nocapture`, ...); without it, the public
    /// specification tests are run as well.
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    rest: Vec<String>,
}

/// Obtains what the tests need, then runs them all, and the public specification tests.
///
/// # Errors
/// Something cannot be obtained, or a test fails.
pub(crate) fn run(arguments: &Arguments) -> anyhow::Result<()> {
    let mut command = shell::cargo();
    command
        .args([
            "test",
            "--workspace",
            "--all-features",
            "--no-fail-fast",
            "--",
        ])
        .args(&arguments.rest);
    shell::run(&mut command)?;
    if arguments.rest.is_empty() {
        spec_tests::check()?;
    }
    Ok(())
}
