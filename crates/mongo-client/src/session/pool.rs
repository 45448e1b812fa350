//! The server sessions that nobody uses right now (Driver Sessions, "Server Session Pool"): pure,
//! so that its rules are proved without a clock.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

/// The bytes of the UUID that a server knows a session by.
pub(crate) type SessionId = [u8; 16];

/// How long a session must still be good for.
const LEAST_LEFT: Duration = Duration::from_secs(60);

/// A server session, between two uses.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ServerSession {
    pub(crate) id: SessionId,
    /// When its id was last sent; when it was made, before that.
    pub(crate) last_use: Instant,
    /// A command in it may still be running, as after a failure of the network.
    pub(crate) is_dirty: bool,
    /// The number of the last write in it that may be repeated; 0 before the first.
    pub(crate) last_write: i64,
}

impl ServerSession {
    /// Whether the server still knows it for a while; a server without a timeout always does.
    fn is_fresh(&self, now: Instant, timeout: Option<Duration>) -> bool {
        let Some(timeout) = timeout else { return true };
        let idle = now.saturating_duration_since(self.last_use);
        idle.saturating_add(LEAST_LEFT) <= timeout
    }
}

/// Idle sessions, those used last in front.
#[derive(Debug, Default)]
pub(crate) struct SessionPool {
    idle: VecDeque<ServerSession>,
}

impl SessionPool {
    /// The session that was used last; `None` says that a new one has to be made. `timeout` is how
    /// long servers keep an idle session, `None` behind a load balancer, where nobody knows.
    pub(crate) fn take(
        &mut self,
        now: Instant,
        timeout: Option<Duration>,
    ) -> Option<ServerSession> {
        while let Some(session) = self.idle.pop_front() {
            if session.is_fresh(now, timeout) {
                return Some(session);
            }
        }
        None
    }

    /// Takes a session back, and forgets those that are about to expire.
    pub(crate) fn put(&mut self, session: ServerSession, now: Instant, timeout: Option<Duration>) {
        while self
            .idle
            .back()
            .is_some_and(|last| !last.is_fresh(now, timeout))
        {
            self.idle.pop_back();
        }
        if !session.is_dirty && session.is_fresh(now, timeout) {
            self.idle.push_front(session);
        }
    }

    /// How many there are.
    pub(crate) fn len(&self) -> usize {
        self.idle.len()
    }

    /// All of them, to be ended.
    pub(crate) fn drain(&mut self) -> Vec<SessionId> {
        self.idle.drain(..).map(|session| session.id).collect()
    }
}

#[cfg(test)]
mod tests;
