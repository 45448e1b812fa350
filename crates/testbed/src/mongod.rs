//! One mongod: which program to run, how it is started, and when it is ready.

mod binary;
mod log;

use std::ffi::OsString;
use std::fs;
use std::hash::{BuildHasher, RandomState};
use std::net::{Ipv4Addr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, ExitStatus};
use std::sync::mpsc::RecvTimeoutError;
use std::sync::{Arc, LazyLock, atomic};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use rustix::process::{Pid, Signal, kill_process};

pub use self::binary::{Binary, ServerVersion, Version};
use self::log::Log;
use crate::home::Home;

/// How long a mongod may take until it accepts connections; a busy machine needs seconds.
const START_DEADLINE: Duration = Duration::from_secs(60);

/// How many ports are tried when other processes take them between the choice and the bind.
const BIND_ATTEMPTS: usize = 5;

/// Parameters that shorten waits, each with the first of the tried versions that knows it. A
/// secondary without a sync source looks for one after 20 ms instead of a second, and a server told
/// to shut down does not wait 15 s for its clients to leave.
const SHORT_WAITS: [(Version, &str); 3] = [
    (
        Version::new(4, 4, 0),
        r#"failpoint.forceSyncSourceRetryWaitForInitialSync={mode:"alwaysOn",data:{retryMS:20}}"#,
    ),
    (
        Version::new(4, 4, 0),
        r#"failpoint.forceBgSyncSyncSourceRetryWaitMS={mode:"alwaysOn",data:{sleepMS:20}}"#,
    ),
    (
        Version::new(5, 0, 0),
        "shutdownTimeoutMillisForSignaledShutdown=0",
    ),
];

/// Ports are taken from below the range that systems give to outgoing connections, so that a
/// server which was killed finds its port free again.
const PORTS: std::ops::Range<u16> = 20_000..32_000;

/// How to start a mongod. The default is a standalone server on a free port of 127.0.0.1.
#[derive(Debug, Clone, Default)]
pub struct MongodOptions {
    /// The port, or `None` for a free one.
    pub port: Option<u16>,
    /// The name of the replica set that the server is to join.
    pub replica_set: Option<String>,
    /// Listen on `::1` too.
    pub ipv6: bool,
    /// Listen on a Unix domain socket too; see [`Mongod::unix_socket`].
    pub unix_socket: bool,
    /// The size of the oplog in megabytes, or `None` for the server's default.
    pub oplog_size: Option<u32>,
    /// Server parameters, as for `--setParameter name=value`.
    pub parameters: Vec<(String, String)>,
    /// Further arguments, such as `--keyFile` or `--tlsMode`. With TLS use `preferTLS`, as the
    /// testbed itself talks to the server in the clear.
    pub args: Vec<OsString>,
}

/// A mongod that runs and accepts connections; dropping it kills it.
#[derive(Debug)]
pub struct Mongod {
    child: Child,
    port: u16,
    unix_socket: Option<PathBuf>,
    log: Log,
    home: Arc<Home>,
}

/// Why a server did not start: only a port that was taken is worth another try.
enum StartFailure {
    PortTaken(anyhow::Error),
    Other(anyhow::Error),
}

impl Mongod {
    /// Starts a mongod with its data in `dbpath` and waits until it accepts connections.
    ///
    /// # Errors
    ///
    /// When the program cannot be run, exits (the error has the last lines of its log), or is not
    /// ready within a minute.
    pub fn start(
        binary: &Binary,
        home: &Arc<Home>,
        dbpath: &Path,
        options: &MongodOptions,
    ) -> Result<Self> {
        fs::create_dir_all(dbpath)?;
        let mut attempts = BIND_ATTEMPTS;
        loop {
            attempts -= 1;
            let port = options.port.map_or_else(free_port, Ok)?;
            match Self::start_on(port, binary, home, (dbpath, options)) {
                Ok(mongod) => return Ok(mongod),
                Err(StartFailure::PortTaken(_)) if attempts > 0 && options.port.is_none() => {}
                Err(StartFailure::PortTaken(error) | StartFailure::Other(error)) => {
                    return Err(error.context(format!("mongod {} did not start", binary.version())));
                }
            }
        }
    }

    fn start_on(
        port: u16,
        binary: &Binary,
        home: &Arc<Home>,
        (dbpath, options): (&Path, &MongodOptions),
    ) -> Result<Self, StartFailure> {
        let args = arguments(port, binary.version(), dbpath, options);
        let mut child = home
            .spawn(binary.path(), &args, binary.libraries())
            .map_err(StartFailure::Other)?;
        let (log, ready) = Log::follow(child.stderr.take());
        let unix_socket = options
            .unix_socket
            .then(|| dbpath.join(format!("mongodb-{port}.sock")));
        let mut mongod = Self {
            child,
            port,
            unix_socket,
            log,
            home: Arc::clone(home),
        };
        match ready.recv_timeout(START_DEADLINE) {
            Ok(()) => Ok(mongod),
            Err(RecvTimeoutError::Timeout) => Err(StartFailure::Other(anyhow::anyhow!(
                "not ready after {START_DEADLINE:?}; its log ends with:\n{}",
                mongod.log.tail()
            ))),
            Err(RecvTimeoutError::Disconnected) => Err(mongod.early_exit()),
        }
    }

