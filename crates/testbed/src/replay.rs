//! A server that has nothing to do but to send the same batch of change events, again and again:
//! how fast a client takes them shows what the client costs.
//!
//! It answers as the primary of a replica set whose time goes on with every batch. The batch is
//! encoded once, so that a `getMore` costs the server a copy into the socket. `exhaustAllowed` is
//! obeyed.

use std::io::{IoSlice, Read as _, Write as _};
use std::net::{Ipv4Addr, Shutdown, TcpListener, TcpStream};
use std::ops::ControlFlow;
use std::sync::atomic::{AtomicBool, AtomicI32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use bson::spec::BinarySubtype;
use bson::{Binary, RawArrayBuf, RawDocument, RawDocumentBuf, Timestamp, rawdoc};
use bytes::{BufMut as _, BytesMut};
use mongo_wire::{Document, Flags, Header, Limits, Message, OpMsg, OpReply, decode};

use crate::scripted::HelloScript;

/// The cursor of every stream.
const CURSOR: i64 = 4_242;
/// How long a `getMore` waits once there is nothing left.
const AWAIT: Duration = Duration::from_millis(100);
/// Bytes read at once; requests are small.
const READ_SIZE: usize = 16 * 1024;
/// Where a message's own flags stand.
const FLAGS_AT: usize = Header::LEN;
/// Where the increment of the cluster time stands, the first value of the reply: behind flags,
/// section kind and length, then type, key and length of `$clusterTime`, then type and key of the
/// timestamp.
const INCREMENT_AT: usize = FLAGS_AT + 4 + 1 + 4 + 1 + 13 + 4 + 1 + 12;

/// What is sent.
#[derive(Debug, Clone)]
pub struct Replay {
    /// The events of every batch.
    pub events: Vec<RawDocumentBuf>,
    /// How many batches a stream gets from its `getMore`s before it gets empty ones.
    pub batches: u64,
}

impl Replay {
    /// So many events of about 600 bytes a batch, as of a collection of small documents.
    #[must_use]
    pub fn of_orders(events: i32, batches: u64) -> Self {
        Self {
            events: (0..events).map(order).collect(),
            batches,
        }
    }
}

/// An event of about 600 bytes: an insert of `{ _id, total, note }` into `shop.orders`.
#[must_use]
pub fn order(number: i32) -> RawDocumentBuf {
    // Digits that differ from event to event, so that compressors have something to do.
    let mixed = |salt: u32| {
        number
            .unsigned_abs()
            .wrapping_add(salt)
            .wrapping_mul(2_654_435_761)
    };
    let text: String = (0..30)
        .map(|salt| format!("{:08x} ", mixed(salt)))
        .collect();
    rawdoc! {
        "_id": { "_data": format!("8265{:08X}000000012B0229296E04{:08X}", mixed(1), mixed(2)) },
        "operationType": "insert",
        "clusterTime": Timestamp { time: 1_700_000_000, increment: 1 },
        "wallTime": bson::DateTime::from_millis(1_700_000_000_000),
        "ns": { "db": "shop", "coll": "orders" },
        "documentKey": { "_id": number },
        "fullDocument": { "_id": number, "total": 12.5, "note": text },
    }
}

/// The reply to a `getMore` with these events.
#[must_use]
pub fn get_more_reply(events: &[RawDocumentBuf]) -> Document {
    let batch: RawArrayBuf = events.iter().collect();
    rawdoc! { "$clusterTime": cluster_time(), "cursor": cursor("nextBatch", batch), "ok": 1.0 }
        .into()
}

fn cluster_time() -> RawDocumentBuf {
    let signature = rawdoc! { "hash": Binary { subtype: BinarySubtype::Generic, bytes: vec![7; 20] }, "keyId": 7_i64 };
    rawdoc! {
        "clusterTime": Timestamp { time: 1_700_000_000, increment: 0 },
        "signature": signature,
    }
}

fn cursor(batch_key: &str, batch: RawArrayBuf) -> RawDocumentBuf {
    let key = bson::raw::CString::try_from(batch_key).expect("no zero byte");
    let mut cursor = RawDocumentBuf::new();
    cursor.append(key, batch);
    cursor.append(
        bson::cstr!("postBatchResumeToken"),
        rawdoc! { "_data": "8265" },
    );
    cursor.append(bson::cstr!("id"), CURSOR);
    cursor.append(bson::cstr!("ns"), "shop.orders");
    cursor
}

/// A server on a free loopback port; its connections end when it is dropped.
#[derive(Debug)]
pub struct ReplayServer {
    address: String,
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Debug)]
struct Shared {
    hello: HelloScript,
    /// The reply to a `getMore`, as it goes over the wire.
    batch: BytesMut,
    batches: u64,
    /// Of the newest stream.
    left: AtomicU64,
    next_request_id: AtomicI32,
    closing: AtomicBool,
    open: Mutex<Vec<TcpStream>>,
}

