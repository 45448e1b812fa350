//! Every case of the suites that need no server, as a test of its own.

use std::process::ExitCode;

use libtest_mimic::Arguments;
use spec_tests::dir::SpecDir;
use spec_tests::pure;

fn main() -> anyhow::Result<ExitCode> {
    let arguments = Arguments::from_args();
    let dir = SpecDir::obtain()?;
    Ok(libtest_mimic::run(&arguments, pure::all(&dir)).exit_code())
}
