//! A look at the deployment before a stream is started: what would go wrong, and what to do.

use std::fmt;
use std::time::Duration;

use bson::{RawDocument, Timestamp, rawdoc};
use mongo_change_stream::{
    FullDocumentBeforeChangeType, FullDocumentType, HistoryLost, Oversize, ResumeToken,
    StreamError, WatchTarget, codes,
};
use mongo_uri::ReadPreference;
use mongo_wire::CommandReply;

use super::Watch;
use crate::error::{Error, Result};

/// Oldest wire version that change streams as this crate uses them can rely on: 4.2.
const WIRE_VERSION_4_2: i32 = 8;
/// The server's code for a missing privilege.
const UNAUTHORIZED: i32 = 13;
/// The server's code for a stage that it does not know.
const UNKNOWN_STAGE: i32 = 40324;

/// What [`Watch::check`] has found, in the order in which things would go wrong.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct CheckReport {
    /// One finding for each thing that was looked at.
    pub findings: Vec<Finding>,
}

/// One thing that was looked at.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Finding {
    /// What was looked at.
    pub subject: Subject,
    /// How it is.
    pub verdict: Verdict,
    /// What was found and, unless that is good, what to do.
    pub text: String,
}

/// What [`Watch::check`] looks at.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Subject {
    /// Whether the deployment has change streams at all.
    Topology,
    /// Whether the server is new enough for what is asked for.
    Version,
    /// Whether the user may open this stream, and the server takes its pipeline and start.
    Opening,
    /// Whether the oplog reaches back to the start, and how far it reaches.
    Oplog,
    /// Whether the collection keeps the images that are asked for.
    Images,
}

/// How bad a [`Finding`] is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum Verdict {
    /// Nothing is in the way.
    Good,
    /// The stream would open; something may go wrong later, or could not be found out.
    Warning,
    /// The stream would not open.
    Failure,
}

impl CheckReport {
    /// The worst of the verdicts.
    #[must_use]
    pub fn verdict(&self) -> Verdict {
        let verdicts = self.findings.iter().map(|finding| finding.verdict);
        verdicts.max().unwrap_or(Verdict::Good)
    }

    fn add(&mut self, subject: Subject, verdict: Verdict, text: impl Into<String>) {
        self.findings.push(Finding {
            subject,
            verdict,
            text: text.into(),
        });
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let verdict = match self.verdict {
            Verdict::Good => "ok",
            Verdict::Warning => "warning",
            Verdict::Failure => "FAILURE",
        };
        write!(f, "{verdict}: {}", self.text)
    }
}

impl Watch {
    /// Looks at the deployment as this stream would find it, without starting it: topology,
    /// versions, privileges, the oplog against the start, images. Each failure says what to do.
    ///
    /// A cursor is opened and closed on the way.
    ///
    /// ```no_run
    /// # async fn f(orders: mongo_client::Collection) -> mongo_client::Result<()> {
    /// for finding in orders.watch().check().await?.findings {
    ///     println!("{finding}");
    /// }
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// Whatever prevents an answer: no server, a wrong password. What a server refuses is a finding.
    pub async fn check(&self) -> Result<CheckReport> {
        let mut report = CheckReport::default();
        let hello = match self.ask("admin", &rawdoc! { "hello": 1 }).await {
            Err(Error::Server { .. }) => self.ask("admin", &rawdoc! { "isMaster": 1 }).await?,
            hello => hello?,
        };
        let hello = hello.document().as_raw();
        let is_sharded = hello.get_str("msg").is_ok_and(|text| text == "isdbgrid");
        match hello.get_str("setName") {
            _ if is_sharded => report.add(Subject::Topology, Verdict::Good, "a sharded cluster"),
            Ok(name) => {
                let text = format!("the replica set {name}");
                report.add(Subject::Topology, Verdict::Good, text);
            }
            Err(_) => {
                report.add(
                    Subject::Topology,
                    Verdict::Failure,
                    "this is a standalone server, and change streams need a replica set or a \
                     sharded cluster: start mongod with --replSet and run rs.initiate() once",
                );
                return Ok(report);
            }
        }
        self.check_version(hello, &mut report).await?;
        self.check_opening(&mut report).await?;
        if !is_sharded {
            self.check_oplog(&mut report).await?;
        }
        self.check_images(&mut report).await?;
        Ok(report)
    }

