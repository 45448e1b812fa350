//! The operations on `testRunner`.

use std::sync::Arc;
use std::time::Duration;

use bson::{Bson, Document};
use serde::de::DeserializeOwned;

use super::arguments::{Arguments, Required, raw};
use super::case::Case;
use super::client::CaseClient;
use super::entities::Held;
use super::internal::Internal;
use super::schema::{Entity, ExpectedEvent, NonEmpty, Operation};
use super::stop::{Run, Stop};

/// How long is waited for what a case waits for, where it does not say.
const PATIENCE: Duration = Duration::from_secs(10);

/// Performs an operation.
pub(super) async fn perform(case: &Arc<Case>, operation: &Operation) -> Run {
    let mut arguments = Arguments::new(operation.arguments.clone());
    let args = &mut arguments;
    match operation.name.as_str() {
        "failPoint" => fail_point(case, args).await?,
        "createEntities" => {
            let entities: NonEmpty<Entity> = read(args, "entities")?;
            for entity in entities.iter() {
                case.create(entity).await?;
            }
        }
        "runOnThread" => {
            let thread = case
                .entities
                .thread(&args.text("thread").required("thread")?)?;
            thread.run(read(args, "operation")?)?;
        }
        "waitForThread" => {
            let thread = case
                .entities
                .thread(&args.text("thread").required("thread")?)?;
            thread.wait().await?;
        }
        "waitForEvent" => {
            let (client, event, count) = events(case, args)?;
            let how = (case.matcher(), PATIENCE);
            client.events.wait_for(&event, count, how).await?;
        }
        "assertEventCount" => {
            let (client, event, count) = events(case, args)?;
            let found = client.events.count(&event, case.matcher());
            ensure(found == count, || {
                format!("{:?} occurred {found} times, not {count}", event.name)
            })?;
        }
        "recordTopologyDescription" => {
            let topology = client(case, args)?.client.topology();
            let name = args.text("id").required("id")?;
            case.entities.add(&name, Held::Topology(topology))?;
        }
        "assertTopologyType" => {
            let name = args
                .text("topologyDescription")
                .required("topologyDescription")?;
            let expected = args.text("topologyType").required("topologyType")?;
            let actual = case.entities.topology(&name)?.topology_type;
            ensure(actual.as_str() == expected, || {
                format!("the topology is {actual}, not {expected}")
            })?;
        }
        "waitForPrimaryChange" => wait_for_primary(case, args).await?,
        "wait" => {
            let time = args.millis("ms").required("ms")?;
            tokio::time::sleep(time).await;
        }
        name if name.starts_with("assertSession") => assert_session(case, name, args)?,
        name => return assert_other(case, name, arguments).await,
    }
    arguments.finish()
}

async fn assert_other(case: &Arc<Case>, name: &str, mut arguments: Arguments) -> Run {
    let args = &mut arguments;
    match name {
        "assertNumberConnectionsCheckedOut" => {
            let client = client(case, args)?;
            let expected = args.number("connections").required("connections")?;
            let actual = client.events.checked_out();
            ensure(actual == expected, || {
                format!("{actual} connections are checked out, not {expected}")
            })?;
        }
        "assertSameLsidOnLastTwoCommands" => {
            let [first, second] = last_lsids(case, args)?;
            ensure(first == second, || {
                format!("lsids differ: {first}, {second}")
            })?;
        }
        "assertDifferentLsidOnLastTwoCommands" => {
            let [first, second] = last_lsids(case, args)?;
            ensure(first != second, || format!("lsids are the same: {first}"))?;
        }
        "assertCollectionExists" | "assertCollectionNotExists" => {
            let wanted = name == "assertCollectionExists";
            let (database, collection) = names(args)?;
            let internal = Internal::connect(&case.deployment)?;
            let exists = internal.has_collection(&database, &collection).await?;
            ensure(exists == wanted, || {
                format!("{database}.{collection} exists: {exists}, not {wanted}")
            })?;
        }
        "assertIndexExists" | "assertIndexNotExists" => {
            let wanted = name == "assertIndexExists";
            let (database, collection) = names(args)?;
            let index = args.text("indexName").required("indexName")?;
            let internal = Internal::connect(&case.deployment)?;
            let exists = internal.has_index((&database, &collection), &index).await?;
            ensure(exists == wanted, || {
                format!("the index {index} exists: {exists}, not {wanted}")
            })?;
        }
        other => return Err(Stop::fail(format!("there is no operation {other}"))),
    }
    arguments.finish()
}

