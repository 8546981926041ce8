//! FHIR in JSON: resources, whose parts are known by their shape.
//!
//! Shapes are tried before keys, since a `HumanName` or an `Address` may stand anywhere, as in an extension.

use alloc::collections::BTreeMap;
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;

use serde_json::{Deserializer, Map, Value};

use crate::dates;
use crate::scrub::Scrubber;
use crate::{Kind, RedactError};

/// Takes the identifiers out of one JSON document, or of one on each line.
///
/// # Errors
/// [`RedactError::Json`].
pub(crate) fn redact(text: &str, scrubber: &mut Scrubber) -> Result<String, RedactError> {
    let text = text.trim_start_matches('\u{feff}');
    let documents: Vec<Value> = Deserializer::from_str(text)
        .into_iter()
        .collect::<Result<_, _>>()
        .map_err(|error| RedactError::Json(error.to_string()))?;
    let mut people = BTreeMap::new();
    for document in &documents {
        learn(document, scrubber, &mut people);
    }
    // One document over several lines was meant to be read by people.
    let is_pretty = documents.len() == 1 && text.trim_end().contains('\n');
    let mut out = String::new();
    for mut document in documents {
        rewrite(&mut document, "", scrubber, &people);
        if is_pretty {
            out.push_str(&format!("{document:#}"));
        } else {
            out.push_str(&document.to_string());
        }
        out.push('\n');
    }
    Ok(out)
}

/// Ids of resources that are people, and what stands in their place.
type People = BTreeMap<String, String>;

