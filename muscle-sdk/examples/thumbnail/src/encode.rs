//! From pixels to a PNG (W3C PNG, third edition): signature, `IHDR`, one `IDAT`, `IEND`.

use alloc::vec::Vec;

use miniz_oxide::deflate::compress_to_vec_zlib;

use crate::Image;

/// Encodes an image.
pub fn encode(image: &Image) -> Vec<u8> {
    let mut header = Vec::with_capacity(13);
    for side in [image.width, image.height] {
        let side = u32::try_from(side).unwrap_or(u32::MAX);
        header.extend_from_slice(&side.to_be_bytes());
    }
    let colour_type = [0, 4, 2, 6][image.channels - 1];
    header.extend_from_slice(&[8, colour_type, 0, 0, 0]);

    let mut png = Vec::from(*b"\x89PNG\r\n\x1a\n");
    chunk(&mut png, b"IHDR", &header);
    chunk(&mut png, b"IDAT", &compress_to_vec_zlib(&filtered(image), LEVEL));
    chunk(&mut png, b"IEND", &[]);
    png
}

/// Each row with the filter in front of it, of the five, whose bytes are smallest as signed numbers (§12.7).
fn filtered(image: &Image) -> Vec<u8> {
    let stride = image.width * image.channels;
    let mut out = Vec::with_capacity((stride + 1) * image.height);
    let empty = alloc::vec![0; stride];
    let mut best = Vec::new();
    for y in 0..image.height {
        let above = if y == 0 { &empty[..] } else { image.row(y - 1) };
        best.clear();
        let mut least = u64::MAX;
        for filter in 0..5_u8 {
            let row = apply(filter, image.row(y), above, image.channels);
            let cost = row
                .iter()
                .map(|byte| u64::from(byte.cast_signed().unsigned_abs()))
                .sum();
            if cost < least {
                least = cost;
                best = [&[filter][..], &row].concat();
            }
        }
        out.extend_from_slice(&best);
    }
    out
}

fn apply(filter: u8, row: &[u8], above: &[u8], channels: usize) -> Vec<u8> {
    let earlier = |bytes: &[u8], at: usize| at.checked_sub(channels).map_or(0, |at| bytes[at]);
    row.iter()
        .enumerate()
        .map(|(at, byte)| {
            let (left, up, corner) = (earlier(row, at), above[at], earlier(above, at));
            let predicted = match filter {
                0 => 0,
                1 => left,
                2 => up,
                3 => left.midpoint(up),
                _ => paeth(left, up, corner),
            };
            byte.wrapping_sub(predicted)
        })
        .collect()
}

/// Whichever of the three is nearest to left + up − corner (§9.4).
fn paeth(left: u8, up: u8, corner: u8) -> u8 {
    let estimate = i16::from(left) + i16::from(up) - i16::from(corner);
    let distance = |byte: u8| (estimate - i16::from(byte)).abs();
    if distance(left) <= distance(up) && distance(left) <= distance(corner) {
        left
    } else if distance(up) <= distance(corner) {
        up
    } else {
        corner
    }
}

fn chunk(png: &mut Vec<u8>, name: &[u8; 4], bytes: &[u8]) {
    let len = u32::try_from(bytes.len()).unwrap_or(u32::MAX);
    png.extend_from_slice(&len.to_be_bytes());
    let mut crc = crc32fast::Hasher::new();
    for part in [&name[..], bytes] {
        crc.update(part);
        png.extend_from_slice(part);
    }
    png.extend_from_slice(&crc.finalize().to_be_bytes());
}

/// Compression: 6 of 10.
const LEVEL: u8 = 6;
