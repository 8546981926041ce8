//! What a program without `std` misses at once: `use muscle::prelude::*`.

pub use alloc::borrow::ToOwned;
pub use alloc::boxed::Box;
pub use alloc::string::{String, ToString};
pub use alloc::vec::Vec;
pub use alloc::{format, vec};

pub use crate::{eprint, eprintln, print, println};
