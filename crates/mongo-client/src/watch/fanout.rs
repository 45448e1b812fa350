//! One stream shared by many subscribers.
//!
//! A task reads the stream batch by batch and puts each event into the queue of every subscriber
//! whose filter it passes. It waits for no subscriber: a queue that is full is its subscriber's
//! business alone, which is told how many events it has missed, or is disconnected.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::task::{Poll, Waker};

use mongo_change_stream::{EventBatch, EventFilter, RawEvent, ResumePoint};
use tokio::sync::{Notify, oneshot};

use super::ChangeStream;
use crate::error::Error;

/// A subscriber that wants less than one byte in so many of a reply gets copies of its events, so
/// that they do not keep the reply in memory.
const SPARSE: usize = 4;

/// A change stream that many subscribers share: one cursor and one connection, whoever listens.
///
/// The stream ends when this and all its subscriptions are dropped.
///
/// ```no_run
/// # async fn f(orders: mongo_client::Collection) -> Result<(), Box<dyn std::error::Error>> {
/// use mongo_client::change_stream::{EventFilter, OperationType};
/// use mongo_client::{SharedStream, SubscribeOptions};
///
/// let shared = SharedStream::new(orders.watch().await?);
/// let deletes = EventFilter::default().operations([OperationType::Delete]);
/// let mut deletes = shared.subscribe(SubscribeOptions::default().filter(deletes));
/// let mut everything = shared.subscribe(SubscribeOptions::default());
/// tokio::spawn(async move { while let Some(Ok(event)) = everything.next().await { /* ... */ } });
/// while let Some(event) = deletes.next().await {
///     println!("{:?}", event?.document_key());
/// }
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct SharedStream {
    hub: Arc<Hub>,
}

/// How a subscriber listens.
#[derive(Clone, Debug)]
pub struct SubscribeOptions {
    filter: EventFilter,
    events: usize,
    bytes: usize,
    on_lag: OnLag,
}

/// What becomes of a subscriber whose queue is full.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum OnLag {
    /// It misses events until there is room, and is told how many at the place where they are
    /// missing.
    #[default]
    Miss,
    /// It gets what is in its queue, is told that it was too slow, and that is its end.
    Disconnect,
}

/// Everything a subscriber wants by default: 1,024 events or 16 MiB may wait.
impl Default for SubscribeOptions {
    fn default() -> Self {
        Self {
            filter: EventFilter::default(),
            events: 1024,
            bytes: 16 << 20,
            on_lag: OnLag::Miss,
        }
    }
}

impl SubscribeOptions {
    /// Only what passes this; its choice of fields has no effect here.
    #[must_use]
    pub fn filter(mut self, filter: EventFilter) -> Self {
        self.filter = filter;
        self
    }

    /// How many events, and how many bytes of them, may wait for this subscriber. Less than one
    /// event counts as one. Of replies that are mostly for others, events are copied; others are
    /// kept whole, so that up to four times as many bytes are held, and two replies more.
    #[must_use]
    pub fn capacity(mut self, events: usize, bytes: usize) -> Self {
        (self.events, self.bytes) = (events, bytes);
        self
    }

    /// What becomes of this subscriber when its queue is full.
    #[must_use]
    pub fn on_lag(mut self, on_lag: OnLag) -> Self {
        self.on_lag = on_lag;
        self
    }
}

/// Why a subscriber got no event.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SubscriptionError {
    /// It was too slow and has missed so many of its events here. It goes on.
    #[error("too slow: {missed} events were missed here")]
    Lagged {
        /// How many.
        missed: u64,
    },
    /// It was too slow, and that is its end.
    #[error("too slow: disconnected")]
    Disconnected,
    /// The shared stream ended with an error, the same for all.
    #[error(transparent)]
    Stream(Arc<Error>),
}

/// One subscriber's view of a [`SharedStream`].
#[derive(Debug)]
pub struct Subscription {
    queue: Arc<Queue>,
    hub: Arc<Hub>,
}

#[derive(Debug)]
struct Hub {
    state: Mutex<HubState>,
    /// Told when a subscriber waits; the task begins then.
    wanted: Arc<Notify>,
    /// Tells the task that nobody is left, by being dropped.
    _alive: oneshot::Sender<()>,
}

