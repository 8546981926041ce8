//! Channels of which a grant was taken back: nothing flows there any more, and the rest goes on.

use super::*;

#[track_caller]
fn revoke(node: &Node, name: &str, slot: &str) {
    let revoked = node.cli(&["grants", name, "--revoke", slot]);
    assert_eq!(revoked.code, Some(0), "{}", revoked.errors());
}

#[test]
fn a_slot_that_was_taken_back_neither_receives_nor_sends() {
    let mut node = Node::start();
    let receives = Wires {
        from: "news",
        ..NOWHERE
    };
    let sends = Wires {
        to: "news",
        ask: "orders",
        ..NOWHERE
    };
    deploy(&node, "one", receives, &[]);
    deploy(&node, "two", receives, &[]);
    deploy(
        &node,
        "desk",
        Wires {
            from: "orders",
            ..NOWHERE
        },
        &[],
    );
    deploy(&node, "sender", sends, &[]);
    assert_eq!(heard(tell(&node, "sender", "send", "e")), json!(2));
    assert_eq!(replied(tell(&node, "sender", "ask", "e")), "e");
    for name in ["one", "two"] {
        wait_for("it is taken", || node.counted(name, "messages_taken") == 1);
    }

    revoke(&node, "one", "from");
    assert_eq!(heard(tell(&node, "sender", "send", "e")), json!(1));
    wait_for("it is taken", || node.counted("two", "messages_taken") == 2);
    assert_eq!(node.counted("one", "calls"), 1);
    revoke(&node, "desk", "from");
    assert_eq!(code(tell(&node, "sender", "ask", "e")), Some(ErrorCode::NotFound));

    // What waits when it is taken back is lost, and said to be.
    assert_eq!(node.cli(&["pause", "two"]).code, Some(0));
    assert_eq!(heard(tell(&node, "sender", "send", "e")), json!(1));
    revoke(&node, "two", "from");
    assert_eq!(node.cli(&["resume", "two"]).code, Some(0));
    wait_for("it is lost", || node.counted("two", "messages_lost") == 1);
    assert_eq!(node.counted("two", "messages_taken"), 2);
    assert_eq!(heard(tell(&node, "sender", "send", "e")), json!(0));

    revoke(&node, "sender", "to");
    let refused = code(tell(&node, "sender", "send", "e"));
    assert_eq!(refused, Some(ErrorCode::StaleHandle));
    assert_eq!(
        code(tell(&node, "sender", "ask", "e")),
        Some(ErrorCode::NotFound),
        "its other slot is as it was"
    );
    assert!(node.stop().success());
    node.again();
    assert_eq!(code(tell(&node, "sender", "send", "e")), refused);
}
