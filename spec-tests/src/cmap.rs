//! The tests of connection pools (Connection Monitoring and Pooling, `cmap-format`).
//!
//! A case makes one pool and does things to it from several threads, which are tasks here, and
//! compares the events. The pool is the one of a client, without the client around it
//! ([`mongo_client::testing`]). Cases of style `unit` open their connections to a scripted server,
//! those of style `integration` to a real one, with a fail point.

mod events;
mod threads;

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use bson::rawdoc;
use mongo_client::testing::LonePool;
use mongo_client::uri::ConnectionString;
use serde_json::Value;
use testbed::cluster::Standalone;
use testbed::mongod::Version;
use testbed::scripted::{HelloScript, ScriptedServer};

use self::events::Recorder;
use self::threads::Threads;
use crate::case::Case;
use crate::dir::SpecDir;
use crate::json::{document, field, given, text};

/// The suite's name.
pub const SUITE: &str = "cmap/cmap-format";

/// PyMongo's copy of this case expects the connection to be closed before the pool is cleared; the
/// specification has turned the two round since.
const REORDERED: &str = "pool-create-min-size-error";

/// Options of the pool that are options of a connection string by the same name.
const URI_OPTIONS: [&str; 6] = [
    "maxPoolSize",
    "minPoolSize",
    "maxIdleTimeMS",
    "maxConnecting",
    "waitQueueTimeoutMS",
    "appName",
];

/// The real server, started for the first case that wants it. It has one fail point of a kind, so
/// cases take turns.
static SERVER: Mutex<Option<Standalone>> = Mutex::new(None);

/// Loads the cases; a file is a case.
///
/// # Errors
/// When a file cannot be read.
pub fn cases(dir: &SpecDir, suite: &'static str) -> Result<Vec<Case>> {
    let mut cases = Vec::new();
    for file in dir.files(suite)? {
        let json = file.json()?;
        let name = file.name.clone();
        let description = text(&json, "description")?.to_owned();
        cases.push(Case::new(suite, &file, description, move || {
            run(&name, &json)
        }));
    }
    Ok(cases)
}

/// Ends the real server, which a static would keep beyond the end of the program.
pub fn stop_server() {
    *SERVER.lock().unwrap_or_else(PoisonError::into_inner) = None;
}

fn run(name: &str, test: &Value) -> Result<()> {
    match text(test, "style")? {
        "unit" => {
            let server = ScriptedServer::start(|_| HelloScript::standalone())?;
            run_against(name, test, &server.address())
        }
        "integration" => {
            let mut turn = SERVER.lock().unwrap_or_else(PoisonError::into_inner);
            if turn.is_none() {
                *turn = Some(Standalone::start()?);
            }
            let server = turn.as_ref().context("it was started")?;
            check_requirements(test, server)?;
            let Some(fail_point) = given(test, "failPoint") else {
                return run_against(name, test, server.address());
            };
            server
                .server()
                .run_command("admin", &document(fail_point)?)?;
            let result = run_against(name, test, server.address());
            let point = text(fail_point, "configureFailPoint")?;
            let off = rawdoc! { "configureFailPoint": point, "mode": "off" };
            server.server().run_command("admin", &off)?;
            result
        }
        other => bail!("unknown style {other}"),
    }
}

/// A server that does not suit fails the case: it proves nothing.
fn check_requirements(test: &Value, server: &Standalone) -> Result<()> {
    let Some(requirements) = given(test, "runOn").and_then(Value::as_array) else {
        return Ok(());
    };
    let actual = server.server().version();
    for requirement in requirements {
        let bound = |key| -> Result<Option<Version>> {
            let bound = given(requirement, key).and_then(Value::as_str);
            bound.map(str::parse).transpose()
        };
        let (least, most) = (bound("minServerVersion")?, bound("maxServerVersion")?);
        if least.is_none_or(|least| actual >= least) && most.is_none_or(|most| actual <= most) {
            return Ok(());
        }
    }
    bail!("the server is {actual}, the case needs {requirements:?}")
}

fn run_against(name: &str, test: &Value, address: &str) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()?;
    let result = runtime.block_on(perform(name, test, address));
    runtime.shutdown_timeout(Duration::from_secs(5));
    result
}

async fn perform(name: &str, test: &Value, address: &str) -> Result<()> {
    let recorder = Recorder::default();
    let options = given(test, "poolOptions");
    let uri: ConnectionString = uri(address, options)?.parse()?;
    // Nothing runs at an interval in this pool; but it waits before it tries again to open
    // connections ahead of need. As the format says, a negative value is ignored then.
    let interval = options.and_then(|options| options.get("backgroundThreadIntervalMS")?.as_u64());
    let pause = interval.map(Duration::from_millis);
    let pool = LonePool::new(&uri, pause, recorder.listener())?;
    let mut threads = Threads::new(pool, recorder.clone());

    let mut result = Ok(());
    for operation in field(test, "operations")?
        .as_array()
        .context("operations is no array")?
    {
        result = threads.perform(operation).await;
        if result.is_err() {
            break;
        }
    }
    check_error(given(test, "error"), result)?;

    let mut expected = field(test, "events")?
        .as_array()
        .context("events is no array")?
        .clone();
    if name == REORDERED {
        // The sort is stable, and nothing else comes behind the two.
        expected.sort_by_key(|event| event["type"] == "ConnectionClosed");
    }
    let ignored = given(test, "ignore").and_then(Value::as_array);
    recorder
        .check(&expected, ignored.map_or(&[], Vec::as_slice))
        .await
}

fn uri(address: &str, options: Option<&Value>) -> Result<String> {
    let mut uri = format!("mongodb://{address}/?directConnection=true");
    for (name, value) in options.and_then(Value::as_object).into_iter().flatten() {
        if name == "backgroundThreadIntervalMS" {
            continue;
        }
        ensure!(
            URI_OPTIONS.contains(&name.as_str()),
            "unknown option {name}"
        );
        let value = value
            .as_str()
            .map_or_else(|| value.to_string(), str::to_owned);
        uri.push_str(&format!("&{name}={value}"));
    }
    Ok(uri)
}

/// The main thread's outcome; of a message the case and what is around it may differ.
fn check_error(expected: Option<&Value>, result: Result<()>) -> Result<()> {
    let Some(expected) = expected else {
        return result;
    };
    let Err(error) = result else {
        bail!("expected {expected}, but there was no error");
    };
    let Some(actual) = error.downcast_ref::<mongo_client::Error>() else {
        return Err(error);
    };
    let kind = match actual {
        mongo_client::Error::PoolClosed { .. } => "PoolClosedError",
        mongo_client::Error::PoolCleared { .. } => "PoolClearedError",
        mongo_client::Error::WaitQueueTimeout { .. } => "WaitQueueTimeoutError",
        _ => "another error",
    };
    ensure!(
        text(expected, "type")? == kind,
        "expected {expected}, got {actual}"
    );
    let message = text(expected, "message")?.to_lowercase();
    ensure!(
        actual.to_string().to_lowercase().contains(&message),
        "expected {expected}, got {actual}"
    );
    Ok(())
}
