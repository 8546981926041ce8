//! Memory of a VM that nobody runs, given to the host's swap and fetched back.
//!
//! What the guest sees is the same before and after: the kernel fetches a page that is away when anybody touches it. Without swap (or zram)
//! the kernel does nothing. Pages that a VM has in common with others that use them stay.

use vm_memory::GuestMemoryBackend;

use crate::vm::Vm;

impl Vm {
    /// Has the kernel move the memory out of the way now (`MADV_PAGEOUT`, madvise(2)). Where it does not, the memory stays.
    pub fn page_out(&self) {
        self.advise(libc::MADV_PAGEOUT);
    }

    /// Has the kernel begin to fetch what was moved out of the way (`MADV_WILLNEED`). Where it does not, pages come one by one.
    pub fn page_in(&self) {
        self.advise(libc::MADV_WILLNEED);
    }

    fn advise(&self, advice: libc::c_int) {
        for region in self.memory().iter() {
            let mapping = region.get_mmap();
            // SAFETY: the range is one live mapping of this process, which `mapping` keeps, and neither advice that comes here changes
            // a byte of it (madvise(2)).
            let _ = unsafe { libc::madvise(mapping.as_ptr().cast(), mapping.size(), advice) };
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::kvm::Kvm;

    #[test]
    fn memory_is_the_same_before_and_after() {
        let kvm = Kvm::open().expect("these tests need /dev/kvm");
        for counts in [false, true] {
            let mut vm = kvm.create_vm().expect("a VM");
            if counts {
                vm.count_touched().expect("counts");
            }
            vm.add_memory(0, 64 << 10).expect("is added");
            vm.add_memory(1 << 20, 64 << 10).expect("is added");
            let mut said = vec![0; 64 << 10];
            for (at, byte) in said.iter_mut().enumerate() {
                *byte = u8::try_from(at % 251).expect("is small");
            }
            vm.write(1 << 20, &said).expect("is memory");
            for _ in 0..2 {
                vm.page_out();
                vm.page_in();
                vm.page_out();
                let mut found = vec![0; 64 << 10];
                vm.read(1 << 20, &mut found).expect("is memory");
                assert!(found == said, "contents changed");
            }
            // Neither takes a page: what nobody touched has none.
            assert_eq!(vm.touched().expect("counts").unwrap_or(16), 16);
        }
    }
}
