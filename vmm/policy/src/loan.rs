//! What one muscle has of another's grant: for slots that wait for a delegation.
//!
//! ```text
//!   policy's grant to the receiver ─┐
//!   less what was taken from it ────┼─ meet ─► what the slot has
//!   the loan: what was lent to it ──┘          none of them: the slot is there, and every use of it is refused
//! ```
//! The one rule: **a loan widens nothing.** The slot has what is in the grant *and* in the loan, whatever the loan says. Loans have numbers, of which only
//! a greater one counts, so that an old one that comes late brings nothing back.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use muscle_abi::capability::CapabilityKind;
use serde::{Deserialize, Serialize};

use crate::grants::Power;
use crate::standing::Narrowing;

/// What is lent to one slot.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Loan {
    /// Greater than that of any loan to this slot before.
    pub number: u64,
    /// What is lent; none when it was taken back.
    pub power: Option<Power>,
}

/// What is lent, by slot.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Loans(BTreeMap<String, Loan>);

/// How a slot that waits for a delegation stands.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Lent {
    /// Nobody has delegated to it.
    #[default]
    NotYet,
    /// It has what was lent.
    Now,
    /// What was lent was taken back.
    Over,
}

impl Loans {
    /// Takes a loan instead of the one before, unless that is as new: then it changes nothing and is false.
    pub fn put(&mut self, slot: &str, loan: Loan) -> bool {
        let is_new = self.0.get(slot).is_none_or(|before| before.number < loan.number);
        if is_new {
            self.0.insert(slot.to_owned(), loan);
        }
        is_new
    }

    /// What a slot has that was granted this, and how it stands; the grant itself while nothing is lent.
    pub(crate) fn of(&self, slot: &str, granted: &Power) -> (Power, Lent) {
        match self.0.get(slot) {
            None => (granted.clone(), Lent::NotYet),
            Some(loan) => match loan.power.as_ref().and_then(|lent| granted.meet(lent)) {
                Some(both) => (both, Lent::Now),
                None => (granted.clone(), Lent::Over),
            },
        }
    }

    /// What is lent to a slot.
    pub fn get(&self, slot: &str) -> Option<&Loan> {
        self.0.get(slot)
    }
}

impl Power {
    /// What is in both: none when they are of two kinds, lead to two things, or are of a kind that is not lent.
    pub fn meet(&self, other: &Power) -> Option<Power> {
        match (self, other) {
            (Power::Clock { grade }, Power::Clock { grade: lent }) => Some(Power::Clock {
                grade: *grade.min(lent),
            }),
            (Power::Random, Power::Random) => Some(Power::Random),
            (
                Power::Files {
                    path,
                    access,
                    within,
                    max_bytes,
                    max_files,
                },
                Power::Files {
                    path: lent_path,
                    access: lent_access,
                    within: lent_within,
                    max_bytes: lent_bytes,
                    max_files: lent_files,
                },
            ) => {
                let (own, lent) = (place(path, within), place(lent_path, lent_within));
                let both = match () {
                    () if own.starts_with(&lent) => own,
                    () if lent.starts_with(&own) => lent,
                    () => return None,
                };
                let below = both.strip_prefix(path).ok()?;
                Some(Power::Files {
                    path: path.clone(),
                    access: *access.min(lent_access),
                    within: match below == Path::new("") {
                        true => None,
                        false => Some(below.to_str()?.to_owned()),
                    },
                    max_bytes: *max_bytes.min(lent_bytes),
                    max_files: *max_files.min(lent_files),
                })
            }
            _ => None,
        }
    }

    /// What of it a narrowing leaves; all of it if that says nothing.
    pub fn lent(&self, narrowing: &Narrowing) -> Option<Power> {
        match self.kind().may_be_delegated() {
            true => narrowing.meet(self),
            false => None,
        }
    }

    /// Whether it allows no more than another: what both have is all of it.
    pub fn is_within(&self, other: &Power) -> bool {
        self.meet(other).as_ref() == Some(self)
    }

    /// Whether it is of a kind that one muscle may delegate to another.
    pub const fn may_be_delegated(&self) -> bool {
        CapabilityKind::may_be_delegated(self.kind())
    }
}

