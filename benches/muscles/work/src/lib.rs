//! What muscle and program compute alike: each takes some ten milliseconds, so that a call's own time does not show, and gives a number that
//! depends on all of it.
#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;

use alloc::string::String;
use alloc::vec::Vec;
use core::fmt::Write;

use serde::Deserialize;
use sha2::{Digest, Sha256};

/// What is computed on, made once.
#[derive(Debug)]
pub struct Work {
    bytes: Vec<u8>,
    left: Vec<f32>,
    right: Vec<f32>,
    product: Vec<f32>,
    lines: String,
}

/// Bytes that are hashed, so many times.
const BYTES: usize = 4 << 20;
const TIMES: usize = 4;
/// Rows and columns of a matrix.
const SIDE: usize = 448;
/// Documents that are parsed.
const LINES: u32 = 40_000;

/// One document, as a program would have sent it.
#[derive(Debug, Deserialize)]
struct Order<'a> {
    id: u32,
    symbol: &'a str,
    quantity: i64,
    price: f64,
    open: bool,
    levels: [u16; 4],
}

impl Default for Work {
    fn default() -> Work {
        Work::new()
    }
}

impl Work {
    /// Makes it, the same each time.
    pub fn new() -> Work {
        let mut bytes = Vec::with_capacity(BYTES);
        let mut number = 1u32;
        let mut next = || {
            number = number.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            number
        };
        bytes.resize_with(BYTES, || next().to_le_bytes()[3]);
        let mut numbers = || -> Vec<f32> {
            let mut numbers = Vec::with_capacity(SIDE * SIDE);
            numbers.resize_with(SIDE * SIDE, || f32::from(next().to_le_bytes()[3]) / 64.0 - 2.0);
            numbers
        };
        let (left, right) = (numbers(), numbers());
        let mut lines = String::new();
        for id in 0..LINES {
            let (quantity, price) = (i64::from(id % 977) - 400, id % 100_000);
            // Writing to a string cannot fail.
            let _ = writeln!(
                lines,
                r#"{{"id":{id},"symbol":"S{:04}","quantity":{quantity},"price":{}.{:02},"open":{},"levels":[{},2,3,40]}}"#,
                id % 9999,
                price / 100,
                price % 100,
                id % 3 == 0,
                id % 60_000
            );
        }
        Work {
            bytes,
            left,
            right,
            product: alloc::vec![0.0; SIDE * SIDE],
            lines,
        }
    }

    /// SHA-256 of some megabytes.
    pub fn sha256(&self) -> u64 {
        let mut hash = Sha256::new();
        for _ in 0..TIMES {
            hash.update(&self.bytes);
        }
        hash.finalize()
            .iter()
            .fold(0, |sum, byte| (sum << 7) ^ u64::from(*byte) ^ (sum >> 57))
    }

    /// The product of two matrices.
    pub fn matmul(&mut self) -> u64 {
        self.product.fill(0.0);
        for (row, into) in self
            .left
            .chunks_exact(SIDE)
            .zip(self.product.chunks_exact_mut(SIDE))
        {
            for (factor, line) in row.iter().zip(self.right.chunks_exact(SIDE)) {
                for (sum, value) in into.iter_mut().zip(line) {
                    *sum += factor * value;
                }
            }
        }
        self.product
            .iter()
            .fold(0, |sum, value| sum.rotate_left(5) ^ u64::from(value.to_bits()))
    }

    /// The sum of many parsed documents; `None` if one was not understood.
    pub fn json(&self) -> Option<u64> {
        let mut sum = 0u64;
        for line in self.lines.lines() {
            let (order, _): (Order<'_>, usize) = serde_json_core::from_str(line).ok()?;
            let levels: u64 = order.levels.iter().copied().map(u64::from).sum();
            sum = sum
                .wrapping_add(u64::from(order.id))
                .wrapping_add(order.symbol.len() as u64)
                .wrapping_add(order.quantity.unsigned_abs())
                .wrapping_add(order.price.to_bits() >> 20)
                .wrapping_add(levels + u64::from(order.open));
        }
        Some(sum)
    }
}
