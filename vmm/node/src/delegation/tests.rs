//! Whatever is done in whatever order: nobody has more than all from whom it is, and what ended is gone.

use std::collections::BTreeMap;

use proptest::prelude::*;
use referee_policy::{ClockGrade, FilesAccess};

use super::*;

/// A world of four deployments: each may lend its own slots, and has slots that wait, two of which may be delegated on.
#[derive(Debug, Clone)]
struct World {
    slots: BTreeMap<End, Seen>,
    all: Delegations,
}

const NAMES: [&str; 4] = ["a", "b", "c", "d"];
const SLOTS: [&str; 6] = ["books", "watch", "lent", "passed", "time", "last"];

fn files(within: Option<&str>, access: FilesAccess, max_bytes: u64) -> Power {
    Power::Files {
        path: "/srv".into(),
        access,
        within: within.map(str::to_owned),
        max_bytes,
        max_files: 9,
    }
}

fn channel(role: ChannelRole) -> Seen {
    let power = Power::Channel {
        channel: "news".into(),
        role,
        max_bytes: 1,
    };
    Seen { power, waits: None }
}

fn waits(onward: bool) -> Option<Waits> {
    let from = "in".to_owned();
    Some(Waits { from, onward })
}

impl World {
    fn new() -> World {
        let mut slots = BTreeMap::new();
        let all = || files(None, FilesAccess::ReadWrite, 8);
        for name in NAMES {
            let fine = Power::Clock {
                grade: ClockGrade::Fine,
            };
            let mut put = |slot: &str, power: Power, waits: Option<Waits>| {
                slots.insert(End::new(name, slot), Seen { power, waits });
            };
            put("books", all(), None);
            put("watch", fine.clone(), None);
            put("lent", all(), waits(true));
            put("passed", files(Some("x"), FilesAccess::ReadWrite, 6), waits(true));
            put("time", fine, waits(true));
            put("last", all(), waits(false));
            let receives = ChannelRole::Receive { function: "f".into() };
            slots.insert(End::new(name, "in"), channel(receives));
            slots.insert(
                End::new(name, "out"),
                channel(ChannelRole::Send { max_messages: 1 }),
            );
        }
        let all = Delegations::default();
        World { slots, all }
    }

    fn delegate(&mut self, from: &End, to: &End, narrowing: Narrowing) -> Result<bool, Why> {
        let delegation = Delegation {
            from: from.clone(),
            by: "out".into(),
            channel: "news".into(),
            narrowing,
        };
        let slots = &self.slots;
        let done = self.all.delegate(to, delegation, &|end| slots.get(end).cloned());
        self.settle();
        done
    }

    fn settle(&mut self) {
        let slots = &self.slots;
        self.all.end_what_does_not_hold(&|end| slots.get(end).cloned());
    }

    fn has(&self, end: &End) -> Option<Power> {
        self.all.has(end, &|end| self.slots.get(end).cloned())
    }

    /// From whom a slot has what it has, the nearest first.
    fn ancestors(&self, end: &End) -> Vec<End> {
        let mut found = Vec::new();
        let mut here = end.clone();
        while let Some(delegation) = self.all.above(&here) {
            here = delegation.from.clone();
            assert!(!found.contains(&here) && here != *end, "a circle at {here:?}");
            found.push(here.clone());
        }
        found
    }

    fn check(&self) {
        for (end, seen) in &self.slots {
            let ancestors = self.ancestors(end);
            assert!(ancestors.len() <= DEPTH_MAX);
            let Some(has) = self.has(end) else {
                assert!(seen.waits.is_some());
                continue;
            };
            if seen.waits.is_none() {
                assert!(ancestors.is_empty(), "nobody delegates to what waits for nobody");
                assert_eq!(has, seen.power);
                continue;
            }
            assert!(!ancestors.is_empty(), "{end:?} has {has:?} from nobody");
            assert!(has.is_within(&seen.power), "{end:?} has {has:?}");
            for above in &ancestors {
                let granted = &self.slots.get(above).expect("is there").power;
                let above_has = self.has(above).expect("whoever lends has something");
                assert!(has.is_within(granted), "{has:?} of {granted:?}");
                assert!(has.is_within(&above_has), "{has:?} of {above_has:?}");
            }
            let narrowing = &self.all.above(end).expect("is there").narrowing;
            assert_eq!(has.lent(narrowing), Some(has), "what was asked for holds");
        }
        for (end, _) in self.all.iter() {
            assert!(self.has(end).is_some(), "what has nothing is ended");
        }
    }
}

