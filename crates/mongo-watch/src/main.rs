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
    Watch(Box<tail::Arguments>),
    /// Say what such a stream would find, and what to do about it, without starting it.
    Check(Box<tail::Arguments>),
}

fn main() -> ExitCode {
    let result = match Arguments::parse().command {
        Command::Watch(arguments) => tail::run(&arguments),
        Command::Check(arguments) => tail::check(&arguments),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            tail::say(&format!("mongo-watch: {failure}"));
            failure.code()
        }
    }
}
