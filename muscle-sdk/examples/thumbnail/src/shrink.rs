//! Making an image smaller: each new pixel is the average of the area that it covers.
//!
//! ```text
//!   old columns   |  0  |  1  |  2  |  3  |  4  |      5 columns become 2:
//!   new columns   |      0       |       1      |      new 0 = old 0 + old 1 + half of old 2
//! ```
//!
//! Positions are counted in units of which an old column has `new width` and a new one has `old width`, so that every
//! overlap is a whole number. Colours are weighted with their alpha, since what cannot be seen has no colour.

use alloc::vec;
use alloc::vec::Vec;

use crate::Image;

/// Shrinks an image to at most `longest` pixels on its longer side, keeping its proportions. Never enlarges.
pub fn shrink(image: &Image, longest: usize) -> Image {
    let (width, height) = fitted(image.width, image.height, longest.max(1));
    if (width, height) == (image.width, image.height) {
        return image.clone();
    }
    let columns = spans(image.width, width);
    let rows = spans(image.height, height);
    let channels = image.channels;
    let colours = if image.has_alpha() { channels - 1 } else { channels };
    let mut samples = vec![0; width * height * channels];
    for (y, parts) in rows.iter().enumerate() {
        let target = &mut samples[y * width * channels..(y + 1) * width * channels];
        let mut sums = vec![[0_u64; 5]; width];
        for (row, row_weight) in parts {
            let source = image.row(*row);
            for (sum, span) in sums.iter_mut().zip(&columns) {
                for (column, column_weight) in span {
                    let pixel = &source[column * channels..(column + 1) * channels];
                    add(sum, pixel, colours, row_weight * column_weight);
                }
            }
        }
        for (pixel, sum) in target.chunks_exact_mut(channels).zip(&sums) {
            finish(pixel, sum, colours);
        }
    }
    Image {
        width,
        height,
        channels,
        samples,
    }
}

/// The size with these proportions whose longer side is `longest`, or the same size if it is small enough.
fn fitted(width: usize, height: usize, longest: usize) -> (usize, usize) {
    let long = width.max(height);
    if long <= longest {
        return (width, height);
    }
    let scaled = |side: usize| ((side * longest + long / 2) / long).max(1);
    (scaled(width), scaled(height))
}

/// For each of `new` pixels along a side: the old pixels that it covers, and how much of each.
fn spans(old: usize, new: usize) -> Vec<Vec<(usize, u64)>> {
    (0..new)
        .map(|index| {
            let (start, end) = (index * old, (index + 1) * old);
            (start / new..end.div_ceil(new))
                .map(|pixel| {
                    let overlap = end.min((pixel + 1) * new) - start.max(pixel * new);
                    (pixel, overlap as u64)
                })
                .collect()
        })
        .collect()
}

/// Adds a pixel: colours times alpha, then alpha, then the weight alone, which is last.
fn add(sum: &mut [u64; 5], pixel: &[u8], colours: usize, weight: u64) {
    let alpha = pixel.get(colours).map_or(255, |alpha| u64::from(*alpha));
    for (total, colour) in sum.iter_mut().zip(&pixel[..colours]) {
        *total += u64::from(*colour) * alpha * weight;
    }
    sum[3] += alpha * weight;
    sum[4] += weight;
}

fn finish(pixel: &mut [u8], sum: &[u64; 5], colours: usize) {
    let byte = |total: u64, weight: u64| {
        let average = (total + weight / 2).checked_div(weight).unwrap_or(0);
        u8::try_from(average).unwrap_or(u8::MAX)
    };
    for (target, total) in pixel[..colours].iter_mut().zip(sum) {
        *target = byte(*total, sum[3]);
    }
    if let Some(alpha) = pixel.get_mut(colours) {
        *alpha = byte(sum[3], sum[4]);
    }
}
