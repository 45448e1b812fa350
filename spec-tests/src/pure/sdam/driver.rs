//! A topology with no network around it: tests put in the replies.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use mongo_topology::{
    Action, ApplicationError, CheckError, CheckId, ErrorPhase, HelloReply, Input,
    SYSTEM_OVERLOADED_ERROR, SdamEvent, ServerId, Topology, TopologyConfig,
};
use mongo_uri::{ConnectionString, ServerAddress};
use serde_json::Value;

use crate::json::{document, field, given, text};

/// Rounds of virtual time within which every server must be checked.
const MAX_ROUNDS: usize = 1_000;

pub(super) struct Driver {
    pub(super) topology: Topology,
    now: Instant,
    /// The newest check of each address, which stays here when it has ended.
    checks: BTreeMap<ServerAddress, (ServerId, CheckId)>,
    running: BTreeMap<ServerAddress, CheckId>,
    events: Vec<SdamEvent>,
}

impl Driver {
    pub(super) fn new(uri: &str) -> Result<Self> {
        let config = TopologyConfig::from(&ConnectionString::parse(uri)?);
        let now = Instant::now();
        let mut driver = Self {
            topology: Topology::new(config, 0, now),
            now,
            checks: BTreeMap::new(),
            running: BTreeMap::new(),
            events: Vec::new(),
        };
        driver.drain();
        Ok(driver)
    }

    /// Answers a check of `address`; an empty response is a network error.
    pub(super) fn respond(&mut self, address: &str, response: &Value) -> Result<()> {
        let address: ServerAddress = address.parse()?;
        self.run_until_checked(&address)?;
        let known = self.checks.get(&address);
        let (server, check) = known
            .cloned()
            .with_context(|| format!("{address} was never checked"))?;
        self.running.remove(&address);
        let failed = |server, error| Input::CheckFailed {
            server,
            check,
            error,
        };
        let input = if response.as_object().is_none_or(serde_json::Map::is_empty) {
            failed(server, CheckError::network("as the test says"))
        } else {
            match HelloReply::parse(&document(response)?) {
                Ok(reply) => Input::HelloReceived {
                    server,
                    check,
                    reply,
                    round_trip: Some(Duration::from_millis(1)),
                    more_to_come: false,
                },
                Err(error) => failed(server, error.into()),
            }
        };
        self.handle(input);
        Ok(())
    }

    /// Lets an application's connection meet an error.
    pub(super) fn fail(&mut self, error: &Value) -> Result<()> {
        let address: ServerAddress = text(error, "address")?.parse()?;
        let description = self.topology.description();
        let server = description.servers.get(&address).context("no server")?;
        let server = server.id().clone();
        let generation = match given(error, "generation") {
            Some(generation) => generation.as_u64().context("generation")?,
            None => self
                .topology
                .pool_generation(&server)
                .context("generation")?,
        };
        let established = match text(error, "when")? {
            "beforeHandshakeCompletes" => false,
            "afterHandshakeCompletes" => true,
            other => bail!("when: {other}"),
        };
        // A pool labels what may come from an overloaded server; the test files leave that to us.
        let label = |error: ApplicationError| match established {
            true => error,
            false => error.with_label(SYSTEM_OVERLOADED_ERROR),
        };
        let (is_command, failure) = match text(error, "type")? {
            "network" => (false, label(ApplicationError::network("network error"))),
            "timeout" => (false, label(ApplicationError::timeout("timeout"))),
            "command" => {
                let reply = document(field(error, "response")?)?;
                match ApplicationError::from_reply(&reply) {
                    Some(failure) => (true, failure),
                    // Nothing that discovery is told of.
                    None => return Ok(()),
                }
            }
            other => bail!("type: {other}"),
        };
        let phase = match (established, is_command) {
            (true, _) => ErrorPhase::Established,
            (false, true) => ErrorPhase::Authenticating,
            (false, false) => ErrorPhase::Connecting,
        };
        self.handle(Input::ApplicationError {
            server,
            generation,
            service_id: None,
            phase,
            error: failure,
        });
        Ok(())
    }

    pub(super) fn take_events(&mut self) -> Vec<SdamEvent> {
        std::mem::take(&mut self.events)
    }

    /// Moves time on until a check of `address` runs, if it is in the topology at all.
    fn run_until_checked(&mut self, address: &ServerAddress) -> Result<()> {
        for _ in 0..MAX_ROUNDS {
            let description = self.topology.description();
            if self.running.contains_key(address) || !description.servers.contains(address) {
                return Ok(());
            }
            self.now = self.topology.poll_timeout().context("nothing is due")?;
            self.topology.handle_timeout(self.now);
            self.drain();
        }
        bail!("{address} is not checked")
    }

    fn handle(&mut self, input: Input) {
        self.topology.handle(input, self.now);
        self.drain();
    }

    fn drain(&mut self) {
        while let Some(action) = self.topology.poll_action() {
            match action {
                Action::Check { server, id, .. } => {
                    self.running.insert(server.address.clone(), id);
                    self.checks.insert(server.address.clone(), (server, id));
                }
                Action::CancelCheck(server) | Action::CloseServer(server) => {
                    self.running.remove(&server.address);
                }
                Action::Publish(event) => self.events.push(event),
                _ => {}
            }
        }
    }
}
