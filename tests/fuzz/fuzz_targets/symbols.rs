//! A table of symbols: no input panics, and looking up finds only names of the table.
#![no_main]

use libfuzzer_sys::fuzz_target;
use referee_bundle::SymbolTable;

fuzz_target!(|input: (u64, &[u8])| {
    let (vaddr, bytes) = input;
    let Ok(table) = SymbolTable::parse(bytes) else {
        return;
    };
    if let Some((name, offset)) = table.lookup(vaddr) {
        assert!(offset <= vaddr && name.len() <= bytes.len());
    }
});