/// Remembers what shapes tell about people.
fn learn(value: &Value, scrubber: &mut Scrubber, people: &mut People) {
    match value {
        Value::Array(items) => items.iter().for_each(|item| learn(item, scrubber, people)),
        Value::Object(object) => {
            learn_object(object, scrubber, people);
            object.values().for_each(|member| learn(member, scrubber, people));
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

fn learn_object(object: &Map<String, Value>, scrubber: &mut Scrubber, people: &mut People) {
    let kind = text(object, "resourceType");
    if let (true, Some(id)) = (PEOPLE.contains(&kind.unwrap_or("")), text(object, "id")) {
        let number = people.len() + 1;
        let name = kind.unwrap_or("person").to_lowercase();
        people
            .entry(id.into())
            .or_insert_with(|| format!("{name}-{number}"));
    }
    match Shape::of(object) {
        Some(Shape::HumanName) => {
            for key in NAME_KEYS {
                strings(object.get(*key)).for_each(|name| scrubber.known.learn_name(name));
            }
        }
        Some(Shape::Identifier) => {
            if let Some(value) = text(object, "value") {
                scrubber.known.learn(value, identifier_kind(object));
            }
        }
        Some(Shape::ContactPoint) => {
            if let Some(value) = text(object, "value") {
                scrubber.known.learn(value, contact_kind(object));
            }
        }
        Some(Shape::Address) => {
            for key in ["line", "city", "postalCode", "text"] {
                strings(object.get(key)).for_each(|part| scrubber.known.learn(part, Kind::Address));
            }
        }
        Some(Shape::Reference) if refers_to_person(object) => {
            if let Some(name) = text(object, "display") {
                scrubber.known.learn_name(name);
            }
        }
        Some(Shape::Extension) if is_maiden_name(object) => {
            if let Some(name) = text(object, "valueString") {
                scrubber.known.learn_name(name);
            }
        }
        Some(Shape::Reference | Shape::Extension | Shape::Attachment) | None => {}
    }
}

fn rewrite(value: &mut Value, key: &str, scrubber: &mut Scrubber, people: &People) {
    match value {
        Value::Array(items) => {
            items.retain(|item| !is_place_extension(item, scrubber));
            items
                .iter_mut()
                .for_each(|item| rewrite(item, key, scrubber, people));
        }
        Value::Object(object) => rewrite_object(object, scrubber, people),
        Value::String(text) => *text = rewrite_string(text, key, scrubber, people),
        Value::Number(_) if matches!(key, "latitude" | "longitude" | "altitude") => {
            scrubber.tag(Kind::Address);
            *value = Value::Null;
        }
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}

fn rewrite_object(object: &mut Map<String, Value>, scrubber: &mut Scrubber, people: &People) {
    match Shape::of(object) {
        Some(Shape::HumanName) => replace(object, NAME_KEYS, Kind::Name, scrubber),
        Some(Shape::Identifier) => {
            let kind = identifier_kind(object);
            replace(object, &["value"], kind, scrubber);
        }
        Some(Shape::ContactPoint) => {
            let kind = contact_kind(object);
            replace(object, &["value"], kind, scrubber);
        }
        Some(Shape::Address) => replace(object, ADDRESS_KEYS, Kind::Address, scrubber),
        Some(Shape::Attachment) => replace(object, &["data", "url", "hash"], Kind::Attachment, scrubber),
        Some(Shape::Reference) if refers_to_person(object) => {
            replace(object, &["display"], Kind::Name, scrubber)
        }
        Some(Shape::Extension) if is_maiden_name(object) => {
            replace(object, &["valueString"], Kind::Name, scrubber)
        }
        Some(Shape::Reference | Shape::Extension) | None => {}
    }
    for (key, member) in object.iter_mut() {
        rewrite(member, key, scrubber, people);
    }
}

fn rewrite_string(text: &str, key: &str, scrubber: &mut Scrubber, people: &People) -> String {
    if text.starts_with('[') && text.ends_with(']') {
        return text.into();
    }
    match key {
        "id" => people.get(text).cloned().unwrap_or_else(|| exact(text, scrubber)),
        "reference" | "fullUrl" => {
            let (start, id) = text
                .rsplit_once(['/', ':'])
                .map_or(("", text), |(start, id)| (start, id));
            match people.get(id) {
                Some(name) => format!("{}{name}", &text[..text.len() - id.len()]),
                None if key == "fullUrl" && start.starts_with("http") => scrubber.tag(Kind::Url).into(),
                None => exact(text, scrubber),
            }
        }
        // Names of code systems, profiles and codes are no free text.
        "system" | "code" | "url" | "resourceType" | "profile" | "contentType" | "language" | "unit" => {
            exact(text, scrubber)
        }
        _ => match dates::dashed(text) {
            Some(found) => scrubber.date(found, key == "birthDate"),
            None => scrubber.prose(text),
        },
    }
}

/// Takes out a text that is known as a whole.
fn exact(text: &str, scrubber: &mut Scrubber) -> String {
    match scrubber.known.kind_of(text) {
        Some(kind) => scrubber.tag(kind).into(),
        None => text.into(),
    }
}

/// Replaces members of an object: a text by a tag, an array by one tag.
fn replace(object: &mut Map<String, Value>, keys: &[&str], kind: Kind, scrubber: &mut Scrubber) {
    for key in keys {
        match object.get_mut(*key) {
            Some(Value::String(text)) => *text = scrubber.tag(kind).into(),
            Some(Value::Array(items)) if !items.is_empty() => {
                *items = alloc::vec![Value::String(scrubber.tag(kind).into())];
            }
            Some(Value::Number(number)) => {
                let _ = number;
                object.insert((*key).into(), Value::String(scrubber.tag(kind).into()));
            }
            _ => {}
        }
    }
}

/// A data type of FHIR that identifies, as its members tell.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Shape {
    HumanName,
    Identifier,
    ContactPoint,
    Address,
    Attachment,
    Reference,
    Extension,
}

impl Shape {
    fn of(object: &Map<String, Value>) -> Option<Shape> {
        let has = |key: &str| object.contains_key(key);
        let is_resource = has("resourceType");
        if !is_resource && (has("family") || has("given")) {
            Some(Shape::HumanName)
        } else if !is_resource && has("value") && contact_system(object).is_some() {
            Some(Shape::ContactPoint)
        } else if !is_resource
            && has("value")
            && (has("system") || has("type") || has("assigner"))
            && is_text(object, "value")
        {
            Some(Shape::Identifier)
        } else if !is_resource
            && (has("postalCode") || has("line") || (has("city") && (has("state") || has("country"))))
        {
            Some(Shape::Address)
        } else if !is_resource && (has("data") || has("url")) && has("contentType") {
            Some(Shape::Attachment)
        } else if is_text(object, "reference") || (has("display") && text(object, "type").is_some()) {
            Some(Shape::Reference)
        } else if is_text(object, "url")
            && object
                .keys()
                .any(|key| key.starts_with("value") || key == "extension")
        {
            Some(Shape::Extension)
        } else if is_name_in_text(object) {
            Some(Shape::HumanName)
        } else {
            None
        }
    }
}

/// A `HumanName` that has only `text` and a `use` that no other type has.
fn is_name_in_text(object: &Map<String, Value>) -> bool {
    let uses = ["usual", "official", "nickname", "anonymous", "maiden"];
    is_text(object, "text") && text(object, "use").is_some_and(|name| uses.contains(&name))
}

fn contact_system(object: &Map<String, Value>) -> Option<&str> {
    text(object, "system")
        .filter(|name| ["phone", "fax", "email", "pager", "url", "sms", "other"].contains(name))
}

fn contact_kind(object: &Map<String, Value>) -> Kind {
    match contact_system(object) {
        Some("email") => Kind::Email,
        Some("url") => Kind::Url,
        _ => Kind::Phone,
    }
}

fn identifier_kind(object: &Map<String, Value>) -> Kind {
    let codings = object
        .get("type")
        .and_then(|kind| kind.get("coding"))
        .and_then(Value::as_array);
    let mut codes = codings
        .into_iter()
        .flatten()
        .filter_map(|coding| coding.get("code")?.as_str());
    let system = text(object, "system").unwrap_or("");
    if system.contains("us-ssn") || system.contains("2.16.840.1.113883.4.1") {
        return Kind::Ssn;
    }
    codes
        .find_map(|code| match code {
            "MR" => Some(Kind::Mrn),
            "SS" | "SB" => Some(Kind::Ssn),
            _ => None,
        })
        .unwrap_or(Kind::Id)
}

fn refers_to_person(object: &Map<String, Value>) -> bool {
    let target = text(object, "reference").unwrap_or("");
    let kind = text(object, "type").unwrap_or("");
    let named = PEOPLE.iter().any(|name| {
        kind == *name || target.contains(&format!("{name}/")) || target.contains(&format!("{name}?"))
    });
    // A reference by UUID does not say what it refers to.
    named || target.starts_with("urn:")
}

fn is_maiden_name(object: &Map<String, Value>) -> bool {
    text(object, "url").is_some_and(|url| url.ends_with("patient-mothersMaidenName"))
}

/// An extension with coordinates, which is taken out whole.
fn is_place_extension(value: &Value, scrubber: &mut Scrubber) -> bool {
    let url = value.get("url").and_then(Value::as_str).unwrap_or("");
    let is_place = url.ends_with("/geolocation");
    if is_place {
        scrubber.tag(Kind::Address);
    }
    is_place
}

fn text<'a>(object: &'a Map<String, Value>, key: &str) -> Option<&'a str> {
    object.get(key)?.as_str()
}

fn is_text(object: &Map<String, Value>, key: &str) -> bool {
    text(object, key).is_some()
}

/// A text, or the texts of an array.
fn strings(value: Option<&Value>) -> impl Iterator<Item = &str> {
    let one = value.and_then(Value::as_str);
    let many = value
        .and_then(Value::as_array)
        .into_iter()
        .flatten()
        .filter_map(Value::as_str);
    one.into_iter().chain(many)
}

const NAME_KEYS: &[&str] = &["family", "given", "text"];
const ADDRESS_KEYS: &[&str] = &["line", "city", "district", "postalCode", "text"];
/// Resources that are people.
const PEOPLE: &[&str] = &[
    "Patient",
    "RelatedPerson",
    "Practitioner",
    "PractitionerRole",
    "Person",
];
