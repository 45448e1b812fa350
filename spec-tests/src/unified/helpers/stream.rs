//! Opening change streams.

use bson::{Bson, Document, RawBson};
use mongo_client::Watch;
use mongo_client::change_stream::{FullDocumentBeforeChangeType, FullDocumentType, ResumeToken};

use super::Given;
use crate::unified::arguments::{Required, raw};
use crate::unified::case::Yield;
use crate::unified::entities::Target;
use crate::unified::errors::Op;
use crate::unified::stop::Stop;

/// Opens a stream that asks the server only when it is asked itself.
pub(super) async fn open(watch: Watch, target: &Target, given: Given) -> Op<Yield> {
    let (mut arguments, common) = given;
    let args = &mut arguments;
    let pipeline = args.documents("pipeline").required("pipeline")?;
    let mut watch = watch.pipeline(pipeline).prefetch(None);
    if let Some(value) = args.text("fullDocument")? {
        watch = watch.full_document(FullDocumentType::from(value.as_str()));
    }
    if let Some(value) = args.text("fullDocumentBeforeChange")? {
        let value = FullDocumentBeforeChangeType::from(value.as_str());
        watch = watch.full_document_before_change(value);
    }
    if let Some(token) = args.document("resumeAfter")? {
        watch = watch.resume_after(ResumeToken::from(raw(&token)?));
    }
    if let Some(token) = args.document("startAfter")? {
        watch = watch.start_after(ResumeToken::from(raw(&token)?));
    }
    if let Some(time) = args.value("startAtOperationTime") {
        let Bson::Timestamp(time) = time else {
            return Err(Stop::fail(format!("startAtOperationTime cannot be {time}")).into());
        };
        watch = watch.start_at_operation_time(time);
    }
    if let Some(time) = args.millis("maxAwaitTimeMS")? {
        watch = watch.max_await_time(time);
    }
    if let Some(size) = args.size("batchSize")? {
        watch = watch.batch_size(size);
    }
    if let Some(collation) = args.document("collation")? {
        watch = watch.collation(raw(&collation)?);
    }
    if let Some(comment) = args.value("comment") {
        let comment = RawBson::try_from(comment)
            .map_err(|error| Stop::fail(format!("the comment cannot be encoded: {error}")))?;
        watch = watch.comment(comment);
    }
    if let Some(show) = args.flag("showExpandedEvents")? {
        watch = watch.show_expanded_events(show);
    }
    arguments.finish()?;
    if let Some(preference) = &target.read_preference {
        watch = watch.read_preference(preference.clone());
    }
    if let Some(concern) = &target.read_concern {
        watch = watch.read_concern(concern.clone());
    }
    if let Some(session) = &common.session {
        watch = watch.session(session);
    }
    if let Some(timeout) = common.timeout.or(target.timeout) {
        watch = watch.timeout(timeout);
    }
    Ok(Yield::Stream(watch.await?.with_type::<Document>()))
}
