//! Fail points of a real server, one at a time.

use bson::{RawDocumentBuf, cstr, rawdoc};
use mongo_client::{Client, Result};
use tokio::sync::{Mutex, MutexGuard};

/// A server has one `failCommand`, which the tests of a program share.
static ONE: Mutex<()> = Mutex::const_new(());

/// A `failCommand` that is on; [`off`](Self::off) switches it off.
#[derive(Debug)]
pub struct FailPoint {
    control: Client,
    _turn: MutexGuard<'static, ()>,
}

impl FailPoint {
    /// Makes commands fail as `data` says, so many times; always, without a number. Waits for its
    /// turn.
    ///
    /// # Panics
    /// When the server refuses.
    pub async fn on(control: &Client, times: Option<i32>, data: RawDocumentBuf) -> Self {
        let turn = ONE.lock().await;
        let mut command = rawdoc! { "configureFailPoint": "failCommand" };
        match times {
            Some(times) => command.append(cstr!("mode"), rawdoc! { "times": times }),
            None => command.append(cstr!("mode"), "alwaysOn"),
        }
        command.append(cstr!("data"), data);
        let answer = control.run_admin_command(&command).await;
        answer.expect("the server has fail points");
        Self {
            control: control.clone(),
            _turn: turn,
        }
    }

    /// Switches it off.
    ///
    /// # Errors
    /// When the server does not answer.
    pub async fn off(self) -> Result<()> {
        let command = rawdoc! { "configureFailPoint": "failCommand", "mode": "off" };
        self.control.run_admin_command(&command).await.map(drop)
    }
}
