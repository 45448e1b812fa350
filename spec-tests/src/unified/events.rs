//! What clients publish: what is kept of it, and how it is compared.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use bson::{Bson, Document, RawDocument, doc};
use mongo_client::Event;
use mongo_client::events::{CmapEvent, CommandEvent, CommandStep};
use mongo_client::sdam::{SdamEvent, ServerDescription, TopologyDescription};
use mongo_client::uri::ServerAddress;
use testbed::journal::Journal;

use super::matching::Matcher;
use super::schema::{ClientEntity, EventName, ExpectedEvent, ExpectedEvents};
use super::stop::{Problem, Run, Stop, diff};

/// How long events are waited for that are expected to have come: what a client does in the
/// background may not be done when the operation is that caused it.
pub(super) const GRACE: Duration = Duration::from_secs(2);

/// Everything that one client has published.
#[derive(Debug)]
pub(super) struct EventLog {
    filter: Filter,
    state: Journal<State>,
}

#[derive(Debug, Default)]
struct Filter {
    observed: Vec<EventName>,
    ignored_commands: Vec<String>,
    shows_sensitive: bool,
}

#[derive(Debug, Default)]
struct State {
    /// Nothing is kept before: the case waits for full pools first.
    keeps: bool,
    /// What the case observes.
    kept: Vec<Arc<Event>>,
    /// All there was, for whoever reads of a failure.
    all: Vec<Arc<Event>>,
    checked_out: i64,
    /// The connections that each pool has open.
    open: BTreeMap<ServerAddress, usize>,
    /// Where the last fail point was set.
    fail_point_server: Option<ServerAddress>,
}

impl EventLog {
    pub(super) fn new(entity: &ClientEntity) -> Arc<Self> {
        let observed = entity.observe_events.as_deref().unwrap_or_default();
        let ignored = entity.ignore_command_monitoring_events.as_deref();
        let filter = Filter {
            observed: observed.to_vec(),
            ignored_commands: ignored.unwrap_or_default().to_vec(),
            shows_sensitive: entity.observe_sensitive_commands,
        };
        Arc::new(Self {
            filter,
            state: Journal::default(),
        })
    }

    /// For [`mongo_client::ClientOptions::on_event`].
    pub(super) fn listener(self: &Arc<Self>) -> impl Fn(&Event) + Send + Sync + 'static {
        let log = Arc::clone(self);
        move |event| log.hear(event)
    }

    fn hear(&self, event: &Event) {
        let event = Arc::new(event.clone());
        self.state.write(|state| {
            state.count(&event);
            if state.keeps && self.filter.keeps(&event) {
                state.kept.push(Arc::clone(&event));
            }
            state.all.push(event);
        });
    }

    /// From now on events are kept.
    pub(super) fn keep(&self) {
        self.state.write(|state| state.keeps = true);
    }

    /// The connections that operations have.
    pub(super) fn checked_out(&self) -> i64 {
        self.state.read().checked_out
    }

    /// Where the last fail point was set.
    pub(super) fn fail_point_server(&self) -> Option<ServerAddress> {
        self.state.read().fail_point_server.clone()
    }

    /// Waits until each of these servers has so many open connections.
    pub(super) async fn wait_for_pools(
        &self,
        servers: impl Fn() -> Vec<ServerAddress>,
        size: usize,
        limit: Duration,
    ) -> Run {
        let are_full = |state: &State| {
            let servers = servers();
            let is_full = |server| state.open.get(server).is_some_and(|open| *open >= size);
            !servers.is_empty() && servers.iter().all(is_full)
        };
        match self.state.wait(limit, are_full).await {
            true => Ok(()),
            false => Err(Stop::fail(format!(
                "pools had not {size} connections in {limit:?}"
            ))),
        }
    }

    /// How many of the events match.
    pub(super) fn count(&self, expected: &ExpectedEvent, matcher: Matcher<'_>) -> usize {
        self.state.read().matching(expected, matcher)
    }

    /// Waits until so many of the events match.
    pub(super) async fn wait_for(
        &self,
        expected: &ExpectedEvent,
        count: usize,
        (matcher, limit): (Matcher<'_>, Duration),
    ) -> Run {
        let reached = |state: &State| state.matching(expected, matcher) >= count;
        if self.state.wait(limit, reached).await {
            return Ok(());
        }
        let found = self.count(expected, matcher);
        Err(Stop::fail(format!(
            "{:?} {} occurred {found} times in {limit:?}, not {count}",
            expected.name, expected.fields
        )))
    }

    /// The commands of the last two events that a command was started.
    pub(super) fn last_two_commands(&self) -> Option<[Document; 2]> {
        let state = self.state.read();
        let mut started = state.kept.iter().rev().filter_map(|event| match &**event {
            Event::Command(CommandEvent {
                step: CommandStep::Started { command },
                ..
            }) => Some(document(command)),
            _ => None,
        });
        let last = started.next()?;
        Some([started.next()?, last])
    }

    /// Compares what was published with the sequence that was expected.
    pub(super) async fn check(&self, expected: &ExpectedEvents, matcher: Matcher<'_>) -> Run {
        let of_type = |state: &State| {
            let events = state.kept.iter().cloned();
            let is_of_type = |event: &Arc<Event>| {
                name(event).is_some_and(|name| name.kind() == expected.event_type)
            };
            events.filter(is_of_type).collect::<Vec<_>>()
        };
        let wanted = expected.events.len();
        // The comparison tells better what is missing.
        let _ = (self
            .state
            .wait(GRACE, |state| of_type(state).len() >= wanted))
        .await;
        let actual = of_type(&self.state.read());
        for (index, expected) in expected.events.iter().enumerate() {
            let Some(event) = actual.get(index) else {
                return Err(Stop::fail(format!(
                    "event {index}: expected {:?} {}, but there are only {}",
                    expected.name,
                    expected.fields,
                    actual.len()
                )));
            };
            check(expected, event, matcher).map_err(|stop| stop.at(format!("event {index}")))?;
        }
        match actual.get(wanted) {
            Some(extra) if !expected.ignore_extra => Err(Stop::fail(format!(
                "event {wanted}: {} is not expected",
                describe(extra)
            ))),
            _ => Ok(()),
        }
    }

    /// One line an event.
    pub(super) fn lines(&self) -> Vec<String> {
        let state = self.state.read();
        state.all.iter().map(|event| describe(event)).collect()
    }

    /// The events of these names, for `storeEventsAsEntities`.
    pub(super) fn stored(&self, names: &[EventName]) -> Vec<Bson> {
        let state = self.state.read();
        let events = state.all.iter();
        let wanted = events.filter(|event| name(event).is_some_and(|name| names.contains(&name)));
        wanted.map(|event| describe(event).into()).collect()
    }
}

