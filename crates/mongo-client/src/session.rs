//! Sessions: what a server knows a sequence of commands by, and what makes them consistent with
//! each other (Driver Sessions, Causal Consistency, Snapshot Reads).

mod clock;
mod lease;
mod pool;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bson::{RawBsonRef, RawDocument, RawDocumentBuf, Timestamp, cstr};
use mongo_uri::ReadConcern;
use mongo_wire::CommandReply;

pub(crate) use self::clock::{ClusterClock, ClusterTime};
pub(crate) use self::lease::{InFlight, Lease, Sessions, lsid};
use self::pool::SessionId;
use crate::client::Client;
use crate::error::{Error, Misuse, Result, SessionMisuse};

/// `maxWireVersion` of the first server that reads from a snapshot (5.0).
const SNAPSHOT_WIRE_VERSION: i32 = 13;

/// What a session is to be like. By default it is causally consistent.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct SessionOptions {
    /// Whether a read sees what the session has seen or written before, whichever member serves
    /// it; `None` means yes, unless `snapshot` is set.
    pub causal_consistency: Option<bool>,
    /// Whether all reads see the data of one moment, that of the first of them (MongoDB 5.0).
    pub snapshot: bool,
    /// With `snapshot`: the moment, instead of that of the first read.
    pub snapshot_time: Option<Timestamp>,
    /// How long a command in this session may take that has no limit of its own; see
    /// [`RunCommand::timeout`](crate::RunCommand::timeout).
    pub default_timeout: Option<Duration>,
}

/// A session, to be named with the commands that belong to it. Cheap to clone; all clones are the
/// same session.
///
/// It is for one operation at a time: servers do not expect a session to do two things at once.
/// A session that is not used for a minute risks to be forgotten by the server, which then
/// refuses to go on with it. When it is [ended](Self::end) or dropped, and nothing uses it any
/// more, its place on the server goes to the client's next session.
#[derive(Clone, Debug)]
pub struct ClientSession {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    sessions: Arc<Sessions>,
    options: SessionOptions,
    id: SessionId,
    /// `None` once the session is ended.
    lease: Mutex<Option<Arc<Lease>>>,
    times: Mutex<Times>,
}

/// What a session has learnt.
#[derive(Debug, Default)]
struct Times {
    cluster: Option<Arc<ClusterTime>>,
    operation: Option<Timestamp>,
    snapshot: Option<Timestamp>,
}

impl ClientSession {
    pub(crate) fn start(sessions: &Arc<Sessions>, options: SessionOptions) -> Result<Self> {
        let misuse = |misuse| Err(Error::Misuse(misuse));
        if options.snapshot && options.causal_consistency == Some(true) {
            let what = "snapshot reads and causal consistency";
            return misuse(Misuse::Contradiction { what });
        }
        if options.snapshot_time.is_some() && !options.snapshot {
            return misuse(SessionMisuse::NoSnapshot.into());
        }
        let lease = sessions.lease();
        let times = Times {
            snapshot: options.snapshot_time,
            ..Times::default()
        };
        let inner = Inner {
            sessions: Arc::clone(sessions),
            options,
            id: lease.id(),
            lease: Mutex::new(Some(lease)),
            times: Mutex::new(times),
        };
        Ok(Self {
            inner: Arc::new(inner),
        })
    }

    /// What servers know the session by: `{ id: <UUID> }`.
    #[must_use]
    pub fn id(&self) -> RawDocumentBuf {
        lsid(self.inner.id)
    }

    /// What the session was started with.
    #[must_use]
    pub fn options(&self) -> &SessionOptions {
        &self.inner.options
    }

    /// The highest `$clusterTime` that this session has seen, as it came.
    #[must_use]
    pub fn cluster_time(&self) -> Option<RawDocumentBuf> {
        let times = self.times();
        times.cluster.as_ref().map(|time| time.document.clone())
    }

    /// When, in the deployment's time, the session's last operation took place.
    #[must_use]
    pub fn operation_time(&self) -> Option<Timestamp> {
        self.times().operation
    }

    /// Lets the session know of a cluster time, such as another client's session has seen. An
    /// older one changes nothing. Nothing but this session uses it, so that a bad one harms
    /// nobody else.
    ///
    /// # Errors
    /// [`Misuse::Session`] when it is no `$clusterTime`.
    pub fn advance_cluster_time(&self, cluster_time: &RawDocument) -> Result<()> {
        let time = ClusterTime::read(cluster_time);
        let time = time.ok_or(Error::Misuse(SessionMisuse::NoClusterTime.into()))?;
        self.see(Arc::new(time));
        Ok(())
    }

    /// Lets the next reads of a causally consistent session see at least what had happened by
    /// then. An older time changes nothing.
    pub fn advance_operation_time(&self, operation_time: Timestamp) {
        let mut times = self.times();
        times.operation = times.operation.max(Some(operation_time));
    }

    /// The moment that all reads of a snapshot session see; `None` before the first of them.
    ///
    /// # Errors
    /// [`Misuse::Session`] when it is not a snapshot session.
    pub fn snapshot_time(&self) -> Result<Option<Timestamp>> {
        if self.inner.options.snapshot {
            Ok(self.times().snapshot)
        } else {
            Err(Error::Misuse(SessionMisuse::NoSnapshot.into()))
        }
    }

    /// Whether a command was lost with its connection, or given up: the server may still be at it,
    /// so the session's place on the server is not used again. The session itself goes on.
    #[must_use]
    pub fn is_dirty(&self) -> bool {
        let lease = self.lease();
        lease.as_ref().is_some_and(|lease| lease.is_dirty())
    }

