//! The functions of a muscle that the host can start, as its macros have registered them.
//!
//! Each `#[muscle::main]` and `#[muscle::export]` puts one [`Entry`] into the link section `muscle_entries`; the
//! linker lays them side by side and names both ends. The names of the exports lie in the section `muscle_exports`,
//! each followed by a zero byte, where `cargo muscle` reads them.

use crate::rpc::Handler;

/// One function that the host can start.
#[derive(Debug, Clone, Copy)]
pub enum Entry {
    /// Nothing; keeps the section in existence.
    Nothing,
    /// The main function of a command; returns its exit code.
    Main(fn() -> u8),
    /// An exported function of a reactor.
    Export {
        /// Its name and a zero byte.
        name: &'static [u8],
        /// Decodes arguments, calls it, encodes the result.
        handler: Handler,
    },
}

/// Where the macro of a main function puts what only a build for the host needs.
///
/// There the muscle's program has no C `main`, since its author wrote `#![no_main]`; this one says why it does
/// nothing.
#[cfg(not(cell))]
#[macro_export]
#[doc(hidden)]
macro_rules! outside_a_cell {
    () => {
        #[unsafe(export_name = "main")]
        extern "C" fn muscle_outside_a_cell() -> i32 {
            $crate::entries::explain_host_build()
        }
    };
}

/// Where the macro of a main function puts what only a build for the host needs: nothing in a cell.
#[cfg(cell)]
#[macro_export]
#[doc(hidden)]
macro_rules! outside_a_cell {
    () => {};
}

/// Says that the program is a muscle; returns the exit code of wrong usage.
#[cfg(not(cell))]
#[doc(hidden)]
pub fn explain_host_build() -> i32 {
    std::eprintln!("this is a muscle built for the host; `cargo muscle build` builds it for a cell");
    100
}

/// The main function, if the muscle has one.
pub fn main() -> Option<fn() -> u8> {
    all().iter().find_map(|entry| match entry {
        Entry::Main(main) => Some(*main),
        Entry::Nothing | Entry::Export { .. } => None,
    })
}

/// The exported function of this name.
pub fn export(name: &str) -> Option<Handler> {
    all().iter().find_map(|entry| match entry {
        Entry::Export { name: own, handler } if own.strip_suffix(&[0]) == Some(name.as_bytes()) => {
            Some(*handler)
        }
        Entry::Nothing | Entry::Main(_) | Entry::Export { .. } => None,
    })
}

/// Every entry of the program.
pub fn all() -> &'static [Entry] {
    let start = &raw const SECTION_START;
    let end = &raw const SECTION_END;
    let bytes = end.addr() - start.addr();
    let start = start.cast::<Entry>();
    // SAFETY: the linker defines the two symbols as the ends of the section, into which only statics of type `Entry`
    // are put, all of one size and alignment, so that it is an array of them. It is never written.
    unsafe { core::slice::from_raw_parts(start, bytes / size_of::<Entry>()) }
}

unsafe extern "C" {
    #[link_name = "__start_muscle_entries"]
    static SECTION_START: u8;
    #[link_name = "__stop_muscle_entries"]
    static SECTION_END: u8;
}

#[used]
// SAFETY: the section holds statics of this type only.
#[unsafe(link_section = "muscle_entries")]
static NOTHING: Entry = Entry::Nothing;

#[cfg(test)]
mod tests {
    use alloc::vec::Vec;

    use super::*;

    fn answer(_: &[u8]) -> Result<Vec<u8>, crate::CallError> {
        Ok(alloc::vec![0x18, 42])
    }

    #[used]
    // SAFETY: the section holds statics of this type only.
    #[unsafe(link_section = "muscle_entries")]
    static ANSWER: Entry = Entry::Export {
        name: b"answer\0",
        handler: answer,
    };

    #[test]
    fn entries_are_found_by_their_whole_name() {
        let handler = export("answer").expect("is registered");
        assert_eq!(handler(&[]), Ok(alloc::vec![0x18, 42]));
        assert!(export("answe").is_none());
        assert!(export("answer\0").is_none());
        assert!(main().is_none());
        assert_eq!(all().len(), 2);
    }
}
