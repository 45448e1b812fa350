//! The rules, one by one.

mod bench;

use std::time::Duration;

use bson::oid::ObjectId;

use self::bench::*;
use super::*;

#[test]
fn paused_pool_refuses_at_once() {
    let mut bench = Bench::new(limits(1, 1));
    assert_eq!(
        bench.tell(Input::CheckOut(7)),
        [
            publish(CmapEvent::CheckOutStarted),
            failed(CheckOutFailure::ConnectionError, Duration::ZERO),
            refuse(7, Refusal::Cleared)
        ]
    );
}

#[test]
fn events_tell_of_a_check_out_from_its_start_to_the_check_in() {
    let mut bench = Bench::ready(limits(1, 1));
    assert_eq!(
        bench.tell(Input::CheckOut(1)),
        [
            publish(CmapEvent::CheckOutStarted),
            publish(CmapEvent::ConnectionCreated { connection: 1 }),
            establish(1)
        ]
    );
    bench.now += SECOND;
    let (connection, duration) = (1, SECOND);
    let established = Input::Established(connection);
    assert_eq!(
        bench.tell(established),
        [
            publish(CmapEvent::ConnectionReady {
                connection,
                duration
            }),
            publish(CmapEvent::CheckedOut {
                connection,
                duration
            }),
            hand(1, 1)
        ]
    );
    let checked_in = publish(CmapEvent::CheckedIn { connection });
    assert_eq!(bench.back(1), [checked_in]);
}

#[test]
fn a_returned_connection_goes_to_the_oldest_waiter() {
    let mut bench = Bench::ready(limits(1, 1));
    assert_eq!(bench.order(Input::CheckOut(1)), [establish(1)]);
    assert_eq!(bench.order(Input::CheckOut(2)), []);
    assert_eq!(bench.order(Input::CheckOut(3)), []);
    assert_eq!(bench.established(1), [hand(1, 1)]);
    assert_eq!(orders(bench.back(1)), [hand(2, 1)]);
    assert_eq!(orders(bench.back(1)), [hand(3, 1)]);
}

#[test]
fn a_waiter_that_left_passes_its_turn_on() {
    let mut bench = Bench::ready(limits(1, 1));
    bench.tell(Input::CheckOut(1));
    bench.tell(Input::CheckOut(2));
    bench.now += SECOND;
    let left = failed(CheckOutFailure::Timeout, SECOND);
    assert_eq!(bench.tell(Input::WaiterLeft(1)), [left]);
    assert_eq!(bench.tell(Input::WaiterLeft(1)), []);
    assert_eq!(bench.established(1), [hand(2, 1)]);
}

#[test]
fn pending_connections_never_exceed_max_connecting_or_max_size() {
    let mut bench = Bench::ready(limits(3, 2));
    let opened: usize = (1..=5)
        .map(|waiter| bench.order(Input::CheckOut(waiter)).len())
        .sum();
    assert_eq!(opened, 2);
    assert_eq!(bench.established(1), [hand(1, 1), establish(3)]);
    bench.established(2);
    assert_eq!(bench.established(3), [hand(3, 3)]);
}

#[test]
fn without_a_maximum_every_waiter_gets_a_connection() {
    let mut bench = Bench::in_use(limits(0, 1), 500);
    assert_eq!(bench.order(Input::CheckOut(501)), [establish(501)]);
}

#[test]
fn only_waiters_for_whom_nothing_is_on_its_way_time_out() {
    let mut bench = Bench::ready(limits(2, 1));
    bench.tell(Input::CheckOut(1));
    bench.tell(Input::CheckOut(2));
    bench.now += SECOND;
    assert_eq!(bench.tell(Input::WaitExpired(1)), []);
    assert_eq!(
        bench.tell(Input::WaitExpired(2)),
        [
            failed(CheckOutFailure::Timeout, SECOND),
            refuse(2, Refusal::TimedOut)
        ]
    );
    assert_eq!(bench.established(1), [hand(1, 1)]);
}

#[test]
fn clear_closes_available_connections_and_outdates_those_in_use() {
    let mut bench = Bench::in_use(limits(2, 2), 2);
    bench.back(1);
    assert_eq!(
        bench.clear(false),
        [
            publish(CmapEvent::PoolCleared {
                service_id: None,
                interrupt_in_use: false
            }),
            closed(1, CloseReason::Stale),
            Action::Discard(1),
            Action::Tell {
                connection: 2,
                standing: Standing::Stale
            }
        ]
    );
    assert_eq!(bench.back(2), ended(2, CloseReason::Stale));
    bench.tell(Input::MarkReady);
    assert_eq!(bench.order(Input::CheckOut(3)), [establish_in(3, 1)]);
}

