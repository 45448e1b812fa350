//! Tails a MongoDB collection, database or cluster: one change event a line on stdout, in relaxed
//! extended JSON, messages on stderr. See the crate's README for exit codes.

mod exit;
mod place;
mod tail;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

#[derive(Parser)]
#[command(
    name = "mongo-watch",
    version,
    about = "Tail a MongoDB deployment into a pipe"
)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Print each change event as one line of JSON, until Ctrl-C.
    Watch(tail::Arguments),
}

fn main() -> ExitCode {
    let Command::Watch(arguments) = Arguments::parse().command;
    match tail::run(&arguments) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            tail::say(&format!("mongo-watch: {failure}"));
            failure.code()
        }
    }
}
