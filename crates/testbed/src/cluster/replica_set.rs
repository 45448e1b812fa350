//! A replica set of real servers on this machine.

use std::path::Path;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Result, anyhow, bail, ensure};
use bson::raw::CStr;
use bson::{RawArrayBuf, RawDocumentBuf, cstr, rawdoc};

use super::member::Member;
use crate::connection::{Hello, POLL_PACE};
use crate::home::Home;
use crate::mongod::{Binary, MongodOptions, ServerVersion};

/// How long an election or an initial sync may take. Both take seconds on an idle machine.
const ELECTION_DEADLINE: Duration = Duration::from_secs(60);

/// How long a server may take to answer a question about the set, before another one is asked.
const ASK_TIMEOUT: Duration = Duration::from_secs(1);

/// How long a server is asked to wait for a change; less than [`ASK_TIMEOUT`].
const MAX_AWAIT: Duration = Duration::from_millis(500);

/// How long a member waits for the answer to a heartbeat. A new primary waits as long for those it
/// cannot reach, before it takes writes; the server's default of 10 s is too long for tests.
const HEARTBEAT_TIMEOUT: Duration = Duration::from_secs(2);

/// One member of a replica set to be.
#[derive(Debug, Clone)]
pub struct MemberOptions {
    /// Its priority in elections; 0 for one that never becomes primary.
    pub priority: f64,
    /// Whether it votes but has no data.
    pub arbiter: bool,
    /// Whether it is hidden from clients; its priority must be 0.
    pub hidden: bool,
    /// Its tags, for read preferences.
    pub tags: Vec<(String, String)>,
}

impl Default for MemberOptions {
    /// A data-bearing member of priority 1 without tags.
    fn default() -> Self {
        Self {
            priority: 1.0,
            arbiter: false,
            hidden: false,
            tags: Vec::new(),
        }
    }
}

impl MemberOptions {
    /// An arbiter.
    #[must_use]
    pub fn arbiter() -> Self {
        Self {
            priority: 0.0,
            arbiter: true,
            ..Self::default()
        }
    }
}

/// How to start a [`ReplicaSet`].
#[derive(Debug, Clone)]
pub struct ReplicaSetOptions {
    /// The members, 1 to 7.
    pub members: Vec<MemberOptions>,
    /// The set's name.
    pub name: String,
    /// The server to run.
    pub version: ServerVersion,
    /// How long the members do without a primary before they elect one.
    pub election_timeout: Duration,
    /// How often the members ask each other for their state.
    pub heartbeat_interval: Duration,
    /// Whether a [`Proxy`](crate::proxy::Proxy) stands before each member, which both clients and
    /// the other members go through ([`Member::proxy`]).
    pub proxied: bool,
    /// The options of every member; its `port` and `replica_set` are not used.
    pub mongod: MongodOptions,
}

impl ReplicaSetOptions {
    /// `count` like members named `rs0`, which elect a primary after a second without one.
    #[must_use]
    pub fn new(count: usize) -> Self {
        Self {
            members: vec![MemberOptions::default(); count],
            name: "rs0".to_owned(),
            version: ServerVersion::Default,
            election_timeout: Duration::from_secs(1),
            heartbeat_interval: Duration::from_millis(200),
            proxied: false,
            mongod: MongodOptions::default(),
        }
    }

