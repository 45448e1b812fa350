//! A client that does something wrong turns cases red: one that drops an event, forgets a label, or
//! changes an order.

use std::sync::{Arc, Mutex, PoisonError};

use anyhow::{Context, Result, ensure};
use bson::rawdoc;
use mongo_client::Event;
use mongo_client::events::CommandStep;
use serde_json::json;
use spec_tests::unified::{
    Deployment, ExtraOptions, Outcome, TopologyKind, UnifiedFile, Wrapper, run_case,
};
use testbed::cluster::Standalone;

/// Drops the first event that a command succeeded.
#[derive(Debug, Default)]
struct Dropping(Mutex<bool>);

impl Wrapper for Dropping {
    fn event(&self, event: &Event, pass_on: &dyn Fn(&Event)) {
        let mut has_dropped = lock(&self.0);
        if is_success(event) && !*has_dropped {
            *has_dropped = true;
        } else {
            pass_on(event);
        }
    }
}

/// Tells of no label.
#[derive(Debug)]
struct Forgetting;

impl Wrapper for Forgetting {
    fn has_label(&self, _: &str, _: bool) -> bool {
        false
    }
}

/// Tells of a command's start after its success.
#[derive(Debug, Default)]
struct Swapping(Mutex<Option<Event>>);

impl Wrapper for Swapping {
    fn event(&self, event: &Event, pass_on: &dyn Fn(&Event)) {
        let mut held = lock(&self.0);
        match event {
            Event::Command(command) if matches!(command.step, CommandStep::Started { .. }) => {
                *held = Some(event.clone());
            }
            _ => {
                pass_on(event);
                if let Some(started) = held.take_if(|_| matches!(event, Event::Command(_))) {
                    pass_on(&started);
                }
            }
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn is_success(event: &Event) -> bool {
    matches!(event, Event::Command(command) if matches!(command.step, CommandStep::Succeeded { .. }))
}

/// Two cases: one that compares events, and one that compares labels.
fn file() -> Result<UnifiedFile> {
    let events = |name: &str| {
        json!([
            { "commandStartedEvent": { "commandName": name } },
            { "commandSucceededEvent": { "commandName": name } },
        ])
    };
    let fail_point = json!({
        "configureFailPoint": "failCommand",
        "mode": { "times": 1 },
        "data": { "failCommands": ["ping"], "errorCode": 2, "errorLabels": ["Special"] },
    });
    let ping = json!({ "commandName": "ping", "command": { "ping": 1 } });
    let json = json!({
        "description": "what a client has to tell",
        "schemaVersion": "1.27",
        "createEntities": [
            { "client": {
                "id": "client",
                "observeEvents": ["commandStartedEvent", "commandSucceededEvent"],
            } },
            { "database": { "id": "database", "client": "client", "databaseName": "test" } },
        ],
        "tests": [
            {
                "description": "events",
                "operations": [{ "name": "runCommand", "object": "database", "arguments": ping }],
                "expectEvents": [{ "client": "client", "events": events("ping") }],
            },
            {
                "description": "labels",
                "operations": [
                    {
                        "name": "failPoint",
                        "object": "testRunner",
                        "arguments": { "client": "client", "failPoint": fail_point },
                    },
                    {
                        "name": "runCommand",
                        "object": "database",
                        "arguments": ping,
                        "expectError": { "errorCode": 2, "errorLabelsContain": ["Special"] },
                    },
                ],
            },
        ],
    });
    Ok(UnifiedFile::parse(&json)?)
}

#[test]
fn a_broken_client_turns_cases_red() -> Result<()> {
    let server = Standalone::start()?;
    let reply = server
        .server()
        .run_command("admin", &rawdoc! { "buildInfo": 1 })?;
    let deployment = Deployment {
        uri: server.uri(),
        uri_single: None,
        uri_multiple: None,
        topology: TopologyKind::Single,
        server_version: reply.get_str("version")?.parse()?,
        auth: false,
        server_parameters: bson::Document::new(),
    };
    let file = file()?;
    let run = |case, wrapper: Option<Arc<dyn Wrapper>>| {
        let extra = ExtraOptions {
            wrapper,
            ..ExtraOptions::default()
        };
        run_case(&file, case, &deployment, &extra)
    };
    for (case, name) in file.case_names().iter().enumerate() {
        let outcome = run(case, None);
        ensure!(matches!(outcome, Outcome::Passed), "{name}: {outcome:?}");
    }
    let broken: [(usize, Arc<dyn Wrapper>, &str); 3] = [
        (0, Arc::new(Dropping::default()), "there are only 1"),
        (
            0,
            Arc::new(Swapping::default()),
            "event 0: expected CommandStartedEvent",
        ),
        (1, Arc::new(Forgetting), "the label Special is missing"),
    ];
    for (case, wrapper, complaint) in broken {
        let name = format!("{wrapper:?}");
        let Outcome::Failed(failure) = run(case, Some(wrapper)) else {
            anyhow::bail!("{name} was not seen");
        };
        let text = failure.to_string();
        ensure!(text.contains(complaint), "{name}: {text}");
        failure.events.first().context("no event log")?;
    }
    Ok(())
}
