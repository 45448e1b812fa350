//! Development commands of this workspace: `cargo xtask --help`.

mod bench;
mod cluster;
mod demo;
mod fuzz;
mod gates;
mod shell;
mod soak;
mod spec_tests;
mod test;
mod workload;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

#[derive(Parser)]
#[command(name = "cargo xtask", about = "Development commands of this workspace")]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Follow a replica set through the death of its primary, and count every event.
    Demo(demo::Arguments),
    /// Strike a primary for minutes, and hold every stream against the oplog.
    Soak(soak::Arguments),
    /// Run every test, obtaining the servers and the specification tests they need.
    Test(test::Arguments),
    /// Run the public specification tests and show which pass, fail and are skipped, and why.
    SpecTests(spec_tests::Arguments),
    /// Check the rules of the house: what each crate may depend on.
    Gates,
    /// Run the benchmarks and show their results against each other and against the goals.
    Bench(bench::Arguments),
    /// Run the fuzz targets on the nightly toolchain.
    Fuzz(fuzz::Arguments),
    /// Start a real deployment in the foreground.
    Cluster(cluster::Arguments),
}

fn main() -> ExitCode {
    let result = match Arguments::parse().command {
        Command::Demo(arguments) => demo::run(&arguments),
        Command::Soak(arguments) => soak::run(&arguments),
        Command::Test(arguments) => test::run(&arguments),
        Command::SpecTests(arguments) => spec_tests::run(&arguments),
        Command::Gates => gates::run(),
        Command::Bench(arguments) => bench::run(&arguments),
        Command::Fuzz(arguments) => fuzz::run(&arguments),
        Command::Cluster(arguments) => cluster::run(&arguments),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            shell::complain(&format!("{error:#}"));
            ExitCode::FAILURE
        }
    }
}
