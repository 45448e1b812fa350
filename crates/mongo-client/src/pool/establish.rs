//! Opening one connection of a pool.

use std::io;
use std::sync::Arc;

use mongo_topology::{ErrorPhase, SYSTEM_OVERLOADED_ERROR};
use tokio::sync::watch;

use super::machine::{ConnectionId, Input, Standing};
use super::{Pool, Shared};
use crate::connection::ConnectFailure;
use crate::error::{Error, IoAction, Violation};

/// Opens a connection and tells the pool how that went, or gives it up when the pool has no use
/// for it any more.
pub(super) async fn run(
    pool: Arc<Pool>,
    id: ConnectionId,
    generation: u64,
    mut standing: watch::Receiver<Standing>,
) {
    let greeted = |service_id| {
        if let Some(service) = service_id {
            let connection = id;
            pool.apply(&Input::Greeted {
                connection,
                service,
            });
        }
    };
    let connected = tokio::select! {
        biased;
        // An error: the pool has dropped the sender together with the connection.
        _ = standing.wait_for(|_| false) => return,
        connected = pool.context.connector.connect(&pool.server.address, greeted) => connected,
    };
    match connected {
        Ok(connection) => {
            let step = |shared: &mut Shared, now| {
                if let Some(link) = shared.links.get_mut(&id) {
                    link.idle = Some(connection);
                }
                shared.machine.handle(&Input::Established(id), now);
            };
            pool.advance(step, None);
        }
        Err(ConnectFailure {
            phase,
            service_id,
            error,
        }) => {
            // With a service, its own, as of the hello.
            let generation = match service_id {
                Some(_) => pool.lock().machine.generation_of(id),
                None => generation,
            };
            let error = while_opening(phase, error);
            let fail = |shared: &mut Shared, now| {
                // Old news and overload do not pause the pool, so they must not explain a pause.
                if let Error::Authentication(refused) = &error
                    && shared.machine.generation() == generation
                    && !error.has_label(SYSTEM_OVERLOADED_ERROR)
                {
                    shared.unauthenticated = Some(refused.clone());
                }
                shared.machine.handle(&Input::EstablishFailing(id), now);
            };
            // Before the topology hears of it and clears the pool, which then fails all waiters
            // but the one that this error belongs to.
            pool.advance(fail, None);
            pool.context
                .topology
                .report(&pool.server, (generation, service_id), phase, &error)
                .await;
            let end = |shared: &mut Shared, now| {
                // Nothing was cleared because of it, so that it explains no later clear either.
                if shared.machine.generation() == generation {
                    shared.unauthenticated = None;
                }
                shared.machine.handle(&Input::EstablishFailed(id), now);
            };
            pool.advance(end, Some(error));
        }
    }
}

/// Says of a broken connection that it broke while it was being opened, which makes it a sign of
/// overload rather than of a server that is gone ([`Error::has_label`]), unless the server has
/// answered the hello already.
fn while_opening(phase: ErrorPhase, error: Error) -> Error {
    let action = match phase {
        ErrorPhase::Authenticating => IoAction::Authenticate,
        _ => IoAction::Handshake,
    };
    match error {
        Error::Io {
            server,
            action: IoAction::Send | IoAction::Receive,
            source,
        } => Error::Io {
            server,
            action,
            source,
        },
        Error::Violation {
            server,
            violation: violation @ Violation::ClosedEarly,
        } => Error::Io {
            server,
            action,
            source: io::Error::new(io::ErrorKind::UnexpectedEof, violation),
        },
        other => other,
    }
}
