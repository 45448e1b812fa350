//! MongoDB change streams as a machine without IO.
//!
//! Two halves. [`ChangeStreamMachine`] belongs to the task that owns the connection: it orders
//! `aggregate`, `getMore` and `killCursors`, decides what an error means, where to resume and when,
//! and how far to read ahead. [`BatchReader`] belongs to the handle the application reads from: it
//! hands out events as slices of the server's reply and keeps the resume token by the
//! specification's rules.
//!
//! What it is not: it opens no socket, has no clock, selects no server, knows no session. Commands
//! carry no `$db`, `lsid`, `$clusterTime`, `$readPreference` or read concern; whoever runs them
//! adds those.
//!
//! # The run loop
//!
//! 1. Make a machine and a reader with the same options.
//! 2. Take actions until [`poll_action`](ChangeStreamMachine::poll_action) gives none.
//!    `Deliver` goes to the reader, the commands go to the network.
//! 3. Wait for the first of: the outcome of the command under way, the time of
//!    [`poll_timeout`](ChangeStreamMachine::poll_timeout), a word from the consumer
//!    ([`Input::Demanded`], [`Input::BatchTaken`], [`Input::Close`]).
//! 4. Tell the machine, and go on at 2 until `Finish`.
//!
//! ```
//! use std::time::Instant;
//!
//! use mongo_change_stream::{
//!     Action, BatchReader, ChangeStreamMachine, FailureKind, Input, StreamConfig,
//!     StreamError, WatchOptions, WatchTarget,
//! };
//! use mongo_wire::Document;
//!
//! /// Whatever can run a command: the reply's body and the connection's wire version.
//! trait Server {
//!     fn run(&mut self, database: &str, command: &Document) -> Option<(Document, i32)>;
//! }
//!
//! fn follow(server: &mut impl Server, now: impl Fn() -> Instant) -> Result<(), StreamError> {
//!     let options = WatchOptions::default();
//!     let mut reader = BatchReader::new(&options);
//!     let target = WatchTarget::Database("shop".into());
//!     let config = StreamConfig::default();
//!     let mut machine = ChangeStreamMachine::new(target, Vec::new(), options, config, 7);
//!
//!     loop {
//!         while let Some(action) = machine.poll_action() {
//!             match action {
//!                 Action::Aggregate { database, command, .. }
//!                 | Action::GetMore { database, command, .. } => {
//!                     let outcome = match server.run(&database, &command) {
//!                         Some((reply, max_wire_version)) => {
//!                             Input::ReplyReceived { reply, max_wire_version }
//!                         }
//!                         None => Input::CommandFailed { failure: FailureKind::Network.into() },
//!                     };
//!                     machine.handle(outcome, now());
//!                 }
//!                 Action::KillCursors { database, command } => {
//!                     let _nobody_cares = server.run(&database, &command);
//!                 }
//!                 Action::Deliver(batch) => reader.push(batch),
//!                 Action::Finish(result) => return result,
//!                 _ => {}
//!             }
//!         }
//!         while let Some(event) = reader.next_event() {
//!             println!("{:?}", event?.operation_type());
//!         }
//!         for _ in 0..reader.poll_taken() {
//!             machine.handle(Input::BatchTaken, now());
//!         }
//!         machine.handle(Input::Demanded, now());
//!         // Here a real loop waits, until `machine.poll_timeout()` at most.
//!         machine.handle_timeout(now());
//!     }
//! }
//! # let _ = |server: &mut Nobody, now: fn() -> Instant| follow(server, now);
//! # struct Nobody;
//! # impl Server for Nobody {
//! #     fn run(&mut self, _: &str, _: &Document) -> Option<(Document, i32)> { None }
//! # }
//! ```

mod backoff;
mod batch;
mod checkpoint;
pub mod codes;
mod command;
mod config;
mod error;
mod event;
mod filter;
mod fragments;
mod machine;
mod options;
mod pace;
mod policy;
mod reader;
mod start;
mod token;
mod window;

pub use batch::{EventBatch, StreamBatch};
pub use checkpoint::{
    Checkpoint, CheckpointError, CheckpointTracker, IdentityMismatch, StreamIdentity, Ticket,
};
pub use config::{BackoffConfig, Prefetch, StreamConfig};
pub use error::{ErrorClass, Failure, FailureKind, Phase, StreamError};
pub use event::{
    ChangeEvent, EventNamespace, EventRef, Image, NamespaceRef, NamespaceType, OperationType,
    RawEvent, SplitEvent, TruncatedArray, UpdateDescription,
};
pub use filter::{EventFilter, NamespacePattern, PatternError};
pub use machine::{Action, ChangeStreamMachine, Input, StreamEvent};
pub use options::{FullDocumentBeforeChangeType, FullDocumentType, WatchOptions, WatchTarget};
pub use policy::{Gap, GapCause, GapEnd, HistoryLost, OnInvalidate, Oversize};
pub use reader::{BatchReader, StreamPosition};
pub use start::{ResumePoint, StartPoint};
pub use token::ResumeToken;