/// Sets a fail point by way of the client, and keeps in mind on which server.
async fn fail_point(case: &Case, args: &mut Arguments) -> Run {
    let client = client(case, args)?;
    let command = args.document("failPoint").required("failPoint")?;
    let name = command.get_str("configureFailPoint");
    let name = name.map_err(|_| Stop::fail(format!("{command} sets no fail point")))?;
    let raw = raw(&command)?;
    let reply = client.client.database("admin").run_command(&raw).await;
    // Wherever it went to, it may have been set.
    if let Some(server) = client.events.fail_point_server() {
        case.remember_fail_point(server, name.to_owned());
    }
    reply.map_err(|error| Stop::fail(format!("the fail point cannot be set: {error}")))?;
    Ok(())
}

async fn wait_for_primary(case: &Case, args: &mut Arguments) -> Run {
    let client = client(case, args)?;
    let prior = args.text("priorTopologyDescription");
    let prior = case
        .entities
        .topology(&prior.required("priorTopologyDescription")?)?;
    let limit = args.millis("timeoutMS")?.unwrap_or(PATIENCE);
    let before = prior.primary().map(|server| server.address().clone());
    let mut changes = client.client.topology_changes();
    let changed = async {
        loop {
            let now = client.client.primary();
            if now.is_some() && now != before {
                return true;
            }
            if changes.next().await.is_none() {
                return false;
            }
        }
    };
    let changed = tokio::time::timeout(limit, changed).await.unwrap_or(false);
    ensure(changed, || {
        format!("there was no other primary in {limit:?}")
    })
}

fn assert_session(case: &Case, name: &str, args: &mut Arguments) -> Run {
    let session = case
        .entities
        .session(&args.text("session").required("session")?)?;
    let holds = match name {
        "assertSessionDirty" => session.is_dirty(),
        "assertSessionNotDirty" => !session.is_dirty(),
        // Without transactions no session is ever pinned, or in one.
        "assertSessionUnpinned" => true,
        "assertSessionTransactionState" => args.text("state").required("state")? == "none",
        other => return Err(Stop::fail(format!("there is no operation {other}"))),
    };
    ensure(holds, || "it does not hold".to_owned())
}

fn last_lsids(case: &Case, args: &mut Arguments) -> Run<[Bson; 2]> {
    let commands = client(case, args)?.events.last_two_commands();
    let commands = commands.ok_or_else(|| Stop::fail("there were no two commands"))?;
    let lsid = |command: &Document| command.get("lsid").cloned();
    match (lsid(&commands[0]), lsid(&commands[1])) {
        (Some(first), Some(second)) => Ok([first, second]),
        _ => Err(Stop::fail("a command has no lsid")),
    }
}

fn client(case: &Case, args: &mut Arguments) -> Run<Arc<CaseClient>> {
    case.entities
        .client(&args.text("client").required("client")?)
}

fn events(case: &Case, args: &mut Arguments) -> Run<(Arc<CaseClient>, ExpectedEvent, usize)> {
    let client = client(case, args)?;
    let event = read(args, "event")?;
    let count = args.number("count").required("count")?;
    let count = usize::try_from(count).map_err(|_| Stop::fail("count cannot be negative"))?;
    Ok((client, event, count))
}

fn names(args: &mut Arguments) -> Run<(String, String)> {
    let database = args.text("databaseName").required("databaseName")?;
    let collection = args.text("collectionName").required("collectionName")?;
    Ok((database, collection))
}

/// Reads an argument that is a part of the format itself.
fn read<T: DeserializeOwned>(args: &mut Arguments, key: &str) -> Run<T> {
    let value = args.value(key);
    let value = value.ok_or_else(|| Stop::fail(format!("the argument {key} is missing")))?;
    serde_json::from_value(value.into_relaxed_extjson())
        .map_err(|error| Stop::fail(format!("{key}: {error}")))
}

fn ensure(holds: bool, problem: impl FnOnce() -> String) -> Run {
    match holds {
        true => Ok(()),
        false => Err(Stop::fail(problem())),
    }
}
