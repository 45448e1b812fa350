//! Inflation into exactly as many bytes as were declared, by one function a compressor.

use bytes::Bytes;

use super::Compressor;
use crate::error::{Defect, Inflated};

/// The payload inflated to `expected` bytes, which the caller has held against the limits.
pub(super) fn inflate(
    compressor: Compressor,
    payload: &Bytes,
    expected: usize,
) -> Result<Bytes, Defect> {
    match compressor {
        Compressor::Noop => exactly(expected, payload.clone()),
        #[cfg(feature = "snappy")]
        Compressor::Snappy => snappy(payload, expected),
        #[cfg(feature = "zlib")]
        Compressor::Zlib(_) => zlib(payload, expected),
        #[cfg(feature = "zstd")]
        Compressor::Zstd => zstd(payload, expected),
        #[cfg(not(all(feature = "snappy", feature = "zlib", feature = "zstd")))]
        compressor => Err(Defect::Corrupt { compressor }),
    }
}

fn exactly(expected: usize, inflated: impl Into<Bytes>) -> Result<Bytes, Defect> {
    let inflated = inflated.into();
    if inflated.len() == expected {
        return Ok(inflated);
    }
    Err(Defect::InflatedLength {
        expected,
        found: Inflated::Exactly(inflated.len()),
    })
}

#[cfg(feature = "snappy")]
fn snappy(payload: &[u8], expected: usize) -> Result<Bytes, Defect> {
    let corrupt = |_| Defect::Corrupt {
        compressor: Compressor::Snappy,
    };
    let declared = snap::raw::decompress_len(payload).map_err(corrupt)?;
    if declared != expected {
        return Err(Defect::InflatedLength {
            expected,
            found: Inflated::Exactly(declared),
        });
    }
    let mut inflated = vec![0; expected];
    let len = snap::raw::Decoder::new()
        .decompress(payload, &mut inflated)
        .map_err(corrupt)?;
    inflated.truncate(len);
    exactly(expected, inflated)
}

#[cfg(feature = "zlib")]
fn zlib(payload: &[u8], expected: usize) -> Result<Bytes, Defect> {
    use flate2::{Decompress, FlushDecompress, Status};

    let corrupt = Defect::Corrupt {
        compressor: Compressor::from_id(2).expect("zlib's id"),
    };
    // One byte more than declared, so that a payload that goes on is told from a corrupt one.
    let mut inflated = Vec::with_capacity(expected + 1);
    let mut state = Decompress::new(true);
    let status = state.decompress_vec(payload, &mut inflated, FlushDecompress::Finish);
    if inflated.len() > expected {
        return Err(Defect::InflatedLength {
            expected,
            found: Inflated::More,
        });
    }
    if !matches!(status, Ok(Status::StreamEnd)) {
        return Err(corrupt);
    }
    let read = usize::try_from(state.total_in()).unwrap_or(usize::MAX);
    match payload.len().saturating_sub(read) {
        0 => exactly(expected, inflated),
        found => Err(Defect::TrailingBytes { found }),
    }
}

#[cfg(feature = "zstd")]
fn zstd(payload: &[u8], expected: usize) -> Result<Bytes, Defect> {
    use zstd::{bulk::Decompressor, zstd_safe};

    let corrupt = Defect::Corrupt {
        compressor: Compressor::Zstd,
    };
    if let Ok(Some(declared)) = zstd_safe::get_frame_content_size(payload) {
        let declared = usize::try_from(declared).unwrap_or(usize::MAX);
        // A payload of several frames may hold more than its first one declares, never less.
        if declared > expected {
            return Err(Defect::InflatedLength {
                expected,
                found: Inflated::More,
            });
        }
    }
    let mut inflated = Vec::with_capacity(expected);
    let result = Decompressor::new()
        .and_then(|mut state| state.decompress_to_buffer(payload, &mut inflated));
    match result {
        Ok(_) => exactly(expected, inflated),
        Err(_) => Err(corrupt),
    }
}