#[derive(Debug, Clone)]
enum Act {
    Delegate(End, End, Narrowing),
    TakeBack(End, String),
    Narrow(End, Narrowing),
    Revoke(End),
    Forget(&'static str),
    CloseChannel(&'static str, &'static str),
}

fn name() -> impl Strategy<Value = &'static str> {
    prop::sample::select(NAMES.as_slice())
}

fn end() -> impl Strategy<Value = End> {
    (name(), prop::sample::select(SLOTS.as_slice())).prop_map(|(name, slot)| End::new(name, slot))
}

fn narrowing() -> impl Strategy<Value = Narrowing> {
    let within = prop::sample::select(vec![None, None, Some("x"), Some("x/y"), Some("z"), Some("..")]);
    let bytes = prop::option::of(0u64..9);
    (any::<bool>(), within, bytes, prop::bool::weighted(0.1)).prop_map(
        |(read_only, within, max_bytes, coarse)| Narrowing {
            read_only,
            within: within.map(str::to_owned),
            max_bytes,
            coarse,
            ..Narrowing::default()
        },
    )
}

fn act() -> impl Strategy<Value = Act> {
    let whole = prop_oneof![2 => Just(Narrowing::default()), 3 => narrowing()];
    prop_oneof![
        12 => (end(), end(), whole).prop_map(|(from, to, part)| Act::Delegate(from, to, part)),
        2 => (end(), prop::sample::select(SLOTS.as_slice())).prop_map(|(from, to)| Act::TakeBack(from, to.to_owned())),
        2 => (end(), narrowing()).prop_map(|(end, part)| Act::Narrow(end, part)),
        1 => end().prop_map(Act::Revoke),
        1 => name().prop_map(Act::Forget),
        1 => (name(), prop::sample::select(["in", "out"].as_slice())).prop_map(|(name, slot)| Act::CloseChannel(name, slot)),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]
    #[test]
    fn nobody_ever_has_more_than_all_from_whom_it_is(acts in prop::collection::vec(act(), 0..40)) {
        let mut world = World::new();
        for act in acts {
            match act {
                Act::Delegate(from, to, narrowing) => {
                    let before = world.all.clone();
                    if world.delegate(&from, &to, narrowing).is_err() {
                        prop_assert_eq!(&world.all, &before, "what is refused changes nothing");
                    }
                }
                Act::TakeBack(from, to) => {
                    world.all.take_back(&from, "news", &to);
                    world.settle();
                    prop_assert!(!world.all.below(&from).any(|(end, _)| end.slot == to));
                }
                Act::Narrow(end, narrowing) => {
                    if let Some(seen) = world.slots.get_mut(&end)
                        && let Ok(less) = narrowing.of(&end.slot, &seen.power)
                    {
                        seen.power = less;
                    }
                    world.settle();
                }
                Act::Revoke(end) => {
                    world.slots.remove(&end);
                    world.settle();
                    prop_assert!(world.all.above(&end).is_none() && world.all.below(&end).next().is_none());
                }
                Act::Forget(name) => {
                    world.all.forget(name);
                    world.settle();
                    let is_there = |(end, of): (&End, &Delegation)| end.deployment == name || of.from.deployment == name;
                    prop_assert!(!world.all.iter().any(is_there));
                }
                Act::CloseChannel(name, slot) => {
                    world.slots.remove(&End::new(name, slot));
                    world.settle();
                }
            }
            world.check();
        }
    }
}

fn books(name: &str) -> End {
    End::new(name, "books")
}

fn lent(name: &str) -> End {
    End::new(name, "lent")
}

fn within(path: &str) -> Narrowing {
    Narrowing {
        within: Some(path.into()),
        ..Narrowing::default()
    }
}

