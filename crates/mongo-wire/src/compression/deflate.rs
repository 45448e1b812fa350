//! Compression of one message, by one function a compressor.

use std::borrow::Cow;

use super::Compressor;
use crate::error::EncodeError;

pub(super) fn deflate(compressor: Compressor, plain: &[u8]) -> Result<Cow<'_, [u8]>, EncodeError> {
    match compressor {
        Compressor::Noop => Ok(Cow::Borrowed(plain)),
        #[cfg(feature = "snappy")]
        Compressor::Snappy => snap::raw::Encoder::new()
            .compress_vec(plain)
            .map(Cow::Owned)
            .map_err(|_| EncodeError::CompressionFailed(compressor)),
        #[cfg(feature = "zlib")]
        Compressor::Zlib(level) => zlib(plain, level)
            .map(Cow::Owned)
            .map_err(|_| EncodeError::CompressionFailed(compressor)),
        #[cfg(feature = "zstd")]
        Compressor::Zstd => zstd::bulk::compress(plain, zstd::DEFAULT_COMPRESSION_LEVEL)
            .map(Cow::Owned)
            .map_err(|_| EncodeError::CompressionFailed(compressor)),
        #[cfg(not(all(feature = "snappy", feature = "zlib", feature = "zstd")))]
        compressor => Err(EncodeError::NotBuiltIn(compressor)),
    }
}

#[cfg(feature = "zlib")]
fn zlib(plain: &[u8], level: super::ZlibLevel) -> std::io::Result<Vec<u8>> {
    use std::io::Write;

    let level = u32::try_from(level.get())
        .map_or_else(|_| flate2::Compression::default(), flate2::Compression::new);
    let capacity = plain.len() / 2 + 64;
    let mut encoder = flate2::write::ZlibEncoder::new(Vec::with_capacity(capacity), level);
    encoder.write_all(plain)?;
    encoder.finish()
}
