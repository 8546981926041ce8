//! Kinds of identifier, and what stands in their place.

use serde::Serialize;

/// A kind of identifier.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// Of a person: patient, relative, clinician.
    Name,
    /// Medical record number.
    Mrn,
    /// Social security number.
    Ssn,
    /// Telephone or fax number.
    Phone,
    /// Electronic mail address.
    Email,
    /// Street, town, postal code, coordinates.
    Address,
    /// More of a date than its year.
    Date,
    /// An age above 89, or what tells it.
    Age,
    /// Any other number that stands for a person, an account or a licence.
    Id,
    /// Web address.
    Url,
    /// Network address.
    Ip,
    /// Picture or file inside the document.
    Attachment,
}

impl Kind {
    /// What stands in the place of an identifier of this kind.
    pub const fn tag(self) -> &'static str {
        match self {
            Kind::Name => "[NAME]",
            Kind::Mrn => "[MRN]",
            Kind::Ssn => "[SSN]",
            Kind::Phone => "[PHONE]",
            Kind::Email => "[EMAIL]",
            Kind::Address => "[ADDRESS]",
            Kind::Date => "[DATE]",
            Kind::Age => "[90+]",
            Kind::Id => "[ID]",
            Kind::Url => "[URL]",
            Kind::Ip => "[IP]",
            Kind::Attachment => "[ATTACHMENT]",
        }
    }
}

impl core::fmt::Display for Kind {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str(match self {
            Kind::Age => "AGE",
            _ => self.tag().trim_matches(['[', ']']),
        })
    }
}