    fn early_exit(&mut self) -> StartFailure {
        let status = self
            .child
            .wait()
            .map_or_else(|e| e.to_string(), |status| status.to_string());
        let tail = self.log.tail();
        let error = anyhow::anyhow!("{status}; its log ends with:\n{tail}");
        if tail.to_ascii_lowercase().contains("address already in use") {
            StartFailure::PortTaken(error)
        } else {
            StartFailure::Other(error)
        }
    }

    /// The TCP port.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The process id.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// The path of its Unix domain socket, when it was asked to have one.
    #[must_use]
    pub fn unix_socket(&self) -> Option<&Path> {
        self.unix_socket.as_deref()
    }

    /// The last lines of its log.
    #[must_use]
    pub fn log_tail(&self) -> String {
        self.log.tail()
    }

    /// Ends it at once, as a crash would, and waits until it is gone.
    ///
    /// # Errors
    ///
    /// When the process cannot be signalled or waited for.
    pub fn kill(mut self) -> Result<()> {
        self.child.kill()?;
        self.reap()?;
        Ok(())
    }

    /// Asks it to shut down and waits until it has; a primary steps down first.
    ///
    /// # Errors
    ///
    /// When it cannot be signalled, or does not end as a clean shutdown does.
    pub fn stop(mut self) -> Result<()> {
        self.signal(Signal::CONT)?;
        self.signal(Signal::TERM)?;
        let status = self.reap()?;
        if !status.success() {
            bail!(
                "mongod shut down with {status}; its log ends with:\n{}",
                self.log.tail()
            );
        }
        Ok(())
    }

    /// Stops it from running while its sockets stay open, as an overloaded or frozen host would.
    ///
    /// # Errors
    ///
    /// When it cannot be signalled.
    pub fn pause(&self) -> Result<()> {
        self.signal(Signal::STOP)
    }

    /// Lets it run again after [`Mongod::pause`].
    ///
    /// # Errors
    ///
    /// When it cannot be signalled.
    pub fn resume(&self) -> Result<()> {
        self.signal(Signal::CONT)
    }

    fn signal(&self, signal: Signal) -> Result<()> {
        let pid = i32::try_from(self.pid()).ok().and_then(Pid::from_raw);
        let pid = pid.context("a process id is a positive number")?;
        kill_process(pid, signal)
            .with_context(|| format!("cannot signal mongod, pid {}", self.pid()))
    }

    /// Waits for the end of a process that was told to end.
    fn reap(&mut self) -> Result<ExitStatus> {
        let status = self.child.wait()?;
        self.home.forget(self.pid());
        Ok(status)
    }
}

impl Drop for Mongod {
    fn drop(&mut self) {
        // Both fail only for a process that is gone already, which is what is wanted.
        if self.child.kill().is_ok() {
            let _ = self.reap();
        }
    }
}

fn arguments(port: u16, version: Version, dbpath: &Path, options: &MongodOptions) -> Vec<OsString> {
    let mut args: Vec<OsString> = Vec::new();
    let mut add = |name: &str, value: OsString| args.extend([name.into(), value]);
    add("--port", port.to_string().into());
    add("--dbpath", dbpath.into());
    add(
        "--bind_ip",
        if options.ipv6 {
            "127.0.0.1,::1"
        } else {
            "127.0.0.1"
        }
        .into(),
    );
    add("--wiredTigerCacheSizeGB", "0.25".into());
    add("--setParameter", "enableTestCommands=1".into());
    add(
        "--setParameter",
        "diagnosticDataCollectionEnabled=false".into(),
    );
    for (since, parameter) in SHORT_WAITS {
        if version >= since {
            add("--setParameter", parameter.into());
        }
    }
    for (name, value) in &options.parameters {
        add("--setParameter", format!("{name}={value}").into());
    }
    if let Some(name) = &options.replica_set {
        add("--replSet", name.into());
    }
    if let Some(megabytes) = options.oplog_size {
        add("--oplogSize", megabytes.to_string().into());
    }
    if options.unix_socket {
        add("--unixSocketPrefix", dbpath.into());
    } else {
        args.push("--nounixsocket".into());
    }
    if options.ipv6 {
        args.push("--ipv6".into());
    }
    args.extend(options.args.iter().cloned());
    args
}

/// Returns a loopback port that nobody listens on, and never the same one twice in a process.
fn free_port() -> Result<u16> {
    static NEXT: LazyLock<atomic::AtomicU64> =
        LazyLock::new(|| atomic::AtomicU64::new(RandomState::new().hash_one(0) >> 1));
    for _ in PORTS {
        let number = NEXT.fetch_add(1, atomic::Ordering::Relaxed);
        let offset = u16::try_from(number % u64::from(PORTS.end - PORTS.start))?;
        let port = PORTS.start + offset;
        if TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok() {
            return Ok(port);
        }
    }
    bail!("no free port between {} and {}", PORTS.start, PORTS.end)
}