    /// Starts the servers, makes a replica set of them, and waits until it has a primary and
    /// every other member follows it.
    ///
    /// # Errors
    ///
    /// When there is no mongod, one does not start, the set is refused, or it does not get ready
    /// within a minute.
    pub fn start(self) -> Result<ReplicaSet> {
        ensure!(
            (1..=7).contains(&self.members.len()),
            "a replica set here has 1 to 7 members"
        );
        let binary = Arc::new(Binary::locate(self.version)?);
        let home = Arc::new(Home::new()?);
        let mut mongod = self.mongod.clone();
        mongod.port = None;
        mongod.replica_set = Some(self.name.clone());
        let start = |index| {
            let (binary, home) = (Arc::clone(&binary), Arc::clone(&home));
            let member = Member::start(index, binary, home, mongod.clone())?;
            if self.proxied {
                member.behind_proxy()
            } else {
                Ok(member)
            }
        };
        let members = thread::scope(|scope| {
            let starting: Vec<_> = (0..self.members.len())
                .map(|index| scope.spawn(move || start(index)))
                .collect();
            let join = |started: thread::ScopedJoinHandle<'_, Result<Member>>| {
                started
                    .join()
                    .unwrap_or_else(|_| Err(anyhow!("the thread that starts it panicked")))
            };
            starting.into_iter().map(join).collect::<Result<Vec<_>>>()
        })?;
        let set = ReplicaSet {
            name: self.name.clone(),
            members,
        };
        self.initiate(&set)?;
        Ok(set)
    }

    /// Makes the running servers a set and the one with the highest priority its primary, so that
    /// none takes over from it later.
    fn initiate(&self, set: &ReplicaSet) -> Result<()> {
        let mut first = 0;
        for (index, member) in self.members.iter().enumerate() {
            if member.priority > self.members[first].priority {
                first = index;
            }
        }
        let first = set.member(first);
        let command = rawdoc! { "replSetInitiate": self.config(&set.members)? };
        first.run_command("admin", &command)?;
        set.wait_for_all("is not in the set", |hello| hello.in_set)?;
        // This spares the wait for an election timeout. The server may refuse, when it is primary
        // already or not ready, and then the set elects one by itself.
        let _ = first.run_command("admin", &rawdoc! { "replSetStepUp": 1 });
        set.wait_for_primary()?;
        set.wait_for_secondaries()
    }

    fn config(&self, running: &[Member]) -> Result<RawDocumentBuf> {
        let mut members = RawArrayBuf::new();
        for (options, member) in self.members.iter().zip(running) {
            let mut tags = RawDocumentBuf::new();
            for (name, value) in &options.tags {
                tags.append(<&CStr>::try_from(name.as_str())?, value.as_str());
            }
            members.push(rawdoc! {
                "_id": i32::try_from(member.index())?,
                "host": member.address(),
                "priority": options.priority,
                "arbiterOnly": options.arbiter,
                "hidden": options.hidden,
                "tags": tags,
            });
        }
        let mut config = rawdoc! { "_id": self.name.as_str(), "version": 1, "members": members };
        config.append(
            cstr!("settings"),
            rawdoc! {
                "heartbeatTimeoutSecs": HEARTBEAT_TIMEOUT.as_secs_f64(),
                "electionTimeoutMillis": i64::try_from(self.election_timeout.as_millis())?,
                "heartbeatIntervalMillis": i64::try_from(self.heartbeat_interval.as_millis())?,
            },
        );
        Ok(config)
    }
}

/// A replica set of real servers, which ends with its processes and its data when it is dropped.
#[derive(Debug)]
pub struct ReplicaSet {
    name: String,
    members: Vec<Member>,
}

impl ReplicaSet {
    /// Starts `count` members of the default server; see [`ReplicaSetOptions::start`].
    ///
    /// # Errors
    ///
    /// As [`ReplicaSetOptions::start`].
    pub fn start(count: usize) -> Result<Self> {
        ReplicaSetOptions::new(count).start()
    }

    /// The set's name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The folder of its data, which goes with it.
    #[must_use]
    pub fn folder(&self) -> &Path {
        self.members[0].home()
    }

    /// The members, running or not, in the order of their options.
    #[must_use]
    pub fn members(&self) -> &[Member] {
        &self.members
    }

    /// The member with an index, from 0.
    ///
    /// # Panics
    ///
    /// When there is no such member.
    #[must_use]
    pub fn member(&self, index: usize) -> &Member {
        &self.members[index]
    }

    /// The addresses of the members, `host:port`.
    #[must_use]
    pub fn addresses(&self) -> Vec<String> {
        self.members
            .iter()
            .map(|member| member.address().to_owned())
            .collect()
    }

    /// The connection string, which names every member and the set.
    #[must_use]
    pub fn uri(&self) -> String {
        format!(
            "mongodb://{}/?replicaSet={}",
            self.addresses().join(","),
            self.name
        )
    }

    /// Returns the primary, waiting for an election that is going on.
    ///
    /// # Errors
    ///
    /// When there is no primary within a minute.
    pub fn primary(&self) -> Result<&Member> {
        self.wait_for_primary()
    }

    /// Returns the secondaries that run.
    ///
    /// # Errors
    ///
    /// When there is no primary within a minute.
    pub fn secondaries(&self) -> Result<Vec<&Member>> {
        let primary = self.wait_for_primary()?.index();
        let is_secondary = |member: &&Member| {
            member.index() != primary
                && member.is_running()
                && observe(member, |_| true).is_ok_and(|hello| hello.is_secondary)
        };
        Ok(self.members.iter().filter(is_secondary).collect())
    }

