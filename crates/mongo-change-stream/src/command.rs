//! The commands of a change stream: `aggregate`, `getMore`, `killCursors`
//! (change streams, "Helper Method"; find, getMore and killCursors commands).

use std::time::Duration;

use bson::{
    cstr,
    raw::{CStr, RawArrayBuf, RawDocumentBuf},
};
use mongo_wire::{ByteStr, Document};

use crate::{ResumeToken, StartPoint, WatchOptions, WatchTarget, codes::WIRE_VERSION_4_4};

/// What the caller asked for; every `aggregate` of the stream is made from it.
#[derive(Debug)]
pub(crate) struct Request {
    pub(crate) target: WatchTarget,
    pub(crate) pipeline: Vec<RawDocumentBuf>,
    pub(crate) options: WatchOptions,
    /// Whether the server is to cut events that are too large.
    pub(crate) splits: bool,
}

const SPLIT_STAGE: &CStr = cstr!("$changeStreamSplitLargeEvent");

impl Request {
    pub(crate) fn aggregate(&self, start: &StartPoint) -> RawDocumentBuf {
        let mut pipeline = RawArrayBuf::new();
        let mut first = RawDocumentBuf::new();
        first.append(cstr!("$changeStream"), self.stage(start));
        pipeline.push(first);
        for stage in &self.pipeline {
            pipeline.push(stage.as_ref());
        }
        // It has to be the last, and the only one of its kind.
        if self.splits && !self.ends_with_split_stage() {
            let mut last = RawDocumentBuf::new();
            last.append(SPLIT_STAGE, RawDocumentBuf::new());
            pipeline.push(last);
        }

        let mut cursor = RawDocumentBuf::new();
        if let Some(size) = self.options.batch_size {
            cursor.append(cstr!("batchSize"), wire_count(size));
        }

        let mut command = RawDocumentBuf::new();
        match &self.target {
            WatchTarget::Collection { collection, .. } => {
                command.append(cstr!("aggregate"), collection.as_str());
            }
            WatchTarget::Database(_) | WatchTarget::Cluster => {
                command.append(cstr!("aggregate"), 1_i32);
            }
        }
        command.append(cstr!("pipeline"), pipeline);
        command.append(cstr!("cursor"), cursor);
        if let Some(collation) = &self.options.collation {
            command.append(cstr!("collation"), collation);
        }
        if let Some(comment) = &self.options.comment {
            command.append(cstr!("comment"), comment);
        }
        command
    }

    fn ends_with_split_stage(&self) -> bool {
        let last = self.pipeline.last();
        last.is_some_and(|stage| matches!(stage.get(SPLIT_STAGE), Ok(Some(_))))
    }

    fn stage(&self, start: &StartPoint) -> RawDocumentBuf {
        let options = &self.options;
        let mut stage = RawDocumentBuf::new();
        if self.target == WatchTarget::Cluster {
            stage.append(cstr!("allChangesForCluster"), true);
        }
        if let Some(value) = &options.full_document {
            stage.append(cstr!("fullDocument"), value.as_str());
        }
        if let Some(value) = &options.full_document_before_change {
            stage.append(cstr!("fullDocumentBeforeChange"), value.as_str());
        }
        if let Some(value) = options.show_expanded_events {
            stage.append(cstr!("showExpandedEvents"), value);
        }
        self.append_start(&mut stage, start);
        stage
    }

    /// One start option, or exactly those the caller set: that they exclude each other is for the
    /// server to say.
    fn append_start(&self, stage: &mut RawDocumentBuf, start: &StartPoint) {
        let options = &self.options;
        let (resume_after, start_after, time) = match start {
            StartPoint::AsOpened => (
                options.resume_after.as_ref(),
                options.start_after.as_ref(),
                options.start_at_operation_time,
            ),
            StartPoint::ResumeAfter(token) => (Some(token), None, None),
            StartPoint::StartAfter(token) => (None, Some(token), None),
            StartPoint::AtOperationTime(time) => (None, None, Some(*time)),
            StartPoint::Now => (None, None, None),
        };
        if let Some(token) = resume_after.map(ResumeToken::as_raw) {
            stage.append(cstr!("resumeAfter"), token);
        }
        if let Some(token) = start_after.map(ResumeToken::as_raw) {
            stage.append(cstr!("startAfter"), token);
        }
        if let Some(time) = time {
            stage.append(cstr!("startAtOperationTime"), time);
        }
    }

    fn get_more(&self, id: i64, collection: &str, max_wire_version: i32) -> RawDocumentBuf {
        let options = &self.options;
        let mut command = RawDocumentBuf::new();
        command.append(cstr!("getMore"), id);
        command.append(cstr!("collection"), collection);
        if let Some(size) = options.batch_size.filter(|size| *size != 0) {
            command.append(cstr!("batchSize"), wire_count(size));
        }
        if let Some(time) = options.max_await_time {
            command.append(cstr!("maxTimeMS"), whole_milliseconds(time));
        }
        if max_wire_version >= WIRE_VERSION_4_4
            && let Some(comment) = &options.comment
        {
            command.append(cstr!("comment"), comment);
        }
        command
    }
}

/// A cursor on the server, as its last reply described it.
#[derive(Debug, Clone)]
pub(crate) struct Cursor {
    id: i64,
    namespace: String,
    database: ByteStr,
    max_wire_version: i32,
    /// The same for every `getMore` until id or namespace change.
    get_more: Document,
}

impl Cursor {
    pub(crate) fn new(request: &Request, id: i64, namespace: &str, max_wire_version: i32) -> Self {
        let (database, collection) = split(namespace);
        let get_more = request.get_more(id, collection, max_wire_version);
        Self {
            id,
            namespace: namespace.to_owned(),
            database: database.into(),
            max_wire_version,
            get_more: get_more.into(),
        }
    }

    /// The cursor as a later reply has it: id and namespace are refreshed from every one.
    pub(crate) fn refreshed(self, request: &Request, id: i64, namespace: &str) -> Self {
        if self.id == id && self.namespace == namespace {
            return self;
        }
        Self::new(request, id, namespace, self.max_wire_version)
    }

    pub(crate) fn database(&self) -> ByteStr {
        self.database.clone()
    }

    pub(crate) fn get_more(&self) -> Document {
        self.get_more.clone()
    }

    pub(crate) fn kill(&self) -> RawDocumentBuf {
        let mut ids = RawArrayBuf::new();
        ids.push(self.id);
        let mut command = RawDocumentBuf::new();
        command.append(cstr!("killCursors"), split(&self.namespace).1);
        command.append(cstr!("cursors"), ids);
        command
    }
}

/// Database and collection; only the first dot separates them.
fn split(namespace: &str) -> (&str, &str) {
    namespace.split_once('.').unwrap_or((namespace, ""))
}

/// A batch size beyond what the wire's 32 bits hold is as good as the largest.
fn wire_count(size: u32) -> i32 {
    i32::try_from(size).unwrap_or(i32::MAX)
}

/// Rounded up, because zero would lift the limit.
fn whole_milliseconds(time: Duration) -> i64 {
    let up = time
        .saturating_add(Duration::from_nanos(999_999))
        .as_millis();
    i64::try_from(up).unwrap_or(i64::MAX)
}
