//! What is left of a grant after policy gave it: all of it, less, or nothing.
//!
//! The one rule: **a grant only ever becomes less.** Whoever commands is refused what would be wider ([`Narrowing::of`]); what was commanded before is
//! applied to whatever policy gives later so that the smaller of the two holds ([`Standings::left_of`]).

use std::collections::BTreeMap;
use std::fmt;

use muscle_abi::capability::CapabilityKind;
use referee_bundle::{ClockGrade, FilesAccess};
use serde::{Deserialize, Serialize};

use crate::grants::{Grant, Grants, Power};
use crate::loan::{Lent, Loans};

/// Most names that a narrowing may leave, and most bytes of each; no manifest has more.
const NAMES_MAX: usize = 256;
const NAME_MAX: usize = 256;
/// Most bytes of a path.
const PATH_MAX: usize = 4095;

/// What is to be less. What is not said stays.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Narrowing {
    /// `files`: nothing may be changed any more.
    pub read_only: bool,
    /// `files`: only what is at or below this path, relative to the granted directory. Paths mean what they did.
    pub within: Option<String>,
    /// `files`: bytes by which the cell may grow what is there. `state`: bytes that are kept.
    pub max_bytes: Option<u64>,
    /// `files`: files and directories that the cell may add.
    pub max_files: Option<u32>,
    /// `functions`, `env`: only these names.
    pub names: Option<Vec<String>>,
    /// `console`: no input.
    pub no_input: bool,
    /// `clock`: milliseconds only.
    pub coarse: bool,
}

/// Why a narrowing is none.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NotNarrower {
    /// The muscle has no such slot.
    #[error("there is no slot `{slot}`; there are: {}", if .slots.is_empty() { "none".to_owned() } else { .slots.join(", ") })]
    NoSuchSlot {
        /// The name.
        slot: String,
        /// Those that there are.
        slots: Vec<String>,
    },
    /// The grant was revoked.
    #[error("the grant of slot `{slot}` was revoked, so that nothing is left to be narrowed")]
    Revoked {
        /// The slot.
        slot: String,
    },
    /// It is memory that the cell has.
    #[error("slot `{slot}` is a ring, memory that the cell has until it ends: end the cell to take it back")]
    Mapped {
        /// The slot.
        slot: String,
    },
    /// Nothing is delegated to it.
    #[error("slot `{slot}` is not one to which another muscle delegates")]
    NotDelegated {
        /// The slot.
        slot: String,
    },
    /// Nothing is said.
    #[error("nothing is to be narrowed: say what slot `{slot}` ({}) is to be left with", .capability.name())]
    Nothing {
        /// The slot.
        slot: String,
        /// What it is.
        capability: CapabilityKind,
    },
    /// This kind of capability has nothing of the kind.
    #[error("slot `{slot}` ({}) has no {what} that could be narrowed", .capability.name())]
    NotOfThisKind {
        /// The slot.
        slot: String,
        /// What it is.
        capability: CapabilityKind,
        /// What it has not.
        what: &'static str,
    },
    /// It would be more than there is.
    #[error("{what} of slot `{slot}` would be wider: it is {has}, and {asked} is asked for")]
    Wider {
        /// The slot.
        slot: String,
        /// What of it.
        what: &'static str,
        /// What there is.
        has: String,
        /// What was asked for.
        asked: String,
    },
    /// The path is none below the granted directory.
    #[error(
        "`{path}` is no path below the directory of slot `{slot}`: write names with / between them, without . and .."
    )]
    Path {
        /// The slot.
        slot: String,
        /// The path.
        path: String,
    },
}

impl NotNarrower {
    /// A stable name for machines.
    pub const fn name(&self) -> &'static str {
        match self {
            NotNarrower::NoSuchSlot { .. } => "no-slot",
            NotNarrower::Revoked { .. } => "grant-revoked",
            NotNarrower::Mapped { .. } => "ring-not-revocable",
            NotNarrower::NotDelegated { .. } => "slot-not-delegated",
            NotNarrower::Nothing { .. } => "narrowing-empty",
            NotNarrower::NotOfThisKind { .. } => "narrowing-not-of-this-kind",
            NotNarrower::Wider { .. } => "grant-wider",
            NotNarrower::Path { .. } => "narrowing-path",
        }
    }
}