#[test]
fn clear_fails_every_waiter() {
    let mut bench = Bench::in_use(limits(1, 1), 1);
    bench.tell(Input::CheckOut(2));
    bench.tell(Input::CheckOut(3));
    assert_eq!(
        orders(bench.clear(false)),
        [
            Action::Tell {
                connection: 1,
                standing: Standing::Stale
            },
            refuse(2, Refusal::Cleared),
            refuse(3, Refusal::Cleared)
        ]
    );
}

#[test]
fn clearing_a_paused_pool_is_silent_but_outdates() {
    let mut bench = Bench::new(limits(1, 1));
    assert_eq!(bench.clear(false), []);
    assert_eq!(bench.machine.generation(), 1);
    bench.tell(Input::MarkReady);
    assert_eq!(bench.order(Input::CheckOut(1)), [establish_in(1, 1)]);
}

#[test]
fn an_old_clear_is_ignored() {
    let mut bench = Bench::ready(limits(1, 1));
    bench.clear(false);
    bench.tell(Input::MarkReady);
    let generation = bench.machine.generation();
    let (service_id, interrupt_in_use) = (None, false);
    let old = Input::Clear {
        generation,
        service_id,
        interrupt_in_use,
    };
    assert_eq!(bench.tell(old), []);
}

#[test]
fn readying_a_ready_pool_is_silent() {
    let mut bench = Bench::ready(limits(1, 1));
    assert_eq!(bench.tell(Input::MarkReady), []);
}

#[test]
fn a_pending_connection_of_an_old_generation_is_given_up_at_once() {
    let mut bench = Bench::ready(limits(2, 1));
    bench.tell(Input::CheckOut(1));
    assert!(bench.clear(false).contains(&Action::Discard(1)));
    assert_eq!(bench.established(1), []);
    // Its place is free for those who come after the clear.
    bench.tell(Input::MarkReady);
    let opened = bench.tell(Input::CheckOut(2));
    assert!(
        opened
            .iter()
            .any(|action| matches!(action, Action::Establish { connection: 2, .. })),
        "{opened:?}"
    );
}

#[test]
fn interrupting_gives_up_what_is_pending_and_in_use() {
    let mut bench = Bench::in_use(limits(2, 2), 1);
    bench.tell(Input::CheckOut(2));
    assert_eq!(
        bench.clear(true),
        [
            publish(CmapEvent::PoolCleared {
                service_id: None,
                interrupt_in_use: true
            }),
            Action::Tell {
                connection: 1,
                standing: Standing::Interrupted
            },
            closed(2, CloseReason::Stale),
            Action::Discard(2),
            failed(CheckOutFailure::ConnectionError, Duration::ZERO),
            refuse(2, Refusal::Cleared)
        ]
    );
    assert_eq!(bench.established(2), []);
}

#[test]
fn a_failed_establishment_fails_the_oldest_waiter_and_the_next_one_tries_again() {
    let mut bench = Bench::ready(limits(2, 1));
    bench.tell(Input::CheckOut(1));
    bench.tell(Input::CheckOut(2));
    assert_eq!(bench.tell(Input::EstablishFailing(1)), []);
    assert_eq!(
        bench.tell(Input::EstablishFailed(1)),
        [
            closed(1, CloseReason::Error),
            Action::Discard(1),
            failed(CheckOutFailure::ConnectionError, Duration::ZERO),
            refuse(1, Refusal::EstablishFailed),
            publish(CmapEvent::ConnectionCreated { connection: 2 }),
            establish(2)
        ]
    );
}

#[test]
fn a_failure_that_clears_the_pool_still_reaches_the_waiter_it_belongs_to() {
    let mut bench = Bench::ready(limits(2, 1));
    bench.tell(Input::CheckOut(1));
    bench.tell(Input::CheckOut(2));
    bench.tell(Input::EstablishFailing(1));
    assert_eq!(orders(bench.clear(false)), [refuse(2, Refusal::Cleared)]);
    assert_eq!(
        bench.tell(Input::EstablishFailed(1)),
        [
            closed(1, CloseReason::Error),
            Action::Discard(1),
            failed(CheckOutFailure::ConnectionError, Duration::ZERO),
            refuse(1, Refusal::EstablishFailed)
        ]
    );
}

