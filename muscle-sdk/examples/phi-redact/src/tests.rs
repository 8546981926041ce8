use alloc::string::{String, ToString};
use alloc::vec::Vec;

use serde_json::{Value, json};

use super::*;

const BUNDLE: &str = include_str!("../data/bundle.json");
const MESSAGES: &str = include_str!("../data/messages.hl7");
const NOTE: &str = include_str!("../data/note.txt");
const TRUTH: &str = include_str!("../data/truth.json");

/// Every text that the generator planted as an identifier is gone, and every text that it planted as medicine is there.
fn check_against_truth(name: &str, input: &str) -> Redacted {
    let truth: Value = serde_json::from_str(TRUTH).expect("is JSON");
    let texts = |list: &str| -> Vec<String> {
        let list = truth[name][list].as_array().expect("is a list");
        list.iter()
            .map(|text| text.as_str().expect("is text").to_string())
            .collect()
    };
    let redacted = redact_text(input).expect("is redacted");
    let (identifiers, medicine) = (texts("identifiers"), texts("medicine"));
    assert!(identifiers.len() >= 10 && medicine.len() >= 5);
    let left: Vec<&String> = identifiers
        .iter()
        .filter(|text| redacted.text.contains(*text))
        .collect();
    assert!(left.is_empty(), "{name} still has {left:?}");
    let lost: Vec<&String> = medicine
        .iter()
        .filter(|text| !redacted.text.contains(*text))
        .collect();
    assert!(lost.is_empty(), "{name} has lost {lost:?}");
    redacted
}

#[test]
fn no_planted_identifier_is_left_in_the_fhir_bundle() {
    let redacted = check_against_truth("bundle", BUNDLE);
    assert_eq!(redacted.format, Format::Fhir);
    let value: Value = serde_json::from_str(&redacted.text).expect("is still JSON");
    assert_eq!(value["resourceType"], "Bundle");
    for kind in [
        Kind::Name,
        Kind::Mrn,
        Kind::Ssn,
        Kind::Phone,
        Kind::Email,
        Kind::Address,
        Kind::Date,
        Kind::Age,
    ] {
        assert!(
            redacted.counts.get(&kind).is_some_and(|count| *count > 0),
            "{kind}: {:?}",
            redacted.counts
        );
    }
}

#[test]
fn no_planted_identifier_is_left_in_the_hl7_messages() {
    let redacted = check_against_truth("messages", MESSAGES);
    assert_eq!(redacted.format, Format::Hl7);
    let shape = |text: &str| -> Vec<(String, usize)> {
        let segments = text.split('\r').filter(|segment| !segment.trim().is_empty());
        segments
            .map(|segment| (segment.trim()[..3].to_string(), segment.matches('|').count()))
            .collect()
    };
    assert_eq!(
        shape(&redacted.text),
        shape(MESSAGES),
        "segments and fields stay where they are"
    );
}

#[test]
fn no_planted_identifier_is_left_in_the_note() {
    let redacted = check_against_truth("note", NOTE);
    assert_eq!(redacted.format, Format::Prose);
}

#[test]
fn redacting_twice_changes_nothing_more() {
    for input in [BUNDLE, MESSAGES, NOTE] {
        let once = redact_text(input).expect("is redacted");
        let twice = redact_text(&once.text).expect("is redacted");
        assert_eq!(once.text, twice.text);
    }
}

#[test]
fn pid_fields_are_taken_out_by_their_place() {
    let message = "MSH|^~\\&|ADT|HOSP|||20240115083000||ADT^A01|MSG1|P|2.5.1\r\
                   PID|1||483920^^^HOSP^MR~990011^^^CLINIC^PI||O'Neil^Siobhán^M||19610312|F||2106-3|12 Elm St^Apt 4^Springfield^IL^62701||(217)555-0143|||M|||123-45-6789\r\
                   OBX|1|TX|NOTE^Note||Siobhán O'Neil of Springfield feels well, call 217-555-0143||||||F\r\
                   OBX|2|NM|2345-7^Glucose^LN||20240115|mg/dL\r";
    let redacted = redact_text(message).expect("is redacted");
    let expected = "MSH|^~\\&|ADT|HOSP|||2024||ADT^A01|MSG1|P|2.5.1\r\
                    PID|1||[MRN]~[MRN]||[NAME]||1961|F||2106-3|[ADDRESS]||[PHONE]|||M|||[SSN]\r\
                    OBX|1|TX|NOTE^Note||[NAME] [NAME] of [ADDRESS] feels well, call [PHONE]||||||F\r\
                    OBX|2|NM|2345-7^Glucose^LN||20240115|mg/dL\r";
    assert_eq!(redacted.text, expected);
}

#[test]
fn other_separators_are_those_that_the_message_declares() {
    let message = "MSH#$%\\@#ADT#HOSP\rPID#1##77#1#Doe$Jane##19800101#F\r";
    let redacted = redact_text(message).expect("is redacted");
    assert_eq!(
        redacted.text,
        "MSH#$%\\@#ADT#HOSP\rPID#1##[MRN]#[ID]#[NAME]##1980#F\r"
    );
}

