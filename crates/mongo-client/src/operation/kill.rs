//! The end of a cursor that nobody needs any more (Find, getMore and killCursors).

use std::sync::Arc;
use std::time::Duration;

use mongo_wire::Document;
use tokio::time::Instant;

use super::{Beside, Bound, Context};
use crate::deadline::{Deadline, Late};
use crate::error::{Error, Result};
use crate::pool::Pool;
use crate::spans::OperationSpan;

/// How long a cursor is worth caring about that nobody needs any more, where no limit is given.
const KILL_LIMIT: Duration = Duration::from_secs(5);

/// The limit of a kill that nobody waits for, so that nothing else has to wait for it for long.
pub(crate) fn in_background(timeout: Option<Duration>) -> Option<Duration> {
    timeout.map(|limit| limit.min(KILL_LIMIT))
}

/// A `killCursors` to be sent to the cursor's own server, and no other.
#[derive(Debug)]
pub(crate) struct Kill {
    pub(crate) command: Document,
    /// The cursor's own connection, if it is free.
    pub(crate) bound: Option<Bound>,
    /// What the cursor's commands have beside them, and its server's pool: for another connection.
    pub(crate) elsewhere: (Context, Arc<Pool>),
    pub(crate) span: OperationSpan,
}

impl Kill {
    /// Sends it, within a limit that begins now; zero is none of the operation's own. Nobody can do
    /// anything about a cursor that cannot be killed: the server forgets it.
    pub(crate) async fn run(self, timeout: Option<Duration>) {
        let Self {
            command,
            bound,
            elsewhere,
            span,
        } = self;
        let deadline = Deadline::after(timeout, Instant::now());
        let limit = deadline.remaining(Instant::now()).unwrap_or(KILL_LIMIT);
        let kill = async {
            let mut bound = match (bound, elsewhere) {
                (Some(bound), _) => bound,
                (None, (context, pool)) => context.on(pool.check_out(None).await?),
            };
            let max_time = deadline.max_time(Instant::now(), bound.context.round_trip);
            let beside = Beside {
                max_time: max_time.map_err(|Late| Error::late(deadline.limit()))?,
                ..Beside::default()
            };
            let reply = bound.send(command.as_raw(), &beside).await?;
            bound.refusal(&reply).map_or(Ok(()), Err)
        };
        let _: Result<Result<()>, _> = tokio::time::timeout(limit, span.run(kill)).await;
    }
}
