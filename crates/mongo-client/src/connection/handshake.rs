//! The first exchange of a connection (MongoDB Handshake specification).

use bson::{RawArrayBuf, RawDocument, RawDocumentBuf, cstr, rawdoc};
use mongo_topology::{HelloCommand, HelloReply};
use mongo_wire::Flags;

use super::Connection;
use crate::error::{Error, Result};

/// The longest `client` document that servers accept, in bytes of BSON.
const MAX_METADATA_LEN: usize = 512;

/// What a client says of itself in the first hello of each of its connections.
#[derive(Clone, Debug)]
pub(crate) struct Handshake {
    metadata: RawDocumentBuf,
}

impl Handshake {
    pub(crate) fn new(app_name: Option<&str>) -> Self {
        Self {
            metadata: client_metadata(app_name),
        }
    }

    /// The hello that opens a connection. Compressors are offered by application connections
    /// only, even when there is none to offer.
    pub(crate) fn command(&self, hello: HelloCommand, offer_compressors: bool) -> RawDocumentBuf {
        let mut command = hello.document();
        command.append(cstr!("client"), self.metadata.clone());
        if offer_compressors {
            command.append(cstr!("compression"), RawArrayBuf::new());
        }
        // A string, as the handshake specification's test 9 wants it.
        command.append(cstr!("backpressure"), "2");
        command
    }
}

/// Driver, operating system and platform, cut to what servers accept: first the details of the
/// operating system go, then the platform.
fn client_metadata(app_name: Option<&str>) -> RawDocumentBuf {
    let full = rawdoc! {
        "type": std::env::consts::OS, "architecture": std::env::consts::ARCH,
    };
    let short = rawdoc! { "type": std::env::consts::OS };
    let candidates = [
        (&full, Some("Rust")),
        (&short, Some("Rust")),
        (&short, None),
    ];
    let mut metadata = RawDocumentBuf::new();
    for (os, platform) in candidates {
        metadata = metadata_with(app_name, os, platform);
        if metadata.as_bytes().len() <= MAX_METADATA_LEN {
            break;
        }
    }
    metadata
}

fn metadata_with(
    app_name: Option<&str>,
    os: &RawDocumentBuf,
    platform: Option<&str>,
) -> RawDocumentBuf {
    let mut metadata = RawDocumentBuf::new();
    if let Some(name) = app_name {
        metadata.append(cstr!("application"), rawdoc! { "name": name });
    }
    let driver = rawdoc! { "name": "mongo-client", "version": env!("CARGO_PKG_VERSION") };
    metadata.append(cstr!("driver"), driver);
    metadata.append(cstr!("os"), os.clone());
    if let Some(platform) = platform {
        metadata.append(cstr!("platform"), platform);
    }
    metadata
}

impl Connection {
    /// Sends the first hello and takes this connection's limits from the reply.
    pub(super) async fn shake_hands(&mut self, command: &RawDocument) -> Result<()> {
        self.send_hello(command, Flags::empty()).await?;
        let (reply, _) = self.receive_hello().await?;
        let max = usize::try_from(reply.limits.max_message_size_bytes).unwrap_or(usize::MAX);
        self.limits.max_message_len = max;
        self.hello = Some(reply);
        Ok(())
    }

    /// Sends a hello; the flags say whether it may be answered more than once.
    pub(crate) async fn send_hello(&mut self, command: &RawDocument, flags: Flags) -> Result<()> {
        self.send(command, &rawdoc! { "$db": "admin" }, flags).await
    }

    /// Reads a reply to a hello; true says that another one follows unasked.
    pub(crate) async fn receive_hello(&mut self) -> Result<(HelloReply, bool)> {
        let (reply, more_to_come) = self.receive().await?;
        let hello =
            HelloReply::parse(reply.document().as_raw()).map_err(|source| Error::Hello {
                server: self.server.clone(),
                source,
            })?;
        Ok((hello, more_to_come))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn metadata_fits_whatever_the_application_name() {
        for name in [None, Some(""), Some("tail"), Some("n".repeat(128).as_str())] {
            let metadata = client_metadata(name);
            assert!(metadata.as_bytes().len() <= MAX_METADATA_LEN, "{name:?}");
            assert_eq!(
                metadata.get("application").unwrap().is_some(),
                name.is_some()
            );
        }
    }

    #[test]
    fn only_application_connections_offer_compressors() {
        let handshake = Handshake::new(None);
        for offer in [true, false] {
            let command = handshake.command(HelloCommand::Legacy, offer);
            assert_eq!(command.get("compression").unwrap().is_some(), offer);
            assert_eq!(command.get_str("backpressure").unwrap(), "2");
            assert_eq!(
                command.iter().next().unwrap().unwrap().0.as_str(),
                "isMaster"
            );
        }
    }
}
