//! A case from its initial data to its outcome ("Executing a Test").

use std::sync::Arc;
use std::time::Duration;

use bson::Bson;
use tokio::runtime::Builder;
use tracing_subscriber::layer::SubscriberExt;

use super::case::Case;
use super::client::CaseClient;
use super::deployment::{Deployment, ExtraOptions};
use super::entities::Held;
use super::internal::Internal;
use super::logs::Logs;
use super::schema::{File, Operation, Test};
use super::spans::Spans;
use super::stop::{Problem, Run, Stop};
use super::{Failure, Outcome};

/// How long all operations of a case may take together.
const LIMIT: Duration = Duration::from_secs(60);

/// How long each thing may take that is cleared away after a case.
const CLEARING_LIMIT: Duration = Duration::from_secs(5);

/// Runs a case, in a runtime and with a collector of logs and spans of its own, so that cases that
/// run beside each other do not see each other's.
pub(super) fn case(file: &File, case: usize, around: (&Deployment, &ExtraOptions)) -> Outcome {
    let Some(test) = file.tests.get(case) else {
        return failed(Problem {
            message: format!("there is no case {case}"),
            diff: None,
        });
    };
    let runtime = match Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            let message = error.to_string();
            return failed(Problem {
                message,
                diff: None,
            });
        }
    };
    let (logs, spans) = (Logs::default(), Spans::default());
    let (deployment, extra) = around;
    let sets_fail_point = |operation: &Operation| operation.name == "failPoint";
    let uses_fail_points = test.operations.iter().any(sets_fail_point);
    let observed = (logs.clone(), spans.clone());
    let case = Case::new(deployment, extra, observed, uses_fail_points);
    let subscriber = tracing_subscriber::registry().with(logs).with(spans);
    tracing::subscriber::with_default(subscriber, || runtime.block_on(run(&case, file, test)))
}

fn failed(problem: Problem) -> Outcome {
    Outcome::Failed(Failure {
        message: problem.message,
        diff: problem.diff,
        events: Vec::new(),
    })
}

async fn run(case: &Arc<Case>, file: &File, test: &Test) -> Outcome {
    let internal = match Internal::connect(&case.deployment) {
        Ok(internal) => internal,
        Err(stop) => return outcome(stop, Vec::new()),
    };
    let performed = perform(case, file, (test, &internal)).await;
    // Servers must be as before for the next case, whatever came of this one.
    let cleared = disable_fail_points(case).await;
    let checked = match performed.and(cleared) {
        Ok(()) => check(case, test, &internal).await,
        stopped => stopped,
    };
    let lines = if checked.is_err() {
        lines(case)
    } else {
        Vec::new()
    };
    case.dismantle(CLEARING_LIMIT).await;
    let _ = tokio::time::timeout(CLEARING_LIMIT, internal.close()).await;
    match checked {
        Ok(()) => Outcome::Passed,
        Err(stop) => outcome(stop, lines),
    }
}

fn outcome(stop: Stop, events: Vec<String>) -> Outcome {
    match stop {
        Stop::Skip(reason) => Outcome::Skipped(reason),
        Stop::Fail(Problem { message, diff }) => Outcome::Failed(Failure {
            message,
            diff,
            events,
        }),
    }
}

async fn perform(case: &Arc<Case>, file: &File, (test, internal): (&Test, &Internal)) -> Run {
    for data in file.initial_data.iter().flat_map(|all| all.iter()) {
        internal.fill(data).await?;
    }
    for entity in file.create_entities.iter().flat_map(|all| all.iter()) {
        case.create(entity).await?;
    }
    let operations = async {
        for (index, operation) in test.operations.iter().enumerate() {
            let performed = case.operation(operation).await;
            performed.map_err(|stop| stop.at(format!("operation {index}")))?;
        }
        Ok(())
    };
    match tokio::time::timeout(LIMIT, operations).await {
        Ok(performed) => performed,
        Err(_) => Err(Stop::fail(format!(
            "the operations are not done after {LIMIT:?}"
        ))),
    }
}

async fn disable_fail_points(case: &Case) -> Run {
    let mut result = Ok(());
    for (server, name) in case.take_fail_points() {
        let disabled = Internal::disable(&case.deployment, &server, &name).await;
        result = result.and(disabled);
    }
    result
}

async fn check(case: &Case, test: &Test, internal: &Internal) -> Run {
    for expected in test.expect_events.iter().flat_map(|all| all.iter()) {
        let client = case.entities.client(&expected.client)?;
        let checked = client.events.check(expected, case.matcher()).await;
        checked.map_err(|stop| stop.at(&expected.client))?;
    }
    for expected in test.expect_log_messages.iter().flat_map(|all| all.iter()) {
        let client = case.entities.client(&expected.client)?;
        let levels = client.log_levels.as_ref();
        let levels = levels.ok_or_else(|| {
            Stop::fail(format!("the logs of {} are not observed", expected.client))
        })?;
        let whose = (&client.logs, levels);
        let checked = case.logs.check(expected, whose, case.matcher()).await;
        checked.map_err(|stop| stop.at(&expected.client))?;
    }
    for expected in test
        .expect_tracing_messages
        .iter()
        .flat_map(|all| all.iter())
    {
        let client = case.entities.client(&expected.client)?;
        if !client.is_traced {
            let message = format!("the spans of {} are not observed", expected.client);
            return Err(Stop::fail(message));
        }
        let topology = client.logs.topology;
        let checked = case.spans.check(expected, topology, case.matcher()).await;
        checked.map_err(|stop| stop.at(&expected.client))?;
    }
    for data in test.outcome.iter().flat_map(|all| all.iter()) {
        internal.check(data).await?;
    }
    store_events(case)
}

/// Makes entities of the events that clients were asked to store.
fn store_events(case: &Case) -> Run {
    for client in clients(case) {
        for (name, events) in &client.stored_events {
            let stored = Bson::from(client.events.stored(events));
            case.entities.add(name, Held::Value(stored))?;
        }
    }
    Ok(())
}

fn clients(case: &Case) -> Vec<Arc<CaseClient>> {
    let all = case.entities.all().into_iter();
    let client = |(_, held)| match held {
        Held::Client(client) => Some(client),
        _ => None,
    };
    all.filter_map(client).collect()
}

/// What all clients have published, logged and traced.
fn lines(case: &Case) -> Vec<String> {
    let mut lines = Vec::new();
    for (name, held) in case.entities.all() {
        if let Held::Client(client) = held {
            lines.extend(
                client
                    .events
                    .lines()
                    .into_iter()
                    .map(|line| format!("{name}: {line}")),
            );
        }
    }
    lines.extend(
        case.logs
            .lines()
            .into_iter()
            .map(|line| format!("log: {line}")),
    );
    let spans = case.spans.lines().into_iter();
    lines.extend(spans.map(|line| format!("span: {line}")));
    lines
}
