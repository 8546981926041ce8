//! A decision for people (a table) and for machines (JSON): the output of `referee-vmm explain`.

use std::fmt::{self, Write as _};

use serde::Serialize;
use serde::ser::{SerializeSeq, SerializeStruct, Serializer};

use crate::decision::{Answer, Decision, Item, PolicyRef};
use crate::rejected::Rejected;

impl Decision {
    /// The decision as JSON, indented.
    ///
    /// # Errors
    /// None that plain data gives rise to.
    pub fn to_json(&self) -> Result<String, serde_json::Error> {
        serde_json::to_string_pretty(self)
    }
}

impl fmt::Display for Decision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let muscle = &self.muscle;
        writeln!(
            f,
            "muscle     {} {} (epoch {})",
            muscle.name, muscle.version, muscle.epoch
        )?;
        writeln!(
            f,
            "publisher  {} (key {})",
            self.publisher,
            self.key_id.get(..16).unwrap_or(&self.key_id)
        )?;
        writeln!(f, "policies   {}", printable(&self.policy_sources.join(", ")))?;
        writeln!(f)?;
        let rows: Vec<[String; 5]> = self.items().iter().map(row).collect();
        let head = ["SLOT", "CAPABILITY", "ASKS", "BOUND TO", "ANSWER"].map(str::to_owned);
        let mut widths = [0usize; 5];
        for row in std::iter::once(&head).chain(&rows) {
            for (width, cell) in widths.iter_mut().zip(row) {
                *width = (*width).max(cell.chars().count());
            }
        }
        for row in std::iter::once(&head).chain(&rows) {
            let mut line = String::new();
            for (cell, width) in row.iter().zip(widths) {
                write!(line, "{cell:width$}  ")?;
            }
            writeln!(f, "{}", line.trim_end())?;
        }
        let refusals: Vec<&Rejected> = self.refusals().collect();
        if refusals.is_empty() {
            return writeln!(f, "\nMay run: policy permits all that it asks for.");
        }
        writeln!(f, "\nMay not run:")?;
        refusals
            .iter()
            .try_for_each(|rejected| writeln!(f, "- {}", printable(&rejected.to_string())))
    }
}

fn row(item: &Item) -> [String; 5] {
    let answer = match &item.answer {
        Answer::Permitted { by } => {
            let by: Vec<&str> = by.iter().map(|policy| policy.id.as_str()).collect();
            format!("yes: {}", by.join(", "))
        }
        Answer::Refused(rejected) => format!("no: {}", rejected.short()),
    };
    [
        item.name.clone(),
        item.capability.to_owned(),
        item.asked.clone(),
        item.bound.clone().unwrap_or_else(|| "-".to_owned()),
        answer,
    ]
    .map(|cell| printable(&cell))
}

impl Rejected {
    /// The refusal in a few words.
    fn short(&self) -> String {
        match self {
            Rejected::SlotUnbound { .. } => "not bound".to_owned(),
            Rejected::NoSuchSlot { .. } => "no such slot".to_owned(),
            Rejected::BoundTwice { .. } => "bound twice".to_owned(),
            Rejected::NotBindable { .. } => "takes no binding".to_owned(),
            Rejected::WrongThing { .. } => "bound to the wrong kind of thing".to_owned(),
            Rejected::BoundReadOnly { .. } => "bound read-only".to_owned(),
            Rejected::PathNotPlain { .. } => "path not plain".to_owned(),
            Rejected::SamePorts { .. } => "ports asked for twice".to_owned(),
            Rejected::NumberTooLarge { .. } => "number too large".to_owned(),
            Rejected::Forbidden { by, .. } => {
                let by: Vec<&str> = by.iter().map(|policy| policy.id.as_str()).collect();
                format!("forbidden by {}", by.join(", "))
            }
            Rejected::NotPermitted { .. } => "no policy permits it".to_owned(),
            Rejected::Undecidable { .. } => "policy cannot be evaluated".to_owned(),
        }
    }

    /// The refusal's name for machines.
    pub const fn code(&self) -> &'static str {
        match self {
            Rejected::SlotUnbound { .. } => "slot-unbound",
            Rejected::NoSuchSlot { .. } => "no-such-slot",
            Rejected::BoundTwice { .. } => "bound-twice",
            Rejected::NotBindable { .. } => "not-bindable",
            Rejected::WrongThing { .. } => "wrong-thing",
            Rejected::BoundReadOnly { .. } => "bound-read-only",
            Rejected::PathNotPlain { .. } => "path-not-plain",
            Rejected::SamePorts { .. } => "same-ports",
            Rejected::NumberTooLarge { .. } => "number-too-large",
            Rejected::Forbidden { .. } => "forbidden",
            Rejected::NotPermitted { .. } => "not-permitted",
            Rejected::Undecidable { .. } => "undecidable",
        }
    }

    /// What would be needed, as text to copy: a binding or a policy.
    pub fn needed(&self) -> Option<String> {
        match self {
            Rejected::SlotUnbound { how, .. } | Rejected::WrongThing { how, .. } => {
                Some(format!("--bind {how}"))
            }
            Rejected::NotPermitted { would, .. } => Some(would.clone()),
            _ => None,
        }
    }
}

impl Serialize for Decision {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut out = serializer.serialize_struct("Decision", 6)?;
        let muscle = serde_json::json!({
            "name": self.muscle.name, "version": self.muscle.version, "epoch": self.muscle.epoch,
        });
        let mut digest = String::with_capacity(64);
        for byte in self.policy_digest {
            write!(digest, "{byte:02x}").map_err(serde::ser::Error::custom)?;
        }
        out.serialize_field("muscle", &muscle)?;
        out.serialize_field(
            "publisher",
            &serde_json::json!({"name": self.publisher, "key_id": self.key_id}),
        )?;
        out.serialize_field(
            "policies",
            &serde_json::json!({"sources": self.policy_sources, "sha256": digest}),
        )?;
        out.serialize_field("permitted", &self.refusals().next().is_none())?;
        out.serialize_field("asks", self.items())?;
        out.serialize_field("refusals", &Refusals(self))?;
        out.end()
    }
}

struct Refusals<'a>(&'a Decision);

impl Serialize for Refusals<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut out = serializer.serialize_seq(None)?;
        for rejected in self.0.refusals() {
            out.serialize_element(&serde_json::json!({
                "code": rejected.code(), "message": rejected.to_string(), "needed": rejected.needed(),
            }))?;
        }
        out.end()
    }
}

impl Serialize for Item {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let none: &[PolicyRef] = &[];
        let (answer, policies) = match &self.answer {
            Answer::Permitted { by } => ("permitted", by.as_slice()),
            Answer::Refused(rejected @ Rejected::Forbidden { by, .. }) => (rejected.code(), by.as_slice()),
            Answer::Refused(rejected) => (rejected.code(), none),
        };
        let mut out = serializer.serialize_struct("Item", 6)?;
        out.serialize_field("slot", &self.name)?;
        out.serialize_field("capability", self.capability)?;
        out.serialize_field("asked", &self.asked)?;
        out.serialize_field("bound", &self.bound)?;
        out.serialize_field("answer", answer)?;
        out.serialize_field("policies", policies)?;
        out.end()
    }
}

/// The text without anything that moves a terminal's cursor.
fn printable(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for letter in text.chars() {
        match letter.is_control() {
            true => out.extend(letter.escape_default()),
            false => out.push(letter),
        }
    }
    out
}
