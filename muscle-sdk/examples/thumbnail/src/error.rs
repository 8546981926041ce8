//! Why there is no thumbnail.

use alloc::string::String;

/// Why there is no thumbnail.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ThumbnailError {
    /// The file begins like no format that is known here.
    UnknownFormat,
    /// The PNG decoder refused the file; carries its text.
    Png(String),
    /// The JPEG decoder refused the file; carries its text.
    Jpeg(String),
    /// The decoder's result has a form that it should not have: so many bytes for width and height.
    Misshapen(usize, usize, usize),
}

impl core::fmt::Display for ThumbnailError {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self {
            ThumbnailError::UnknownFormat => write!(f, "this is neither a PNG nor a JPEG"),
            ThumbnailError::Png(text) => write!(f, "not a good PNG: {text}"),
            ThumbnailError::Jpeg(text) => write!(f, "not a good JPEG: {text}"),
            ThumbnailError::Misshapen(len, width, height) => {
                write!(f, "the decoder gave {len} bytes for {width} by {height} pixels")
            }
        }
    }
}

impl core::error::Error for ThumbnailError {}
