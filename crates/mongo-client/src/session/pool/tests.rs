use proptest::prelude::*;

use super::*;

const MINUTE: Duration = Duration::from_secs(60);
const TIMEOUT: Option<Duration> = Some(Duration::from_secs(30 * 60));

fn session(number: u8, last_use: Instant) -> ServerSession {
    ServerSession {
        id: [number; 16],
        last_use,
        is_dirty: false,
        last_write: i64::from(number),
    }
}

fn numbers(pool: &SessionPool) -> Vec<u8> {
    pool.idle.iter().map(|session| session.id[0]).collect()
}

#[test]
fn the_session_given_back_last_is_taken_first() {
    let now = Instant::now();
    let mut pool = SessionPool::default();
    pool.put(session(1, now), now, TIMEOUT);
    pool.put(session(2, now), now, TIMEOUT);
    let order: Vec<_> = std::iter::from_fn(|| pool.take(now, TIMEOUT)).collect();
    assert_eq!(order, [session(2, now), session(1, now)]);
}

#[test]
fn a_session_is_used_until_a_minute_before_its_timeout() {
    let used = Instant::now();
    for (idle, timeout, is_kept) in [
        (Duration::ZERO, TIMEOUT, true),
        (29 * MINUTE, TIMEOUT, true),
        (29 * MINUTE + Duration::from_millis(1), TIMEOUT, false),
        (MINUTE, Some(MINUTE), false),
        (Duration::ZERO, Some(MINUTE), true),
        (24 * 60 * MINUTE, None, true),
    ] {
        let mut pool = SessionPool::default();
        pool.put(session(1, used), used + idle, timeout);
        assert_eq!(
            numbers(&pool).len(),
            usize::from(is_kept),
            "{idle:?} {timeout:?}"
        );
        let mut pool = SessionPool::default();
        pool.put(session(1, used), used, timeout);
        assert_eq!(
            pool.take(used + idle, timeout).is_some(),
            is_kept,
            "{idle:?} {timeout:?}"
        );
    }
}

#[test]
fn giving_back_forgets_the_old_at_the_back() {
    let start = Instant::now();
    let mut pool = SessionPool::default();
    for (number, minute) in [(1, 0), (2, 1), (3, 2)] {
        pool.put(session(number, start + minute * MINUTE), start, TIMEOUT);
    }
    let now = start + 30 * MINUTE + Duration::from_secs(1);
    pool.put(session(4, now), now, TIMEOUT);
    assert_eq!(numbers(&pool), [4, 3]);
}

#[test]
fn a_dirty_session_is_forgotten() {
    let now = Instant::now();
    let mut pool = SessionPool::default();
    let is_dirty = true;
    pool.put(
        ServerSession {
            is_dirty,
            ..session(1, now)
        },
        now,
        TIMEOUT,
    );
    assert_eq!(pool.take(now, TIMEOUT), None);
}

#[derive(Clone, Debug)]
enum Step {
    Take,
    /// Gives back the n-th session in use, dirty or not, used now or not.
    Put {
        which: usize,
        is_dirty: bool,
        is_used: bool,
    },
    Wait(u64),
}

fn step() -> impl Strategy<Value = Step> {
    let put = (any::<usize>(), prop::bool::weighted(0.2), any::<bool>());
    prop_oneof![
        Just(Step::Take),
        put.prop_map(|(which, is_dirty, is_used)| Step::Put {
            which,
            is_dirty,
            is_used
        }),
        (0..15 * 60_u64).prop_map(Step::Wait),
    ]
}

proptest! {
    /// Whatever happens: nobody gets a session that somebody else has, that is dirty, or that is
    /// about to expire; and the one used last comes first.
    #[test]
    fn a_session_is_never_shared_dirty_or_stale(steps in prop::collection::vec(step(), 0..120)) {
        let mut pool = SessionPool::default();
        let mut now = Instant::now();
        let mut in_use: Vec<ServerSession> = Vec::new();
        let mut next: u64 = 0;
        for step in steps {
            match step {
                Step::Wait(seconds) => now += Duration::from_secs(seconds),
                Step::Take => {
                    let taken = pool.take(now, TIMEOUT).unwrap_or_else(|| {
                        next += 1;
                        let mut id = [0; 16];
                        id[..8].copy_from_slice(&next.to_le_bytes());
                        ServerSession { id, last_use: now, is_dirty: false, last_write: 0 }
                    });
                    prop_assert!(!taken.is_dirty);
                    prop_assert!(now - taken.last_use <= 29 * MINUTE);
                    prop_assert!(in_use.iter().all(|other| other.id != taken.id));
                    in_use.push(taken);
                }
                Step::Put { which, is_dirty, is_used } => {
                    if in_use.is_empty() { continue; }
                    let mut session = in_use.swap_remove(which % in_use.len());
                    session.is_dirty = is_dirty;
                    if is_used { session.last_use = now; }
                    let is_pooled = !is_dirty && now - session.last_use <= 29 * MINUTE;
                    let id = session.id;
                    pool.put(session, now, TIMEOUT);
                    prop_assert_eq!(pool.idle.front().is_some_and(|front| front.id == id), is_pooled);
                }
            }
        }
        let idle = pool.idle.len();
        prop_assert_eq!(pool.drain().len(), idle);
        prop_assert_eq!(pool.take(now, None), None);
    }
}
