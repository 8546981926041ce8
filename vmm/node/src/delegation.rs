//! Who has what from whom: delegations from a slot of one deployment to a slot of another. Nothing here does input or output.
//!
//! ```text
//!   desk/books ──── reader/books ──── index/books          a slot that waits has at most one above it; one that does not has none
//!        └───────── writer/books
//! ```
//! The one rule: **a slot that waits has what policy gave it, of what the slot above it has.** What each has is computed from the top each time that it is asked for, so there
//! is nothing that could be out of date. What does not hold any more ([`Delegations::end_what_does_not_hold`]) is gone, with everything below it.

use std::collections::{BTreeMap, BTreeSet};

use referee_policy::{ChannelRole, Narrowing, Power};
use serde::{Deserialize, Serialize};

use crate::channel::Why;

/// How many delegations there may be above a slot.
pub(crate) const DEPTH_MAX: usize = 8;

/// A slot of a deployment.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(crate) struct End {
    pub deployment: String,
    pub slot: String,
}

/// What a slot has from another.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Delegation {
    pub from: End,
    /// The delegator's slot of the channel.
    pub by: String,
    pub channel: String,
    /// What of it is lent; all if it says nothing.
    pub narrowing: Narrowing,
}

/// That a slot has nothing until somebody delegates to it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Waits {
    /// The slot of the channel over which that comes.
    pub from: String,
    /// Whether it may be delegated on.
    pub onward: bool,
}

/// A slot as policy and those who took from it since left it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Seen {
    pub power: Power,
    pub waits: Option<Waits>,
}

/// All delegations, by the slot that has something by it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Delegations(BTreeMap<End, Delegation>);

impl End {
    pub(crate) fn new(deployment: &str, slot: &str) -> End {
        End {
            deployment: deployment.to_owned(),
            slot: slot.to_owned(),
        }
    }

    /// Another slot of the same deployment.
    fn beside(&self, slot: &str) -> End {
        End::new(&self.deployment, slot)
    }
}

impl Delegations {
    pub(crate) fn of(all: impl IntoIterator<Item = (End, Delegation)>) -> Delegations {
        Delegations(all.into_iter().collect())
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (&End, &Delegation)> {
        self.0.iter()
    }

    /// From whom a slot has what it has.
    pub(crate) fn above(&self, end: &End) -> Option<&Delegation> {
        self.0.get(end)
    }

    /// Who has something from a slot.
    pub(crate) fn below<'a>(&'a self, end: &'a End) -> impl Iterator<Item = (&'a End, &'a Delegation)> {
        self.0
            .iter()
            .filter(move |(_, delegation)| delegation.from == *end)
    }

    /// What a slot has, as `look` shows each.
    pub(crate) fn has(&self, end: &End, look: &impl Fn(&End) -> Option<Seen>) -> Option<Power> {
        self.has_at(end, look, 0)
    }

    /// What is lent to a slot. It has of that what policy gave it.
    pub(crate) fn lent(&self, end: &End, look: &impl Fn(&End) -> Option<Seen>) -> Option<Power> {
        self.lent_at(end, look, 0)
    }

    fn has_at(&self, end: &End, look: &impl Fn(&End) -> Option<Seen>, depth: usize) -> Option<Power> {
        let seen = look(end)?;
        match seen.waits {
            None => Some(seen.power),
            Some(_) => seen.power.meet(&self.lent_at(end, look, depth)?),
        }
    }

    fn lent_at(&self, end: &End, look: &impl Fn(&End) -> Option<Seen>, depth: usize) -> Option<Power> {
        // There are no circles; if there were one, nobody in it would have anything.
        if depth >= DEPTH_MAX {
            return None;
        }
        let delegation = self.0.get(end)?;
        let above = self.has_at(&delegation.from, look, depth + 1)?;
        above.lent(&delegation.narrowing)
    }

