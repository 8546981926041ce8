//! A table of symbols: no input panics, and looking up finds only names of the table.
#![no_main]

use libfuzzer_sys::fuzz_target;
use referee_bundle::SymbolTable;

fuzz_target!(|bytes: &[u8]| {
    let Ok(table) = SymbolTable::parse(bytes) else {
        return;
    };
    // Each eight bytes of the table itself are an address to look for: those of its entries are among them.
    for vaddr in bytes
        .as_chunks::<8>()
        .0
        .iter()
        .map(|word| u64::from_le_bytes(*word))
    {
        if let Some((name, offset)) = table.lookup(vaddr) {
            assert!(offset <= vaddr && name.len() <= bytes.len());
        }
    }
});