    async fn ask(&self, database: &str, command: &RawDocument) -> Result<CommandReply> {
        let database = self.client.database(database);
        let inherited = || self.client.settings().read_preference.clone();
        let preference: ReadPreference = self
            .command
            .read_preference
            .clone()
            .unwrap_or_else(inherited);
        database
            .run_command(command)
            .read_preference(preference)
            .await
    }

    async fn check_version(&self, hello: &RawDocument, report: &mut CheckReport) -> Result<()> {
        let info = self.ask("admin", &rawdoc! { "buildInfo": 1 }).await?;
        let info = info.document().as_raw();
        let version = info.get_str("version").unwrap_or("unknown");
        let numbers: Vec<i32> = version
            .split(['.', '-'])
            .map_while(|number| number.parse().ok())
            .collect();
        let wire = hello.get_i32("maxWireVersion").unwrap_or(0);
        let options = &self.options;
        let wants_images = options.full_document_before_change.is_some()
            || matches!(
                options.full_document,
                Some(FullDocumentType::WhenAvailable | FullDocumentType::Required)
            );
        let splits = self.config.oversize != Oversize::Fail;
        let has = |since: &[i32]| numbers.as_slice() >= since;
        let can_split = has(&[7]) || (has(&[6, 0, 9]) && !has(&[6, 1]));
        for (is_missing, what, since) in [
            (wire < WIRE_VERSION_4_2, "this client", "4.2"),
            (wants_images && !has(&[6]), "pre- and post-images", "6.0"),
            (
                options.show_expanded_events.is_some() && !has(&[6]),
                "expanded events",
                "6.0",
            ),
            (
                splits && !can_split,
                "joining or leaving out large events",
                "6.0.9 or 7.0",
            ),
        ] {
            if is_missing {
                let text = format!(
                    "the server has version {version}, and {what} needs {since}: upgrade it, or do \
                     without"
                );
                report.add(Subject::Version, Verdict::Failure, text);
                return Ok(());
            }
        }
        report.add(
            Subject::Version,
            Verdict::Good,
            format!("server version {version}"),
        );
        Ok(())
    }

    /// Opens the stream as it is, and closes it.
    async fn check_opening(&self, report: &mut CheckReport) -> Result<()> {
        // Asked for nothing, a server would not look whether it has the start.
        let trial = self.clone().batch_size(1).prefetch(None);
        let trial = trial.history_lost(HistoryLost::Fail);
        let error = match trial.on_event(|_| ()).await {
            Ok(mut stream) => {
                stream.close().await;
                report.add(Subject::Opening, Verdict::Good, "the stream can be opened");
                return Ok(());
            }
            Err(Error::ChangeStream {
                error: error @ StreamError::Server { .. },
                ..
            }) => error,
            Err(Error::Checkpoint(error)) => {
                let text = format!("{error}: give the checkpoint of this stream, or none");
                report.add(Subject::Opening, Verdict::Failure, text);
                return Ok(());
            }
            Err(error) => return Err(error),
        };
        let what_to_do = match error.code() {
            Some(UNAUTHORIZED) => format!(
                "the user needs the privileges find and changeStream on {}, as the role read has",
                match &self.target {
                    WatchTarget::Cluster => "all databases".to_owned(),
                    target => target.to_string(),
                }
            ),
            Some(codes::NOT_A_REPLICA_SET) => "change streams need a replica set".to_owned(),
            Some(UNKNOWN_STAGE) => "the server is too old for a stage of the pipeline".to_owned(),
            _ if error.is_history_lost() => {
                "the oplog no longer reaches back to the start: start anew, or set the policy for \
                 lost history; a larger oplog (replSetResizeOplog) keeps it longer"
                    .to_owned()
            }
            _ => "the server does not take the pipeline, the options or the token".to_owned(),
        };
        let goes_on = self.config.history_lost != HistoryLost::Fail;
        let (subject, verdict) = match error.is_history_lost() {
            true if goes_on => (Subject::Oplog, Verdict::Warning),
            true => (Subject::Oplog, Verdict::Failure),
            false => (Subject::Opening, Verdict::Failure),
        };
        report.add(subject, verdict, format!("{what_to_do} ({error})"));
        Ok(())
    }