#[derive(Debug, Default)]
struct HubState {
    queues: Vec<Weak<Queue>>,
    /// Where the stream stood when the last batch was handed round.
    place: Option<ResumePoint>,
    end: Option<End>,
}

/// How the stream ended: for all of them the same.
type End = Result<(), Arc<Error>>;

#[derive(Debug)]
struct Queue {
    options: SubscribeOptions,
    state: Mutex<QueueState>,
}

#[derive(Debug, Default)]
struct QueueState {
    waiting: VecDeque<Item>,
    events: usize,
    bytes: usize,
    /// Behind what was handed out.
    place: Option<ResumePoint>,
    /// Behind what was handed round, whether it was for this subscriber or not.
    horizon: Option<ResumePoint>,
    /// What the subscriber is told behind what waits, and then, `Ok`, that there is no more.
    end: Option<Result<(), SubscriptionError>>,
    waker: Option<Waker>,
}

#[derive(Debug)]
enum Item {
    Event(RawEvent),
    Missed(u64),
}

impl SharedStream {
    /// Shares a stream, which is read from when the first subscriber waits for an event: whoever
    /// subscribes before that misses nothing of it.
    ///
    /// Must be called in the context of a tokio runtime.
    #[must_use]
    pub fn new<T: 'static>(stream: ChangeStream<T>) -> Self {
        let (alive, mut gone) = oneshot::channel();
        let wanted = Arc::new(Notify::new());
        let hub = Arc::new(Hub {
            state: Mutex::new(HubState {
                place: stream.resume_point(),
                ..HubState::default()
            }),
            wanted: Arc::clone(&wanted),
            _alive: alive,
        });
        let weak = Arc::downgrade(&hub);
        tokio::spawn(async move {
            tokio::select! {
                // Whoever waits has the hub, so that `gone` has not come before.
                biased;
                () = wanted.notified() => hand_round(stream, weak, gone).await,
                _ = &mut gone => {}
            }
        });
        Self { hub }
    }

    /// A new subscriber, which gets what is handed round from now on.
    #[must_use]
    pub fn subscribe(&self, options: SubscribeOptions) -> Subscription {
        let mut hub = lock(&self.hub.state);
        let state = QueueState {
            place: hub.place.clone(),
            horizon: hub.place.clone(),
            end: hub
                .end
                .clone()
                .map(|end| end.map_err(SubscriptionError::Stream)),
            ..QueueState::default()
        };
        let queue = Arc::new(Queue {
            options,
            state: Mutex::new(state),
        });
        hub.queues.push(Arc::downgrade(&queue));
        drop(hub);
        Subscription {
            queue,
            hub: Arc::clone(&self.hub),
        }
    }
}

async fn hand_round<T>(
    mut stream: ChangeStream<T>,
    hub: Weak<Hub>,
    mut gone: oneshot::Receiver<()>,
) {
    loop {
        let found = tokio::select! {
            _ = &mut gone => break,
            found = stream.next_batch_or_news() => found,
        };
        let Some(hub) = hub.upgrade() else { break };
        match found {
            Some(Ok(batch)) => hub.hand_round(batch.as_ref(), stream.resume_point()),
            // The stream lives: it is only that nothing has come in time.
            Some(Err(Error::OperationTimeout { .. })) => {}
            Some(Err(error)) => return hub.end(&Err(Arc::new(error))),
            None => return hub.end(&Ok(())),
        }
    }
    stream.close().await;
}

impl Hub {
    fn hand_round(&self, batch: Option<&EventBatch>, place: Option<ResumePoint>) {
        let mut hub = lock(&self.state);
        hub.place = place;
        let place = hub.place.clone();
        hub.queues.retain(|queue| {
            let queue = queue.upgrade();
            queue
                .inspect(|queue| queue.take_in(batch, place.as_ref()))
                .is_some()
        });
    }

    fn end(&self, end: &End) {
        let mut hub = lock(&self.state);
        hub.end = Some(end.clone());
        for queue in hub.queues.drain(..).filter_map(|queue| queue.upgrade()) {
            let mut state = lock(&queue.state);
            let end = end.clone().map_err(SubscriptionError::Stream);
            state.end.get_or_insert(end);
            wake(state);
        }
    }
}

