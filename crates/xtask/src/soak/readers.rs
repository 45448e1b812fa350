//! The streams, and the ways in which they are read.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use mongo_client::change_stream::{EventFilter, NamespacePattern, OnInvalidate, StreamEvent};
use mongo_client::checkpoint::{CheckpointStore as _, FileStore};
use mongo_client::{ChangeStream, Client, SharedStream, SubscribeOptions, Subscription, Watch};
use tokio::task::JoinSet;

use super::book::Book;
use super::change::{Change, DATABASE, LOADED, SIDE, Scope};

/// How long a stream may be without an event before the run counts as stuck.
const PATIENCE: Duration = Duration::from_secs(180);

/// The queue of a subscriber: it is to miss nothing, however long it does not get to run.
const QUEUE: (usize, usize) = (1 << 20, 256 << 20);

/// One reader.
struct Plan {
    name: &'static str,
    scope: Scope,
    way: Way,
    exhaust: bool,
}

/// How a stream is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    Next,
    Batch,
    /// Calls are given up at random.
    Cancelled,
    /// The stream is dropped at random, and goes on from what was saved.
    Reopened,
    /// As two subscribers of a shared stream, one of them with a filter.
    Shared,
}

const PLANS: [Plan; 11] = [
    Plan::new("cluster, next", Scope::Cluster, Way::Next, false),
    Plan::new("cluster, next_batch", Scope::Cluster, Way::Batch, false),
    Plan::new("cluster, exhaust", Scope::Cluster, Way::Next, true),
    Plan::new("cluster, cancelled", Scope::Cluster, Way::Cancelled, false),
    Plan::new("cluster, reopened", Scope::Cluster, Way::Reopened, false),
    Plan::new("cluster, shared", Scope::Cluster, Way::Shared, false),
    Plan::new(
        "orders, exhaust batch",
        Scope::Collection(LOADED[0]),
        Way::Batch,
        true,
    ),
    Plan::new(
        "stock, exhaust cancelled",
        Scope::Collection(LOADED[1]),
        Way::Cancelled,
        true,
    ),
    Plan::new(
        "letters, reopened",
        Scope::Collection(LOADED[2]),
        Way::Reopened,
        false,
    ),
    Plan::new("side, next", Scope::Collection(SIDE), Way::Next, false),
    Plan::new(
        "side, reopened",
        Scope::Collection(SIDE),
        Way::Reopened,
        false,
    ),
];

impl Plan {
    const fn new(name: &'static str, scope: Scope, way: Way, exhaust: bool) -> Self {
        Self {
            name,
            scope,
            way,
            exhaust,
        }
    }

    /// Whether it has events all the time and enters them when they come.
    fn is_prompt(&self) -> bool {
        self.way != Way::Reopened && self.scope != Scope::Collection(SIDE)
    }
}

/// The readers at work.
#[derive(Debug)]
pub(crate) struct Readers {
    pub(crate) tasks: JoinSet<anyhow::Result<()>>,
    pub(crate) books: Vec<Book>,
    /// Those of the streams whose recovery can be measured.
    pub(crate) prompt: Vec<Book>,
}

/// What a reader works with.
struct Seat {
    book: Book,
    client: Client,
    plan: &'static Plan,
    random: fastrand::Rng,
}

impl Readers {
    /// Opens every stream, and begins to read it. Checkpoints are kept in `folder`.
    ///
    /// # Errors
    /// A stream cannot be opened.
    pub(crate) async fn open(client: &Client, seed: u64, folder: PathBuf) -> anyhow::Result<Self> {
        let mut readers = Self {
            tasks: JoinSet::new(),
            books: Vec::new(),
            prompt: Vec::new(),
        };
        for (number, plan) in (0..).zip(&PLANS) {
            let seat = Seat {
                book: readers.book(plan.name, plan.scope, plan.is_prompt()),
                client: client.clone(),
                plan,
                random: fastrand::Rng::with_seed(seed.wrapping_add(number)),
            };
            let opened = readers.seat(seat, folder.join(format!("checkpoint-{number}")));
            opened.await.with_context(|| plan.name)?;
        }
        Ok(readers)
    }

    fn book(&mut self, name: &'static str, scope: Scope, is_prompt: bool) -> Book {
        let book = Book::new(name, scope);
        self.books.push(book.clone());
        if is_prompt {
            self.prompt.push(book.clone());
        }
        book
    }

    async fn seat(&mut self, mut seat: Seat, checkpoint: PathBuf) -> anyhow::Result<()> {
        let (name, watch) = (seat.plan.name, seat.watch());
        match seat.plan.way {
            Way::Next => {
                let stream = watch.await?;
                self.tasks
                    .spawn(named(name, async move { seat.next(stream).await }));
            }
            Way::Batch => {
                let stream = watch.await?;
                self.tasks
                    .spawn(named(name, async move { seat.batches(stream).await }));
            }
            Way::Cancelled => {
                let stream = watch.await?;
                self.tasks
                    .spawn(named(name, async move { seat.cancel(stream).await }));
            }
            Way::Reopened => {
                let store = FileStore::new(checkpoint);
                let stream = watch.resume_from(None).await?;
                let start = stream.checkpoint().context("no token at the start")?;
                store.save(&start).await?;
                self.tasks
                    .spawn(named(name, async move { seat.reopen(&store).await }));
            }
            Way::Shared => {
                let shared = SharedStream::new(watch.await?);
                let options = SubscribeOptions::default().capacity(QUEUE.0, QUEUE.1);
                let all = shared.subscribe(options.clone());
                let pattern: NamespacePattern = format!("{DATABASE}.{}", LOADED[0]).parse()?;
                let filter = EventFilter::default().include([pattern]);
                let some = shared.subscribe(options.filter(filter));
                let book = self.book("orders, shared", Scope::Collection(LOADED[0]), true);
                self.tasks.spawn(named(name, subscribed(all, seat.book)));
                self.tasks
                    .spawn(named("orders, shared", subscribed(some, book)));
            }
        }
        Ok(())
    }
}

