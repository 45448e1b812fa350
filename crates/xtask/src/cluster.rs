//! `cargo xtask cluster up`: a real deployment in the foreground.

use std::sync::mpsc;

use anyhow::Context as _;
use testbed::cluster::{ReplicaSetOptions, Standalone};
use testbed::mongod::{MongodOptions, ServerVersion};

use crate::shell;

/// What to do with a deployment.
#[derive(clap::Args)]
pub(crate) struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(clap::Subcommand)]
enum Command {
    /// Start one, print its URI on stdout, and keep it until Ctrl-C.
    Up {
        /// Members of the replica set, 1 to 7; 0 starts a standalone server.
        #[arg(long, default_value_t = 3)]
        nodes: usize,
        /// default, 4.2, 4.4, 5.0 or 6.0.
        #[arg(long, default_value = "default")]
        server: ServerVersion,
    },
}

/// Starts what is asked for and waits for Ctrl-C.
///
/// # Errors
/// The servers cannot be obtained or started.
pub(crate) fn run(arguments: &Arguments) -> anyhow::Result<()> {
    let Command::Up { nodes, server } = arguments.command;
    let (stop, stopped) = mpsc::channel();
    let handler = move || {
        // Nobody listens once the first signal has ended the wait.
        let _ = stop.send(());
    };
    ctrlc::set_handler(handler).context("cannot catch Ctrl-C")?;
    if nodes == 0 {
        let deployment = Standalone::start_with(server, MongodOptions::default())?;
        return hold(&deployment.uri(), &stopped);
    }
    let deployment = ReplicaSetOptions {
        version: server,
        ..ReplicaSetOptions::new(nodes)
    }
    .start()?;
    hold(&deployment.uri(), &stopped)
}

fn hold(uri: &str, stopped: &mpsc::Receiver<()>) -> anyhow::Result<()> {
    shell::say(uri);
    shell::complain("running; Ctrl-C stops it");
    stopped.recv().context("the signal handler is gone")
}
