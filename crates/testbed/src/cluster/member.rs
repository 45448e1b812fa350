//! One server of a deployment, through stops and restarts.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use anyhow::{Context, Result};
use bson::{RawDocument, RawDocumentBuf};

use crate::connection::Connection;
use crate::home::Home;
use crate::mongod::{Binary, Mongod, MongodOptions, Version};
use crate::proxy::Proxy;

/// How long a command of the testbed may take.
const COMMAND_TIMEOUT: Duration = Duration::from_secs(30);

/// A server that keeps its port, its options and its data when it is ended and started again.
///
/// Every method takes `&self`, so that a test can hurt a server from any thread.
#[derive(Debug)]
pub struct Member {
    index: usize,
    /// Where clients and other members find it.
    address: String,
    /// Where it listens; the same, unless there is a proxy between.
    server_address: String,
    proxy: Option<Proxy>,
    binary: Arc<Binary>,
    home: Arc<Home>,
    folder: PathBuf,
    options: MongodOptions,
    /// `None` while it is down.
    process: Mutex<Option<Mongod>>,
}

impl Member {
    pub(super) fn start(
        index: usize,
        binary: Arc<Binary>,
        home: Arc<Home>,
        mut options: MongodOptions,
    ) -> Result<Self> {
        let folder = home.path().join(format!("member-{index}"));
        let mongod = Mongod::start(&binary, &home, &folder, &options)?;
        options.port = Some(mongod.port());
        let address = format!("127.0.0.1:{}", mongod.port());
        let process = Mutex::new(Some(mongod));
        Ok(Self {
            index,
            server_address: address.clone(),
            address,
            proxy: None,
            binary,
            home,
            folder,
            options,
            process,
        })
    }

    /// Puts a proxy before it, whose address becomes the member's.
    pub(super) fn behind_proxy(mut self) -> Result<Self> {
        let proxy = Proxy::start(&self.server_address)?;
        self.address = proxy.address();
        self.proxy = Some(proxy);
        Ok(self)
    }

    /// Its place in the deployment, from 0; in a replica set also its `_id`.
    #[must_use]
    pub fn index(&self) -> usize {
        self.index
    }

    /// Its address, `127.0.0.1:port`, which stays the same through restarts.
    #[must_use]
    pub fn address(&self) -> &str {
        &self.address
    }

    /// The proxy before it, when it has one.
    #[must_use]
    pub fn proxy(&self) -> Option<&Proxy> {
        self.proxy.as_ref()
    }

    /// The version of the server.
    #[must_use]
    pub fn version(&self) -> Version {
        self.binary.version()
    }

    /// Whether it was started and not ended since; a paused server is running.
    #[must_use]
    pub fn is_running(&self) -> bool {
        self.process().is_some()
    }

    /// The process id, while it is running.
    #[must_use]
    pub fn pid(&self) -> Option<u32> {
        self.process().as_ref().map(Mongod::pid)
    }

    /// The path of its Unix domain socket, while it is running and has one.
    #[must_use]
    pub fn unix_socket(&self) -> Option<PathBuf> {
        self.process()
            .as_ref()
            .and_then(Mongod::unix_socket)
            .map(Path::to_owned)
    }

    /// The last lines of its log; empty while it is down.
    #[must_use]
    pub fn log_tail(&self) -> String {
        self.process()
            .as_ref()
            .map(Mongod::log_tail)
            .unwrap_or_default()
    }

    /// Ends it at once (SIGKILL), as a crash would.
    ///
    /// # Errors
    ///
    /// When it is not running.
    pub fn kill(&self) -> Result<()> {
        self.take()?.kill()
    }

    /// Shuts it down cleanly; a primary steps down first.
    ///
    /// # Errors
    ///
    /// When it is not running or does not shut down cleanly.
    pub fn stop(&self) -> Result<()> {
        self.take()?.stop()
    }

    /// Freezes it (SIGSTOP): its sockets stay open and nothing answers.
    ///
    /// # Errors
    ///
    /// When it is not running.
    pub fn pause(&self) -> Result<()> {
        self.running(Mongod::pause)
    }

    /// Lets it go on after [`Member::pause`] (SIGCONT).
    ///
    /// # Errors
    ///
    /// When it is not running.
    pub fn resume(&self) -> Result<()> {
        self.running(Mongod::resume)
    }

    /// Starts it again with the same port, options and data, after killing it when it runs.
    ///
    /// # Errors
    ///
    /// When it does not start.
    pub fn restart(&self) -> Result<()> {
        self.restart_with(|_| ())
    }

    /// As [`Member::restart`], with other options for this one run.
    ///
    /// # Errors
    ///
    /// When it does not start.
    pub fn restart_with(&self, change: impl FnOnce(&mut MongodOptions)) -> Result<()> {
        let mut process = self.process();
        if let Some(mongod) = process.take() {
            mongod.kill()?;
        }
        let mut options = self.options.clone();
        change(&mut options);
        let mongod = Mongod::start(&self.binary, &self.home, &self.folder, &options)
            .with_context(|| format!("cannot restart {}", self.address))?;
        *process = Some(mongod);
        Ok(())
    }

    /// Opens a connection to it, past its proxy if there is one.
    ///
    /// # Errors
    ///
    /// When it does not accept the connection within `timeout`.
    pub fn connect(&self, timeout: Duration) -> Result<Connection> {
        Connection::open(&self.server_address, timeout)
    }

    /// Runs one command on it, over a connection of its own past any proxy, and returns the reply.
    ///
    /// # Errors
    ///
    /// When it cannot be reached, does not answer within 30 s, or the reply is an error
    /// ([`CommandFailed`](crate::connection::CommandFailed)).
    pub fn run_command(&self, database: &str, command: &RawDocument) -> Result<RawDocumentBuf> {
        self.connect(COMMAND_TIMEOUT)?
            .run_command(database, command)
            .with_context(|| format!("on {}", self.address))
    }

    /// The folder of the whole deployment.
    pub(super) fn home(&self) -> &Path {
        self.home.path()
    }

    fn process(&self) -> MutexGuard<'_, Option<Mongod>> {
        self.process.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn running(&self, act: impl FnOnce(&Mongod) -> Result<()>) -> Result<()> {
        act(self.process().as_ref().with_context(|| self.down())?)
    }

    fn take(&self) -> Result<Mongod> {
        self.process().take().with_context(|| self.down())
    }

    fn down(&self) -> String {
        format!("{} is not running", self.address)
    }
}
