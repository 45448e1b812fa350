//! The first exchanges of a connection: hello (MongoDB Handshake specification) and authentication.

mod environment;
mod metadata;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

#[cfg(feature = "aws")]
use bson::DateTime;
use bson::{RawArrayBuf, RawDocument, RawDocumentBuf, cstr, rawdoc};
use mongo_topology::{HelloCommand, HelloReply};
use mongo_uri::AuthMechanism;
use mongo_wire::{CommandReply, Compressor, Flags};

pub use self::metadata::DriverInfo;
pub(crate) use self::metadata::{Environment, Metadata};
use super::Connection;
use crate::auth::{
    AuthFailure, Authenticator, Conversation, Derivation, DerivedKeys, Nonce, Opening, ScramKeys,
    Step,
};
#[cfg(feature = "aws")]
use crate::cloud::AwsIdentity;
use crate::error::{Error, IoAction, Result, Violation};

/// Less than this, and hardly a command can be sent.
const MIN_MESSAGE_SIZE: u32 = 16 * 1024;
/// What a server may make this process hold in memory for one reply, whatever it says; all servers
/// so far say a quarter of it.
const MAX_MESSAGE_SIZE: u32 = 4 * 48_000_000;

/// What the first hello of each of a client's connections says.
#[derive(Debug)]
pub(crate) struct Handshake {
    metadata: Arc<Mutex<Metadata>>,
    /// In the order of the client's preference; all of them built in.
    compressors: Vec<Compressor>,
    authenticator: Option<Authenticator>,
    /// Servers must say which service they are.
    is_load_balanced: bool,
    /// Shared by all connections, so that only the first one computes.
    keys: Mutex<ScramKeys>,
    #[cfg(feature = "aws")]
    aws: AwsIdentity,
}

impl Handshake {
    pub(crate) fn new(app_name: Option<&str>, environment: &Environment) -> Self {
        Self {
            metadata: Arc::new(Mutex::new(Metadata::new(app_name, environment))),
            compressors: Vec::new(),
            authenticator: None,
            is_load_balanced: false,
            keys: Mutex::default(),
            #[cfg(feature = "aws")]
            aws: AwsIdentity::default(),
        }
    }

    /// What every hello from now on says of the client; to be added to.
    pub(crate) fn metadata(&self) -> Arc<Mutex<Metadata>> {
        Arc::clone(&self.metadata)
    }

    /// Offers compressors, the favourite first.
    pub(crate) fn with_compressors(mut self, compressors: Vec<Compressor>) -> Self {
        self.compressors = compressors;
        self
    }

    /// Whether each connection may reach another service.
    pub(crate) fn behind_load_balancer(mut self, is_load_balanced: bool) -> Self {
        self.is_load_balanced = is_load_balanced;
        self
    }

    /// Authenticates the application's connections.
    pub(crate) fn with_authenticator(mut self, authenticator: Option<Authenticator>) -> Self {
        self.authenticator = authenticator;
        self
    }

    /// Takes AWS credentials from there.
    #[cfg(feature = "aws")]
    pub(crate) fn with_aws(mut self, identity: AwsIdentity) -> Self {
        self.aws = identity;
        self
    }

    /// A connection could not be authenticated: what was kept for that may be to blame.
    #[cfg(feature = "aws")]
    pub(super) fn forget(&self) {
        self.aws.forget();
    }

    /// The hello that opens a connection. Compressors are offered by application connections
    /// only, even when there is none to offer; monitors neither compress nor authenticate.
    pub(crate) fn command(&self, hello: HelloCommand, offer_compressors: bool) -> RawDocumentBuf {
        let mut command = hello.document();
        if self.is_load_balanced {
            command.append(cstr!("loadBalanced"), true);
        }
        let metadata = self.metadata.lock().unwrap_or_else(PoisonError::into_inner);
        command.append(cstr!("client"), metadata.document().clone());
        drop(metadata);
        if offer_compressors {
            let names: RawArrayBuf = self.compressors.iter().map(|c| c.name()).collect();
            command.append(cstr!("compression"), names);
        }
        // A string, as the handshake specification's test 9 wants it.
        command.append(cstr!("backpressure"), "2");
        command
    }