#[test]
fn a_waiter_may_leave_while_its_failure_is_reported() {
    let mut bench = Bench::ready(limits(2, 1));
    bench.tell(Input::CheckOut(1));
    bench.tell(Input::EstablishFailing(1));
    let left = failed(CheckOutFailure::Timeout, Duration::ZERO);
    assert_eq!(bench.tell(Input::WaiterLeft(1)), [left]);
    let failed = bench.order(Input::EstablishFailed(1));
    assert_eq!(failed, [Action::Discard(1)]);
}

#[test]
fn a_failure_fails_nobody_while_enough_others_are_on_their_way() {
    let mut bench = Bench::ready(limits(3, 2));
    bench.tell(Input::CheckOut(1));
    bench.tell(Input::CheckOut(2));
    bench.tell(Input::WaiterLeft(1));
    let failed = bench.order(Input::EstablishFailed(1));
    assert_eq!(failed, [Action::Discard(1)]);
    assert_eq!(bench.established(2), [hand(2, 2)]);
}

#[test]
fn idle_and_broken_connections_are_not_handed_out() {
    let mut bench = Bench::in_use(limits(2, 2), 1);
    bench.back(1);
    bench.now += 60 * SECOND;
    assert_eq!(
        bench.tell(Input::CheckOut(2)),
        [
            publish(CmapEvent::CheckOutStarted),
            closed(1, CloseReason::Idle),
            Action::Discard(1),
            publish(CmapEvent::ConnectionCreated { connection: 2 }),
            establish(2)
        ]
    );
    bench.established(2);
    assert_eq!(bench.tell(broken(2)), ended(2, CloseReason::Error));
}

/// What is wrong with a connection is told, not that it would have been closed anyway.
#[test]
fn a_broken_connection_of_a_cleared_pool_is_closed_for_its_error() {
    let mut bench = Bench::in_use(limits(2, 2), 1);
    bench.clear(false);
    assert_eq!(bench.tell(broken(1)), ended(1, CloseReason::Error));
}

#[test]
fn who_holds_the_connections_of_services_is_counted() {
    let service = ObjectId::from_bytes([1; 12]);
    let mut bench = Bench::ready(limits(3, 3));
    assert_eq!(bench.machine.in_use(), None);
    for connection in 1..4 {
        bench.tell(Input::CheckOut(connection));
        bench.tell(Input::Greeted {
            connection,
            service,
        });
        bench.established(connection);
    }
    bench.tell(Input::HeldByCursor(1));
    bench.tell(Input::HeldByCursor(2));
    bench.tell(Input::HeldByCursor(2));
    let counted = |cursors, others| {
        Some(ConnectionsInUse {
            max_pool_size: 3,
            cursors,
            others,
        })
    };
    assert_eq!(bench.machine.in_use(), counted(2, 1));
    bench.back(2);
    bench.tell(Input::CheckOut(4));
    assert_eq!(bench.machine.in_use(), counted(1, 2));
}

#[test]
fn idle_connections_are_closed_when_their_time_has_come() {
    let mut bench = Bench::in_use(limits(2, 2), 2);
    assert_eq!(bench.machine.poll_timeout(), None);
    bench.back(1);
    let first = bench.now + 60 * SECOND;
    bench.now += SECOND;
    bench.back(2);
    assert_eq!(bench.machine.poll_timeout(), Some(first));
    assert_eq!(bench.timeout(), []);
    bench.now = first;
    assert_eq!(
        bench.timeout(),
        [closed(1, CloseReason::Idle), Action::Discard(1)]
    );
    assert_eq!(bench.machine.poll_timeout(), Some(first + SECOND));
}

#[test]
fn the_most_recently_used_connection_is_taken_first() {
    let mut bench = Bench::in_use(limits(2, 2), 2);
    bench.back(2);
    bench.back(1);
    assert_eq!(bench.order(Input::CheckOut(3)), [hand(3, 1)]);
}

#[test]
fn a_ready_pool_is_filled_to_its_minimum_a_few_at_a_time() {
    let limits = PoolLimits {
        min_size: 3,
        ..limits(4, 2)
    };
    let mut bench = Bench::new(limits);
    assert_eq!(
        bench.tell(Input::MarkReady),
        [
            publish(CmapEvent::PoolReady),
            publish(CmapEvent::ConnectionCreated { connection: 1 }),
            establish(1),
            publish(CmapEvent::ConnectionCreated { connection: 2 }),
            establish(2)
        ]
    );
    assert_eq!(bench.established(1), [establish(3)]);
    assert_eq!(bench.established(2), []);
    assert_eq!(bench.established(3), []);
    // One that is lost is replaced.
    assert_eq!(bench.order(Input::CheckOut(1)), [hand(1, 3)]);
    assert_eq!(bench.order(broken(3)), [Action::Discard(3), establish(4)]);
}