impl Narrowing {
    /// What would be left of a slot's power.
    ///
    /// # Errors
    /// [`NotNarrower`] when anything of it would be wider, or has no meaning for this kind of capability.
    pub fn of(&self, slot: &str, power: &Power) -> Result<Power, NotNarrower> {
        let (slot, capability) = (slot.to_owned(), power.kind());
        if *self == Narrowing::default() {
            return Err(NotNarrower::Nothing { slot, capability });
        }
        if let Some(what) = self.foreign(capability) {
            return Err(NotNarrower::NotOfThisKind {
                slot,
                capability,
                what,
            });
        }
        if let Some(path) = self.within.as_ref().filter(|path| !is_plain(path)) {
            let path = path.escape_default().take(PATH_MAX).collect();
            return Err(NotNarrower::Path { slot, path });
        }
        let wider = match power {
            Power::Files {
                within,
                max_bytes,
                max_files,
                ..
            } => more("max_bytes", *max_bytes, self.max_bytes)
                .or_else(|| more("max_files", *max_files, self.max_files))
                .or_else(|| outside(within.as_deref(), self.within.as_deref())),
            Power::State { max_bytes } => more("max_bytes", *max_bytes, self.max_bytes),
            Power::Functions { names } | Power::Env { names } => others(names, self.names.as_deref()),
            _ => None,
        };
        if let Some((what, has, asked)) = wider {
            return Err(NotNarrower::Wider {
                slot,
                what,
                has,
                asked,
            });
        }
        self.meet(power).ok_or(NotNarrower::Revoked { slot })
    }

    /// What both leave: nothing when that is nothing, or the power is of a kind for which this was not said.
    pub(crate) fn meet(&self, power: &Power) -> Option<Power> {
        if self.foreign(power.kind()).is_some() {
            return None;
        }
        let mut left = power.clone();
        match &mut left {
            Power::Files {
                access,
                within,
                max_bytes,
                max_files,
                ..
            } => {
                if self.read_only {
                    *access = FilesAccess::Read;
                }
                *max_bytes = (*max_bytes).min(self.max_bytes.unwrap_or(u64::MAX));
                *max_files = (*max_files).min(self.max_files.unwrap_or(u32::MAX));
                *within = match (within.take(), &self.within) {
                    (None, wanted) => wanted.clone(),
                    (has, None) => has,
                    (Some(has), Some(wanted)) if is_at_or_below(wanted, &has) => Some(wanted.clone()),
                    (Some(has), Some(wanted)) if is_at_or_below(&has, wanted) => Some(has),
                    // Two directories beside each other.
                    _ => return None,
                };
            }
            Power::State { max_bytes } => *max_bytes = (*max_bytes).min(self.max_bytes.unwrap_or(u64::MAX)),
            Power::Functions { names } | Power::Env { names } => {
                if let Some(wanted) = &self.names {
                    names.retain(|name| wanted.contains(name));
                }
            }
            Power::Console { input } => *input = *input && !self.no_input,
            Power::Clock { grade } if self.coarse => *grade = ClockGrade::Coarse,
            Power::Clock { .. }
            | Power::Args
            | Power::Random
            | Power::Attest
            | Power::Ring { .. }
            | Power::Channel { .. }
            | Power::VsockListen { .. }
            | Power::VsockConnect { .. }
            | Power::Pio { .. } => {}
        }
        Some(left)
    }