    /// Whether [`end`](Self::end) was called.
    #[must_use]
    pub fn is_ended(&self) -> bool {
        self.lease().is_none()
    }

    /// Ends the session: no command takes it any more. What is under way, and cursors that are
    /// open, end as they would have. Nothing is sent: servers hear of sessions that have ended
    /// when the client is shut down. Ending it again does nothing.
    pub fn end(&self) {
        let lease = self.lease().take();
        // Not while the lock is held: the last handle goes to the pool.
        drop(lease);
    }

    fn is_causal(&self) -> bool {
        let options = &self.inner.options;
        options.causal_consistency.unwrap_or(!options.snapshot)
    }

    fn see(&self, time: Arc<ClusterTime>) {
        let mut times = self.times();
        if time.is_after(times.cluster.as_ref()) {
            times.cluster = Some(time);
        }
    }

    fn lease(&self) -> MutexGuard<'_, Option<Arc<Lease>>> {
        self.inner
            .lease
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    fn times(&self) -> MutexGuard<'_, Times> {
        self.inner
            .times
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

/// The session of an operation, which keeps it in use.
#[derive(Clone, Debug)]
pub(crate) struct ActiveSession {
    lease: Arc<Lease>,
    /// `None` when nobody has asked for a session.
    explicit: Option<ClientSession>,
}

impl ActiveSession {
    /// One that lives as long as its operation.
    pub(crate) fn implicit(sessions: &Arc<Sessions>) -> Self {
        Self {
            lease: sessions.lease(),
            explicit: None,
        }
    }

    /// The one that the caller has named.
    pub(crate) fn explicit(client: &Client, session: &ClientSession) -> Result<Self> {
        if !Arc::ptr_eq(&session.inner.sessions, client.sessions()) {
            return Err(Error::Misuse(SessionMisuse::OfAnotherClient.into()));
        }
        let lease = session.lease().clone();
        let lease = lease.ok_or(Error::Misuse(SessionMisuse::Ended.into()))?;
        let explicit = Some(session.clone());
        Ok(Self { lease, explicit })
    }

    pub(crate) fn is_explicit(&self) -> bool {
        self.explicit.is_some()
    }

    /// What commands carry as `lsid`.
    pub(crate) fn lsid(&self) -> RawDocumentBuf {
        lsid(self.lease.id())
    }

    /// The `txnNumber` of a write that may be repeated.
    pub(crate) fn next_write(&self) -> i64 {
        self.lease.next_write()
    }

    /// A command is about to go out.
    pub(crate) fn send(&self) -> InFlight {
        self.lease.send()
    }

    /// The `$clusterTime` to send, given the client's.
    pub(crate) fn cluster_time(
        &self,
        client: Option<Arc<ClusterTime>>,
    ) -> Option<Arc<ClusterTime>> {
        match &self.explicit {
            Some(session) => clock::later(session.times().cluster.clone(), client),
            None => client,
        }
    }

    /// Refuses what a server so old cannot do.
    pub(crate) fn check(&self, max_wire_version: i32) -> Result<()> {
        let asks = self.explicit.as_ref();
        let is_snapshot = asks.is_some_and(|session| session.inner.options.snapshot);
        if is_snapshot && max_wire_version < SNAPSHOT_WIRE_VERSION {
            return Err(Error::Misuse(SessionMisuse::SnapshotsTooOld.into()));
        }
        Ok(())
    }

    /// What the session makes of a command's read concern, in a deployment that has a time of its
    /// own or not. `None` of a read concern says that the command takes none, which only a snapshot
    /// session overrides: the server then refuses it.
    pub(crate) fn read_concern(
        &self,
        asked: Option<&ReadConcern>,
        has_cluster_time: bool,
    ) -> Option<RawDocumentBuf> {
        let asked = asked.map(ReadConcern::to_document);
        let Some(session) = &self.explicit else {
            return asked;
        };
        let times = session.times();
        if session.inner.options.snapshot {
            let mut concern = bson::rawdoc! { "level": "snapshot" };
            if let Some(time) = times.snapshot {
                concern.append(cstr!("atClusterTime"), time);
            }
            return Some(concern);
        }
        let mut asked = asked?;
        let is_causal = has_cluster_time && session.is_causal();
        if let Some(time) = times.operation.filter(|_| is_causal) {
            asked.append(cstr!("afterClusterTime"), time);
        }
        Some(asked)
    }

    /// Learns from a reply, whether it says `ok: 1` or not.
    pub(crate) fn learn(&self, reply: &CommandReply, cluster_time: Option<Arc<ClusterTime>>) {
        let Some(session) = &self.explicit else {
            return;
        };
        if let Some(time) = cluster_time {
            session.see(time);
        }
        if let Some(time) = reply.operation_time() {
            session.advance_operation_time(time);
        }
        if session.inner.options.snapshot && session.times().snapshot.is_none() {
            session.times().snapshot = at_cluster_time(reply.document().as_raw());
        }
    }
}

/// Where a read tells its moment: beside its cursor's batch, or in the reply itself.
fn at_cluster_time(reply: &RawDocument) -> Option<Timestamp> {
    let field = |document: &RawDocument| document.get_timestamp("atClusterTime").ok();
    let cursor = reply.get("cursor").ok().flatten();
    let cursor = cursor.and_then(RawBsonRef::as_document);
    cursor.and_then(field).or_else(|| field(reply))
}
