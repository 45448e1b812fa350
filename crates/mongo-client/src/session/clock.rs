//! The highest cluster time seen (Driver Sessions, "Gossipping the cluster time").

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use bson::{RawDocument, RawDocumentBuf, Timestamp};

/// A `$clusterTime` as it came; its signature is for servers to check.
#[derive(Debug, PartialEq)]
pub(crate) struct ClusterTime {
    /// What cluster times are compared by: seconds, then the counter within a second.
    order: u64,
    pub(crate) document: RawDocumentBuf,
}

impl ClusterTime {
    /// `None` when the document has no `clusterTime` of the type timestamp.
    pub(crate) fn read(document: &RawDocument) -> Option<Self> {
        let order = order(document.get_timestamp("clusterTime").ok()?);
        let document = document.to_owned();
        Some(Self { order, document })
    }

    pub(crate) fn is_after(&self, other: Option<&Arc<Self>>) -> bool {
        other.is_none_or(|other| self.order > other.order)
    }
}

/// The one of two that came later.
pub(crate) fn later(
    one: Option<Arc<ClusterTime>>,
    two: Option<Arc<ClusterTime>>,
) -> Option<Arc<ClusterTime>> {
    match (&one, &two) {
        (Some(candidate), _) if candidate.is_after(two.as_ref()) => one,
        _ => two,
    }
}

fn order(time: Timestamp) -> u64 {
    u64::from(time.time) << 32 | u64::from(time.increment)
}

/// A client's cluster time. Reading it takes no lock unless somebody has advanced it since the
/// reader last looked; a reply that is no news takes none either.
#[derive(Debug, Default)]
pub(crate) struct ClusterClock {
    /// The order of `newest`; 0 while there is none.
    highest: AtomicU64,
    newest: Mutex<Option<Arc<ClusterTime>>>,
}

impl ClusterClock {
    /// Brings a reader up to date.
    pub(crate) fn update(&self, known: &mut Option<Arc<ClusterTime>>) {
        let order = known.as_ref().map_or(0, |known| known.order);
        if self.highest.load(Ordering::Acquire) != order {
            let newest = self.newest.lock().unwrap_or_else(PoisonError::into_inner);
            known.clone_from(&newest);
        }
    }

    /// Learns a time that a server has sent; returns it if it is the newest so far.
    pub(crate) fn advance(&self, received: &RawDocument) -> Option<Arc<ClusterTime>> {
        let time = order(received.get_timestamp("clusterTime").ok()?);
        if time <= self.highest.load(Ordering::Acquire) {
            return None;
        }
        let time = Arc::new(ClusterTime::read(received)?);
        let mut newest = self.newest.lock().unwrap_or_else(PoisonError::into_inner);
        if !time.is_after(newest.as_ref()) {
            return None;
        }
        self.highest.store(time.order, Ordering::Release);
        *newest = Some(Arc::clone(&time));
        Some(time)
    }
}

#[cfg(test)]
mod tests {
    use bson::rawdoc;

    use super::*;

    fn time(time: u32, increment: u32) -> RawDocumentBuf {
        rawdoc! { "clusterTime": Timestamp { time, increment }, "signature": { "keyId": 1_i64 } }
    }

    #[test]
    fn only_a_later_time_advances_the_clock() {
        let clock = ClusterClock::default();
        let mut known = None;
        clock.update(&mut known);
        assert_eq!(known, None);
        for (received, is_news) in [
            (time(5, 2), true),
            (time(5, 2), false),
            (time(5, 1), false),
            (time(4, 9), false),
            (time(5, 3), true),
            (time(6, 0), true),
            (rawdoc! { "clusterTime": 7 }, false),
            (rawdoc! {}, false),
        ] {
            assert_eq!(clock.advance(&received).is_some(), is_news, "{received:?}");
        }
        clock.update(&mut known);
        assert_eq!(known.as_ref().unwrap().document, time(6, 0));
    }

    #[test]
    fn of_two_times_the_later_one_is_sent() {
        let [early, late] = [time(1, 2), time(2, 1)];
        let read = |document: &RawDocument| ClusterTime::read(document).map(Arc::new);
        for (one, two, sent) in [
            (None, None, None),
            (read(&early), None, read(&early)),
            (None, read(&early), read(&early)),
            (read(&early), read(&late), read(&late)),
            (read(&late), read(&early), read(&late)),
        ] {
            assert_eq!(later(one, two), sent);
        }
    }
}
