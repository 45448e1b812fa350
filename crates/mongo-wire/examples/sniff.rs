//! Prints the messages in a byte dump: what one side of a connection sent, from the start of a
//! message on, as `tcpflow` or a recording proxy writes it.
//!
//! ```text
//! cargo run -p mongo-wire --all-features --example sniff -- dump.bin
//! tcpflow -C -p port 27017 | cargo run -p mongo-wire --all-features --example sniff
//! ```
#![expect(clippy::print_stdout, reason = "printing is what it is for")]

use std::{env, error::Error, fs::File, io, io::Read};

use bytes::BytesMut;
use mongo_wire::{Document, Frame, Limits, Message, OpMsg, Section, bytes_wanted};

fn main() -> Result<(), Box<dyn Error>> {
    let mut input: Box<dyn Read> = match env::args_os().nth(1) {
        Some(path) => Box::new(File::open(path)?),
        None => Box::new(io::stdin()),
    };
    let limits = Limits::default();
    let mut received = BytesMut::new();
    let mut chunk = vec![0; 64 * 1024];
    let mut position = 0;
    loop {
        // Frames first: a message that cannot be read is reported and stepped over.
        while let Some(frame) = Frame::decode(&mut received, &limits)? {
            println!("@{position} {}", describe(&frame));
            position += frame.len();
            match Message::from_frame(frame, &limits) {
                Ok(message) => print(&message),
                Err(error) => println!("  unreadable: {error}"),
            }
        }
        match input.read(&mut chunk)? {
            0 => break,
            len => received.extend_from_slice(&chunk[..len]),
        }
    }
    if !received.is_empty() {
        let wanted = bytes_wanted(&received, &limits)?;
        println!(
            "@{position} unfinished: {} bytes, {wanted} more wanted",
            received.len()
        );
    }
    Ok(())
}

fn describe(frame: &Frame) -> String {
    let header = &frame.header;
    let compressor = frame
        .compressor()
        .map_or(String::new(), |one| format!(" ({one})"));
    format!(
        "{}{compressor}, {} bytes, request {}, response to {}",
        header.op_code, header.message_length, header.request_id, header.response_to
    )
}

fn print(message: &Message) {
    match message {
        Message::Msg(message) => print_op_msg(message),
        Message::Query(query) => {
            println!(
                "  on {}: {}",
                query.full_collection_name,
                text(&query.query)
            );
        }
        Message::Reply(reply) => {
            for document in reply.documents.iter().flatten() {
                println!("  {}", text(&document));
            }
        }
        other => println!("  not read: {other:?}"),
    }
}

fn print_op_msg(message: &OpMsg) {
    if message.flags.bits() != 0 {
        println!("  {:?}", message.flags);
    }
    for section in &message.sections {
        match section {
            Section::Body(body) => println!("  body {}", text(body)),
            Section::DocumentSequence(sequence) => {
                for document in &sequence.documents {
                    match document {
                        Ok(document) => println!("  {}: {}", sequence.identifier, text(&document)),
                        Err(error) => println!("  {}: {error}", sequence.identifier),
                    }
                }
            }
        }
    }
}

fn text(document: &Document) -> String {
    match bson::Document::try_from(document.as_raw()) {
        Ok(document) => document.to_string(),
        Err(error) => format!("{document:?}, unreadable: {error}"),
    }
}
