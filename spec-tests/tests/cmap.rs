//! Every case of the suite of connection pools, as a test of its own.

use std::process::ExitCode;

use libtest_mimic::Arguments;
use spec_tests::case::trials;
use spec_tests::cmap;
use spec_tests::dir::SpecDir;

fn main() -> anyhow::Result<ExitCode> {
    let arguments = Arguments::from_args();
    let dir = SpecDir::obtain()?;
    let trials = trials(&dir, cmap::SUITE, cmap::cases);
    let conclusion = libtest_mimic::run(&arguments, trials);
    cmap::stop_server();
    Ok(conclusion.exit_code())
}
