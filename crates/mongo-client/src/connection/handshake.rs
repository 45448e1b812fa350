//! The first exchanges of a connection: hello (MongoDB Handshake specification) and authentication.

mod environment;
mod metadata;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

#[cfg(feature = "aws")]
use bson::DateTime;
use bson::{RawArrayBuf, RawDocument, RawDocumentBuf, cstr, rawdoc};
use mongo_topology::{HelloCommand, HelloReply};
use mongo_uri::AuthMechanism;
use mongo_wire::{CommandReply, Compressor, Flags, ServerError};

pub use self::metadata::DriverInfo;
pub(crate) use self::metadata::{Environment, Metadata};
use super::{Connection, within};
#[cfg(feature = "oidc")]
use crate::auth::OidcFault;
use crate::auth::{
    AuthFailure, Authenticator, Conversation, Derivation, DerivedKeys, Nonce, Opening, ScramKeys,
    Step,
};
#[cfg(feature = "aws")]
use crate::cloud::AwsIdentity;
#[cfg(feature = "oidc")]
use crate::cloud::OidcIdentity;
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
    #[cfg(feature = "oidc")]
    oidc: OidcIdentity,
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
            #[cfg(feature = "oidc")]
            oidc: OidcIdentity::default(),
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

    /// Takes access tokens from there.
    #[cfg(feature = "oidc")]
    pub(crate) fn with_oidc(mut self, identity: OidcIdentity) -> Self {
        self.oidc = identity;
        self
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
type Unfinished<'a> = Option<(Talk<'a>, Step)>;

/// A connection's authentication under way.
pub(super) struct Talk<'a> {
    handshake: &'a Handshake,
    authenticator: &'a Authenticator,
    conversation: Conversation,
}

impl Connection {
    /// Sends the first hello and takes this connection's limits from the reply.
    pub(super) async fn shake_hands<'a>(
        &mut self,
        handshake: &'a Handshake,
        first: HelloCommand,
    ) -> Result<Unfinished<'a>> {
        let mut command = handshake.command(first, true);
        let opening = match &handshake.authenticator {
            Some(authenticator) => Some((authenticator, self.open(handshake, authenticator)?)),
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
            Some((authenticator, opening)) => {
                let next = self.proceed(authenticator, opening, &hello)?;
                next.map(|(conversation, step)| {
                    let talk = Talk {
                        handshake,
                        authenticator,
                        conversation,
                    };
                    (talk, step)
                })
            }
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

    fn open<'a>(
        &self,
        #[cfg_attr(not(feature = "oidc"), expect(unused_variables))] handshake: &Handshake,
        authenticator: &'a Authenticator,
    ) -> Result<Opening<'a>> {
        let opening = authenticator.open(self.nonce()?);
        #[cfg(feature = "oidc")]
        if opening.mechanism() == AuthMechanism::MongoDbOidc {
            if !handshake.oidc.trusts(&self.server) {
                let failure = OidcFault::HostNotAllowed.into();
                let mechanism = opening.mechanism();
                return Err(self.authentication_failed(authenticator, mechanism, failure));
            }
            if let Some(token) = handshake.oidc.kept() {
                return Ok(opening.with_token(&token));
            }
        }
        Ok(opening)
    }

    fn proceed(
        &self,
        authenticator: &Authenticator,
        opening: Opening<'_>,
        hello: &HelloReply,
    ) -> Result<Option<(Conversation, Step)>> {
        let next = opening.proceed(hello);
        next.map_err(|(mechanism, failure)| {
            self.authentication_failed(authenticator, mechanism, failure)
        })
    }

    /// Takes the steps that are left until the connection is authenticated. The limit is for what
    /// is said to the server; an application that asks a human for a token takes its own time.
    pub(super) async fn authenticate(
        &mut self,
        unfinished: Unfinished<'_>,
        limit: Option<Duration>,
    ) -> Result<()> {
        let Some((mut talk, step)) = unfinished else {
            return Ok(());
        };
        let result = self.converse(&mut talk, step, limit).await;
        #[cfg(feature = "aws")]
        if result.is_err() {
            talk.handshake.aws.forget();
        }
        result
    }

    /// Authenticates once more, as the server wants it when a credential has expired; false for a
    /// connection that was never authenticated.
    pub(super) async fn reauthenticate(
        &mut self,
        handshake: &Handshake,
        limit: Option<Duration>,
    ) -> Result<bool> {
        let (Some(authenticator), Some(before)) = (&handshake.authenticator, &self.proof) else {
            return Ok(false);
        };
        let begun = authenticator.again(before, self.nonce()?);
        let (conversation, step) = begun.map_err(|failure| {
            self.authentication_failed(authenticator, before.mechanism, failure)
        })?;
        let talk = Talk {
            handshake,
            authenticator,
            conversation,
        };
        self.authenticate(Some((talk, step)), limit).await?;
        Ok(true)
    }

    async fn converse(
        &mut self,
        talk: &mut Talk<'_>,
        step: Step,
        limit: Option<Duration>,
    ) -> Result<()> {
        let server = self.server.clone();
        let said = self.say(talk, step);
        let said = within(limit, &server, IoAction::Authenticate, said).await?;
        #[cfg(feature = "oidc")]
        let mut said = said;
        #[cfg(feature = "oidc")]
        while let Step::Token(wish) = &said {
            let token = talk.handshake.oidc.token(wish).await;
            let token = token.map_err(AuthFailure::from);
            let next = token.and_then(|token| talk.conversation.given(token.as_ref()));
            let next = next.map_err(|failure| self.failed(talk, failure))?;
            let work = self.say(talk, next);
            said = within(limit, &server, IoAction::Authenticate, work).await?;
        }
        debug_assert!(matches!(said, Step::Done), "nothing else ends a talk");
        self.proof = Some(talk.conversation.proof());
        if let Some(keys) = talk.conversation.proved() {
            talk.handshake.keys().keep(keys.clone());
        }
        Ok(())
    }

    /// Goes on until the end, or until a token is wished for.
    async fn say(&mut self, talk: &mut Talk<'_>, mut step: Step) -> Result<Step> {
        loop {
            let Talk {
                handshake,
                conversation,
                ..
            } = talk;
            let next = match step {
                Step::Done => return Ok(step),
                #[cfg(feature = "oidc")]
                Step::Token(_) => return Ok(step),
                Step::Send(command) => {
                    let envelope = rawdoc! { "$db": conversation.database() };
                    let reply = self.exchange(&command, &envelope).await?;
                    match self.refusal(&reply)? {
                        Some(error) => conversation.refused(error),
                        None => conversation.handle(reply.document().as_raw()),
                    }
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
            step = next.map_err(|failure| self.failed(talk, failure))?;
        }
    }

    fn failed(&self, talk: &Talk<'_>, failure: AuthFailure) -> Error {
        self.authentication_failed(talk.authenticator, talk.conversation.mechanism(), failure)
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
        match self.refusal(reply)? {
            None => Ok(()),
            Some(error) => {
                let failure = AuthFailure::Refused(Box::new(error));
                Err(self.authentication_failed(authenticator, mechanism, failure))
            }
        }
    }

    fn refusal(&self, reply: &CommandReply) -> Result<Option<ServerError>> {
        reply.server_error().map_err(|source| Error::Reply {
            server: self.server.clone(),
            source,
        })
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
