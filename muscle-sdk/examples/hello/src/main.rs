//! Says hello, and to whom: the smallest muscle.
#![no_std]
#![no_main]

use muscle::prelude::*;

#[muscle::main]
fn main() {
    match &muscle::args()[..] {
        [] => println!("hello"),
        names => println!("hello, {}", names.join(", ")),
    }
}
