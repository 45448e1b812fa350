//! A running case: what its operations work with, and how one is performed.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bson::{Bson, Document};
use mongo_client::uri::ServerAddress;
use mongo_client::{ChangeStream, Cursor, SessionOptions};
use tokio::sync::Mutex as AsyncMutex;

use super::arguments::Arguments;
use super::client::{CaseClient, Surroundings};
use super::deployment::{Deployment, ExtraOptions};
use super::entities::{Entities, Held, Iterable, Target};
use super::errors::{Op, OpError};
use super::logs::Logs;
use super::matching::Matcher;
use super::schema::{ClientEntity, Entity, Expected, Operation, SessionEntity};
use super::spans::Spans;
use super::stop::{Run, Stop};
use super::threads::Thread;
use super::{helpers, runner};

/// The area whose entities are refused.
const ENCRYPTION: &str = "client-side encryption";

/// What a running case has.
#[derive(Debug)]
pub(super) struct Case {
    pub(super) deployment: Deployment,
    pub(super) extra: ExtraOptions,
    pub(super) entities: Entities,
    pub(super) logs: Logs,
    pub(super) spans: Spans,
    pub(super) uses_fail_points: bool,
    /// The fail points that were set, and where.
    fail_points: Mutex<Vec<(ServerAddress, String)>>,
}

/// What an operation yields.
#[derive(Debug)]
pub(super) enum Yield {
    Nothing,
    Value(Bson),
    /// The documents of an iterable; each is compared as a root.
    Documents(Vec<Bson>),
    Cursor(Box<Cursor>),
    Stream(ChangeStream<Document>),
    Target(Box<Target>),
}

impl Case {
    pub(super) fn new(
        deployment: &Deployment,
        extra: &ExtraOptions,
        (logs, spans): (Logs, Spans),
        uses_fail_points: bool,
    ) -> Arc<Self> {
        Arc::new(Self {
            deployment: deployment.clone(),
            extra: extra.clone(),
            entities: Entities::default(),
            logs,
            spans,
            uses_fail_points,
            fail_points: Mutex::default(),
        })
    }

