use alloc::collections::BTreeMap;
use alloc::string::String;
use alloc::vec;
use alloc::vec::Vec;
use core::net::Ipv4Addr;

use proptest::prelude::*;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::*;

#[derive(Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Order {
    symbol: String,
    price: f64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    note: Option<String>,
}

#[derive(Debug, PartialEq, Serialize, Deserialize)]
enum Shape {
    Nothing,
    Circle(f64),
    Line(i32, i32),
    Box { width: u8, height: u8 },
}

/// Reads what a person would have written as JSON.
fn from_json<T: DeserializeOwned>(value: &Value) -> Result<T, String> {
    from_slice(&to_vec(value).expect("encodes")).map_err(|error| error.to_string())
}

fn round_trip<T: Serialize + DeserializeOwned + PartialEq + core::fmt::Debug>(value: T) {
    let bytes = to_vec(&value).expect("encodes");
    assert_eq!(from_slice::<T>(&bytes), Ok(value));
}

#[test]
fn values_of_every_shape_survive_a_round_trip() {
    round_trip(vec![Shape::Nothing, Shape::Circle(0.5), Shape::Line(-1, 2)]);
    round_trip(Shape::Box {
        width: 1,
        height: 255,
    });
    round_trip((
        true,
        'ß',
        (),
        Some(7_u64),
        None::<u64>,
        i64::MIN,
        u64::MAX,
        f32::MIN_POSITIVE,
    ));
    round_trip(BTreeMap::from(
        [(1_u32, "one"), (2, "two")].map(|(key, text)| (key, String::from(text))),
    ));
    round_trip(Ipv4Addr::new(10, 0, 0, 1));
}

#[test]
fn json_is_taken_as_a_person_means_it() {
    let order = Order {
        symbol: "ABC".into(),
        price: 3.0,
        note: None,
    };
    assert_eq!(from_json(&json!({"symbol": "ABC", "price": 3})), Ok(order));
    assert_eq!(from_json(&json!("10.0.0.1")), Ok(Ipv4Addr::new(10, 0, 0, 1)));
    assert_eq!(from_json(&json!("Nothing")), Ok(Shape::Nothing));
    assert_eq!(from_json(&json!({"Circle": 2})), Ok(Shape::Circle(2.0)));
    assert_eq!(from_json(&json!({"7": true})), Ok(BTreeMap::from([(7_u8, true)])));
    assert_eq!(from_json::<Vec<u8>>(&json!([1, 2])), Ok(vec![1, 2]));
}

#[test]
fn byte_strings_become_vectors_and_slices() {
    assert_eq!(from_slice::<Vec<u8>>(&[0x42, 1, 2]), Ok(vec![1, 2]));
    assert_eq!(from_slice::<&[u8]>(&[0x42, 1, 2]), Ok(&[1_u8, 2][..]));
    assert_eq!(from_slice::<&str>(&[0x61, b'x']), Ok("x"));
}

#[test]
fn indefinite_lengths_and_tags_are_read() {
    assert_eq!(from_slice::<Vec<u8>>(&[0x9F, 1, 2, 0xFF]), Ok(vec![1, 2]));
    assert_eq!(
        from_slice::<String>(&[0x7F, 0x61, b'a', 0x61, b'b', 0xFF]),
        Ok("ab".into())
    );
    assert_eq!(from_slice::<u8>(&[0xC1, 7]), Ok(7));
}

#[test]
fn wrong_values_are_refused() {
    assert!(from_json::<Order>(&json!({"symbol": "ABC", "price": 3, "cost": 1})).is_err());
    assert!(from_json::<Order>(&json!({"symbol": "ABC"})).is_err());
    assert!(from_json::<u8>(&json!(300)).is_err());
    assert!(from_json::<u8>(&json!(1.5)).is_err());
    assert!(from_json::<Shape>(&json!({"Circle": 1, "Line": [1, 2]})).is_err());
    assert!(from_json::<(u8, u8)>(&json!([1, 2, 3])).is_err());
    assert!(from_slice::<u8>(&[7, 7]).is_err(), "bytes follow");
    assert!(from_slice::<u8>(&[]).is_err(), "nothing there");
}

#[test]
fn nesting_ends_before_the_stack_does() {
    let deep = vec![0x81; 100_000];
    assert!(
        from_slice::<Value>(&deep)
            .expect_err("is refused")
            .to_string()
            .contains("levels")
    );
    let mut inside = vec![0x81; 100];
    inside.push(0x80);
    assert!(from_slice::<Value>(&inside).is_ok());
}

fn values() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<u64>().prop_map(Value::from),
        any::<f64>()
            .prop_filter("JSON has finite numbers", |x| x.is_finite())
            .prop_map(Value::from),
        ".{0,20}".prop_map(Value::from),
    ];
    leaf.prop_recursive(4, 40, 6, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..6).prop_map(Value::from),
            prop::collection::btree_map(".{0,8}", inner, 0..6)
                .prop_map(|map| Value::Object(map.into_iter().collect())),
        ]
    })
}

proptest! {
    #[test]
    fn any_json_survives_a_round_trip(value in values()) {
        let bytes = to_vec(&value).expect("encodes");
        prop_assert_eq!(from_slice::<Value>(&bytes), Ok(value));
    }

    #[test]
    fn no_bytes_make_the_reader_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let _ = from_slice::<Value>(&bytes);
        let _ = from_slice::<Order>(&bytes);
        let _ = from_slice::<Shape>(&bytes);
    }
}

#[test]
fn floats_of_every_width_are_taken() {
    // RFC 8949, appendix A.
    for (bytes, value) in [
        (&[0xf9, 0x3e, 0x00][..], 1.5),
        (&[0xf9, 0x00, 0x01], 5.960_464_477_539_063e-8),
        (&[0xf9, 0x04, 0x00], 0.000_061_035_156_25),
        (&[0xf9, 0x7b, 0xff], 65504.0),
        (&[0xf9, 0xc4, 0x00], -4.0),
        (&[0xf9, 0xfc, 0x00], f64::NEG_INFINITY),
        (&[0xfa, 0x47, 0xc3, 0x50, 0x00], 100_000.0),
        (&[0xfb, 0x3f, 0xf1, 0x99, 0x99, 0x99, 0x99, 0x99, 0x9a], 1.1),
    ] {
        assert_eq!(from_slice::<f64>(bytes), Ok(value));
    }
    assert!(from_slice::<f64>(&[0xf9, 0x7e, 0x00]).is_ok_and(f64::is_nan));
    assert!(from_slice::<f64>(&[0xf9, 0x7e]).is_err());
}
