//! The first inputs of each target.

use std::fs;
use std::path::Path;

use mongo_wire::{Compressor, Frame, Limits, Message, OpCode};

use super::{bytes, texts, traffic};
use crate::shell;

/// How many random inputs a structured target starts with.
const RANDOM_INPUTS: usize = 32;

/// Makes the corpora that are not there yet.
///
/// # Errors
/// They cannot be written. Without a server there is a word on it, and no real traffic.
pub(super) fn make(corpus: &Path) -> anyhow::Result<()> {
    if corpus.join("frame").is_dir() {
        return Ok(());
    }
    shell::say("making seeds from the traffic of a real server");
    let mut frames = bytes::frames();
    match traffic::record() {
        Ok(recorded) => frames.extend(recorded),
        Err(error) => shell::complain(&format!("no real traffic among the seeds: {error:#}")),
    }
    save(&corpus.join("decompress"), &compressed(&frames))?;
    save(&corpus.join("reply"), &replies(&frames))?;
    save(&corpus.join("uri"), &texts::uris())?;
    let mut rng = fastrand::Rng::with_seed(1);
    for target in ["roundtrip", "topology"] {
        let random: Vec<Vec<u8>> = (0..RANDOM_INPUTS)
            .map(|_| (0..rng.usize(1..1_000)).map(|_| rng.u8(..)).collect())
            .collect();
        save(&corpus.join(target), &random)?;
    }
    let whole: Vec<Vec<u8>> = frames.iter().map(written).collect();
    save(&corpus.join("message"), &whole)?;
    // Last, for it tells that all are there.
    let streams: Vec<Vec<u8>> = whole
        .chunks(3)
        .map(<[_]>::concat)
        .chain(whole.clone())
        .collect();
    save(&corpus.join("frame"), &streams)
}

fn save(folder: &Path, inputs: &[Vec<u8>]) -> anyhow::Result<()> {
    fs::create_dir_all(folder)?;
    for (number, input) in inputs.iter().enumerate() {
        fs::write(folder.join(format!("seed-{number:03}")), input)?;
    }
    Ok(())
}

fn written(frame: &Frame) -> Vec<u8> {
    [&frame.header.to_bytes()[..], &frame.body].concat()
}

/// What follows the header of compressed messages: the recorded ones, and each plain one by each
/// compressor.
fn compressed(frames: &[Frame]) -> Vec<Vec<u8>> {
    let limits = Limits::default();
    let (mut found, plain): (Vec<_>, Vec<_>) = frames
        .iter()
        .cloned()
        .partition(|frame| frame.header.op_code == OpCode::OP_COMPRESSED);
    for id in 0..=3 {
        let compressor = Compressor::from_id(id).into_iter();
        found.extend(compressor.flat_map(|compressor| {
            plain
                .iter()
                .filter_map(move |frame| frame.compress(compressor, &Limits::default()).ok())
        }));
    }
    found.retain(|frame| frame.len() <= limits.max_message_len);
    found.into_iter().map(|frame| frame.body.to_vec()).collect()
}

/// The elements of every reply's document.
fn replies(frames: &[Frame]) -> Vec<Vec<u8>> {
    let messages = frames
        .iter()
        .filter_map(|frame| Message::from_frame(frame.clone(), &Limits::default()).ok());
    let documents = messages.filter_map(|message| match message {
        Message::Msg(message) => Some(message.body().clone()),
        Message::Reply(reply) => reply.documents.iter().next()?.ok(),
        _ => None,
    });
    let elements = documents.map(|document| document.as_bytes()[4..document.len() - 1].to_vec());
    elements.chain(bytes::replies()).collect()
}
