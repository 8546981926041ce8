//! Pixels in memory.

use alloc::vec::Vec;

/// An image of 8-bit samples, row by row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Image {
    /// Pixels in a row.
    pub width: usize,
    /// Rows.
    pub height: usize,
    /// Samples of a pixel: 1 grey, 2 grey and alpha, 3 RGB, 4 RGB and alpha.
    pub channels: usize,
    /// `width * height * channels` samples.
    pub samples: Vec<u8>,
}

impl Image {
    /// Whether the last sample of a pixel is its alpha.
    pub fn has_alpha(&self) -> bool {
        self.channels.is_multiple_of(2)
    }

    /// The samples of one row.
    pub fn row(&self, y: usize) -> &[u8] {
        let stride = self.width * self.channels;
        &self.samples[y * stride..(y + 1) * stride]
    }
}
