//! What a client can be given beside its connection string.

use std::fmt;
use std::sync::Arc;

use mongo_uri::ConnectionString;

use super::Client;
use crate::error::Result;
use crate::events::{Event, EventListener};

/// A client to be; [`build`](Self::build) makes it.
///
/// ```no_run
/// use mongo_client::{Client, Event};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> mongo_client::Result<()> {
/// let (events, mut inbox) = tokio::sync::mpsc::unbounded_channel();
/// let client = Client::builder("mongodb://localhost/".parse()?)
///     .on_event(move |event| {
///         if let Event::Cmap { .. } = event {
///             let _ = events.send(event.clone());
///         }
///     })
///     .build()?;
/// client.run_admin_command(&bson::rawdoc! { "ping": 1 }).await?;
/// println!("{:?}", inbox.recv().await);
/// # Ok(())
/// # }
/// ```
#[must_use = "a client is made when it is built"]
pub struct ClientBuilder {
    uri: ConnectionString,
    listener: Option<EventListener>,
}

impl ClientBuilder {
    pub(super) fn new(uri: ConnectionString) -> Self {
        let listener = None;
        Self { uri, listener }
    }

    /// Called for everything that happens in the client, in the order in which it happens; see
    /// [`events`](crate::events) for what it may do. There is one listener: the last one given.
    pub fn on_event(mut self, listener: impl Fn(&Event) + Send + Sync + 'static) -> Self {
        self.listener = Some(Arc::new(listener));
        self
    }

    /// Makes the client. Nothing is sent yet.
    ///
    /// # Errors
    /// [`Error::Misuse`](crate::Error::Misuse) when the connection string asks for what this
    /// version does not have.
    ///
    /// # Panics
    /// Outside a tokio runtime: the monitors run as its tasks.
    pub fn build(self) -> Result<Client> {
        Client::start(self.uri, self.listener)
    }
}

impl fmt::Debug for ClientBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ClientBuilder")
            .field("uri", &self.uri)
            .field("heard", &self.listener.is_some())
            .finish()
    }
}
