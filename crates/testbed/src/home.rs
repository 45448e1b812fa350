//! The folder and the processes of one deployment, and the watchdog that ends them.
//!
//! A test may return, panic, be interrupted with Ctrl-C or be killed outright; its servers and
//! their files must go in every case. So a deployment has a watchdog: a shell that reads the
//! process ids of the servers from a pipe whose other end this process holds. The kernel closes
//! that pipe however this process ends, and at its end the watchdog kills the servers and removes
//! the folder. Servers and watchdog have process groups of their own, which Ctrl-C in a terminal
//! does not reach.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::Write;
use std::os::fd::OwnedFd;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::{Mutex, PoisonError};

use anyhow::{Context, Result};
use tempfile::TempDir;

/// Keeps the list of process ids; at the end of its input, kills them and removes the folder.
/// A process that is just dying may still make a file, hence the repeated removal.
const WATCHDOG: &str = r#"
trap '' INT TERM HUP
pids=' '
while read -r verb pid; do
    case $verb in
    pid) pids="$pids$pid " ;;
    forget) case $pids in *" $pid "*) pids="${pids%% "$pid" *} ${pids#* "$pid" }" ;; esac ;;
    esac
done
for pid in $pids; do kill -KILL "$pid"; done
tries=0
until rm -rf -- "$1" || [ "$tries" -ge 100 ]; do tries=$((tries + 1)); done
"#;

/// Tells the watchdog (standard output) its own process id and becomes the server, so that no
/// moment exists in which the server runs and the watchdog does not know it. The server's output
/// goes to the pipe of the log (standard error).
const LAUNCHER: &str = r#"echo "pid $$"; exec "$@" >&2"#;

/// A temporary folder and the processes that work in it; all end when this is dropped, or when
/// the process that holds it ends in any way.
#[derive(Debug)]
pub struct Home {
    watchdog: Mutex<Watchdog>,
    folder: TempDir,
}

#[derive(Debug)]
struct Watchdog {
    shell: Child,
    /// `None` once it was closed, which is the order to clean up.
    pipe: Option<File>,
}

impl Home {
    /// Makes an empty folder and starts its watchdog.
    ///
    /// # Errors
    ///
    /// When the folder cannot be made or the shell cannot be run.
    pub fn new() -> Result<Self> {
        let folder = tempfile::Builder::new().prefix("testbed-").tempdir()?;
        let mut shell = Command::new("sh")
            .args([OsStr::new("-c"), WATCHDOG.as_ref(), "watchdog".as_ref()])
            .arg(folder.path())
            .current_dir("/")
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .process_group(0)
            .spawn()
            .context("cannot run sh, which watches over the servers")?;
        let pipe = shell
            .stdin
            .take()
            .map(|stdin| File::from(OwnedFd::from(stdin)));
        Ok(Self {
            watchdog: Mutex::new(Watchdog { shell, pipe }),
            folder,
        })
    }

    /// The folder, which goes with its last server.
    #[must_use]
    pub fn path(&self) -> &Path {
        self.folder.path()
    }

    /// Starts a server under the watchdog. Its standard output and error come out of the child's
    /// `stderr`, and the child's process id is the server's.
    pub(crate) fn spawn(
        &self,
        program: &Path,
        args: &[OsString],
        libraries: Option<&Path>,
    ) -> Result<Child> {
        let pipe = self
            .lock()
            .pipe
            .as_ref()
            .context("the watchdog is gone")?
            .try_clone()?;
        let mut command = Command::new("sh");
        command
            .args(["-c", LAUNCHER, "launcher"])
            .arg(program)
            .args(args)
            .current_dir(self.path())
            .stdin(Stdio::null())
            .stdout(pipe)
            .stderr(Stdio::piped())
            .process_group(0);
        if let Some(libraries) = libraries {
            command.env("LD_LIBRARY_PATH", libraries);
        }
        command
            .spawn()
            .with_context(|| format!("cannot run {}", program.display()))
    }

    /// Takes a process off the watchdog's list, before its id can be given to another process.
    pub(crate) fn forget(&self, pid: u32) {
        if let Some(pipe) = &mut self.lock().pipe {
            // Without its watchdog the process is ended by its owner all the same.
            let _ = writeln!(pipe, "forget {pid}");
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Watchdog> {
        self.watchdog.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Watchdog {
    fn drop(&mut self) {
        self.pipe = None;
        // Nothing can be done about a watchdog that fails; the folder's own drop comes next.
        let _ = self.shell.wait();
    }
}
