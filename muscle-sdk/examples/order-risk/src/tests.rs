use alloc::string::{String, ToString};
use alloc::vec::Vec;

use serde_json::{Value, json};

use super::*;

const ORDERS: &str = include_str!("../data/orders.jsonl");
const DECISIONS: &str = include_str!("../data/decisions.jsonl");

fn order(id: &str, side: Side, quantity: u64, price: f64) -> Order {
    Order {
        id: id.into(),
        account: "A".into(),
        symbol: "ABC".into(),
        side,
        quantity,
        price: Money::try_from(price).expect("is money"),
    }
}

fn rules(decision: &Decision) -> Vec<String> {
    let value = serde_json::to_value(decision).expect("serialises");
    let reasons = value["reasons"].as_array().cloned().unwrap_or_default();
    reasons
        .iter()
        .filter_map(|reason| reason["rule"].as_str().map(String::from))
        .collect()
}

/// The decisions were worked out by another program, `data/generate.py`.
#[test]
fn day_of_orders_is_decided_as_another_program_decided_it() {
    let mut desk = Desk::default();
    let mut count = 0;
    for (line, expected) in ORDERS.lines().zip(DECISIONS.lines()) {
        let decision = serde_json::to_value(desk.check_line(line)).expect("serialises");
        let mut expected: Value = serde_json::from_str(expected).expect("is JSON");
        if expected["reasons"][0]["rule"] == "malformed" {
            // The text is this program's own.
            expected["reasons"][0]["text"] = decision["reasons"][0]["text"].clone();
        }
        assert_eq!(decision, expected, "{line}");
        count += 1;
    }
    assert_eq!(count, ORDERS.lines().count());
    assert!(count >= 400);
}

#[test]
fn each_limit_refuses_by_its_name() {
    let mut desk = Desk::default();
    let mut refused = |order: &Order| rules(&desk.check(order));
    assert_eq!(refused(&order("1", Side::Buy, 100, 40.0)), [""; 0]);
    assert_eq!(refused(&order("1", Side::Buy, 100, 40.0)), ["duplicate"]);
    assert_eq!(refused(&order("2", Side::Buy, 0, 40.0)), ["nothing-ordered"]);
    assert_eq!(refused(&order("3", Side::Buy, 5001, 40.0)), ["order-quantity"]);
    assert_eq!(refused(&order("4", Side::Buy, 100, 42.01)), ["price-band"]);
    assert_eq!(
        refused(&order("5", Side::Buy, 100, 42.0)),
        [""; 0],
        "just inside the band"
    );
    assert_eq!(refused(&order("6", Side::Buy, 5000, 42.0)), [""; 0]);
    assert_eq!(refused(&order("7", Side::Buy, 4000, 42.0)), ["position"]);
    assert_eq!(
        refused(&order("8", Side::Sell, 4999, 44.0)),
        [""; 0],
        "selling makes it smaller"
    );
}

#[test]
fn order_value_is_exact_to_the_last_decimal() {
    let mut desk = Desk::default();
    assert!(desk.check(&order("1", Side::Buy, 2500, 100.0)).accepted);
    let mut desk = Desk::default();
    assert_eq!(
        rules(&desk.check(&order("1", Side::Buy, 2500, 100.0001))),
        ["order-value"]
    );
}

#[test]
fn huge_numbers_do_not_wrap() {
    let mut desk = Desk::default();
    let decision = desk.check(&order("1", Side::Sell, u64::MAX, 100_000_000.0));
    assert_eq!(
        rules(&decision),
        ["order-quantity", "order-value", "position", "gross-value"]
    );
    assert_eq!(decision.position, Some(0));
}

#[test]
fn amounts_have_four_decimals_and_no_more() {
    assert_eq!(Money::try_from(12.3456).expect("is money").to_string(), "12.3456");
    assert!(Money::try_from(12.34567).is_err());
    for bad in [0.0, -1.0, f64::NAN, f64::INFINITY, 1e9] {
        assert!(Money::try_from(bad).is_err(), "{bad}");
    }
}

#[test]
fn lines_that_are_no_orders_are_refused() {
    let mut desk = Desk::default();
    let good = json!({"id": "1", "account": "A", "symbol": "S", "side": "buy", "quantity": 1, "price": 2.5});
    assert!(desk.check_line(&good.to_string()).accepted);
    for (field, value) in [
        ("side", json!("hold")),
        ("quantity", json!(-1)),
        ("quantity", json!(1.5)),
        ("price", json!("free")),
        ("price", json!(-2)),
        ("extra", json!(1)),
    ] {
        let mut bad = good.clone();
        bad[field] = value;
        assert_eq!(
            rules(&desk.check_line(&bad.to_string())),
            ["malformed"],
            "{field}"
        );
    }
    assert_eq!(rules(&desk.check_line("{")), ["malformed"]);
}

/// Calls as the host makes them: by name, with CBOR both ways.
#[test]
fn exported_functions_answer_calls() {
    let call = |name: &str, arguments: Value| -> Result<Value, muscle::Error> {
        let payload = muscle::cbor::to_vec(&arguments).expect("encodes");
        let answer = muscle::testing::call(name, &payload)?;
        Ok(muscle::cbor::from_slice(&answer).expect("decodes"))
    };
    let order = json!({"id": "c1", "account": "C", "symbol": "S", "side": "buy", "quantity": 10, "price": 3});
    let decision = call("check", json!([order])).expect("is answered");
    assert_eq!(decision, json!({"id": "c1", "accepted": true, "position": 10}));
    let limits = call("set_limit", json!({"name": "position", "value": 12})).expect("is answered");
    assert_eq!(limits["position"], 12);
    assert_eq!(call("limits", json!([])).expect("is answered"), limits);
    let exposure = call("exposure", json!(["C"])).expect("is answered");
    assert_eq!(
        exposure,
        json!({"account": "C", "gross_value": 30.0, "positions": {"S": 10}})
    );

    let error = call("set_limit", json!(["colour", 1])).expect_err("is refused");
    assert_eq!(error.code, muscle::ErrorCode::Application);
    assert!(error.message.starts_with("no limit is named `colour`"));
    let error = call("check", json!([{"id": "x"}])).expect_err("is refused");
    assert_eq!(error.code, muscle::ErrorCode::BadArguments);
    assert!(
        error.message.starts_with("argument `order`: missing field"),
        "{error}"
    );
    assert_eq!(
        call("steal", json!([])).expect_err("is refused").code,
        muscle::ErrorCode::UnknownFunction
    );
}