    /// Waits until a member is primary, and returns it.
    ///
    /// # Errors
    ///
    /// When there is none within a minute.
    pub fn wait_for_primary(&self) -> Result<&Member> {
        self.find_primary(None)
    }

    /// Waits until a member other than `old` is primary, and returns it.
    ///
    /// # Errors
    ///
    /// When there is none within a minute.
    pub fn wait_for_new_primary(&self, old: &Member) -> Result<&Member> {
        self.find_primary(Some(old.index()))
    }

    /// Waits until every member that runs is primary, secondary or arbiter; a paused one runs.
    ///
    /// # Errors
    ///
    /// When one is not within a minute.
    pub fn wait_for_secondaries(&self) -> Result<()> {
        self.wait_for_all("does not follow the primary", |hello| {
            hello.is_primary || hello.is_secondary || hello.is_arbiter
        })
    }

    fn wait_for_all(&self, complaint: &str, wanted: impl Fn(&Hello) -> bool) -> Result<()> {
        let deadline = Instant::now() + ELECTION_DEADLINE;
        for member in self.members.iter().filter(|member| member.is_running()) {
            while !observe(member, &wanted).is_ok_and(|hello| wanted(&hello)) {
                ensure!(
                    Instant::now() < deadline,
                    "{} {complaint}: {}",
                    member.address(),
                    self.describe()
                );
            }
        }
        Ok(())
    }

    /// Makes the primary step down for `period`, during which it cannot be elected again, and
    /// waits for another primary, which it returns; the only member of a set returns itself, once
    /// it is primary again.
    ///
    /// # Errors
    ///
    /// When it refuses, as one does that has no secondary that is up to date, or when no other
    /// primary is elected within a minute.
    pub fn step_down(&self, period: Duration) -> Result<&Member> {
        let old = self.wait_for_primary()?;
        let seconds = i64::try_from(period.as_secs())?;
        let alone = self.members.len() == 1;
        let command = rawdoc! {
            "replSetStepDown": seconds,
            "secondaryCatchUpPeriodSecs": if alone { 0 } else { (seconds - 1).clamp(0, 10) },
            "force": alone,
        };
        old.run_command("admin", &command)?;
        if alone {
            self.wait_for_primary()
        } else {
            self.wait_for_new_primary(old)
        }
    }

    /// Follows what the members say about the primary until one says so of itself.
    fn find_primary(&self, except: Option<usize>) -> Result<&Member> {
        let allowed = |member: &&Member| member.is_running() && Some(member.index()) != except;
        let deadline = Instant::now() + ELECTION_DEADLINE;
        while self.members.iter().any(|member| allowed(&member)) && Instant::now() < deadline {
            for member in self.members.iter().filter(allowed) {
                let named = |hello: &Hello| {
                    let named = hello
                        .primary
                        .as_deref()
                        .and_then(|name| self.by_address(name));
                    named.filter(allowed)
                };
                // A member that cannot answer now may do so later, and another may know more.
                match observe(member, |hello| hello.is_primary || named(hello).is_some()) {
                    Ok(hello) if hello.is_primary => return Ok(member),
                    Ok(hello) => match named(&hello) {
                        Some(named) if observe(named, |_| true).is_ok_and(|h| h.is_primary) => {
                            return Ok(named);
                        }
                        _ => {}
                    },
                    Err(_) => thread::sleep(POLL_PACE),
                }
            }
        }
        bail!("no primary in {}: {}", self.uri(), self.describe())
    }

    fn by_address(&self, address: &str) -> Option<&Member> {
        self.members
            .iter()
            .find(|member| member.address() == address)
    }

    /// What each member says about itself, for error messages.
    fn describe(&self) -> String {
        let line = |member: &Member| {
            let state = match observe(member, |_| true) {
                _ if !member.is_running() => "down".to_owned(),
                Ok(hello) => format!("{hello:?}"),
                Err(error) => format!("{error:#}"),
            };
            format!("\n  {}: {state}", member.address())
        };
        self.members.iter().map(line).collect()
    }
}

/// Asks a member about itself; when `wanted` does not accept the answer, waits a while for it to
/// change. Returns the latest answer, accepted or not.
fn observe(member: &Member, wanted: impl Fn(&Hello) -> bool) -> Result<Hello> {
    let mut connection = member.connect(ASK_TIMEOUT)?;
    let hello = Hello::ask(&mut connection)?;
    if wanted(&hello) {
        Ok(hello)
    } else {
        hello.await_change(&mut connection, MAX_AWAIT)
    }
}