    /// Delegates to a slot, or changes what is lent to it; false when it is so already.
    ///
    /// # Errors
    /// [`Why`] not; then nothing has changed.
    pub(crate) fn delegate(
        &mut self,
        to: &End,
        delegation: Delegation,
        look: &impl Fn(&End) -> Option<Seen>,
    ) -> Result<bool, Why> {
        let from = &delegation.from;
        // To whoever has nothing to lend, nothing is said of others.
        let above = look(from).ok_or(Why::NothingToLend)?;
        if above.waits.as_ref().is_some_and(|waits| !waits.onward) {
            return Err(Why::NotOnward);
        }
        let has = self.has(from, look).ok_or(Why::NothingToLend)?;
        let lent = match delegation.narrowing == Narrowing::default() {
            true => has.lent(&delegation.narrowing).ok_or(Why::NothingToLend)?,
            false => delegation
                .narrowing
                .of(&from.slot, &has)
                .map_err(|_| Why::WiderThanLender)?,
        };
        let receiver = look(to).ok_or(Why::NoSlotThere)?;
        let waits = receiver.waits.as_ref().ok_or(Why::NoSlotThere)?;
        if !is_open(look(&to.beside(&waits.from)), &delegation.channel, true) {
            return Err(Why::NoSlotThere);
        }
        if from.deployment == to.deployment || self.is_above(to, from) {
            return Err(Why::Circle);
        }
        match self.0.get(to) {
            Some(before) if before.from != *from => return Err(Why::Taken),
            Some(before) if *before == delegation => return Ok(false),
            _ => {}
        }
        if receiver.power.kind() != lent.kind() {
            return Err(Why::OtherKind);
        }
        receiver.power.meet(&lent).ok_or(Why::OtherThing)?;
        if self.depth(from) >= DEPTH_MAX {
            return Err(Why::TooFar);
        }
        self.0.insert(to.clone(), delegation);
        Ok(true)
    }

    /// Takes back what a slot lent to slots of this name over a channel. Those below go by [`Delegations::end_what_does_not_hold`].
    pub(crate) fn take_back(&mut self, from: &End, channel: &str, to: &str) -> Vec<(End, Delegation)> {
        self.end(|end, delegation| {
            delegation.from == *from && delegation.channel == channel && end.slot == to
        })
    }

    /// Ends what a deployment has from others and others from it.
    pub(crate) fn forget(&mut self, name: &str) -> Vec<(End, Delegation)> {
        self.end(|end, delegation| end.deployment == name || delegation.from.deployment == name)
    }

    /// Ends whatever does not hold any more: one of the slots is gone or taken back, its channel is at either end, or they have nothing in common. Those that may be
    /// less stay.
    pub(crate) fn end_what_does_not_hold(
        &mut self,
        look: &impl Fn(&End) -> Option<Seen>,
    ) -> Vec<(End, Delegation)> {
        let mut ended = Vec::new();
        loop {
            let before = self.clone();
            let more = self.end(|end, delegation| !before.holds(end, delegation, look));
            if more.is_empty() {
                return ended;
            }
            ended.extend(more);
        }
    }

    fn holds(&self, to: &End, delegation: &Delegation, look: &impl Fn(&End) -> Option<Seen>) -> bool {
        let Some(Waits { from, .. }) = look(to).and_then(|seen| seen.waits) else {
            return false;
        };
        let may = look(&delegation.from).is_some_and(|above| above.waits.is_none_or(|waits| waits.onward));
        may && is_open(look(&to.beside(&from)), &delegation.channel, true)
            && is_open(
                look(&delegation.from.beside(&delegation.by)),
                &delegation.channel,
                false,
            )
            && self.has(to, look).is_some()
    }

    fn end(&mut self, is_over: impl Fn(&End, &Delegation) -> bool) -> Vec<(End, Delegation)> {
        let over = self.0.extract_if(.., |end, delegation| is_over(end, delegation));
        over.collect()
    }

    /// Whether what a slot has comes from this one.
    fn is_above(&self, end: &End, of: &End) -> bool {
        self.way_up(of).contains(end)
    }

    fn depth(&self, end: &End) -> usize {
        self.way_up(end).len()
    }

    fn way_up(&self, end: &End) -> BTreeSet<End> {
        let mut seen = BTreeSet::new();
        let mut here = end;
        while let Some(delegation) = self.0.get(here) {
            here = &delegation.from;
            if !seen.insert(here.clone()) {
                break;
            }
        }
        seen
    }
}

/// Whether a slot is one of this channel, in this direction, and was not taken back.
fn is_open(slot: Option<Seen>, of: &str, receives: bool) -> bool {
    match slot.map(|seen| seen.power) {
        Some(Power::Channel { channel, role, .. }) => {
            channel == of && matches!(role, ChannelRole::Receive { .. }) == receives
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests;