#[test]
fn a_waiter_takes_a_connection_that_was_opened_ahead_of_need() {
    let limits = PoolLimits {
        min_size: 1,
        ..limits(4, 2)
    };
    let mut bench = Bench::ready(limits);
    assert_eq!(bench.order(Input::CheckOut(1)), []);
    assert_eq!(bench.established(1), [hand(1, 1)]);
}

#[test]
fn filling_rests_after_a_failure_and_stops_when_cleared() {
    let limits = PoolLimits {
        min_size: 1,
        ..limits(4, 2)
    };
    let mut bench = Bench::ready(limits);
    let failed = bench.order(Input::EstablishFailed(1));
    assert_eq!(failed, [Action::Discard(1)]);
    let due = bench.now + SECOND;
    assert_eq!(bench.machine.poll_timeout(), Some(due));
    assert_eq!(bench.timeout(), []);
    bench.now = due;
    assert_eq!(orders(bench.timeout()), [establish(2)]);
    bench.order(Input::EstablishFailed(2));
    bench.clear(false);
    assert_eq!(bench.machine.poll_timeout(), None);
    bench.now += SECOND;
    assert_eq!(bench.timeout(), []);
    // Ready again is reason enough to try at once.
    assert_eq!(bench.order(Input::MarkReady), [establish_in(3, 1)]);
}

#[test]
fn closing_closes_what_nobody_uses_before_it_says_so() {
    let mut bench = Bench::in_use(limits(4, 2), 3);
    bench.back(2);
    bench.tell(Input::CheckOut(4));
    bench.tell(Input::CheckOut(5));
    let reason = CloseReason::PoolClosed;
    assert_eq!(
        bench.tell(Input::Close),
        [
            closed(4, reason),
            Action::Discard(4),
            publish(CmapEvent::PoolClosed),
            failed(CheckOutFailure::PoolClosed, Duration::ZERO),
            refuse(5, Refusal::Closed),
            Action::Tell {
                connection: 1,
                standing: Standing::PoolClosed
            },
            Action::Tell {
                connection: 2,
                standing: Standing::PoolClosed
            },
            Action::Tell {
                connection: 3,
                standing: Standing::PoolClosed
            }
        ]
    );
    assert_eq!(bench.back(1), ended(1, reason));
    assert_eq!(
        bench.order(Input::CheckOut(6)),
        [refuse(6, Refusal::Closed)]
    );
    assert_eq!(bench.tell(Input::MarkReady), []);
    assert_eq!(bench.tell(Input::Close), []);
}

#[test]
fn available_connections_are_closed_before_the_pool() {
    let mut bench = Bench::in_use(limits(4, 2), 2);
    bench.back(2);
    assert_eq!(
        bench.tell(Input::Close)[..2],
        [closed(2, CloseReason::PoolClosed), Action::Discard(2)]
    );
}

#[test]
fn a_clear_of_a_service_concerns_its_connections_only() {
    let [one, two] = [1, 2].map(|byte| ObjectId::from_bytes([byte; 12]));
    let mut bench = Bench::ready(limits(4, 4));
    for (connection, service) in [(1, one), (2, two), (3, one)] {
        bench.tell(Input::CheckOut(connection));
        bench.tell(Input::Greeted {
            connection,
            service,
        });
        bench.established(connection);
    }
    bench.back(1);
    bench.back(2);
    let clear = |generation| Input::Clear {
        generation,
        service_id: Some(one),
        interrupt_in_use: false,
    };
    assert_eq!(
        bench.tell(clear(1)),
        [
            publish(CmapEvent::PoolCleared {
                service_id: Some(one),
                interrupt_in_use: false
            }),
            closed(1, CloseReason::Stale),
            Action::Discard(1),
            Action::Tell {
                connection: 3,
                standing: Standing::Stale
            }
        ]
    );
    assert_eq!(bench.tell(clear(1)), []);
    // The pool goes on.
    assert_eq!(bench.order(Input::CheckOut(4)), [hand(4, 2)]);
    assert_eq!(orders(bench.back(3)), [Action::Discard(3)]);
    assert_eq!(bench.order(Input::CheckOut(5)), [establish(4)]);
    bench.tell(Input::Greeted {
        connection: 4,
        service: one,
    });
    assert_eq!(bench.machine.generation_of(4), 1);
    // Cleared between hello and authentication: another one is opened in its place.
    let orders = bench.order(clear(2));
    assert_eq!(orders, [Action::Discard(4), establish(5)]);
}
