//! A TLS stream that can tell why the server ended it before its first reply.
//!
//! A server may say only after the handshake that it wants a client certificate, or another one:
//! by an alert, or by ending the connection. Whether it asked for one is then all there is to know.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, ready};

use rustls::client::ResolvesClientCert;
use rustls::sign::CertifiedKey;
use rustls::{ClientConfig, SignatureScheme};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio_rustls::client::TlsStream;

use super::super::ByteStream;
use super::explained;
use crate::error::TlsFailure;

/// Sees whether the server asks for a client certificate, and whether there was one to give.
#[derive(Debug)]
pub(super) struct Witness {
    inner: Arc<dyn ResolvesClientCert>,
    asked: AtomicBool,
    given: AtomicBool,
}

impl Witness {
    pub(super) fn new(config: &ClientConfig) -> Self {
        Self {
            inner: Arc::clone(&config.client_auth_cert_resolver),
            asked: AtomicBool::new(false),
            given: AtomicBool::new(false),
        }
    }

    /// What to say when the server ends the connection now.
    pub(super) fn refusal(&self) -> Option<TlsFailure> {
        if !self.asked.load(Ordering::Relaxed) {
            None
        } else if self.given.load(Ordering::Relaxed) {
            Some(TlsFailure::ClientCertificateRefused)
        } else {
            Some(TlsFailure::ClientCertificateMissing)
        }
    }
}

impl ResolvesClientCert for Witness {
    fn resolve(
        &self,
        root_hint_subjects: &[&[u8]],
        sigschemes: &[SignatureScheme],
    ) -> Option<Arc<CertifiedKey>> {
        let certificate = self.inner.resolve(root_hint_subjects, sigschemes);
        self.asked.store(true, Ordering::Relaxed);
        self.given.store(certificate.is_some(), Ordering::Relaxed);
        certificate
    }

    fn only_raw_public_keys(&self) -> bool {
        self.inner.only_raw_public_keys()
    }

    fn has_certs(&self) -> bool {
        self.inner.has_certs()
    }
}

/// See the [module](self).
pub(super) struct Watched {
    stream: TlsStream<Box<dyn ByteStream>>,
    witness: Arc<Witness>,
    /// The server has said something: it accepts this client.
    heard: bool,
}

impl Watched {
    pub(super) fn new(stream: TlsStream<Box<dyn ByteStream>>, witness: Arc<Witness>) -> Self {
        Self {
            stream,
            witness,
            heard: false,
        }
    }

    /// Why a stream ended before anything was heard, as far as certificates can be why.
    fn refusal(&self) -> Option<io::Error> {
        let refusal = if self.heard {
            None
        } else {
            self.witness.refusal()
        };
        refusal.map(io::Error::other)
    }
}

impl AsyncRead for Watched {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        let had_room = buf.remaining() > 0;
        let read = ready!(Pin::new(&mut self.stream).poll_read(cx, buf));
        Poll::Ready(match read {
            Ok(()) if buf.filled().len() > before => {
                self.heard = true;
                Ok(())
            }
            Ok(()) if !had_room => Ok(()),
            Ok(()) => self.refusal().map_or(Ok(()), Err),
            // mongod ends connections without a word. Messages have a length, so that nobody can
            // pass a cut one off as a whole one: this is an end like that of any socket.
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => {
                self.refusal().map_or(Ok(()), Err)
            }
            Err(error) if error.kind() == io::ErrorKind::ConnectionReset => {
                Err(self.refusal().unwrap_or(error))
            }
            Err(error) => Err(explained(error, &self.witness)),
        })
    }
}

impl AsyncWrite for Watched {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
