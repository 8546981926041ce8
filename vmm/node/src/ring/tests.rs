//! Ends and bells.

use super::*;

fn grant(ring: &str, sends: bool) -> RingGrant {
    RingGrant {
        ring: ring.into(),
        sends,
        slot: "s".into(),
        bytes: 4096,
    }
}

#[tokio::test]
async fn an_end_is_one_workers_at_a_time_and_the_next_has_it_when_it_is_left() {
    let rings = Rings::default();
    let first = rings.take(vec![grant("a", true)]).await.expect("is free");
    let other = rings
        .take(vec![grant("a", false)])
        .await
        .expect("is the other end");
    let within = Duration::from_millis(20);
    let refused = rings.take_within(vec![grant("a", true)], within).await;
    let refused = refused.expect_err("is taken");
    assert!(matches!(refused, NodeError::Busy { limit: 1, .. }), "{refused}");
    let [first] = first.as_slice() else {
        panic!("one end");
    };
    first.leave();
    let next = rings.take(vec![grant("a", true)]).await.expect("was left");
    let [other] = other.as_slice() else {
        panic!("one end");
    };
    assert!(other.take_ring(), "it hears that the other one left");
    drop(next);
    rings.take(vec![grant("a", true)]).await.expect("was dropped");
}

#[tokio::test]
async fn a_bell_that_rang_before_the_wait_is_heard_and_once() {
    let rings = Rings::default();
    let ends = rings.take(vec![grant("a", false), grant("a", true)]).await;
    let ends = ends.expect("are free");
    let [receiver, sender] = ends.as_slice() else {
        panic!("two ends");
    };
    for _ in 0..3 {
        sender.ring_other();
    }
    receiver.is_rung().await;
    assert!(!receiver.take_ring() && !sender.take_ring());
    let waits = tokio::time::timeout(Duration::from_millis(20), receiver.is_rung()).await;
    waits.expect_err("nobody rang");
    let both = async { tokio::join!(receiver.is_rung(), async { sender.ring_other() }) };
    both.await;
}

#[tokio::test]
async fn a_worker_rings_again_only_after_it_heard_that_its_bell_was_taken() {
    let rings = Rings::default();
    let ends = rings.take(vec![grant("a", false), grant("a", true)]).await;
    let ends = ends.expect("are free");
    let [receiver, sender] = ends.as_slice() else {
        panic!("two ends");
    };
    let heard = || tokio::time::timeout(Duration::from_millis(20), sender.is_heard());
    for _ in 0..3 {
        sender.ring_by_worker().expect("is the first");
        sender.ring_by_worker().expect_err("was not heard");
        heard().await.expect_err("was not heard");
        // What is said of the ring's lives is no bell of the worker, and hides none.
        sender.ring_other();
        assert!(receiver.take_ring());
        heard().await.expect("was heard");
        heard().await.expect_err("was heard already");
    }
    sender.ring_other();
    assert!(receiver.take_ring());
    heard().await.expect_err("its worker did not ring");
    sender.ring_by_worker().expect("is the first again");
    tokio::join!(sender.is_heard(), async { assert!(receiver.take_ring()) });
}

#[tokio::test]
async fn the_next_worker_with_an_end_owes_nothing() {
    let rings = Rings::default();
    let other = rings.take(vec![grant("a", false)]).await.expect("is free");
    let first = rings.take(vec![grant("a", true)]).await.expect("is free");
    first[0].ring_by_worker().expect("is the first");
    first[0].leave();
    let next = rings.take(vec![grant("a", true)]).await.expect("was left");
    next[0].ring_by_worker().expect("is its first");
    assert!(other[0].take_ring());
    // The one before may still listen, and takes nothing from it.
    tokio::join!(first[0].is_heard(), next[0].is_heard());
}