    pub(super) fn matcher(&self) -> Matcher<'_> {
        Matcher::new(&self.entities)
    }

    pub(super) fn remember_fail_point(&self, server: ServerAddress, name: String) {
        self.fail_points().push((server, name));
    }

    pub(super) fn take_fail_points(&self) -> Vec<(ServerAddress, String)> {
        std::mem::take(&mut *self.fail_points())
    }

    fn fail_points(&self) -> MutexGuard<'_, Vec<(ServerAddress, String)>> {
        self.fail_points
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    /// Performs an operation, and compares what comes of it.
    pub(super) async fn operation(self: &Arc<Self>, operation: &Operation) -> Run {
        let result = if operation.object == "testRunner" {
            runner::perform(self, operation).await
        } else {
            self.entity_operation(operation).await
        };
        result.map_err(|stop| stop.at(format!("{}.{}", operation.object, operation.name)))
    }

    /// Performs an operation on an entity, and compares what comes of it.
    pub(super) async fn entity_operation(&self, operation: &Operation) -> Run {
        let result = self.perform(operation).await;
        match (&operation.expected, result) {
            (_, Err(OpError::Stop(stop))) => Err(stop),
            (Expected::Anything, _) => Ok(()),
            (Expected::Error(expected), Err(error)) => {
                error.check(expected, (self.matcher(), self.extra.wrapper.as_deref()))
            }
            (Expected::Error(_), Ok(result)) => {
                Err(Stop::fail(format!("an error was expected, not {result:?}")))
            }
            (Expected::Result(_), Err(error)) => Err(error.unexpected()),
            (Expected::Result(expected), Ok(result)) => {
                if let Some(expected) = expected {
                    self.check_result(expected, &result)?;
                }
                match &operation.save_as {
                    Some(name) => self.save(name, result),
                    None => Ok(()),
                }
            }
        }
    }

    fn check_result(&self, expected: &Bson, result: &Yield) -> Run {
        let matcher = self.matcher();
        let (checked, actual) = match result {
            Yield::Nothing => (matcher.root(expected, None), None),
            Yield::Value(value) => (matcher.root(expected, Some(value)), Some(value.clone())),
            Yield::Documents(documents) => (
                matcher.roots(expected, documents),
                Some(documents.clone().into()),
            ),
            Yield::Cursor(_) | Yield::Stream(_) | Yield::Target(_) => {
                return Err(Stop::fail("the result is nothing to compare"));
            }
        };
        checked.map_err(|mismatch| Stop::differs("result", &mismatch, (expected, actual.as_ref())))
    }

    fn save(&self, name: &str, result: Yield) -> Run {
        let iterable = |iterable| Held::Iterable(Arc::new(AsyncMutex::new(iterable)));
        let held = match result {
            Yield::Nothing => return Err(Stop::fail("there is no result to save")),
            Yield::Value(value) => Held::Value(value),
            Yield::Documents(documents) => Held::Value(documents.into()),
            Yield::Cursor(cursor) => iterable(Iterable::Cursor(cursor)),
            Yield::Stream(stream) => iterable(Iterable::Stream(stream)),
            Yield::Target(target) => Held::Target(*target),
        };
        self.entities.add(name, held)
    }

    async fn perform(&self, operation: &Operation) -> Op<Yield> {
        let held = self.entities.get(&operation.object)?;
        let arguments = Arguments::new(operation.arguments.clone());
        let name = operation.name.as_str();
        match held {
            Held::Client(client) => {
                helpers::client(name, client, (arguments, &self.entities)).await
            }
            Held::Target(target) => {
                let given = helpers::Common::take(arguments, &self.entities)?;
                match target.collection {
                    None => helpers::database(name, target, given).await,
                    Some(_) => helpers::collection(name, target, given).await,
                }
            }
            Held::Bucket(bucket) => {
                let given = helpers::Common::take(arguments, &self.entities)?;
                helpers::bucket(name, &bucket, given).await
            }
            Held::Session(session) => helpers::session(name, &session, arguments),
            Held::Iterable(iterable) => {
                let mut iterable = iterable.lock().await;
                helpers::iterable(name, &mut iterable, arguments).await
            }
            Held::Thread(_) | Held::Topology(_) | Held::Value(_) => {
                Err(unsupported(name, &operation.object).into())
            }
        }
    }

    /// Makes an entity.
    pub(super) async fn create(self: &Arc<Self>, entity: &Entity) -> Run {
        match entity {
            Entity::Client(entity) => self.create_client(entity).await,
            Entity::Database(entity) => {
                let client = self.entities.client(&entity.client)?;
                let target = Target::database(client, &entity.database_name);
                let target = target.with(&entity.options)?;
                self.entities.add(&entity.id, Held::Target(target))
            }
            Entity::Collection(entity) => {
                let mut target = self.entities.database(&entity.database)?;
                target.collection = Some(entity.collection_name.clone());
                let target = target.with(&entity.options)?;
                self.entities.add(&entity.id, Held::Target(target))
            }
            Entity::Session(entity) => self.create_session(entity),
            Entity::Thread(entity) => {
                let thread = Thread::start(self);
                self.entities.add(&entity.id, Held::Thread(thread))
            }
            Entity::Bucket(entity) => {
                let database = self.entities.database(&entity.database)?;
                Arguments::new(entity.options.0.clone()).finish()?;
                self.entities.add(&entity.id, Held::Bucket(database))
            }
            Entity::ClientEncryption(_) => Err(Stop::skip(ENCRYPTION)),
        }
    }

    async fn create_client(&self, entity: &ClientEntity) -> Run {
        if entity.auto_encrypt_opts.is_some() {
            return Err(Stop::skip(ENCRYPTION));
        }
        let around = Surroundings {
            deployment: &self.deployment,
            extra: &self.extra,
            logs: &self.logs,
            uses_fail_points: self.uses_fail_points,
        };
        let client = CaseClient::create(entity, around).await?;
        self.entities
            .add(&entity.id, Held::Client(Arc::new(client)))
    }

    fn create_session(&self, entity: &SessionEntity) -> Run {
        let client = self.entities.client(&entity.client)?;
        let mut arguments = Arguments::new(entity.options());
        let mut options = SessionOptions::default();
        options.causal_consistency = arguments.flag("causalConsistency")?;
        options.snapshot = arguments.flag("snapshot")?.unwrap_or(false);
        if let Some(name) = arguments.text("snapshotTime")? {
            let Held::Value(Bson::Timestamp(time)) = self.entities.get(&name)? else {
                return Err(Stop::fail(format!("the entity {name} is no timestamp")));
            };
            options.snapshot_time = Some(time);
        }
        options.default_timeout = arguments.millis("defaultTimeoutMS")?;
        // Transactions are refused when one is begun.
        let _ = arguments.document("defaultTransactionOptions")?;
        arguments.finish()?;
        let session = client.client.start_session(options);
        let session = session.map_err(|error| Stop::fail(format!("{}: {error}", entity.id)))?;
        self.entities.add(&entity.id, Held::Session(session))
    }

    /// Ends what has to be ended, and forgets all entities.
    pub(super) async fn dismantle(&self, limit: Duration) {
        let all = self.entities.all();
        for (_, held) in &all {
            match held {
                Held::Session(session) => session.end(),
                Held::Iterable(iterable) => {
                    // One that a thread waits with is closed with its client.
                    if let Ok(mut iterable) = iterable.try_lock() {
                        let _ = tokio::time::timeout(limit, iterable.close()).await;
                    }
                }
                _ => {}
            }
        }
        self.entities.clear();
        for (_, held) in all {
            if let Held::Client(client) = held {
                let _ = tokio::time::timeout(limit, client.client.shutdown()).await;
            }
        }
    }
}

impl Iterable {
    pub(super) async fn close(&mut self) {
        match self {
            Self::Cursor(cursor) => cursor.close().await,
            Self::Stream(stream) => stream.close().await,
        }
    }
}

/// For an operation that an entity does not have.
pub(super) fn unsupported(name: &str, object: &str) -> Stop {
    Stop::fail(format!("{object} has no operation {name}"))
}