    /// Something that is said here and that this kind of capability does not have.
    fn foreign(&self, kind: CapabilityKind) -> Option<&'static str> {
        use CapabilityKind::{Clock, Console, Env, Files, Functions, State};
        let said: [(&'static str, bool, &[CapabilityKind]); 7] = [
            ("right to write", self.read_only, &[Files]),
            ("within", self.within.is_some(), &[Files]),
            ("max_bytes", self.max_bytes.is_some(), &[Files, State]),
            ("max_files", self.max_files.is_some(), &[Files]),
            ("names", self.names.is_some(), &[Functions, Env]),
            ("input", self.no_input, &[Console]),
            ("grade", self.coarse, &[Clock]),
        ];
        let foreign = said
            .iter()
            .find(|(_, is_said, of)| *is_said && !of.contains(&kind));
        foreign.map(|(what, ..)| *what)
    }

    /// This and a later one, which is no wider.
    fn and(&self, later: &Narrowing) -> Narrowing {
        Narrowing {
            read_only: self.read_only || later.read_only,
            within: later.within.clone().or_else(|| self.within.clone()),
            max_bytes: least(self.max_bytes, later.max_bytes),
            max_files: least(self.max_files, later.max_files),
            names: later.names.clone().or_else(|| self.names.clone()),
            no_input: self.no_input || later.no_input,
            coarse: self.coarse || later.coarse,
        }
    }
}

impl fmt::Display for Narrowing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let flag = |said: bool, words: &str| said.then(|| words.to_owned());
        let parts = [
            flag(self.read_only, "read-only"),
            self.within.as_ref().map(|path| format!("within {path}")),
            self.max_bytes.map(|bytes| format!("max_bytes {bytes}")),
            self.max_files.map(|files| format!("max_files {files}")),
            self.names
                .as_ref()
                .map(|names| format!("names {}", names.join(" "))),
            flag(self.no_input, "no input"),
            flag(self.coarse, "coarse"),
        ];
        let said: Vec<String> = parts.into_iter().flatten().collect();
        f.write_str(&said.join(", "))
    }
}

/// What became of one slot's grant.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Standing {
    /// It is less than policy gave.
    Narrowed(Narrowing),
    /// It was taken back.
    Revoked,
}

/// What became of grants after policy gave them, by slot. Slots that are not named stand as they were given.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Standings(BTreeMap<String, Standing>);

impl Standings {
    /// How a slot stands; `None` when nothing was taken from it.
    pub fn get(&self, slot: &str) -> Option<&Standing> {
        self.0.get(slot)
    }

    /// Whether nothing was taken from any.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Every slot from which something was taken.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &Standing)> {
        self.0.iter().map(|(slot, standing)| (slot.as_str(), standing))
    }

    /// Takes a slot's grant back for good.
    pub fn revoke(&mut self, slot: &str) {
        self.0.insert(slot.to_owned(), Standing::Revoked);
    }

    /// Makes a slot's grant less. Whether it is less was seen to by [`Narrowing::of`]; a grant that was revoked stays so.
    pub fn narrow(&mut self, slot: &str, narrowing: &Narrowing) {
        let standing = match self.0.get(slot) {
            Some(Standing::Revoked) => return,
            Some(Standing::Narrowed(before)) => before.and(narrowing),
            None => narrowing.clone(),
        };
        self.0.insert(slot.to_owned(), Standing::Narrowed(standing));
    }

    /// What is left of a slot's power; `None` for nothing.
    pub fn left_of(&self, slot: &str, power: &Power) -> Option<Power> {
        match self.0.get(slot) {
            None => Some(power.clone()),
            Some(Standing::Revoked) => None,
            Some(Standing::Narrowed(narrowing)) => narrowing.meet(power),
        }
    }
}

impl Grants {
    /// What is left of these grants, with what is lent to those that are delegated: slots of which nothing is left are gone, those to which nothing is lent wait.
    #[must_use]
    pub fn left(&self, standings: &Standings, loans: &Loans) -> Grants {
        let left = |grant: &Grant| {
            let power = standings.left_of(grant.slot(), grant.power())?;
            Some(match grant.delegated() {
                None => grant.with(power, Lent::NotYet),
                Some(_) => {
                    let (power, lent) = loans.of(grant.slot(), &power);
                    grant.with(power, lent)
                }
            })
        };
        Grants::new(self.slots().iter().filter_map(left).collect(), *self.limits())
    }