    async fn check_oplog(&self, report: &mut CheckReport) -> Result<()> {
        let mut ends = [None; 2];
        for (end, order) in ends.iter_mut().zip([1, -1]) {
            let command = rawdoc! {
                "find": "oplog.rs", "sort": { "$natural": order }, "limit": 1, "singleBatch": true,
                "projection": { "ts": 1 },
            };
            match self.ask("local", &command).await {
                Ok(reply) => *end = first_time(&reply),
                Err(Error::Server { .. }) => break,
                Err(error) => return Err(error),
            }
        }
        let [Some(first), Some(last)] = ends else {
            report.add(
                Subject::Oplog,
                Verdict::Warning,
                "how far the oplog reaches back is not known: the user may not read it (role read \
                 on the database local)",
            );
            return Ok(());
        };
        let between = |from: Timestamp, to: Timestamp| to.time.saturating_sub(from.time);
        let window = between(first, last);
        let checkpoint = self
            .checkpoint
            .as_ref()
            .map(|checkpoint| &checkpoint.point.token);
        let token = checkpoint.or_else(|| self.options.initial_token());
        let start = token.and_then(ResumeToken::cluster_time);
        let reach = format!("the oplog reaches back {}", human(window));
        let Some(start) = start.or(self.options.start_at_operation_time) else {
            report.add(Subject::Oplog, Verdict::Good, reach);
            return Ok(());
        };
        let age = between(start, last);
        let text = format!("{reach}, the start lies {} back", human(age));
        // A set that is younger than its oplog is large has forgotten nothing.
        let is_near_the_end = start >= first && u64::from(age) * 2 > u64::from(window) && age > 60;
        if is_near_the_end {
            let text = format!("{text}: start soon, or enlarge the oplog (replSetResizeOplog)");
            report.add(Subject::Oplog, Verdict::Warning, text);
        } else {
            report.add(Subject::Oplog, Verdict::Good, text);
        }
        Ok(())
    }

    async fn check_images(&self, report: &mut CheckReport) -> Result<()> {
        let options = &self.options;
        let is_required = options.full_document == Some(FullDocumentType::Required)
            || options.full_document_before_change == Some(FullDocumentBeforeChangeType::Required);
        let is_asked = is_required
            || options.full_document == Some(FullDocumentType::WhenAvailable)
            || options.full_document_before_change
                == Some(FullDocumentBeforeChangeType::WhenAvailable);
        if !is_asked {
            return Ok(());
        }
        let verdict = if is_required {
            Verdict::Failure
        } else {
            Verdict::Warning
        };
        let WatchTarget::Collection {
            database,
            collection,
        } = &self.target
        else {
            report.add(
                Subject::Images,
                Verdict::Warning,
                "whether every collection keeps images was not looked at",
            );
            return Ok(());
        };
        let command = rawdoc! { "listCollections": 1, "filter": { "name": collection.as_str() } };
        let is_kept = match self.ask(database, &command).await {
            Ok(reply) => keeps_images(&reply),
            Err(Error::Server { .. }) => {
                let text = "whether the collection keeps images is not known: the user may not \
                            list collections";
                report.add(Subject::Images, Verdict::Warning, text);
                return Ok(());
            }
            Err(error) => return Err(error),
        };
        if is_kept {
            report.add(
                Subject::Images,
                Verdict::Good,
                "the collection keeps images",
            );
        } else {
            let text = format!(
                "{database}.{collection} keeps no images: run collMod with \
                 changeStreamPreAndPostImages: {{ enabled: true }}"
            );
            report.add(Subject::Images, verdict, text);
        }
        Ok(())
    }
}

fn first_time(reply: &CommandReply) -> Option<Timestamp> {
    let cursor = reply.cursor().ok()?;
    let first = cursor.batch.iter().next()?.ok()?;
    first.get_timestamp("ts").ok()
}

fn keeps_images(reply: &CommandReply) -> bool {
    let enabled = || {
        let cursor = reply.cursor().ok()?;
        let collection = cursor.batch.iter().next()?.ok()?;
        let options = collection.get_document("options").ok()?;
        let images = options.get_document("changeStreamPreAndPostImages").ok()?;
        images.get_bool("enabled").ok()
    };
    enabled().unwrap_or(false)
}

fn human(seconds: u32) -> String {
    let time = Duration::from_secs(seconds.into());
    match seconds {
        0..7_200 => format!("{} min", time.as_secs() / 60),
        7_200..172_800 => format!("{} h", time.as_secs() / 3_600),
        _ => format!("{} days", time.as_secs() / 86_400),
    }
}
