//! What a call costs besides the muscle's own time: one exit, no allocation, and no system call but `KVM_RUN`.

use std::collections::BTreeMap;
use std::path::Path;

use referee::{Cell, CellThread, Config, Inputs, Referee};
use referee_tests::Workshop;
use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter, SeccompRule,
    TargetArch, apply_filter,
};

const CALLS: u64 = 200;
/// ioctl(2) of a vCPU: run it.
const KVM_RUN: u64 = 0xAE80;

fn echo() -> (tempfile::TempDir, Cell) {
    let workshop = Workshop::open(Path::new(env!("CARGO_TARGET_TMPDIR"))).expect("a workshop");
    let bundle = workshop
        .guest("reactor", "echoes")
        .and_then(|guest| workshop.bundle(&guest));
    let folder = tempfile::tempdir().expect("a folder");
    let config = Config::new(workshop.trust_store(), folder.path().join("audit.jsonl"));
    let referee = Referee::open(&config).expect("opens");
    let muscle = referee
        .admit_file(&bundle.expect("is built"))
        .expect("is admitted");
    let permit = muscle.permit(&[]).expect("is permitted");
    let cell = permit.start(Inputs::default()).expect("starts");
    (folder, cell)
}

fn call(cell: &mut Cell, thread: &CellThread) {
    let answer: [u32; 3] = cell.call(thread, "echo", &[1u32, 2, 3]).expect("answers");
    assert_eq!(answer, [1, 2, 3]);
}

#[test]
fn a_call_allocates_nothing_and_exits_once() {
    let (_folder, mut cell) = echo();
    let thread = CellThread::enter().expect("enters");
    // The first calls begin the muscle and make the buffers that later ones use.
    for _ in 0..3 {
        call(&mut cell, &thread);
    }
    let before = cell.usage().exits;
    let allocated = allocation_counter::measure(|| {
        for _ in 0..CALLS {
            call(&mut cell, &thread);
        }
    });
    assert_eq!(allocated.count_total, 0, "{allocated:?}");
    assert_eq!(cell.usage().exits - before, CALLS);
}

/// All that this thread may still ask of the kernel; anything else ends the process with SIGSYS.
fn only_kvm_run() -> BpfProgram {
    let run =
        SeccompCondition::new(1, SeccompCmpArgLen::Dword, SeccompCmpOp::Eq, KVM_RUN).expect("a condition");
    let run = SeccompRule::new(vec![run]).expect("a rule");
    let mut rules = BTreeMap::from([(libc::SYS_ioctl, vec![run])]);
    // A call that is held up for a millisecond has its CPU time looked at, and an alarm set for it.
    for number in [
        libc::SYS_clock_gettime,
        libc::SYS_timer_settime,
        libc::SYS_rt_sigreturn,
    ] {
        rules.insert(number, Vec::new());
    }
    // The thread's end.
    for number in [
        libc::SYS_sigaltstack,
        libc::SYS_munmap,
        libc::SYS_madvise,
        libc::SYS_rt_sigprocmask,
        libc::SYS_futex,
        libc::SYS_exit,
    ] {
        rules.insert(number, Vec::new());
    }
    SeccompFilter::new(
        rules,
        SeccompAction::KillProcess,
        SeccompAction::Allow,
        TargetArch::x86_64,
    )
    .and_then(BpfProgram::try_from)
    .expect("a filter")
}

#[test]
fn a_call_asks_the_kernel_for_nothing_but_to_run_the_cell() {
    let (_folder, mut cell) = echo();
    let filter = only_kvm_run();
    let before = std::thread::scope(|scope| {
        let calls = scope.spawn(|| {
            let thread = CellThread::enter().expect("enters");
            for _ in 0..3 {
                call(&mut cell, &thread);
            }
            let before = cell.usage().exits;
            apply_filter(&filter).expect("is on");
            for _ in 0..CALLS {
                call(&mut cell, &thread);
            }
            // Its timers could not be deleted any more.
            std::mem::forget(thread);
            before
        });
        calls.join().expect("nobody panicked")
    });
    assert_eq!(cell.usage().exits - before, CALLS);
}