/// Where a narrowed directory is. Neither part has `..`, and no link is followed in either.
fn place(path: &Path, within: &Option<String>) -> PathBuf {
    match within {
        None => path.to_owned(),
        Some(within) => path.join(within),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use referee_bundle::{ClockGrade, FilesAccess};

    use super::*;

    fn files(path: &str, access: FilesAccess, within: Option<&str>, max_bytes: u64) -> Power {
        Power::Files {
            path: path.into(),
            access,
            within: within.map(str::to_owned),
            max_bytes,
            max_files: 4,
        }
    }

    #[test]
    fn two_directories_meet_where_one_is_below_the_other() {
        let (read, write) = (FilesAccess::Read, FilesAccess::ReadWrite);
        let own = files("/srv/a", write, None, 10);
        let meet = |lent: &Power| own.meet(lent);
        assert_eq!(meet(&own), Some(own.clone()));
        assert_eq!(
            meet(&files("/srv/a", read, None, 99)),
            Some(files("/srv/a", read, None, 10))
        );
        // What is lent is below, and above.
        assert_eq!(
            meet(&files("/srv/a/b", write, Some("c"), 5)),
            Some(files("/srv/a", write, Some("b/c"), 5))
        );
        assert_eq!(meet(&files("/srv", write, None, 99)), Some(own.clone()));
        assert_eq!(
            meet(&files("/srv", write, Some("a/b"), 99)),
            Some(files("/srv/a", write, Some("b"), 10))
        );
        for beside in ["/srv/b", "/srv/ab", "/srv/a2", "/"] {
            let within = (beside == "/").then_some("etc");
            assert_eq!(meet(&files(beside, write, within, 99)), None, "{beside}");
        }
        assert_eq!(meet(&Power::Random), None);
    }

    #[test]
    fn what_is_not_lent_has_nothing_in_common_with_itself() {
        for power in [
            Power::Args,
            Power::Attest,
            Power::Console { input: true },
            Power::State { max_bytes: 1 },
        ] {
            assert_eq!(power.meet(&power), None, "{power:?}");
            assert_eq!(power.lent(&Narrowing::default()), None, "{power:?}");
        }
    }

    #[test]
    fn an_old_loan_that_comes_late_brings_nothing_back() {
        let mut loans = Loans::default();
        let loan = |number, power| Loan { number, power };
        assert_eq!(loans.of("s", &Power::Random), (Power::Random, Lent::NotYet));
        assert!(loans.put("s", loan(2, Some(Power::Random))));
        assert_eq!(loans.of("s", &Power::Random), (Power::Random, Lent::Now));
        assert!(loans.put("s", loan(4, None)));
        for late in [1, 3, 4] {
            assert!(!loans.put("s", loan(late, Some(Power::Random))));
            assert_eq!(loans.of("s", &Power::Random).1, Lent::Over);
        }
        // Of another kind than what policy gave.
        assert!(loans.put("s", loan(5, Some(Power::Args))));
        assert_eq!(loans.of("s", &Power::Random).1, Lent::Over);
    }

    fn power() -> impl Strategy<Value = Power> {
        let path = prop::sample::select(vec!["/srv", "/srv/a", "/srv/a/b", "/srv/c", "/opt"]);
        let within = prop::sample::select(vec![None, Some("a"), Some("b"), Some("a/b"), Some("c")]);
        let access = prop::sample::select(vec![FilesAccess::Read, FilesAccess::ReadWrite]);
        let grade = prop::sample::select(vec![ClockGrade::Coarse, ClockGrade::Fine]);
        prop_oneof![
            8 => (path, within, access, 0u64..4).prop_map(|(path, within, access, bytes)| files(path, access, within, bytes)),
            1 => grade.prop_map(|grade| Power::Clock { grade }),
            1 => Just(Power::Random),
        ]
    }

    proptest! {
        #[test]
        fn what_is_in_both_is_in_each(one in power(), other in power()) {
            let both = one.meet(&other);
            prop_assert_eq!(both.is_some(), other.meet(&one).is_some());
            if let Some(both) = both {
                prop_assert!(both.is_within(&one));
                prop_assert!(both.is_within(&other), "{:?} {:?}", both, other);
                prop_assert_eq!(one.meet(&both), Some(both.clone()));
            }
            prop_assert!(one.is_within(&one));
        }
    }
}