    fn keys(&self) -> MutexGuard<'_, ScramKeys> {
        self.keys.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The first of the client's compressors that the server knows, whatever the server's order.
    fn choose_compressor(&self, hello: &HelloReply) -> Option<Compressor> {
        let known = |own: &&Compressor| hello.compression.iter().any(|name| name == own.name());
        self.compressors.iter().find(known).copied()
    }
}

/// What is left to do after the hello.
type Unfinished<'a> = Option<(&'a Authenticator, Conversation, Step)>;

impl Connection {
    /// Sends the first hello and takes this connection's limits from the reply.
    pub(super) async fn shake_hands<'a>(
        &mut self,
        handshake: &'a Handshake,
        first: HelloCommand,
    ) -> Result<Unfinished<'a>> {
        let mut command = handshake.command(first, true);
        let opening = match &handshake.authenticator {
            Some(authenticator) => Some((authenticator, authenticator.open(self.nonce()?))),
            None => None,
        };
        if let Some((_, opening)) = &opening {
            opening.append_to(&mut command);
        }
        self.send_hello(&command, Flags::empty()).await?;
        let (reply, _) = self.receive().await?;
        if let Some((authenticator, opening)) = &opening {
            // With credentials, a hello that fails is an authentication that fails.
            self.check(&reply, authenticator, opening.mechanism())?;
        }
        let mut hello = self.parse_hello(&reply)?;
        if !handshake.is_load_balanced {
            hello.service_id = None;
        } else if hello.service_id.is_none() {
            return Err(self.violation(Violation::NoServiceId));
        }
        self.limits.max_message_len = self.message_size(&hello)?;
        self.compressor = handshake.choose_compressor(&hello);
        let unfinished = match opening {
            Some((authenticator, opening)) => self.proceed(authenticator, opening, &hello)?,
            None => None,
        };
        self.hello = Some(hello);
        Ok(unfinished)
    }

    /// How long messages may be, as far as the server can be believed.
    fn message_size(&self, hello: &HelloReply) -> Result<usize> {
        let announced = hello.limits.max_message_size_bytes;
        if announced < MIN_MESSAGE_SIZE {
            let field = "maxMessageSizeBytes";
            return Err(self.violation(Violation::SizeLimit { field, announced }));
        }
        Ok(usize::try_from(announced.min(MAX_MESSAGE_SIZE)).unwrap_or(usize::MAX))
    }

    fn proceed<'a>(
        &self,
        authenticator: &'a Authenticator,
        opening: Opening<'_>,
        hello: &HelloReply,
    ) -> Result<Unfinished<'a>> {
        match opening.proceed(hello) {
            Ok(next) => Ok(next.map(|(conversation, step)| (authenticator, conversation, step))),
            Err((mechanism, failure)) => {
                Err(self.authentication_failed(authenticator, mechanism, failure))
            }
        }
    }

    /// Takes the steps that are left until the connection is authenticated.
    pub(super) async fn authenticate(
        &mut self,
        handshake: &Handshake,
        unfinished: Unfinished<'_>,
    ) -> Result<()> {
        let Some((authenticator, mut conversation, mut step)) = unfinished else {
            return Ok(());
        };
        let mechanism = conversation.mechanism();
        loop {
            let next = match step {
                Step::Done => {
                    if let Some(keys) = conversation.proved() {
                        handshake.keys().keep(keys.clone());
                    }
                    return Ok(());
                }
                Step::Send(command) => {
                    let envelope = rawdoc! { "$db": conversation.database() };
                    let reply = self.exchange(&command, &envelope).await?;
                    self.check(&reply, authenticator, mechanism)?;
                    conversation.handle(reply.document().as_raw())
                }
                Step::Derive(derivation) => {
                    let known = handshake.keys().find(&derivation);
                    let keys = match known {
                        Some(keys) => keys,
                        None => self.derive(derivation).await?,
                    };
                    conversation.derived(keys)
                }
                #[cfg(feature = "aws")]
                Step::Identify => {
                    let credentials = handshake.aws.credentials().await;
                    let credentials = credentials.map_err(AuthFailure::from);
                    credentials.and_then(|known| conversation.identified(&known, DateTime::now()))
                }
            };
            step = next
                .map_err(|failure| self.authentication_failed(authenticator, mechanism, failure))?;
        }
    }

    /// Computes where it holds no task up. Dropping the future lets the computation end unheard.
    async fn derive(&self, derivation: Derivation) -> Result<DerivedKeys> {
        let derived = tokio::task::spawn_blocking(|| derivation.run()).await;
        derived.map_err(|error| self.io_error(IoAction::Authenticate, std::io::Error::other(error)))
    }

    /// Insists on `ok: 1`.
    fn check(
        &self,
        reply: &CommandReply,
        authenticator: &Authenticator,
        mechanism: AuthMechanism,
    ) -> Result<()> {
        match reply.server_error() {
            Ok(None) => Ok(()),
            Ok(Some(error)) => {
                let failure = AuthFailure::Refused(Box::new(error));
                Err(self.authentication_failed(authenticator, mechanism, failure))
            }
            Err(source) => Err(Error::Reply {
                server: self.server.clone(),
                source,
            }),
        }
    }

    fn authentication_failed(
        &self,
        authenticator: &Authenticator,
        mechanism: AuthMechanism,
        failure: AuthFailure,
    ) -> Error {
        let error = authenticator.error(self.server.clone(), mechanism, failure);
        Error::Authentication(Box::new(error))
    }

    fn nonce(&self) -> Result<Nonce> {
        let mut bytes = [0; Nonce::LEN];
        getrandom::fill(&mut bytes)
            .map_err(|error| self.io_error(IoAction::Authenticate, std::io::Error::other(error)))?;
        Ok(Nonce::new(bytes))
    }

    /// Sends a hello; the flags say whether it may be answered more than once.
    pub(crate) async fn send_hello(&mut self, command: &RawDocument, flags: Flags) -> Result<()> {
        self.send(command, &rawdoc! { "$db": "admin" }, flags).await
    }

    /// Reads a reply to a hello; true says that another one follows unasked.
    pub(crate) async fn receive_hello(&mut self) -> Result<(HelloReply, bool)> {
        let (reply, more_to_come) = self.receive().await?;
        Ok((self.parse_hello(&reply)?, more_to_come))
    }

    fn parse_hello(&self, reply: &CommandReply) -> Result<HelloReply> {
        HelloReply::parse(reply.document().as_raw()).map_err(|source| Error::Hello {
            server: self.server.clone(),
            source,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_application_connections_offer_compressors() {
        let handshake = Handshake::new(None, &Environment::default())
            .with_compressors(vec![Compressor::Zstd, Compressor::Snappy]);
        for offer in [true, false] {
            let command = handshake.command(HelloCommand::Legacy, offer);
            let offered = command.get("compression").unwrap();
            let expected: RawArrayBuf = ["zstd", "snappy"].into_iter().collect();
            assert_eq!(
                offered.and_then(|value| value.as_array()),
                offer.then_some(&*expected)
            );
            assert_eq!(command.get_str("backpressure").unwrap(), "2");
            let first = command.iter().next().unwrap().unwrap();
            assert_eq!(first.0.as_str(), "isMaster");
        }
    }

    #[test]
    fn the_clients_order_chooses_the_compressor() {
        use Compressor::{Snappy, Zstd};
        for (own, server, expected) in [
            (vec![Zstd, Snappy], vec!["snappy", "zstd"], Some(Zstd)),
            (vec![Snappy, Zstd], vec!["zstd", "snappy"], Some(Snappy)),
            (vec![Snappy, Zstd], vec!["zstd"], Some(Zstd)),
            (vec![Snappy], vec!["zstd"], None),
            (vec![Snappy], vec![], None),
            (vec![], vec!["snappy"], None),
        ] {
            let handshake =
                Handshake::new(None, &Environment::default()).with_compressors(own.clone());
            let listed: RawArrayBuf = server.iter().copied().collect();
            let mut reply = rawdoc! { "ok": 1, "isWritablePrimary": true, "maxWireVersion": 17 };
            reply.append(cstr!("compression"), listed);
            let hello = HelloReply::parse(&reply).unwrap();
            assert_eq!(
                handshake.choose_compressor(&hello),
                expected,
                "{own:?} {server:?}"
            );
        }
    }
}