impl State {
    /// How many of the events that are kept match.
    fn matching(&self, expected: &ExpectedEvent, matcher: Matcher<'_>) -> usize {
        let fits = |event: &&Arc<Event>| check(expected, event, matcher).is_ok();
        self.kept.iter().filter(fits).count()
    }

    fn count(&mut self, event: &Event) {
        match event {
            Event::Cmap { server, event } => {
                let open = self.open.entry(server.address.clone()).or_default();
                match event {
                    CmapEvent::ConnectionReady { .. } => *open += 1,
                    CmapEvent::ConnectionClosed { .. } => *open = open.saturating_sub(1),
                    CmapEvent::CheckedOut { .. } => self.checked_out += 1,
                    CmapEvent::CheckedIn { .. } => self.checked_out -= 1,
                    _ => {}
                }
            }
            Event::Command(command) if command.command_name == "configureFailPoint" => {
                self.fail_point_server = Some(command.server.clone());
            }
            _ => {}
        }
    }
}

impl Filter {
    fn keeps(&self, event: &Event) -> bool {
        let Some(name) = name(event) else {
            return false;
        };
        let wanted = match event {
            Event::Command(command) => {
                let name = &command.command_name;
                name != "configureFailPoint"
                    && !self.ignored_commands.contains(name)
                    && (self.shows_sensitive || !command.is_redacted)
            }
            _ => true,
        };
        wanted && self.observed.contains(&name)
    }
}

/// The format's name for an event, if it has one.
fn name(event: &Event) -> Option<EventName> {
    Some(match event {
        Event::Command(command) => match command.step {
            CommandStep::Started { .. } => EventName::CommandStartedEvent,
            CommandStep::Succeeded { .. } => EventName::CommandSucceededEvent,
            CommandStep::Failed { .. } => EventName::CommandFailedEvent,
            _ => return None,
        },
        Event::Cmap { event, .. } => match event {
            CmapEvent::PoolCreated { .. } => EventName::PoolCreatedEvent,
            CmapEvent::PoolReady => EventName::PoolReadyEvent,
            CmapEvent::PoolCleared { .. } => EventName::PoolClearedEvent,
            CmapEvent::PoolClosed => EventName::PoolClosedEvent,
            CmapEvent::ConnectionCreated { .. } => EventName::ConnectionCreatedEvent,
            CmapEvent::ConnectionReady { .. } => EventName::ConnectionReadyEvent,
            CmapEvent::ConnectionClosed { .. } => EventName::ConnectionClosedEvent,
            CmapEvent::CheckOutStarted => EventName::ConnectionCheckOutStartedEvent,
            CmapEvent::CheckOutFailed { .. } => EventName::ConnectionCheckOutFailedEvent,
            CmapEvent::CheckedOut { .. } => EventName::ConnectionCheckedOutEvent,
            CmapEvent::CheckedIn { .. } => EventName::ConnectionCheckedInEvent,
            _ => return None,
        },
        Event::Sdam { event, .. } => match event {
            SdamEvent::TopologyOpening => EventName::TopologyOpeningEvent,
            SdamEvent::TopologyClosed => EventName::TopologyClosedEvent,
            SdamEvent::TopologyDescriptionChanged { .. } => {
                EventName::TopologyDescriptionChangedEvent
            }
            SdamEvent::ServerDescriptionChanged { .. } => EventName::ServerDescriptionChangedEvent,
            SdamEvent::HeartbeatStarted { .. } => EventName::ServerHeartbeatStartedEvent,
            SdamEvent::HeartbeatSucceeded { .. } => EventName::ServerHeartbeatSucceededEvent,
            SdamEvent::HeartbeatFailed { .. } => EventName::ServerHeartbeatFailedEvent,
            _ => return None,
        },
        _ => return None,
    })
}

