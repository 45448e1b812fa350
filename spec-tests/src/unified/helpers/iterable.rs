//! The operations on cursors and change streams.

use bson::Bson;

use crate::unified::arguments::Arguments;
use crate::unified::case::{Yield, unsupported};
use crate::unified::entities::Iterable;
use crate::unified::errors::{Op, OpError};
use crate::unified::events::document;

/// Performs an operation.
pub(in crate::unified) async fn perform(
    name: &str,
    iterable: &mut Iterable,
    arguments: Arguments,
) -> Op<Yield> {
    arguments.finish()?;
    let found = match (name, &mut *iterable) {
        ("iterateUntilDocumentOrError", Iterable::Cursor(cursor)) => {
            let next = cursor.next().await.transpose()?;
            Some(next.ok_or_else(exhausted)?).map(|found| document(&found))
        }
        ("iterateUntilDocumentOrError", Iterable::Stream(stream)) => {
            let next = stream.next().await.transpose()?;
            Some(next.ok_or_else(exhausted)?)
        }
        ("iterateOnce", Iterable::Cursor(cursor)) => {
            let next = cursor.next_if_any().await?;
            next.map(|found| document(&found))
        }
        ("iterateOnce", Iterable::Stream(stream)) => stream.next_if_any().await?,
        ("close", iterable) => {
            iterable.close().await;
            None
        }
        (other, _) => return Err(unsupported(other, "a cursor").into()),
    };
    Ok(found.map_or(Yield::Nothing, |found| Yield::Value(Bson::from(found))))
}

fn exhausted() -> OpError {
    OpError::Invalid("the cursor has neither a document nor an error".to_owned())
}