#[test]
fn each_way_to_have_more_is_refused_by_its_own_name() {
    let mut world = World::new();
    let mut no = |from: &End, to: &End, narrowing: Narrowing| world.delegate(from, to, narrowing).err();
    let whole = Narrowing::default;
    assert_eq!(
        no(&End::new("a", "none"), &lent("b"), whole()),
        Some(Why::NothingToLend)
    );
    assert_eq!(
        no(&lent("a"), &lent("b"), whole()),
        Some(Why::NothingToLend),
        "it has nothing itself"
    );
    assert_eq!(
        no(&End::new("a", "out"), &lent("b"), whole()),
        Some(Why::NothingToLend)
    );
    assert_eq!(
        no(&books("a"), &End::new("b", "none"), whole()),
        Some(Why::NoSlotThere)
    );
    assert_eq!(
        no(&books("a"), &books("b"), whole()),
        Some(Why::NoSlotThere),
        "it is its own"
    );
    assert_eq!(
        no(&End::new("a", "watch"), &lent("b"), whole()),
        Some(Why::OtherKind)
    );
    assert_eq!(no(&books("a"), &lent("a"), whole()), Some(Why::Circle));
    for wrong in ["..", "/etc", "x/../..", ""] {
        assert_eq!(
            no(&books("a"), &lent("b"), within(wrong)),
            Some(Why::WiderThanLender),
            "{wrong}"
        );
    }
    let more = Narrowing {
        max_bytes: Some(9),
        ..Narrowing::default()
    };
    assert_eq!(no(&books("a"), &lent("b"), more), Some(Why::WiderThanLender));
    assert_eq!(
        no(&books("a"), &End::new("b", "passed"), within("z")),
        Some(Why::OtherThing)
    );
    assert_eq!(no(&books("a"), &lent("b"), whole()), None);
    assert_eq!(no(&books("c"), &lent("b"), whole()), Some(Why::Taken));
    assert_eq!(no(&lent("b"), &lent("c"), whole()), None);
    assert_eq!(no(&lent("c"), &lent("b"), whole()), Some(Why::Circle));
    assert_eq!(no(&lent("c"), &End::new("d", "last"), whole()), None);
    assert_eq!(
        no(&End::new("d", "last"), &lent("a"), whole()),
        Some(Why::NotOnward)
    );
}

#[test]
fn what_is_lent_may_be_changed_and_is_no_wider_below() {
    let mut world = World::new();
    assert_eq!(
        world.delegate(&books("a"), &lent("b"), Narrowing::default()),
        Ok(true)
    );
    assert_eq!(world.delegate(&lent("b"), &lent("c"), within("x")), Ok(true));
    assert_eq!(
        world.delegate(&books("a"), &lent("b"), Narrowing::default()),
        Ok(false),
        "it is so"
    );
    assert_eq!(world.delegate(&books("a"), &lent("b"), within("x/y")), Ok(true));
    let part = files(Some("x/y"), FilesAccess::ReadWrite, 8);
    assert_eq!(world.has(&lent("c")), Some(part), "within both");
    // What is beside is nothing, and ends what was from it.
    assert_eq!(world.delegate(&books("a"), &lent("b"), within("z")), Ok(true));
    assert_eq!(world.has(&lent("c")), None);
    assert_eq!(world.all.iter().count(), 1);
    assert_eq!(
        world.delegate(&books("a"), &lent("b"), Narrowing::default()),
        Ok(true)
    );
    assert_eq!(world.has(&lent("c")), None, "nobody delegated to it since");
}

#[test]
fn a_chain_has_an_end() {
    let mut world = World::new();
    let receives = ChannelRole::Receive { function: "f".into() };
    let name = |number: usize| format!("n{number}");
    for number in 0..=DEPTH_MAX + 1 {
        let mut put = |slot: &str, seen: Seen| world.slots.insert(End::new(&name(number), slot), seen);
        put("in", channel(receives.clone()));
        put("out", channel(ChannelRole::Send { max_messages: 1 }));
        put(
            "lent",
            Seen {
                power: Power::Random,
                waits: waits(true),
            },
        );
        put(
            "own",
            Seen {
                power: Power::Random,
                waits: None,
            },
        );
    }
    let whole = Narrowing::default;
    assert_eq!(
        world.delegate(&End::new("n0", "own"), &lent("n1"), whole()),
        Ok(true)
    );
    for number in 1..DEPTH_MAX {
        let (from, to) = (lent(&name(number)), lent(&name(number + 1)));
        assert_eq!(world.delegate(&from, &to, whole()), Ok(true), "{number}");
    }
    let (last, beyond) = (lent(&name(DEPTH_MAX)), lent(&name(DEPTH_MAX + 1)));
    assert_eq!(world.has(&last), Some(Power::Random));
    assert_eq!(world.delegate(&last, &beyond, whole()), Err(Why::TooFar));
    world.slots.remove(&lent("n1"));
    world.settle();
    assert_eq!(world.has(&last), None);
    assert_eq!(world.all.iter().count(), 0, "with the first go all");
}
