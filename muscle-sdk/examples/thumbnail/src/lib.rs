//! Decode, shrink, encode: a PNG or JPEG becomes a small PNG.
//!
//! The decoders are the parsers that get exploited; here they run in a cell whose only powers are one directory to read
//! from and one to write to.
#![no_std]

extern crate alloc;

mod decode;
mod encode;
mod error;
mod image;
mod shrink;

use alloc::vec::Vec;

pub use decode::decode;
pub use encode::encode;
pub use error::ThumbnailError;
pub use image::Image;
pub use shrink::shrink;

/// A thumbnail, and the sizes before and after.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Thumbnail {
    /// The PNG file.
    pub png: Vec<u8>,
    /// Width and height of the input in pixels.
    pub before: (usize, usize),
    /// Width and height of the output in pixels.
    pub after: (usize, usize),
}

/// Makes a PNG whose longer side has at most `longest` pixels. An image that is small enough keeps its size.
///
/// # Errors
/// [`ThumbnailError`] when the file is no image that can be decoded.
pub fn thumbnail(file: &[u8], longest: usize) -> Result<Thumbnail, ThumbnailError> {
    let image = decode(file)?;
    let small = shrink(&image, longest);
    Ok(Thumbnail {
        png: encode(&small),
        before: (image.width, image.height),
        after: (small.width, small.height),
    })
}

#[cfg(test)]
mod tests;
