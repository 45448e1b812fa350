//! The operations on sessions.

use mongo_client::ClientSession;

use crate::unified::arguments::Arguments;
use crate::unified::case::{Yield, unsupported};
use crate::unified::errors::Op;

/// Performs an operation.
pub(in crate::unified) fn perform(
    name: &str,
    session: &ClientSession,
    arguments: Arguments,
) -> Op<Yield> {
    match name {
        "endSession" => {
            arguments.finish()?;
            session.end();
            Ok(Yield::Nothing)
        }
        "getSnapshotTime" => {
            arguments.finish()?;
            let time = session.snapshot_time()?;
            Ok(time.map_or(Yield::Nothing, |time| Yield::Value(time.into())))
        }
        other => Err(unsupported(other, "a session").into()),
    }
}
