//! A history of a deployment, the machine that lives through it, and what must hold all along.

mod ledger;
mod plan;
mod state;

use std::sync::Arc;
use std::time::{Duration, Instant};

use mongo_topology::{Action, CheckId, Input, Rng, ServerId, Topology, TopologyDescription};
use mongo_uri::ReadPreference;

use self::ledger::Ledger;
pub use self::plan::{Plan, Setting, Step};

/// One machine and its double, which gets the same inputs.
#[derive(Debug)]
pub struct Run {
    machine: Topology,
    double: Topology,
    ledger: Ledger,
    now: Instant,
    /// Every server instance there ever was, for news that come late.
    known: Vec<ServerId>,
    /// Every check there ever was.
    checks: Vec<(ServerId, CheckId)>,
    preferences: Vec<ReadPreference>,
    /// What was looked at last.
    seen: Option<Arc<TopologyDescription>>,
    /// How many descriptions were looked at.
    looks: usize,
}

impl Run {
    /// Starts both.
    #[must_use]
    pub fn start(setting: &Setting) -> Self {
        let now = Instant::now();
        let config = setting.config();
        let mut run = Self {
            machine: Topology::new(config.clone(), setting.rng_seed, now),
            double: Topology::new(config, setting.rng_seed, now),
            ledger: Ledger::default(),
            now,
            known: Vec::new(),
            checks: Vec::new(),
            preferences: setting.preferences(),
            seen: None,
            looks: 0,
        };
        run.settle();
        run
    }

    /// Takes a step and looks at everything.
    pub fn take(&mut self, step: &Step) {
        match step {
            Step::Wait { millis } => {
                self.now += Duration::from_millis(u64::from(*millis));
                self.timeout();
            }
            Step::WaitUntilDue => {
                if let Some(due) = self.machine.poll_timeout() {
                    self.now = self.now.max(due);
                    self.timeout();
                }
            }
            step => {
                if let Some(input) = step.input(&self.known, &self.checks) {
                    self.feed(&input);
                }
            }
        }
    }

    /// Ends both; a closed machine stays quiet.
    pub fn close(&mut self) {
        self.feed(&Input::Close);
        self.ledger.assert_closed(&self.machine.description());
        self.feed(&Input::CheckRequested);
        self.now += Duration::from_secs(3_600);
        self.timeout();
        self.ledger.assert_closed(&self.machine.description());
        assert_eq!(self.machine.poll_timeout(), None);
    }

    fn feed(&mut self, input: &Input) {
        self.machine.handle(input.clone(), self.now);
        self.double.handle(input.clone(), self.now);
        self.settle();
    }

    /// Timeouts that are early or come twice change nothing.
    fn timeout(&mut self) {
        let is_early = self.machine.poll_timeout().is_none_or(|due| due > self.now);
        let before = self.machine.description();
        self.machine.handle_timeout(self.now);
        self.double.handle_timeout(self.now);
        let count = self.settle();
        assert!(!is_early || (count == 0 && Arc::ptr_eq(&before, &self.machine.description())));

        self.machine.handle_timeout(self.now);
        assert_eq!(self.machine.poll_action(), None, "a repeated timeout");
        let due = self.machine.poll_timeout();
        assert!(due.is_none_or(|due| due > self.now), "what was due is done");
    }

    /// Drains the actions of both, which must be the same, and checks them and the state.
    fn settle(&mut self) -> usize {
        let mut count = 0;
        while let Some(action) = self.machine.poll_action() {
            assert_eq!(self.double.poll_action().as_ref(), Some(&action));
            self.remember(&action);
            self.ledger.enter(&action);
            count += 1;
        }
        assert_eq!(self.double.poll_action(), None);
        assert_eq!(self.double.poll_timeout(), self.machine.poll_timeout());
        let description = self.machine.description();
        let is_new = self
            .seen
            .as_ref()
            .is_none_or(|seen| !Arc::ptr_eq(seen, &description));
        if count > 0 || is_new {
            assert_eq!(self.double.description(), description);
            self.ledger.assert_balanced(&description);
        }
        if is_new {
            self.look_at(description);
        }
        count
    }

    /// Each description is tried with one of the preferences in turn: there are many descriptions.
    fn look_at(&mut self, description: Arc<TopologyDescription>) {
        self.looks += 1;
        state::check(&description);
        let preference = &self.preferences[self.looks % self.preferences.len()];
        let mut rng = Rng::from_seed(1);
        state::check_selection(&description, preference, &mut rng);
        self.seen = Some(description);
    }

    fn remember(&mut self, action: &Action) {
        match action {
            Action::OpenServer(server) => self.known.push(server.clone()),
            Action::Check { server, id, .. } => self.checks.push((server.clone(), *id)),
            _ => {}
        }
    }
}
