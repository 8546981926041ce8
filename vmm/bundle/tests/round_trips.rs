//! Any good manifest and any good trust store is read as it was written, and in that form only.

mod support;

use muscle_abi::boot::Style;
use muscle_abi::capability::{MESSAGE_MAX, MESSAGES_MAX};
use muscle_abi::ring::Role;
use proptest::collection::{btree_map, btree_set, vec};
use proptest::option;
use proptest::prelude::*;
use referee_bundle::{
    Algorithm, CapabilityRequest, ChannelRole, ClockGrade, Digest, FilesAccess, KeyId, Limits, Manifest,
    NameScope, Publisher, PublisherKey, ReadLimits, RootDocument, Slot, TrustStore, UnixTime,
};
use support::{Keys, NOW, root, store_bytes};

fn name() -> impl Strategy<Value = String> {
    "[a-z0-9]([a-z0-9-]{0,10}[a-z0-9])?"
}

fn request() -> impl Strategy<Value = CapabilityRequest> {
    let port = 1024..u32::MAX;
    prop_oneof![
        any::<bool>().prop_map(|input| CapabilityRequest::Console { input }),
        Just(CapabilityRequest::Args),
        Just(CapabilityRequest::Random),
        Just(CapabilityRequest::Attest),
        (1..=muscle_abi::capability::STATE_MAX).prop_map(|max_bytes| CapabilityRequest::State { max_bytes }),
        btree_set("[A-Z_][A-Z0-9_]{0,8}", 0..4).prop_map(|names| CapabilityRequest::Env {
            names: names.into_iter().collect()
        }),
        btree_set("[a-z_][a-z0-9_]{0,8}", 0..4).prop_map(|names| CapabilityRequest::Functions {
            names: names.into_iter().collect()
        }),
        (prop_oneof![Just(Role::Send), Just(Role::Receive)], 12u32..=26).prop_map(|(role, order)| {
            CapabilityRequest::Ring {
                role,
                bytes: 1 << order,
            }
        }),
        (1..=MESSAGE_MAX, 1..=MESSAGES_MAX, any::<bool>()).prop_map(|(max_bytes, max_messages, asks)| {
            CapabilityRequest::Channel {
                role: match asks {
                    true => ChannelRole::Request { max_messages },
                    false => ChannelRole::Send { max_messages },
                },
                max_bytes,
            }
        }),
        prop_oneof![Just(ClockGrade::Coarse), Just(ClockGrade::Fine)]
            .prop_map(|grade| CapabilityRequest::Clock { grade }),
        (
            prop_oneof![Just(FilesAccess::Read), Just(FilesAccess::ReadWrite)],
            any::<u64>(),
            any::<u32>()
        )
            .prop_map(|(access, max_bytes, max_files)| CapabilityRequest::Files {
                access,
                max_bytes,
                max_files
            }),
        port.clone()
            .prop_map(|port| CapabilityRequest::VsockListen { port }),
        port.prop_map(|port| CapabilityRequest::VsockConnect { port }),
        (any::<u16>(), any::<u16>()).prop_map(|(one, other)| CapabilityRequest::Pio {
            first: one.min(other),
            last: one.max(other)
        }),
    ]
}

fn limits() -> impl Strategy<Value = Limits> {
    let time = || option::of(1..1_000_000_000_000u64);
    (1..1u64 << 28, time(), time()).prop_flat_map(|(pages, cpu_ms, deadline_ms)| {
        (1..=pages).prop_map(move |stack| Limits {
            memory_bytes: pages * 4096,
            stack_bytes: stack * 4096,
            cpu_ms,
            deadline_ms,
        })
    })
}

fn manifest() -> impl Strategy<Value = Manifest> {
    (
        name(),
        "[0-9A-Za-z.+-]{1,20}",
        any::<u64>(),
        any::<bool>(),
        btree_map(name(), request(), 0..6),
        limits(),
        btree_set("[a-z_][a-z0-9_]{0,12}", 0..6),
        "[ -~äöü]{0,40}",
    )
        .prop_map(
            |(name, version, security_epoch, is_reactor, slots, limits, exports, description)| Manifest {
                name,
                version,
                security_epoch,
                style: if is_reactor {
                    Style::Reactor
                } else {
                    Style::Command
                },
                slots: slots
                    .into_iter()
                    .map(|(name, request)| Slot {
                        name,
                        request,
                        delegated: None,
                    })
                    .collect(),
                limits,
                exports: exports.into_iter().collect(),
                description,
                ..support::manifest()
            },
        )
}

fn publisher() -> impl Strategy<Value = (Vec<u64>, Vec<NameScope>)> {
    let scope = prop_oneof![
        Just("*".to_owned()),
        name(),
        name().prop_map(|prefix| format!("{prefix}.*"))
    ];
    (vec(any::<u64>(), 0..3), btree_set(scope, 0..4)).prop_map(|(expiries, scopes)| {
        let scopes = scopes.iter().map(|text| NameScope::parse(text).expect("a scope"));
        (expiries, scopes.collect())
    })
}

fn document() -> impl Strategy<Value = RootDocument> {
    (
        1..=u64::MAX,
        NOW.0 + 1..=u64::MAX,
        btree_map(name(), publisher(), 0..5),
        btree_set(any::<[u8; 32]>(), 0..4),
        btree_set(any::<[u8; 32]>(), 0..4),
        any::<bool>(),
    )
        .prop_map(
            |(version, expires, publishers, revoked_keys, revoked_bundles, both)| {
                // Each key once in the document; the first seed is the root key's.
                let mut seeds = 2..;
                let mut key = |expires| PublisherKey {
                    public_key: Keys::of(seeds.next().expect("seeds without end")).public(),
                    expires: UnixTime(expires),
                };
                let publishers = publishers
                    .into_iter()
                    .map(|(name, (expiries, scopes))| Publisher {
                        name,
                        keys: expiries.into_iter().map(&mut key).collect(),
                        scopes,
                    });
                RootDocument {
                    version,
                    expires: UnixTime(expires),
                    root_threshold: 1,
                    root_keys: vec![root().public()],
                    publishers: publishers.collect(),
                    revoked_keys: revoked_keys.into_iter().map(KeyId).collect(),
                    revoked_bundles: revoked_bundles.into_iter().map(Digest).collect(),
                    required_algorithms: match both {
                        true => vec![Algorithm::MlDsa65, Algorithm::Ed25519],
                        false => vec![Algorithm::Ed25519],
                    },
                }
            },
        )
}

proptest! {
    #[test]
    fn a_manifest_is_read_as_it_was_written(manifest in manifest()) {
        let read = Manifest::decode(&manifest.encode(), &ReadLimits::default());
        prop_assert_eq!(read, Ok(manifest));
    }

    #[test]
    fn a_trust_store_is_read_as_it_was_written(document in document()) {
        let store = TrustStore::parse(&store_bytes(&document.encode(), &[root()]), NOW).expect("a good trust store");
        prop_assert_eq!(store.document(), &document);
    }

    #[test]
    fn what_is_read_from_damaged_bytes_has_that_very_form(
        manifest in manifest(),
        at in any::<prop::sample::Index>(),
        byte in any::<u8>(),
    ) {
        let mut bytes = manifest.encode();
        let at = at.index(bytes.len());
        bytes[at] = byte;
        if let Ok(read) = Manifest::decode(&bytes, &ReadLimits::default()) {
            prop_assert_eq!(read.encode(), bytes);
        }
    }
}