    /// The grant of a slot.
    pub fn slot(&self, name: &str) -> Option<&Grant> {
        self.slots().iter().find(|grant| grant.slot() == name)
    }
}

/// What is wider, what it is, what is asked for.
type Wider = (&'static str, String, String);

fn more<N: PartialOrd + fmt::Display>(what: &'static str, has: N, asked: Option<N>) -> Option<Wider> {
    let asked = asked.filter(|asked| *asked > has)?;
    Some((what, has.to_string(), asked.to_string()))
}

fn others(has: &[String], asked: Option<&[String]>) -> Option<Wider> {
    let asked = asked?;
    let other = match asked.len() > NAMES_MAX {
        true => asked.last(),
        false => asked.iter().find(|name| !has.contains(name)),
    }?;
    let other = other.escape_default().take(NAME_MAX).collect();
    Some(("names", has.join(" "), other))
}

fn outside(has: Option<&str>, asked: Option<&str>) -> Option<Wider> {
    let (has, asked) = (has?, asked?);
    (!is_at_or_below(asked, has)).then(|| ("within", has.to_owned(), asked.to_owned()))
}

fn least<N: Ord>(one: Option<N>, other: Option<N>) -> Option<N> {
    match (one, other) {
        (Some(one), Some(other)) => Some(one.min(other)),
        (one, other) => one.or(other),
    }
}

/// Names with one `/` between them, none of them `.` or `..`.
fn is_plain(path: &str) -> bool {
    (1..=PATH_MAX).contains(&path.len())
        && !path.contains('\0')
        && path.split('/').all(|part| !matches!(part, "" | "." | ".."))
}

/// Whether a path is another one, or below it. Neither has `..`.
pub fn is_at_or_below(path: &str, folder: &str) -> bool {
    let parts = |path| str::split(path, '/').filter(|part| !matches!(*part, "" | "."));
    let mut path = parts(path);
    parts(folder).all(|part| path.next() == Some(part))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn files(access: FilesAccess, within: Option<&str>, max_bytes: u64, max_files: u32) -> Power {
        Power::Files {
            path: "/srv".into(),
            access,
            within: within.map(str::to_owned),
            max_bytes,
            max_files,
        }
    }

    fn functions(names: &[&str]) -> Power {
        let names = names.iter().map(|name| (*name).to_owned()).collect();
        Power::Functions { names }
    }

    fn within(path: &str) -> Narrowing {
        Narrowing {
            within: Some(path.into()),
            ..Narrowing::default()
        }
    }

    fn names(names: &[&str]) -> Narrowing {
        Narrowing {
            names: Some(names.iter().map(|name| (*name).to_owned()).collect()),
            ..Narrowing::default()
        }
    }

    fn bytes(max_bytes: u64) -> Narrowing {
        Narrowing {
            max_bytes: Some(max_bytes),
            ..Narrowing::default()
        }
    }

    #[test]
    fn what_would_be_wider_is_refused_and_named() {
        let power = files(FilesAccess::ReadWrite, Some("a"), 10, 2);
        let name =
            |narrowing: &Narrowing, power: &Power| narrowing.of("s", power).map_err(|error| error.name());
        assert_eq!(name(&bytes(11), &power), Err("grant-wider"));
        assert_eq!(name(&within("b"), &power), Err("grant-wider"));
        assert_eq!(name(&within("ab"), &power), Err("grant-wider"));
        assert_eq!(name(&names(&["f", "g"]), &functions(&["f"])), Err("grant-wider"));
        assert_eq!(name(&names(&["f"]), &power), Err("narrowing-not-of-this-kind"));
        assert_eq!(name(&bytes(1), &Power::Random), Err("narrowing-not-of-this-kind"));
        assert_eq!(name(&Narrowing::default(), &power), Err("narrowing-empty"));
        for bad in ["", "/a", "a/", "a//b", "a/./b", "a/..", "..", "a\0"] {
            assert_eq!(name(&within(bad), &power), Err("narrowing-path"), "{bad:?}");
        }
        let error = bytes(11).of("s", &power).expect_err("wider");
        assert_eq!(
            error.to_string(),
            "max_bytes of slot `s` would be wider: it is 10, and 11 is asked for"
        );
        assert_eq!(
            within("a/b").of("s", &power),
            Ok(files(FilesAccess::ReadWrite, Some("a/b"), 10, 2))
        );
        assert_eq!(bytes(10).of("s", &power), Ok(power));
        assert_eq!(
            names(&["g"]).of("s", &functions(&["f", "g"])),
            Ok(functions(&["g"]))
        );
    }

    #[test]
    fn what_was_said_before_holds_for_whatever_is_given_later() {
        let mut standings = Standings::default();
        standings.narrow("s", &within("a"));
        standings.narrow("s", &bytes(5));
        let left = |power: &Power| standings.left_of("s", power);
        let access = FilesAccess::Read;
        assert_eq!(
            left(&files(access, None, 9, 1)),
            Some(files(access, Some("a"), 5, 1))
        );
        assert_eq!(
            left(&files(access, Some("a/b"), 2, 1)),
            Some(files(access, Some("a/b"), 2, 1))
        );
        assert_eq!(left(&files(access, Some("c"), 9, 1)), None, "beside each other");
        assert_eq!(left(&Power::Random), None, "of another kind");
        standings.revoke("s");
        standings.narrow("s", &bytes(1));
        assert_eq!(standings.get("s"), Some(&Standing::Revoked), "for good");
        let kept = serde_json::to_string(&standings).expect("JSON");
        assert_eq!(serde_json::from_str::<Standings>(&kept).expect("read"), standings);
    }

    #[test]
    fn a_path_is_below_another_by_whole_names() {
        for below in ["a", "a/b", "./a//b", "a/"] {
            assert!(is_at_or_below(below, "a"), "{below}");
        }
        for beside in ["ab", "b/a", ".", ""] {
            assert!(!is_at_or_below(beside, "a"), "{beside}");
        }
    }

    fn narrowing() -> impl Strategy<Value = Narrowing> {
        let path = prop::sample::select(vec![None, Some("a"), Some("b"), Some("a/b"), Some("a/c")]);
        (
            any::<bool>(),
            path,
            prop::option::of(0u64..4),
            prop::option::of(0u32..4),
        )
            .prop_map(|(read_only, within, max_bytes, max_files)| Narrowing {
                read_only,
                within: within.map(str::to_owned),
                max_bytes,
                max_files,
                ..Narrowing::default()
            })
    }

    /// Whether one power allows no more than another.
    fn is_no_wider(less: &Power, more: &Power) -> bool {
        match (less, more) {
            (
                Power::Files {
                    access: a,
                    within: w,
                    max_bytes: b,
                    max_files: f,
                    ..
                },
                Power::Files {
                    access: aa,
                    within: ww,
                    max_bytes: bb,
                    max_files: ff,
                    ..
                },
            ) => {
                let inside = match (w, ww) {
                    (_, None) => true,
                    (Some(w), Some(ww)) => is_at_or_below(w, ww),
                    (None, Some(_)) => false,
                };
                a <= aa && b <= bb && f <= ff && inside
            }
            _ => false,
        }
    }

    proptest! {
        #[test]
        fn no_sequence_of_commands_ever_widens(all in prop::collection::vec(narrowing(), 0..6)) {
            let given = files(FilesAccess::ReadWrite, None, 3, 3);
            let mut standings = Standings::default();
            let mut now = given.clone();
            for narrowing in &all {
                let Ok(next) = narrowing.of("s", &now) else { continue };
                prop_assert!(is_no_wider(&next, &now), "{next:?} {now:?}");
                standings.narrow("s", narrowing);
                now = next;
                // What is kept comes to the same as what was done step by step.
                prop_assert_eq!(standings.left_of("s", &given), Some(now.clone()));
            }
        }
    }
}
