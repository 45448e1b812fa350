//! What a scripted server does about a command.

use std::time::Duration;

use bson::{RawArrayBuf, RawDocumentBuf, rawdoc};
use bytes::Bytes;

/// A list of steps, done in order by the connection that the command came on; the connection
/// reads no further command until they are done. No step is silence: the client waits.
#[derive(Debug, Clone, Default)]
pub struct Answer {
    pub(super) steps: Vec<Step>,
}

#[derive(Debug, Clone)]
pub(super) enum Step {
    Reply {
        document: RawDocumentBuf,
        more_to_come: bool,
    },
    Raw(Bytes),
    Wait(Duration),
    Hold(String),
    Close,
    Reset,
}

impl Answer {
    /// No answer at all.
    #[must_use]
    pub fn silence() -> Self {
        Self::default()
    }

    /// One reply, as it is: `ok` is the script's business.
    #[must_use]
    pub fn reply(document: RawDocumentBuf) -> Self {
        Self::silence().then_reply(document)
    }

    /// `{ok: 1}`.
    #[must_use]
    pub fn ok() -> Self {
        Self::reply(rawdoc! { "ok": 1.0 })
    }

    /// An error with its labels.
    #[must_use]
    pub fn error(code: i32, code_name: &str, labels: &[&str]) -> Self {
        let mut reply = rawdoc! {
            "ok": 0.0,
            "errmsg": format!("scripted {code_name}"),
            "code": code,
            "codeName": code_name,
        };
        if !labels.is_empty() {
            let labels: RawArrayBuf = labels.iter().copied().collect();
            reply.append(bson::cstr!("errorLabels"), labels);
        }
        Self::reply(reply)
    }

    /// Sends a reply.
    #[must_use]
    pub fn then_reply(self, document: RawDocumentBuf) -> Self {
        self.then(Step::Reply {
            document,
            more_to_come: false,
        })
    }

    /// Sends a reply that says that another one follows it unasked (moreToCome).
    #[must_use]
    pub fn then_reply_with_more(self, document: RawDocumentBuf) -> Self {
        self.then(Step::Reply {
            document,
            more_to_come: true,
        })
    }

    /// Sends bytes as they are.
    #[must_use]
    pub fn then_raw(self, bytes: impl Into<Bytes>) -> Self {
        self.then(Step::Raw(bytes.into()))
    }

    /// Does nothing for a time.
    #[must_use]
    pub fn then_wait(self, time: Duration) -> Self {
        self.then(Step::Wait(time))
    }

    /// Does nothing until the test releases the gate of this name
    /// ([`ScriptedServer::release`](super::ScriptedServer::release)).
    #[must_use]
    pub fn then_hold(self, gate: &str) -> Self {
        self.then(Step::Hold(gate.to_owned()))
    }

    /// Closes the connection.
    #[must_use]
    pub fn then_close(self) -> Self {
        self.then(Step::Close)
    }

    /// Resets the connection.
    #[must_use]
    pub fn then_reset(self) -> Self {
        self.then(Step::Reset)
    }

    fn then(mut self, step: Step) -> Self {
        self.steps.push(step);
        self
    }
}
