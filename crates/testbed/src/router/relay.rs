//! One connection through a router.

use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::{Result, bail};
use bytes::BytesMut;
use mongo_wire::{Document, Frame, Limits, Message, OpCode, OpMsg, OpReply};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::net::tcp::{ReadHalf, WriteHalf};

use super::hello::{self, Role};

/// How many bytes are read at once.
const CHUNK: usize = 16 * 1024;

/// Passes messages on until one side closes the connection, which ends the other.
pub(super) async fn run(mut client: TcpStream, target: &str, role: Role) -> Result<()> {
    let mut server = TcpStream::connect(target).await?;
    client.set_nodelay(true)?;
    server.set_nodelay(true)?;
    let (from_client, to_client) = client.split();
    let (from_server, to_server) = server.split();
    // Whether the client said that it knows of the load balancer.
    let load_balanced = AtomicBool::new(false);
    let requests = carry(from_client, to_server, |message| {
        if let Some(command) = body(message)
            && command.as_raw().get_bool("loadBalanced").unwrap_or(false)
        {
            load_balanced.store(true, Ordering::Relaxed);
        }
        None
    });
    let replies = carry(from_server, to_client, |message| {
        let answer = hello::rewrite(
            body(message)?.as_raw(),
            role,
            load_balanced.load(Ordering::Relaxed),
        )?;
        let document = Document::from(answer);
        Some(match message {
            Message::Msg(reply) => Message::Msg(
                OpMsg::new(reply.request_id, document)
                    .in_response_to(reply.response_to)
                    .with_flags(reply.flags),
            ),
            other => Message::Reply(OpReply::new(
                other.request_id(),
                other.response_to(),
                &document,
            )),
        })
    });
    tokio::select! {
        ended = requests => ended,
        ended = replies => ended,
    }
}

/// The command or the answer that a message is.
fn body(message: &Message) -> Option<Document> {
    match message {
        Message::Msg(message) => Some(message.body().clone()),
        Message::Query(message) => Some(message.query.clone()),
        Message::Reply(message) => message.documents.iter().next()?.ok(),
        _ => None,
    }
}

/// Passes messages on as they came, but for those that `change` replaces. Compressed ones are never
/// looked at, for neither hello nor its answer is.
async fn carry(
    mut from: ReadHalf<'_>,
    mut to: WriteHalf<'_>,
    change: impl Fn(&Message) -> Option<Message>,
) -> Result<()> {
    let limits = Limits::default();
    let mut received = BytesMut::with_capacity(CHUNK);
    loop {
        while let Some(frame) = Frame::decode(&mut received, &limits)? {
            let mut sending = BytesMut::new();
            let plain = frame.header.op_code != OpCode::OP_COMPRESSED;
            let message = plain.then(|| Message::from_frame(frame.clone(), &limits));
            match message.and_then(Result::ok).as_ref().and_then(&change) {
                Some(changed) => changed.encode(&mut sending, &limits)?,
                None => frame.encode(&mut sending, &limits)?,
            }
            to.write_all(&sending).await?;
        }
        if from.read_buf(&mut received).await? == 0 {
            bail!("closed");
        }
    }
}