#[test]
fn fhir_types_are_taken_out_by_their_shape() {
    let patient = json!({
        "resourceType": "Patient", "id": "p77",
        "identifier": [{"system": "http://hl7.org/fhir/sid/us-ssn", "value": "999-11-2222"}],
        "name": [{"use": "official", "family": "Okafor", "given": ["Ada", "N."]}],
        "telecom": [{"system": "email", "value": "ada@example.org"}],
        "gender": "female", "birthDate": "1988-07-02",
        "address": [{"line": ["9 Oak Ave"], "city": "Reno", "state": "NV", "postalCode": "89501"}],
    });
    let redacted = redact_text(&patient.to_string()).expect("is redacted");
    let expected = json!({
        "resourceType": "Patient", "id": "patient-1",
        "identifier": [{"system": "http://hl7.org/fhir/sid/us-ssn", "value": "[SSN]"}],
        "name": [{"use": "official", "family": "[NAME]", "given": ["[NAME]"]}],
        "telecom": [{"system": "email", "value": "[EMAIL]"}],
        "gender": "female", "birthDate": "1988",
        "address": [{"line": ["[ADDRESS]"], "city": "[ADDRESS]", "state": "NV", "postalCode": "[ADDRESS]"}],
    });
    assert_eq!(
        serde_json::from_str::<Value>(&redacted.text).expect("is JSON"),
        expected
    );
}

#[test]
fn what_fields_tell_is_found_in_free_text_and_references() {
    let bundle = json!({"resourceType": "Bundle", "entry": [
        {"fullUrl": "urn:uuid:p77", "resource": {"resourceType": "Patient", "id": "p77", "name": [{"family": "Okafor", "given": ["Ada"]}]}},
        {"resource": {"resourceType": "Observation", "id": "o1", "subject": {"reference": "Patient/p77", "display": "Ada Okafor"},
            "effectiveDateTime": "2024-01-15T08:30:00Z", "code": {"text": "Glucose"},
            "note": [{"text": "OKAFOR was fasting. Ada's brother Ben Smith drove her."}]}},
    ]});
    let redacted = redact_text(&bundle.to_string()).expect("is redacted");
    let value: Value = serde_json::from_str(&redacted.text).expect("is JSON");
    assert_eq!(value["entry"][0]["fullUrl"], "urn:uuid:patient-1");
    let observation = &value["entry"][1]["resource"];
    assert_eq!(
        observation["subject"],
        json!({"reference": "Patient/patient-1", "display": "[NAME]"})
    );
    assert_eq!(observation["effectiveDateTime"], "2024-01-01T00:00:00Z");
    assert_eq!(
        observation["note"][0]["text"],
        "[NAME] was fasting. [NAME]'s brother [NAME] drove her."
    );
    assert_eq!(observation["code"]["text"], "Glucose");
}

#[test]
fn free_text_gives_identifiers_away_by_their_form() {
    for (text, expected) in [
        (
            "Seen by Dr. Maria Lopez on 03/04/2024.",
            "Seen by [NAME] on [DATE 2024].",
        ),
        ("MRN: 0048213, SSN 123456789", "MRN [MRN], SSN [SSN]"),
        (
            "call (555) 010-7788 or +44 20 7946 0018",
            "call [PHONE] or [PHONE]",
        ),
        ("lives at 1420 W. Maple Grove Road, Apt 5", "lives at [ADDRESS]"),
        ("Boise, ID 83702-1234", "[ADDRESS]"),
        ("a 93-year-old woman, age 93", "a [90+] woman, age [90+]"),
        ("a 64-year-old man", "a 64-year-old man"),
        ("on March 3rd, 2024 and 5 June", "on [DATE 2024] and [DATE]"),
        (
            "from 10.20.30.40 to https://portal.example/x?id=1",
            "from [IP] to [URL]",
        ),
        (
            "BP 120/80, HR 72, glucose 95 mg/dL, LOINC 2345-7",
            "BP 120/80, HR 72, glucose 95 mg/dL, LOINC 2345-7",
        ),
        (
            "metformin 500 mg twice daily for 30 days",
            "metformin 500 mg twice daily for 30 days",
        ),
    ] {
        let redacted = redact_text(text).expect("is redacted");
        assert_eq!(redacted.text, expected);
    }
}

#[test]
fn birth_year_of_the_very_old_is_taken_out() {
    let text = |year: u32| {
        let patient = json!({"resourceType": "Patient", "birthDate": alloc::format!("{year}-05-06"), "meta": {"lastUpdated": "2024-01-01T00:00:00Z"}});
        let redacted = redact_text(&patient.to_string()).expect("is redacted");
        serde_json::from_str::<Value>(&redacted.text).expect("is JSON")["birthDate"].clone()
    };
    assert_eq!(text(1935), "1935");
    assert_eq!(text(1934), "[90+]");
}

#[test]
fn input_that_is_not_what_it_seems_is_refused_whole() {
    assert!(matches!(
        redact_text("{\"name\": \"Ada\""),
        Err(RedactError::Json(_))
    ));
    assert!(matches!(redact_text("{} Ada Okafor"), Err(RedactError::Json(_))));
    assert_eq!(redact_text("MSH and then some"), Err(RedactError::Hl7Header));
    assert_eq!(redact_text("").expect("is redacted").text, "");
}

#[test]
fn several_documents_are_redacted_line_by_line() {
    let redacted =
        redact_text("{\"birthDate\":\"1988-07-02\"}\n{\"birthDate\":\"1990-01-01\"}\n").expect("is redacted");
    assert_eq!(
        redacted.text,
        "{\"birthDate\":\"1988\"}\n{\"birthDate\":\"1990\"}\n"
    );
}

#[test]
fn exported_function_answers_with_text_and_counts() {
    let arguments = muscle::cbor::to_vec(&json!(["mail ada@example.org"])).expect("encodes");
    let answer = muscle::testing::call("redact", &arguments).expect("is answered");
    let value: Value = muscle::cbor::from_slice(&answer).expect("decodes");
    assert_eq!(
        value,
        json!({"text": "mail [EMAIL]", "format": "prose", "counts": {"email": 1}})
    );
}
