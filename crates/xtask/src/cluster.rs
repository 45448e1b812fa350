//! `cargo xtask cluster up`: a real deployment in the foreground.

use std::sync::mpsc;
use std::thread;

use anyhow::Context as _;
use testbed::cluster::{ReplicaSet, ReplicaSetOptions, Standalone};
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

/// Starts what is asked for and waits for Ctrl-C, which also ends a start that is under way: whatever runs by
/// then ends with this process.
///
/// # Errors
/// The servers cannot be obtained or started.
pub(crate) fn run(arguments: &Arguments) -> anyhow::Result<()> {
    let Command::Up { nodes, server } = arguments.command;
    let (tell, news) = mpsc::channel();
    let interrupted = tell.clone();
    let handler = move || {
        // Nobody listens once the first signal has ended the wait.
        let _ = interrupted.send(News::Interrupted);
    };
    ctrlc::set_handler(handler).context("cannot catch Ctrl-C")?;
    thread::spawn(move || {
        // As above.
        let _ = tell.send(News::Started(Deployment::start(nodes, server)));
    });
    let mut running = None;
    loop {
        match news.recv().context("the signal handler is gone")? {
            News::Interrupted => return Ok(()),
            News::Started(deployment) => {
                let deployment = running.insert(deployment?);
                shell::say(&deployment.uri());
                shell::complain("running; Ctrl-C stops it");
            }
        }
    }
}

/// What is waited for.
enum News {
    Interrupted,
    Started(anyhow::Result<Deployment>),
}

enum Deployment {
    Standalone(Box<Standalone>),
    Set(ReplicaSet),
}

impl Deployment {
    fn start(nodes: usize, version: ServerVersion) -> anyhow::Result<Self> {
        if nodes == 0 {
            let server = Standalone::start_with(version, MongodOptions::default())?;
            return Ok(Self::Standalone(Box::new(server)));
        }
        let options = ReplicaSetOptions {
            version,
            ..ReplicaSetOptions::new(nodes)
        };
        Ok(Self::Set(options.start()?))
    }

    fn uri(&self) -> String {
        match self {
            Self::Standalone(server) => server.uri(),
            Self::Set(set) => set.uri(),
        }
    }
}