fn check(expected: &ExpectedEvent, event: &Event, matcher: Matcher<'_>) -> Run {
    if name(event) != Some(expected.name) {
        let message = format!("expected {:?}, got {}", expected.name, describe(event));
        return Err(Stop::fail(message));
    }
    let actual = fields(event);
    for (field, wanted) in &expected.fields {
        matcher
            .root(wanted, actual.get(field))
            .map_err(|mismatch| {
                let message = format!("{:?}.{field}: {mismatch}", expected.name);
                let diff = Some(diff(wanted, actual.get(field)));
                Stop::Fail(Problem { message, diff })
            })?;
    }
    let ids = [
        (expected.has_service_id, service_id(event), "service id"),
        (
            expected.has_server_connection_id,
            server_connection(event),
            "server connection id",
        ),
    ];
    for (wanted, is_there, what) in ids {
        if wanted.is_some_and(|wanted| wanted != is_there) {
            return Err(Stop::fail(format!(
                "{:?}: has a {what}: {is_there}",
                expected.name
            )));
        }
    }
    Ok(())
}

fn service_id(event: &Event) -> bool {
    let id = match event {
        Event::Command(command) => command.service_id,
        Event::Cmap {
            event: CmapEvent::PoolCleared { service_id, .. },
            ..
        } => *service_id,
        _ => None,
    };
    id.is_some_and(|id| id.bytes() != [0; 12])
}

fn server_connection(event: &Event) -> bool {
    match event {
        Event::Command(command) => command.server_connection.is_some_and(|id| id > 0),
        _ => false,
    }
}

/// What the format may say something about, under its names.
fn fields(event: &Event) -> Document {
    match event {
        Event::Command(command) => command_fields(command),
        Event::Cmap { event, .. } => match event {
            CmapEvent::PoolCleared {
                interrupt_in_use, ..
            } => doc! { "interruptInUseConnections": *interrupt_in_use },
            CmapEvent::ConnectionClosed { reason, .. } => doc! { "reason": reason.as_str() },
            CmapEvent::CheckOutFailed { reason, .. } => doc! { "reason": reason.as_str() },
            _ => doc! {},
        },
        Event::Sdam { event, .. } => sdam_fields(event),
        _ => doc! {},
    }
}

fn command_fields(event: &CommandEvent) -> Document {
    let mut fields = doc! {
        "commandName": event.command_name.as_str(),
        "databaseName": event.database.as_str(),
    };
    match &event.step {
        CommandStep::Started { command } => fields.insert("command", document(command)),
        CommandStep::Succeeded { reply, .. } => fields.insert("reply", document(reply.as_raw())),
        CommandStep::Failed { failure, .. } => fields.insert("failure", failure.to_string()),
        _ => None,
    };
    fields
}

fn sdam_fields(event: &SdamEvent) -> Document {
    let topology =
        |topology: &TopologyDescription| doc! { "type": topology.topology_type.as_str() };
    let server = |server: &ServerDescription| doc! { "type": server.server_type().as_str() };
    match event {
        SdamEvent::TopologyDescriptionChanged { previous, current } => doc! {
            "previousDescription": topology(previous), "newDescription": topology(current),
        },
        SdamEvent::ServerDescriptionChanged { previous, current } => doc! {
            "previousDescription": server(previous), "newDescription": server(current),
        },
        SdamEvent::HeartbeatStarted { heartbeat }
        | SdamEvent::HeartbeatSucceeded { heartbeat, .. }
        | SdamEvent::HeartbeatFailed { heartbeat, .. } => doc! { "awaited": heartbeat.awaited },
        _ => doc! {},
    }
}

/// A document of the wire; one that cannot be read shows as empty.
pub(super) fn document(raw: &RawDocument) -> Document {
    Document::try_from(raw).unwrap_or_default()
}

/// An event in one line.
fn describe(event: &Event) -> String {
    let name = name(event).map_or_else(|| "other event".to_owned(), |name| format!("{name:?}"));
    let address = match event {
        Event::Command(command) => command.server.to_string(),
        Event::Cmap { server, .. } => server.address.to_string(),
        _ => String::new(),
    };
    format!("{name} {address} {}", fields(event))
}
