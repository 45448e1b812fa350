//! A service such as clouds have for their machines: it answers small HTTP requests as a test
//! says, one on each connection.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};

use anyhow::{Context, Result};

/// A request that the service received.
#[derive(Debug, Clone, Default)]
pub struct HttpRequest {
    /// `GET`, `PUT` or `POST`.
    pub method: String,
    /// The path, with the query behind it.
    pub target: String,
    /// The headers, their names in lower case.
    pub headers: Vec<(String, String)>,
    /// The body.
    pub body: String,
}

impl HttpRequest {
    /// The value of a header, whose name is given in lower case.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        let found = self.headers.iter().find(|(known, _)| known == name);
        found.map(|(_, value)| value.as_str())
    }

    fn read(stream: &TcpStream) -> Result<Self> {
        let mut reader = BufReader::new(stream);
        let mut line = String::new();
        reader.read_line(&mut line)?;
        let mut words = line.split(' ');
        let mut request = Self {
            method: words.next().context("no method")?.to_owned(),
            target: words.next().context("no target")?.to_owned(),
            ..Self::default()
        };
        loop {
            let mut line = String::new();
            reader.read_line(&mut line)?;
            let Some((name, value)) = line.trim_end().split_once(':') else {
                break;
            };
            let value = value.trim().to_owned();
            request.headers.push((name.to_ascii_lowercase(), value));
        }
        let length = request.header("content-length").unwrap_or("0").parse()?;
        reader.take(length).read_to_string(&mut request.body)?;
        Ok(request)
    }
}

/// The service, on a free loopback port, until it is dropped.
#[derive(Debug)]
pub struct HttpService {
    address: SocketAddr,
    received: Arc<Mutex<Vec<HttpRequest>>>,
    closing: Arc<AtomicBool>,
    acceptor: Option<JoinHandle<()>>,
}

impl HttpService {
    /// Starts a service that answers with a status and a body.
    ///
    /// # Errors
    ///
    /// When there is no free port or no thread can be started.
    pub fn start(answer: impl Fn(&HttpRequest) -> (u16, String) + Send + 'static) -> Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
        let address = listener.local_addr()?;
        let received = Arc::new(Mutex::new(Vec::new()));
        let closing = Arc::new(AtomicBool::new(false));
        let acceptor = {
            let (received, closing) = (Arc::clone(&received), Arc::clone(&closing));
            let accept = move || {
                for stream in listener.incoming() {
                    if closing.load(Ordering::Relaxed) {
                        return;
                    }
                    // A client that leaves is the test's business.
                    let _ = stream.map(|stream| serve(&stream, &received, &answer));
                }
            };
            thread::Builder::new()
                .name("http service".to_owned())
                .spawn(accept)?
        };
        Ok(Self {
            address,
            received,
            closing,
            acceptor: Some(acceptor),
        })
    }

    /// Its base, `http://127.0.0.1:port`.
    #[must_use]
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// All requests received so far.
    #[must_use]
    pub fn received(&self) -> Vec<HttpRequest> {
        let received = self.received.lock();
        received.unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl Drop for HttpService {
    fn drop(&mut self) {
        self.closing.store(true, Ordering::Relaxed);
        // The acceptor sees that it is closing when it has accepted something.
        let _ = TcpStream::connect(self.address);
        if let Some(acceptor) = self.acceptor.take() {
            // A panic in it was reported by itself.
            let _ = acceptor.join();
        }
    }
}

fn serve(
    stream: &TcpStream,
    received: &Mutex<Vec<HttpRequest>>,
    answer: impl Fn(&HttpRequest) -> (u16, String),
) -> Result<()> {
    let request = HttpRequest::read(stream)?;
    let (status, body) = answer(&request);
    let mut all = received.lock().unwrap_or_else(PoisonError::into_inner);
    all.push(request);
    drop(all);
    let length = body.len();
    let head = format!("HTTP/1.1 {status} -\r\nContent-Length: {length}\r\nConnection: close");
    write!(&*stream, "{head}\r\n\r\n{body}")?;
    Ok(())
}
