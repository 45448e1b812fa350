//! Stands between clients and a server, passes every byte on, and prints each command's name,
//! sizes and latency.
//!
//! ```text
//! cargo run -p mongo-wire --all-features --example proxy -- 127.0.0.1:27018 127.0.0.1:27017
//! python3 -c 'import pymongo; pymongo.MongoClient(
//!     "mongodb://127.0.0.1:27018/?directConnection=true&compressors=zlib").test.command("ping")'
//! ```
#![expect(clippy::print_stdout, reason = "printing is what it is for")]

use std::{
    collections::BTreeMap,
    env,
    error::Error,
    io::{self, Read, Write},
    net::{Shutdown, TcpListener, TcpStream},
    sync::{Mutex, PoisonError},
    thread,
    time::Instant,
};

use bytes::BytesMut;
use mongo_wire::{CommandReply, DecodeError, Frame, Limits, Message};

fn main() -> Result<(), Box<dyn Error>> {
    let mut args = env::args().skip(1);
    let (Some(listen), Some(server)) = (args.next(), args.next()) else {
        return Err("usage: proxy LISTEN SERVER, each as host:port".into());
    };
    let listener = TcpListener::bind(&listen)?;
    println!(
        "listening on {}, passing on to {server}",
        listener.local_addr()?
    );
    thread::scope(|scope| {
        for (connection, client) in (1..).zip(listener.incoming()) {
            let (client, server) = (client?, &server);
            scope.spawn(move || match serve(connection, &client, server) {
                Ok(()) => println!("[{connection}] closed"),
                Err(error) => println!("[{connection}] closed: {error}"),
            });
        }
        Ok(())
    })
}

fn serve(connection: u32, client: &TcpStream, server: &str) -> Result<(), Box<dyn Error>> {
    let server = &TcpStream::connect(server)?;
    client.set_nodelay(true)?;
    server.set_nodelay(true)?;
    let calls = &Mutex::new(Calls {
        connection,
        waiting: BTreeMap::new(),
    });
    let seen = |frame: &Frame, see: fn(&mut Calls, &Frame)| {
        see(
            &mut calls.lock().unwrap_or_else(PoisonError::into_inner),
            frame,
        );
    };
    thread::scope(|scope| {
        let requests = scope.spawn(move || {
            pump(client, server, |frame| seen(frame, Calls::request)).map_err(|e| e.to_string())
        });
        pump(server, client, |frame| seen(frame, Calls::reply))?;
        Ok(requests.join().map_err(|_| "a thread panicked")??)
    })
}

/// Passes frames on until either side closes, then closes the other.
fn pump(
    mut from: &TcpStream,
    mut to: &TcpStream,
    see: impl Fn(&Frame),
) -> Result<(), Box<dyn Error>> {
    let result = (|| {
        let limits = Limits::default();
        let (mut received, mut sending) = (BytesMut::new(), BytesMut::new());
        let mut chunk = vec![0; 64 * 1024];
        loop {
            while let Some(frame) = Frame::decode(&mut received, &limits)? {
                // Seen before it is sent, so that no reply comes before its request was noted.
                see(&frame);
                frame.encode(&mut sending, &limits)?;
                to.write_all(&sending.split())?;
            }
            match from.read(&mut chunk) {
                Ok(0) => return Ok(()),
                Ok(len) => received.extend_from_slice(&chunk[..len]),
                Err(error) if error.kind() == io::ErrorKind::ConnectionReset => return Ok(()),
                Err(error) => return Err(error.into()),
            }
        }
    })();
    // The other side may be gone already, which is what is wanted.
    let _ = (from.shutdown(Shutdown::Both), to.shutdown(Shutdown::Both));
    result
}

/// The commands of one connection that wait for a reply, by the `responseTo` it will have.
struct Calls {
    connection: u32,
    waiting: BTreeMap<i32, Call>,
}

struct Call {
    name: String,
    size: String,
    since: Instant,
    replies: u32,
}

impl Calls {
    fn request(&mut self, frame: &Frame) {
        let message = Message::from_frame(frame.clone(), &Limits::default());
        let name = name(&message);
        let size = size(frame);
        if matches!(&message, Ok(Message::Msg(message)) if message.more_to_come()) {
            println!(
                "[{}] {name:<16} {size} -> nothing, as it asked",
                self.connection
            );
            return;
        }
        let call = Call {
            name,
            size,
            since: now(),
            replies: 0,
        };
        self.waiting.insert(frame.header.request_id, call);
    }

    fn reply(&mut self, frame: &Frame) {
        let Some(mut call) = self.waiting.remove(&frame.header.response_to) else {
            println!("[{}] unasked: {frame:?}", self.connection);
            return;
        };
        call.replies += 1;
        let milliseconds = call.since.elapsed().as_secs_f64() * 1e3;
        let message = Message::from_frame(frame.clone(), &Limits::default());
        let more = matches!(&message, Ok(Message::Msg(message)) if message.more_to_come());
        let exhaust = if more || call.replies > 1 {
            format!(", reply {} of an exhaust", call.replies)
        } else {
            String::new()
        };
        println!(
            "[{}] {:<16} {} -> {}  {milliseconds:.2} ms{exhaust}{}",
            self.connection,
            call.name,
            call.size,
            size(frame),
            outcome(&message)
        );
        if more {
            // The next reply comes unasked and answers this one.
            self.waiting.insert(
                frame.header.request_id,
                Call {
                    since: now(),
                    ..call
                },
            );
        }
    }
}

fn name(message: &Result<Message, DecodeError>) -> String {
    let name = match message {
        Ok(Message::Msg(message)) => message.command_name(),
        Ok(Message::Query(query)) => query.query.first_key(),
        Ok(other) => return format!("{other:?}"),
        Err(error) => return error.to_string(),
    };
    name.unwrap_or("(no name)").to_owned()
}

fn size(frame: &Frame) -> String {
    match frame.compressor() {
        Some(compressor) => format!("{} B {compressor}", frame.len()),
        None => format!("{} B", frame.len()),
    }
}

/// What went wrong, if something did.
fn outcome(message: &Result<Message, DecodeError>) -> String {
    let reply = match message {
        Ok(Message::Msg(message)) => Some(message.body().clone()),
        Ok(Message::Reply(reply)) => reply.documents.iter().next().and_then(Result::ok),
        Ok(_) => None,
        Err(error) => return format!("  unreadable: {error}"),
    };
    match reply.map(|reply| CommandReply::new(reply).server_error()) {
        Some(Ok(Some(error))) => format!("  {error}"),
        Some(Err(error)) => format!("  {error}"),
        _ => String::new(),
    }
}

#[expect(
    clippy::disallowed_methods,
    reason = "a program has a clock, its codec has none"
)]
fn now() -> Instant {
    Instant::now()
}
