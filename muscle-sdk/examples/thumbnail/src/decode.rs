//! From a file to pixels, by the zune decoders.

use alloc::string::ToString;
use alloc::vec::Vec;

use zune_core::bytestream::ZCursor;
use zune_core::colorspace::ColorSpace;
use zune_core::options::DecoderOptions;
use zune_jpeg::JpegDecoder;
use zune_png::PngDecoder;

use crate::{Image, ThumbnailError};

/// Decodes a PNG or a JPEG, which its first bytes tell apart.
///
/// # Errors
/// [`ThumbnailError`].
pub fn decode(file: &[u8]) -> Result<Image, ThumbnailError> {
    if file.starts_with(PNG) {
        decode_png(file)
    } else if file.starts_with(JPEG) {
        decode_jpeg(file)
    } else {
        Err(ThumbnailError::UnknownFormat)
    }
}

fn decode_png(file: &[u8]) -> Result<Image, ThumbnailError> {
    let refused = |error: zune_png::error::PngDecodeErrors| ThumbnailError::Png(alloc::format!("{error:?}"));
    let options = limits().png_set_strip_to_8bit(true);
    let mut decoder = PngDecoder::new_with_options(ZCursor::new(file), options);
    let samples = decoder.decode_raw().map_err(refused)?;
    let (width, height) = decoder.dimensions().unwrap_or((0, 0));
    let channels = decoder.colorspace().map_or(0, |space| space.num_components());
    checked(width, height, channels, samples)
}

fn decode_jpeg(file: &[u8]) -> Result<Image, ThumbnailError> {
    let refused = |error: zune_jpeg::errors::DecodeErrors| ThumbnailError::Jpeg(error.to_string());
    let mut decoder = JpegDecoder::new_with_options(ZCursor::new(file), limits());
    decoder.decode_headers().map_err(refused)?;
    let space = match decoder.input_colorspace() {
        Some(ColorSpace::Luma) => ColorSpace::Luma,
        _ => ColorSpace::RGB,
    };
    decoder.set_options(limits().jpeg_set_out_colorspace(space));
    let samples = decoder.decode().map_err(refused)?;
    let (width, height) = decoder.dimensions().unwrap_or((0, 0));
    checked(width, height, space.num_components(), samples)
}

fn checked(width: usize, height: usize, channels: usize, samples: Vec<u8>) -> Result<Image, ThumbnailError> {
    let expected = width
        .checked_mul(height)
        .and_then(|pixels| pixels.checked_mul(channels));
    let is_image = width > 0 && height > 0 && (1..=4).contains(&channels);
    if !is_image || expected != Some(samples.len()) {
        return Err(ThumbnailError::Misshapen(samples.len(), width, height));
    }
    Ok(Image {
        width,
        height,
        channels,
        samples,
    })
}

fn limits() -> DecoderOptions {
    DecoderOptions::new_safe()
        .set_max_width(SIDE_MAX)
        .set_max_height(SIDE_MAX)
}

const PNG: &[u8] = b"\x89PNG\r\n\x1a\n";
const JPEG: &[u8] = b"\xff\xd8\xff";
/// Longest side that is decoded. The cell's memory is the real limit; this one gives a clearer error.
const SIDE_MAX: usize = 16_384;