async fn named(
    name: &'static str,
    work: impl Future<Output = anyhow::Result<()>>,
) -> anyhow::Result<()> {
    work.await.context(name)
}

/// # Errors
/// It takes too long.
async fn soon<T>(work: impl Future<Output = T>) -> anyhow::Result<T> {
    let waited = tokio::time::timeout(PATIENCE, work).await;
    waited.with_context(|| format!("no event for {PATIENCE:?}"))
}

async fn subscribed(mut subscription: Subscription, book: Book) -> anyhow::Result<()> {
    loop {
        let event = soon(subscription.next()).await?;
        let event = event.context("the stream has ended")??;
        if book.enter(&event.deserialize()?)? {
            return Ok(());
        }
    }
}

impl Seat {
    fn watch(&self) -> Watch {
        let watch = match self.plan.scope {
            Scope::Cluster => self.client.watch(),
            Scope::Collection(name) => self.client.database(DATABASE).collection(name).watch(),
        };
        let book = self.book.clone();
        let watch = watch.on_event(move |event| {
            if matches!(event, StreamEvent::Resumed { .. }) {
                book.pages().resumes += 1;
            }
        });
        watch
            .exhaust(self.plan.exhaust)
            .on_invalidate(OnInvalidate::Continue)
    }

    async fn next(&self, stream: ChangeStream) -> anyhow::Result<()> {
        let mut stream = stream.with_type::<Change>();
        loop {
            let change = soon(stream.next())
                .await?
                .context("the stream has ended")??;
            if self.book.enter(&change)? {
                return Ok(());
            }
        }
    }

    async fn batches(&self, mut stream: ChangeStream) -> anyhow::Result<()> {
        loop {
            let batch = soon(stream.next_batch()).await?;
            let batch = batch.context("the stream has ended")??;
            for event in batch.events() {
                if self.book.enter(&event.deserialize()?)? {
                    return Ok(());
                }
            }
        }
    }

    /// Gives calls up, at once or a moment later.
    async fn cancel(&mut self, mut stream: ChangeStream) -> anyhow::Result<()> {
        let mut last = Instant::now();
        loop {
            let limit = Duration::from_micros(self.random.u64(0..4_000));
            if let Ok(event) = tokio::time::timeout(limit, stream.next_raw()).await {
                let event = event.context("the stream has ended")??;
                if self.book.enter(&event.deserialize()?)? {
                    return Ok(());
                }
                last = Instant::now();
                continue;
            }
            self.book.pages().given_up += 1;
            if last.elapsed() > PATIENCE {
                bail!("no event for {PATIENCE:?}");
            }
            // A call that is given up at once has not let others run.
            tokio::task::yield_now().await;
        }
    }

    /// Drops the stream at random moments. What came behind the last checkpoint is forgotten, as it
    /// would be in a program that dies, and has to come again.
    async fn reopen(&mut self, store: &FileStore) -> anyhow::Result<()> {
        let mut last = Instant::now();
        loop {
            let mut stream = self.open_again(store).await?;
            let until = last_of(self.random.u64(50..6_000));
            let mut save_at = Instant::now();
            let mut unsaved: Vec<Change> = Vec::new();
            while let Ok(event) = tokio::time::timeout_at(until, stream.next_raw()).await {
                let event = event.context("the stream has ended")??;
                let change: Change = event.deserialize()?;
                let is_last = self.plan.scope.is_last(&change.record()?);
                unsaved.push(change);
                last = Instant::now();
                if !is_last && last < save_at {
                    continue;
                }
                save_at = last + Duration::from_millis(self.random.u64(0..400));
                let checkpoint = stream.checkpoint().context("no token behind an event")?;
                store.save(&checkpoint).await?;
                for change in unsaved.drain(..) {
                    self.book.enter(&change)?;
                }
                if is_last {
                    return Ok(());
                }
            }
            if last.elapsed() > PATIENCE {
                bail!("no event for {PATIENCE:?}");
            }
            self.book.pages().given_up += 1;
            if self.random.bool() {
                stream.close().await;
            }
        }
    }

    /// Opens the stream where it was saved; while the set has no primary that takes some tries.
    async fn open_again(&self, store: &FileStore) -> anyhow::Result<ChangeStream> {
        let started = Instant::now();
        loop {
            let saved = store.load().await?;
            match self.watch().resume_from(saved).await {
                Ok(stream) => return Ok(stream),
                Err(error) if started.elapsed() > PATIENCE => return Err(error.into()),
                Err(_) => tokio::time::sleep(Duration::from_millis(50)).await,
            }
        }
    }
}

/// So many milliseconds from now.
fn last_of(milliseconds: u64) -> tokio::time::Instant {
    tokio::time::Instant::now() + Duration::from_millis(milliseconds)
}
