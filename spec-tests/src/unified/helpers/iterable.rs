//! The operations on cursors and change streams.

use bson::Bson;

use crate::unified::arguments::Arguments;
use crate::unified::case::{Yield, unsupported};
use crate::unified::entities::Iterable;
use crate::unified::errors::Op;
use crate::unified::events::document;
use crate::unified::stop::Stop;

/// Performs an operation.
pub(in crate::unified) async fn perform(
    name: &str,
    iterable: &mut Iterable,
    mut arguments: Arguments,
) -> Op<Yield> {
    let limit = match name {
        "close" => arguments.millis("timeoutMS")?,
        _ => None,
    };
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
        ("close", Iterable::Cursor(cursor)) => {
            match limit {
                Some(limit) => cursor.close_within(limit).await,
                None => cursor.close().await,
            }
            None
        }
        ("close", Iterable::Stream(stream)) => {
            match limit {
                Some(limit) => stream.close_within(limit).await,
                None => stream.close().await,
            }
            None
        }
        (other, _) => return Err(unsupported(other, "a cursor").into()),
    };
    Ok(found.map_or(Yield::Nothing, |found| Yield::Value(Bson::from(found))))
}

/// The end is no error of the client: it must not pass for one that a case expects.
fn exhausted() -> Stop {
    Stop::fail("the cursor has neither a document nor an error")
}
