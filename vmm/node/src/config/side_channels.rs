//! `[side_channels]`: what the kernel is to do for workers against those who share a core or a cache with them.

use std::collections::BTreeMap;

use referee_jail::{Partition, Wish, Wishes};
use serde::{Deserialize, Serialize};

use crate::config::TenantShare;
use crate::error::NodeError;

/// Each `off`, `prefer` (where the host has it) or `require` (no worker without it). `docs/threat-model.md` says what each stops.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct SideChannels {
    /// Nothing else runs on the other threads of a worker's core.
    pub core_scheduling: Wish,
    /// Indirect branches are not predicted by what others did.
    pub indirect_branches: Wish,
    /// Loads do not pass stores.
    pub store_bypass: Wish,
    /// The first-level data cache is emptied when another process has the core.
    pub l1d_flush: Wish,
    /// Workers of publishers with `tenants.NAME.cache` have that part of the last-level cache.
    pub cache: Wish,
}

impl SideChannels {
    /// What is wished for a publisher's workers.
    pub(crate) fn for_tenant(&self, tenants: &BTreeMap<String, TenantShare>, publisher: &str) -> Wishes {
        Wishes {
            core_scheduling: self.core_scheduling,
            indirect_branches: self.indirect_branches,
            store_bypass: self.store_bypass,
            l1d_flush: self.l1d_flush,
            cache: self.cache,
            // It was looked at when the configuration was read.
            partition: partition(tenants, publisher).ok().flatten(),
        }
    }
}

/// Refuses parts of the cache that are none, or together more than there is.
pub(super) fn check(tenants: &BTreeMap<String, TenantShare>) -> Result<(), NodeError> {
    tenants
        .keys()
        .try_for_each(|name| partition(tenants, name).map(drop))
}

/// A publisher's part of the cache, if it has one. Percentages follow each other in the order of the names, so that no two overlap.
fn partition(
    tenants: &BTreeMap<String, TenantShare>,
    publisher: &str,
) -> Result<Option<Partition>, NodeError> {
    let wrong = |name: &str, why: &str| NodeError::Config(format!("tenants.{name}.cache {why}"));
    let mut from = 0_u32;
    for (name, tenant) in tenants {
        let Some(text) = &tenant.cache else {
            continue;
        };
        let found = match (text.strip_suffix('%'), text.strip_prefix("0x")) {
            (Some(percent), _) => {
                let percent = percent.parse::<u32>().ok().filter(|percent| *percent <= 100);
                let to = percent.map(|percent| from.saturating_add(percent));
                let part = to.and_then(|to| Partition::part(name, from, to));
                from = to.unwrap_or(from);
                part.ok_or_else(|| {
                    wrong(
                        name,
                        "is no percentage above 0, or with those before it more than 100",
                    )
                })?
            }
            (None, Some(mask)) => {
                let mask = u64::from_str_radix(mask, 16).ok();
                mask.and_then(|mask| Partition::mask(name, mask))
                    .ok_or_else(|| wrong(name, "is no mask of adjacent parts"))?
            }
            (None, None) => {
                return Err(wrong(
                    name,
                    "is neither a percentage as \"25%\" nor a mask as \"0x0f\"",
                ));
            }
        };
        if name == publisher {
            return Ok(Some(found));
        }
    }
    Ok(None)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tenants(parts: &[(&str, &str)]) -> BTreeMap<String, TenantShare> {
        let tenant = |(name, cache): &(&str, &str)| {
            let share = TenantShare {
                cache: Some((*cache).to_owned()),
                ..TenantShare::default()
            };
            ((*name).to_owned(), share)
        };
        parts.iter().map(tenant).collect()
    }

    #[test]
    fn percentages_follow_each_other_and_masks_are_taken_as_they_are() {
        let all = tenants(&[("b", "30%"), ("a", "20%"), ("c", "0xf0")]);
        let of = |name| partition(&all, name).expect("is valid");
        assert_eq!(of("a"), Partition::part("a", 0, 20));
        assert_eq!(of("b"), Partition::part("b", 20, 50));
        assert_eq!(of("c"), Partition::mask("c", 0xf0));
        assert_eq!(of("d"), None);
        check(&all).expect("is valid");
    }

    #[test]
    fn parts_that_are_none_are_refused_by_name() {
        for bad in ["25", "%", "0%", "101%", "-1%", "0x", "0x0", "0x5", "0xx", "half"] {
            let error = check(&tenants(&[("acme", bad)])).expect_err(bad).to_string();
            assert!(error.contains("tenants.acme.cache"), "{bad}: {error}");
        }
        let too_much = check(&tenants(&[("a", "60%"), ("b", "41%")]));
        assert!(
            too_much
                .expect_err("is too much")
                .to_string()
                .contains("tenants.b.cache")
        );
    }
}
