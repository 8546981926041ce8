//! A guest of a few bytes in ring 3: entered, stopped by a doorbell, by a trap, by a timer.

use std::time::{Duration, Instant};

use referee_hv::probe::{BELL, BELL_VA, CODE_VA, FirstStop, SYSTEM_VA, TinyGuest, observe};
use referee_hv::{Exit, Kvm, VcpuThread};

fn guest(code: &[u8]) -> TinyGuest {
    let kvm = Kvm::open().expect("this test needs /dev/kvm");
    TinyGuest::new(&kvm, code).expect("makes a guest")
}

#[test]
fn doorbell_stores_exit_with_address_and_value_and_go_on() {
    // mov rax, 0x1122334455667788; mov [rdi+8], rax; mov [rdi+16], rdi
    let code = [
        0x48, 0xb8, 0x88, 0x77, 0x66, 0x55, 0x44, 0x33, 0x22, 0x11, 0x48, 0x89, 0x47, 8, 0x48, 0x89, 0x7f, 16,
    ];
    let mut guest = guest(&code);
    assert_eq!(
        guest.first_stop().expect("runs"),
        FirstStop::Store(BELL + 8, 0x1122_3344_5566_7788)
    );
    assert!(guest.vcpu.in_user_mode());
    assert_eq!(
        guest.first_stop().expect("runs"),
        FirstStop::Store(BELL + 16, BELL_VA)
    );
}

#[test]
fn invalid_opcode_reaches_its_stub_with_the_frame() {
    let FirstStop::Trap(trap, _) = guest(&[0x90, 0x0f, 0x0b]).first_stop().expect("runs") else {
        panic!("no trap")
    };
    assert_eq!(
        (trap.vector, trap.error_code, trap.rip, trap.cs & 3),
        (6, None, CODE_VA + 1, 3)
    );
}

#[test]
fn page_fault_tells_its_address() {
    // mov rax, SYSTEM_VA; mov rbx, [rax]
    let code = [0x48, 0xb8, 0, 0, 0, 0, 0, 0x90, 0xff, 0xff, 0x48, 0x8b, 0x18];
    let FirstStop::Trap(trap, address) = guest(&code).first_stop().expect("runs") else {
        panic!("no trap")
    };
    assert_eq!((trap.vector, trap.error_code, address), (14, Some(5), SYSTEM_VA));
}

#[test]
fn spinning_guest_is_stopped_by_the_alarm() {
    let mut guest = guest(&[0xeb, 0xfe]);
    let thread = VcpuThread::enter().expect("enters");
    for _ in 0..3 {
        let _armed = guest.vcpu.kicker().arm();
        let now = Instant::now();
        thread
            .ring_by(now + Duration::from_millis(20), now)
            .expect("sets");
        assert!(matches!(guest.vcpu.run().expect("runs"), Exit::Interrupted));
        assert!(now.elapsed() >= Duration::from_millis(20));
        thread.rang();
    }
}

#[test]
fn an_alarm_that_rang_for_nobody_is_set_again() {
    let mut guest = guest(&[0xeb, 0xfe]);
    let thread = VcpuThread::enter().expect("enters");
    let set = |after| {
        let now = Instant::now();
        thread
            .ring_by(now + Duration::from_millis(after), now)
            .expect("sets");
    };
    let armed = guest.vcpu.kicker().arm();
    set(10);
    drop(armed);
    // It rings meanwhile, and is turned off: this sleep is interrupted once and then lasts.
    std::thread::sleep(Duration::from_millis(60));
    let _armed = guest.vcpu.kicker().arm();
    set(20);
    assert!(matches!(guest.vcpu.run().expect("runs"), Exit::Interrupted));
}

#[test]
fn an_earlier_alarm_serves_for_a_later_one() {
    let mut guest = guest(&[0xeb, 0xfe]);
    let thread = VcpuThread::enter().expect("enters");
    let _armed = guest.vcpu.kicker().arm();
    let now = Instant::now();
    thread
        .ring_by(now + Duration::from_millis(30), now)
        .expect("sets");
    thread
        .ring_by(now + Duration::from_secs(3600), now)
        .expect("does nothing");
    assert!(matches!(guest.vcpu.run().expect("runs"), Exit::Interrupted));
    assert!(now.elapsed() < Duration::from_secs(3000));
}

#[test]
fn cpu_time_is_charged_and_waiting_is_not() {
    let thread = VcpuThread::enter().expect("enters");
    let begun = Instant::now();
    let mark = thread.mark(begun);
    std::thread::sleep(Duration::from_millis(50));
    let slept = thread.cpu_since(mark, Instant::now());
    assert!(slept < Duration::from_millis(40), "{slept:?}");
    let worked = loop {
        let used = thread.cpu_since(mark, Instant::now());
        if used >= Duration::from_millis(50) {
            break used;
        }
        std::hint::spin_loop();
    };
    assert!(worked <= begun.elapsed());
}

#[test]
fn spinning_guest_is_stopped_from_another_thread() {
    let mut guest = guest(&[0xeb, 0xfe]);
    let thread = VcpuThread::enter().expect("enters");
    let _armed = guest.vcpu.kicker().arm();
    let remote = thread.remote();
    std::thread::scope(|scope| {
        scope.spawn(move || {
            std::thread::sleep(Duration::from_millis(20));
            remote.kick();
        });
        assert!(matches!(guest.vcpu.run().expect("runs"), Exit::Interrupted));
    });
}

#[test]
fn kick_before_the_run_stops_it_at_once() {
    let mut guest = guest(&[0xeb, 0xfe]);
    let thread = VcpuThread::enter().expect("enters");
    let _armed = guest.vcpu.kicker().arm();
    thread.remote().kick();
    assert!(matches!(guest.vcpu.run().expect("runs"), Exit::Interrupted));
}

#[test]
fn everything_a_cell_rests_on_holds_here() {
    let kvm = Kvm::open().expect("this test needs /dev/kvm");
    for observation in observe(&kvm).expect("probes") {
        println!("{observation:?}");
        assert!(observation.holds || !observation.needed, "{observation:?}");
    }
}