impl Queue {
    fn take_in(&self, batch: Option<&EventBatch>, place: Option<&ResumePoint>) {
        let mut state = lock(&self.state);
        if state.end.is_some() {
            return;
        }
        state.horizon = place.cloned();
        let Some(batch) = batch else { return };
        let filter = &self.options.filter;
        let events = batch.owned_events();
        let events: Vec<_> = events
            .filter(|event| filter.matches(event.view()))
            .collect();
        let bytes: usize = events
            .iter()
            .map(|event| event.document().as_bytes().len())
            .sum();
        let is_sparse = bytes.saturating_mul(SPARSE) < batch.bytes_len();
        let is_new = !events.is_empty();
        for event in events {
            let event = if is_sparse {
                RawEvent::from(event.into_document().detached())
            } else {
                event
            };
            state.push(event, &self.options);
            if state.end.is_some() {
                break;
            }
        }
        if is_new {
            wake(state);
        }
    }
}

impl QueueState {
    fn push(&mut self, event: RawEvent, options: &SubscribeOptions) {
        let bytes = event.document().as_bytes().len();
        let has_room = self.events < options.events && self.bytes < options.bytes;
        if has_room || self.events == 0 {
            self.events += 1;
            self.bytes += bytes;
            self.waiting.push_back(Item::Event(event));
        } else if options.on_lag == OnLag::Disconnect {
            // What was handed round since is not behind this subscriber.
            self.horizon = None;
            self.end = Some(Err(SubscriptionError::Disconnected));
        } else if let Some(Item::Missed(missed)) = self.waiting.back_mut() {
            *missed += 1;
        } else {
            self.waiting.push_back(Item::Missed(1));
        }
    }

    fn pop(&mut self) -> Option<Result<RawEvent, SubscriptionError>> {
        match self.waiting.pop_front()? {
            Item::Event(event) => {
                self.events -= 1;
                self.bytes -= event.document().as_bytes().len();
                if let Some(token) = event.token() {
                    let after_invalidate = event.operation_type()
                        == Some(mongo_change_stream::OperationType::Invalidate);
                    // A subscriber that has read all that there is may wait long.
                    let is_last = self.waiting.is_empty();
                    let token = if is_last { token.compact() } else { token };
                    self.place = Some(ResumePoint {
                        token,
                        after_invalidate,
                    });
                }
                Some(Ok(event))
            }
            Item::Missed(missed) => Some(Err(SubscriptionError::Lagged { missed })),
        }
    }
}

impl Subscription {
    /// The next event for this subscriber; `None` at the end of the stream, or once an error other
    /// than [`SubscriptionError::Lagged`] was returned.
    ///
    /// Dropping the future loses nothing.
    ///
    /// # Errors
    /// [`SubscriptionError`].
    pub async fn next(&mut self) -> Option<Result<RawEvent, SubscriptionError>> {
        std::future::poll_fn(|cx| {
            let mut state = lock(&self.queue.state);
            if let Some(found) = state.pop() {
                return Poll::Ready(Some(found));
            }
            match state.end.replace(Ok(())) {
                Some(Err(error)) => Poll::Ready(Some(Err(error))),
                Some(Ok(())) => Poll::Ready(None),
                None => {
                    state.end = None;
                    state.waker = Some(cx.waker().clone());
                    self.hub.wanted.notify_one();
                    Poll::Pending
                }
            }
        })
        .await
    }

    /// Events that wait for this subscriber.
    #[must_use]
    pub fn waiting(&self) -> usize {
        lock(&self.queue.state).events
    }

    /// Where a stream of this subscriber's own would go on: behind its last event, or, when nothing
    /// waits for it, behind all that was handed round.
    #[must_use]
    pub fn resume_point(&self) -> Option<ResumePoint> {
        let state = lock(&self.queue.state);
        let horizon = state.horizon.as_ref().filter(|_| state.waiting.is_empty());
        horizon.or(state.place.as_ref()).cloned()
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Wakes the subscriber after the lock is let go, so that it need not wait for it.
fn wake(mut state: MutexGuard<'_, QueueState>) {
    let waker = state.waker.take();
    drop(state);
    if let Some(waker) = waker {
        waker.wake();
    }
}
