//! Server sessions in use, and the sessions of one client taken together.

use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use bson::RawDocumentBuf;
use bson::spec::BinarySubtype;

use super::clock::ClusterClock;
use super::pool::{ServerSession, SessionId, SessionPool};
use crate::tasks::now;
use crate::topology::TopologyChanges;

/// How long servers keep an idle session while none of them is known to say so.
const USUAL_TIMEOUT: Duration = Duration::from_secs(30 * 60);

/// What all sessions of a client share.
#[derive(Debug)]
pub(crate) struct Sessions {
    pool: Mutex<SessionPool>,
    in_use: AtomicUsize,
    pub(crate) clock: ClusterClock,
    topology: TopologyChanges,
    is_load_balanced: bool,
}

impl Sessions {
    pub(crate) fn new(topology: TopologyChanges, is_load_balanced: bool) -> Arc<Self> {
        Arc::new(Self {
            pool: Mutex::default(),
            in_use: AtomicUsize::new(0),
            clock: ClusterClock::default(),
            topology,
            is_load_balanced,
        })
    }

    /// A server session for somebody's sole use, until the last handle on it is dropped.
    pub(crate) fn lease(self: &Arc<Self>) -> Arc<Lease> {
        let now = now();
        let idle = self.lock().take(now, self.timeout());
        let session = idle.unwrap_or_else(|| ServerSession {
            id: bson::Uuid::new().bytes(),
            last_use: now,
            is_dirty: false,
            last_write: 0,
        });
        self.in_use.fetch_add(1, Ordering::Relaxed);
        Arc::new(Lease {
            id: session.id,
            last_use: Mutex::new(session.last_use),
            is_dirty: AtomicBool::new(false),
            last_write: AtomicI64::new(session.last_write),
            sessions: Arc::clone(self),
        })
    }

    /// The sessions that the servers need not keep any longer.
    pub(crate) fn drain(&self) -> Vec<SessionId> {
        self.lock().drain()
    }

    /// How long servers keep an idle session; `None` behind a load balancer.
    fn timeout(&self) -> Option<Duration> {
        if self.is_load_balanced {
            return None;
        }
        let minutes = self.topology.latest().logical_session_timeout_minutes;
        let minutes = minutes.and_then(|minutes| u64::try_from(minutes).ok());
        Some(minutes.map_or(USUAL_TIMEOUT, |minutes| Duration::from_secs(minutes * 60)))
    }

    fn lock(&self) -> MutexGuard<'_, SessionPool> {
        self.pool.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// For people, in one line.
impl fmt::Display for Sessions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let in_use = self.in_use.load(Ordering::Relaxed);
        write!(f, "sessions: {in_use} in use, {} pooled", self.lock().len())
    }
}

/// A server session in use. The last handle to be dropped gives it back.
pub(crate) struct Lease {
    id: SessionId,
    last_use: Mutex<Instant>,
    is_dirty: AtomicBool,
    last_write: AtomicI64,
    sessions: Arc<Sessions>,
}

impl Lease {
    pub(crate) fn id(&self) -> SessionId {
        self.id
    }

    pub(crate) fn is_dirty(&self) -> bool {
        self.is_dirty.load(Ordering::Relaxed)
    }

    /// A number for a write that may be repeated, higher than any before in this session.
    pub(crate) fn next_write(&self) -> i64 {
        self.last_write.fetch_add(1, Ordering::Relaxed) + 1
    }

    /// Marks that the session goes out with a command. Unless the guard hears of an answer, the
    /// server may still be at it, and nobody else must use the session.
    pub(crate) fn send(self: &Arc<Self>) -> InFlight {
        *self.last_use.lock().unwrap_or_else(PoisonError::into_inner) = now();
        InFlight(Some(Arc::clone(self)))
    }
}

impl fmt::Debug for Lease {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let id = bson::Uuid::from_bytes(self.id);
        write!(f, "Lease({id}, dirty: {})", self.is_dirty())
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        let session = ServerSession {
            id: self.id,
            last_use: *self.last_use.lock().unwrap_or_else(PoisonError::into_inner),
            is_dirty: self.is_dirty(),
            last_write: self.last_write.load(Ordering::Relaxed),
        };
        let timeout = self.sessions.timeout();
        self.sessions.lock().put(session, now(), timeout);
        self.sessions.in_use.fetch_sub(1, Ordering::Relaxed);
    }
}

/// A command that was sent with a session and is not answered yet.
#[derive(Debug)]
pub(crate) struct InFlight(Option<Arc<Lease>>);

impl InFlight {
    /// The server has done with the command, or has never got it.
    pub(crate) fn settle(mut self) {
        self.0 = None;
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        if let Some(lease) = &self.0 {
            lease.is_dirty.store(true, Ordering::Relaxed);
        }
    }
}

/// What commands carry as `lsid`.
pub(crate) fn lsid(id: SessionId) -> RawDocumentBuf {
    // `{ id: <UUID> }` in one piece, since every command has one.
    const LENGTH: u8 = 30;
    let mut bytes = Vec::with_capacity(usize::from(LENGTH));
    bytes.extend([LENGTH, 0, 0, 0, 0x05]);
    bytes.extend(b"id\0");
    bytes.extend([16, 0, 0, 0, u8::from(BinarySubtype::Uuid)]);
    bytes.extend(id);
    bytes.push(0);
    RawDocumentBuf::from_bytes(bytes).expect("length and closing zero are right")
}
