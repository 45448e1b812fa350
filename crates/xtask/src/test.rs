//! `cargo xtask test`: every test of the workspace.

use crate::shell;

/// What to run.
#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// Passed on to the test programs (a filter, `--nocapture`, ...).
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    rest: Vec<String>,
}

/// Obtains what the tests need, then runs them all.
///
/// # Errors
/// Something cannot be obtained, or a test fails.
pub(crate) fn run(arguments: &Arguments) -> anyhow::Result<()> {
    testbed::specs::obtain()?;
    let mut command = shell::cargo();
    command
        .args(["test", "--workspace", "--all-features", "--"])
        .args(&arguments.rest);
    shell::run(&mut command)
}
