//! The log of a mongod, read from the pipe it writes to: tells when the server is ready and keeps
//! the last lines for error messages.

use std::collections::VecDeque;
use std::io::{BufRead, BufReader, Read};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;

/// How many lines are kept.
const KEPT_LINES: usize = 30;

/// What a server logs when it accepts connections: "waiting for connections on port N" in 4.2,
/// `"msg":"Waiting for connections"` from 4.4 on.
const READY: &[u8] = b"aiting for connections";

#[derive(Debug, Clone)]
pub(super) struct Log {
    lines: Arc<Mutex<VecDeque<String>>>,
}

impl Log {
    /// Reads `pipe` to its end in a thread of its own. The receiver gets one message once the
    /// server is ready; it is disconnected when the server ends before that.
    pub(super) fn follow(pipe: Option<impl Read + Send + 'static>) -> (Self, Receiver<()>) {
        let log = Self {
            lines: Arc::default(),
        };
        let (sender, ready) = channel();
        if let Some(pipe) = pipe {
            let log = log.clone();
            thread::spawn(move || log.read(BufReader::new(pipe), sender));
        }
        (log, ready)
    }

    fn read(&self, mut pipe: impl BufRead, ready: Sender<()>) {
        let mut ready = Some(ready);
        let mut line = Vec::new();
        while matches!(pipe.read_until(b'\n', &mut line), Ok(1..)) {
            if line.windows(READY.len()).any(|window| window == READY)
                && let Some(ready) = ready.take()
            {
                // Nobody listens any more when the start was given up.
                let _ = ready.send(());
            }
            self.keep(String::from_utf8_lossy(&line).trim_end().to_owned());
            line.clear();
        }
    }

    fn keep(&self, line: String) {
        let mut lines = self.lines.lock().unwrap_or_else(PoisonError::into_inner);
        if lines.len() == KEPT_LINES {
            lines.pop_front();
        }
        lines.push_back(line);
    }

    /// The last lines, oldest first.
    pub(super) fn tail(&self) -> String {
        let lines = self.lines.lock().unwrap_or_else(PoisonError::into_inner);
        lines
            .iter()
            .map(String::as_str)
            .collect::<Vec<_>>()
            .join("\n")
    }
}
