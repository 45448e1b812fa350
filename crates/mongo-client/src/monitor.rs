//! Carries out what the topology orders for one server: checks on the monitor's own connection and
//! round trip measurements on another one. Decides nothing.

use std::sync::Arc;
use std::time::Duration;

use mongo_topology::{Check, CheckError, CheckId, HelloReply, Input, RttCheck, ServerId};
use mongo_wire::Flags;
use tokio::sync::mpsc;
use tokio::time::Instant;

use crate::connection::{Connection, Connector, within};
use crate::error::{Error, IoAction, Result};
use crate::topology::TopologyHandle;

/// What a monitor is told to do.
#[derive(Debug)]
pub(crate) enum Order {
    /// Take the next step; a step that runs is finished first.
    Check(CheckId, Check),
    /// Close the connection, whatever it waits for.
    Cancel,
}

/// What the tasks of one server have in common.
#[derive(Clone, Debug)]
pub(crate) struct Monitor {
    pub(crate) server: ServerId,
    pub(crate) connector: Arc<Connector>,
    pub(crate) topology: TopologyHandle,
}

/// What a step brings.
struct Outcome {
    reply: HelloReply,
    round_trip: Option<Duration>,
    more_to_come: bool,
}

impl Monitor {
    /// Runs checks until the orders end. The topology gives the next order only after it has
    /// heard of the last, so the queue never holds more than a cancellation and a check.
    pub(crate) async fn run_checks(self, mut orders: mpsc::UnboundedReceiver<Order>) {
        let mut connection = None;
        let mut next = orders.recv().await;
        while let Some(order) = next.take() {
            let Order::Check(id, check) = order else {
                connection = None;
                next = orders.recv().await;
                continue;
            };
            let open = connection.take();
            tokio::select! {
                biased;
                outcome = self.step(open, &check) => {
                    let (kept, input, failure) = self.describe(id, outcome);
                    connection = kept;
                    self.topology.tell_failure(input, failure);
                    next = orders.recv().await;
                }
                // Dropping the step has closed its connection.
                order = orders.recv() => next = order,
            }
        }
    }

    /// Measures round trips until the orders end, and gives up what is under way then; see
    /// [`Self::run_checks`] for the queue.
    pub(crate) async fn run_measurements(self, mut orders: mpsc::UnboundedReceiver<RttCheck>) {
        let mut connection = None;
        let mut next = orders.recv().await;
        while let Some(check) = next.take() {
            let command = if connection.is_some() {
                check.hello
            } else {
                check.connect
            };
            let step = match connection {
                Some(_) => Check::Hello {
                    hello: command,
                    timeout: check.timeout,
                },
                None => Check::Connect {
                    hello: command,
                    timeout: check.timeout,
                },
            };
            let server = self.server.clone();
            let open = connection.take();
            tokio::select! {
                biased;
                outcome = self.step(open, &step) => {
                    let input = match outcome {
                        Ok((open, outcome)) => {
                            connection = Some(open);
                            let round_trip = outcome.round_trip.unwrap_or_default();
                            Input::RttMeasured { server, round_trip }
                        }
                        Err(_) => Input::RttFailed { server },
                    };
                    self.topology.tell(input);
                    next = orders.recv().await;
                }
                // Dropping the step has closed its connection.
                order = orders.recv() => next = order,
            }
        }
    }

    /// Takes one step. Dropping the future closes the connection.
    async fn step(&self, open: Option<Connection>, check: &Check) -> Result<(Connection, Outcome)> {
        let server = &self.server.address;
        let mut connection = match open {
            Some(connection) => connection,
            None => self.connector.open(server).await?,
        };
        let exchange = exchange(&self.connector, &mut connection, check);
        let outcome = within(check.timeout(), server, IoAction::Handshake, exchange).await?;
        Ok((connection, outcome))
    }

    /// What the topology hears of a step; after a failure no connection is left.
    fn describe(
        &self,
        check: CheckId,
        outcome: Result<(Connection, Outcome)>,
    ) -> (Option<Connection>, Input, Option<Error>) {
        let server = self.server.clone();
        match outcome {
            Ok((
                connection,
                Outcome {
                    reply,
                    round_trip,
                    more_to_come,
                },
            )) => {
                let input = Input::HelloReceived {
                    server,
                    check,
                    reply,
                    round_trip,
                    more_to_come,
                };
                (Some(connection), input, None)
            }
            Err(failure) => {
                let input = Input::CheckFailed {
                    server,
                    check,
                    error: check_error(&failure),
                };
                (None, input, Some(failure))
            }
        }
    }
}

async fn exchange(
    connector: &Connector,
    connection: &mut Connection,
    check: &Check,
) -> Result<Outcome> {
    let sent = Instant::now();
    let command = match check {
        Check::Connect { hello, .. } => Some(connector.handshake.command(*hello, false)),
        other => other.command(),
    };
    if let Some(command) = command {
        let flags = if check.is_awaited() {
            Flags::EXHAUST_ALLOWED
        } else {
            Flags::empty()
        };
        connection.send_hello(&command, flags).await?;
    }
    let (reply, more_to_come) = connection.receive_hello().await?;
    let round_trip = (!check.is_awaited()).then(|| sent.elapsed());
    Ok(Outcome {
        reply,
        round_trip,
        more_to_come,
    })
}

fn check_error(error: &Error) -> CheckError {
    match error {
        Error::Hello { source, .. } => source.clone().into(),
        Error::Timeout { .. } => CheckError::timeout(error.without_server()),
        Error::Tls { failure, .. } if !failure.is_hang_up() => {
            CheckError::client(error.without_server())
        }
        _ => CheckError::network(error.without_server()),
    }
}