impl ReplayServer {
    /// Starts to listen.
    ///
    /// # Errors
    /// When no port is free, or a batch is longer than a message may be.
    pub fn start(replay: &Replay) -> Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
        let address = listener.local_addr()?.to_string();
        let mut batch = BytesMut::new();
        OpMsg::new(0, get_more_reply(&replay.events)).encode(&mut batch, &Limits::default())?;
        let shared = Arc::new(Shared {
            hello: HelloScript::primary("replay", &address, &[&address]),
            batch,
            batches: replay.batches,
            left: AtomicU64::new(0),
            next_request_id: AtomicI32::new(1),
            closing: AtomicBool::new(false),
            open: Mutex::default(),
        });
        let serving = Arc::clone(&shared);
        let thread = thread::spawn(move || serve(&listener, &serving));
        Ok(Self {
            address,
            shared,
            thread: Some(thread),
        })
    }

    /// `host:port`.
    #[must_use]
    pub fn address(&self) -> &str {
        &self.address
    }

    /// A connection string for it.
    #[must_use]
    pub fn uri(&self) -> String {
        format!("mongodb://{}/?directConnection=true", self.address)
    }
}

impl Drop for ReplayServer {
    fn drop(&mut self) {
        self.shared.closing.store(true, Ordering::SeqCst);
        let open = self.shared.open.lock();
        for stream in open.unwrap_or_else(PoisonError::into_inner).iter() {
            // It may be closed already.
            let _ = stream.shutdown(Shutdown::Both);
        }
        // Wakes the thread that accepts.
        let _ = TcpStream::connect(&self.address);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn serve(listener: &TcpListener, shared: &Shared) {
    thread::scope(|scope| {
        for stream in listener.incoming() {
            if shared.closing.load(Ordering::SeqCst) {
                return;
            }
            // An accept that fails concerns a connection that is gone already.
            let Ok(stream) = stream else { continue };
            scope.spawn(move || {
                // A client that leaves ends its connection.
                let _ = answer_all(stream, shared);
            });
        }
    });
}

fn answer_all(mut stream: TcpStream, shared: &Shared) -> Result<()> {
    stream.set_nodelay(true)?;
    {
        let mut open = shared.open.lock().unwrap_or_else(PoisonError::into_inner);
        open.push(stream.try_clone()?);
    }
    if shared.closing.load(Ordering::SeqCst) {
        return Ok(());
    }
    let limits = Limits::default();
    let mut bytes = BytesMut::new();
    let mut chunk = vec![0; READ_SIZE];
    loop {
        while let Some(message) = decode(&mut bytes, &limits)? {
            if answer(&mut stream, shared, &message)?.is_break() {
                return Ok(());
            }
        }
        let count = stream.read(&mut chunk)?;
        if count == 0 {
            return Ok(());
        }
        bytes.put_slice(&chunk[..count]);
    }
}

fn answer(stream: &mut TcpStream, shared: &Shared, message: &Message) -> Result<ControlFlow<()>> {
    let (body, exhaust) = match message {
        Message::Msg(message) => (
            message.body(),
            message.flags.contains(Flags::EXHAUST_ALLOWED),
        ),
        Message::Query(query) => (&query.query, false),
        _ => bail!("a request is an OP_MSG or an OP_QUERY"),
    };
    let name = body.first_key().context("a command has a name")?;
    let reply = match name {
        "getMore" => return send_batches(stream, shared, message.request_id(), exhaust),
        "aggregate" => {
            shared.left.store(shared.batches, Ordering::SeqCst);
            rawdoc! { "cursor": cursor("firstBatch", RawArrayBuf::new()), "ok": 1.0 }
        }
        "hello" | "isMaster" | "ismaster" => shared.hello.reply(1, 0)?,
        _ => rawdoc! { "ok": 1.0 },
    };
    let is_query = matches!(message, Message::Query(_));
    send(
        stream,
        shared,
        message.request_id(),
        is_query,
        reply.as_ref(),
    )?;
    Ok(ControlFlow::Continue(()))
}

fn send(
    stream: &mut TcpStream,
    shared: &Shared,
    response_to: i32,
    is_query: bool,
    reply: &RawDocument,
) -> Result<()> {
    let request_id = shared.next_request_id.fetch_add(1, Ordering::Relaxed);
    let reply = Document::from(reply.to_owned());
    let message = if is_query {
        Message::Reply(OpReply::new(request_id, response_to, &reply))
    } else {
        OpMsg::new(request_id, reply)
            .in_response_to(response_to)
            .into()
    };
    let mut bytes = BytesMut::new();
    message.encode(&mut bytes, &Limits::default())?;
    stream.write_all(&bytes)?;
    Ok(())
}

/// One batch, or all that are left if the client lets the server go on by itself.
fn send_batches(
    stream: &mut TcpStream,
    shared: &Shared,
    request_id: i32,
    exhaust: bool,
) -> Result<ControlFlow<()>> {
    let mut response_to = request_id;
    loop {
        let take = |left: u64| left.checked_sub(1);
        if shared
            .left
            .fetch_update(Ordering::SeqCst, Ordering::SeqCst, take)
            .is_err()
        {
            thread::sleep(AWAIT);
            let empty = rawdoc! { "cursor": cursor("nextBatch", RawArrayBuf::new()), "ok": 1.0 };
            send(stream, shared, response_to, false, &empty)?;
            return Ok(ControlFlow::Continue(()));
        }
        let request_id = shared.next_request_id.fetch_add(1, Ordering::Relaxed);
        let mut head = [0; INCREMENT_AT + 4];
        head.copy_from_slice(&shared.batch[..INCREMENT_AT + 4]);
        head[4..8].copy_from_slice(&request_id.to_le_bytes());
        head[8..12].copy_from_slice(&response_to.to_le_bytes());
        if exhaust {
            head[FLAGS_AT..FLAGS_AT + 4].copy_from_slice(&Flags::MORE_TO_COME.bits().to_le_bytes());
        }
        head[INCREMENT_AT..].copy_from_slice(&request_id.to_le_bytes());
        let rest = &shared.batch[head.len()..];
        let written = stream.write_vectored(&[IoSlice::new(&head), IoSlice::new(rest)])?;
        match written.checked_sub(head.len()) {
            Some(written) => stream.write_all(&rest[written..])?,
            None => {
                stream.write_all(&head[written..])?;
                stream.write_all(rest)?;
            }
        }
        if !exhaust {
            return Ok(ControlFlow::Continue(()));
        }
        response_to = request_id;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_batch_tells_a_later_cluster_time() {
        let server = ReplayServer::start(&Replay::of_orders(1, u64::MAX)).expect("a port");
        let mut stream = TcpStream::connect(server.address()).expect("a server");
        let mut bytes = BytesMut::new();
        let mut last = None;
        for (request_id, name) in [(1, "aggregate"), (2, "getMore"), (3, "getMore")] {
            let mut command = RawDocumentBuf::new();
            command.append(bson::raw::CString::try_from(name).expect("no zero"), CURSOR);
            let mut request = BytesMut::new();
            let message = OpMsg::new(request_id, command.into());
            message
                .encode(&mut request, &Limits::default())
                .expect("short");
            stream.write_all(&request).expect("written");
            let reply = loop {
                if let Some(reply) = decode(&mut bytes, &Limits::default()).expect("a message") {
                    break reply;
                }
                let mut chunk = [0; 4096];
                let count = stream.read(&mut chunk).expect("a reply");
                bytes.put_slice(&chunk[..count]);
            };
            let Message::Msg(reply) = reply else {
                panic!("an OP_MSG")
            };
            let time = reply.body().as_raw().get_document("$clusterTime");
            let time = time.and_then(|time| time.get_timestamp("clusterTime"));
            let time = time.ok();
            assert_eq!(time > last, name == "getMore", "{time:?} behind {last:?}");
            last = time;
        }
    }
}
