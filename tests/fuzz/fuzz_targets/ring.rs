//! A ring whose other side writes anything anywhere, at any moment: no end reads or writes outside of it, and none panics.
#![no_main]

use std::sync::atomic::{AtomicU64, Ordering};

use libfuzzer_sys::fuzz_target;
use muscle_ring::{Bell, Memory, Receiver, RingError, Sender};

const PAGE: usize = 512;
const DATA: usize = 512;

/// The other side writes while this one waits; without anything left to write it ends.
struct Hostile<'a> {
    script: &'a [u8],
    pages: &'a [Vec<AtomicU64>; 4],
    /// The page that it may not write.
    own: usize,
}

impl Hostile<'_> {
    /// One write: page, word, value; small and wild values by turns. False when the script is over.
    fn write(&mut self) -> bool {
        let Some(([page, low, high, value @ ..], rest)) = self.script.split_first_chunk::<11>() else {
            return false;
        };
        self.script = rest;
        let page = usize::from(*page) % 4;
        let word = usize::from(u16::from_le_bytes([*low, *high])) % PAGE;
        let value = u64::from_le_bytes(*value);
        if page != self.own {
            let value = if word % 2 == 0 { value } else { value % 1024 };
            self.pages[page][word].store(value, Ordering::SeqCst);
        }
        true
    }
}

impl Bell for Hostile<'_> {
    fn wait(&mut self) {
        if !self.write() {
            // Both have ended, so that nobody waits any more.
            let epoch = self.pages[1][0].load(Ordering::SeqCst) & 0xffff_fffe;
            self.pages[1][0].store(epoch | 3 << 32, Ordering::SeqCst);
        }
    }

    fn wake(&mut self) {
        self.write();
    }
}

fuzz_target!(|bytes: &[u8]| {
    let Some((choice, script)) = bytes.split_first() else {
        return;
    };
    let words = |count: usize| -> Vec<AtomicU64> { (0..count).map(|_| AtomicU64::new(0)).collect() };
    let pages = [words(PAGE), words(PAGE), words(PAGE), words(DATA)];
    let memory = Memory {
        receiver: &pages[0],
        host: &pages[1],
        sender: &pages[2],
        data: &pages[3],
    };
    let receives = choice % 2 == 0;
    let mut hostile = Hostile {
        script,
        pages: &pages,
        own: if receives { 0 } else { 2 },
    };
    let (mut sender, mut receiver) = (Sender::new(memory), Receiver::new(memory));
    let mut buffer = [0xa5; (DATA - 1) * 8 + 1];
    while hostile.write() {
        if receives {
            match receiver.receive(&mut buffer, &mut hostile) {
                Ok(length) => assert!(length < buffer.len(), "more than a ring holds"),
                Err(RingError::TooLarge { .. }) => panic!("the buffer holds every message"),
                Err(_) => {}
            }
            assert_eq!(buffer.last(), Some(&0xa5), "written beyond the longest message");
        } else {
            let length = hostile.script.first().map_or(0, |byte| usize::from(*byte) * 16);
            let own = sender.send(&buffer[..length], &mut hostile);
            assert!(!matches!(own, Err(RingError::TooLarge { .. })), "{own:?}");
        }
    }
});
