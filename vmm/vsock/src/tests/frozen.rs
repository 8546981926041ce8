//! A device that goes back to an earlier moment.

use super::driver::{LIMITS, data, establish, start};

#[test]
fn connections_are_those_of_the_moment_and_no_others() {
    let (mut vsock, mut driver) = start(LIMITS);
    let kept = establish(&mut vsock, &mut driver, 5000, 1);
    let frozen = vsock.clone();
    let later = establish(&mut vsock, &mut driver, 5001, 1);
    driver.tell(&mut vsock, data(5000, 1, 3), &[1, 2, 3]);
    assert_eq!(vsock.readable(kept), 3);
    vsock.write(kept, &[4, 5]);
    vsock.go_back_to(&frozen);
    assert_eq!(vsock.connections(), 1);
    assert_eq!(vsock.ports(kept), Some((5000, 1)));
    assert_eq!(vsock.ports(later), None);
    assert_eq!(vsock.readable(kept), 0, "bytes of another life");
    assert!(!vsock.has_pending());
    assert_eq!(vsock.counters(), frozen.counters());
    assert!(vsock.next_event().is_none());
}

#[test]
fn an_ended_connection_is_there_again() {
    let (mut vsock, mut driver) = start(LIMITS);
    let kept = establish(&mut vsock, &mut driver, 5000, 1);
    let frozen = vsock.clone();
    vsock.abort(kept);
    assert_eq!(vsock.ports(kept), None);
    vsock.go_back_to(&frozen);
    assert_eq!(vsock.ports(kept), Some((5000, 1)));
}
