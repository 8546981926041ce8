//! Rows beside recorded ones: their ratios, never their times, which are another machine's or another hour's.

use std::fmt::Write;
use std::path::Path;

use anyhow::{Context, bail, ensure};
use serde::Deserialize;

use crate::table::Measured;

/// What is read of a recorded row; whatever else it has is not looked at.
#[derive(Debug, Deserialize)]
struct Recorded {
    name: String,
    ratio: Option<f64>,
    floor: Option<f64>,
}

/// By how many times a floor may differ from the recorded one: where it is further off, exits and copies do not cost the same in proportion, and neither ratio
/// says anything about the other.
const SAME_KIND: f64 = 4.0;

/// Prints each ratio beside the recorded one.
///
/// # Errors
/// When a ratio is more than `bound` times the recorded one, or no row is among the recorded ones.
pub fn with(path: &Path, bound: f64, rows: &[Measured]) -> anyhow::Result<()> {
    let text = std::fs::read(path).with_context(|| path.display().to_string())?;
    let recorded: Vec<Recorded> = serde_json::from_slice(&text)
        .with_context(|| format!("{} is not what --json writes", path.display()))?;
    let (table, worse) = compared(&recorded, bound, rows)?;
    print!("\n{table}");
    if !worse.is_empty() {
        bail!(
            "ratios beyond {bound} times what {} has: {}",
            path.display(),
            worse.join(", ")
        );
    }
    Ok(())
}

/// The table, and the rows that are worse.
fn compared(recorded: &[Recorded], bound: f64, rows: &[Measured]) -> anyhow::Result<(String, Vec<String>)> {
    let mut table = format!(
        "{:<16} {:>8} {:>8} {:>7}\n",
        "ratio of", "recorded", "now", "times"
    );
    let (mut worse, mut count) = (Vec::new(), 0);
    for row in rows {
        let recorded = recorded.iter().find(|old| old.name == row.name);
        let old = recorded.and_then(|old| old.ratio);
        let (Some(now), Some(old)) = (row.ratio, old) else {
            continue;
        };
        count += 1;
        let floors = row.floor.zip(recorded.and_then(|old| old.floor));
        if let Some((here, there)) = floors.filter(|(here, there)| {
            let times = here / there;
            !(1.0 / SAME_KIND..=SAME_KIND).contains(&times)
        }) {
            writeln!(
                table,
                "{:<16} {old:>8.2} {now:>8.2}       -  NOT COMPARED: the floor is {here:.2}, recorded {there:.2}: another kind of machine",
                row.name,
            )?;
            continue;
        }
        let times = now / old;
        // What is no number is worse, too.
        let is_worse = times.is_nan() || times > bound;
        writeln!(
            table,
            "{:<16} {old:>8.2} {now:>8.2} {times:>7.2}{}",
            row.name,
            if is_worse { "  WORSE" } else { "" }
        )?;
        if is_worse {
            worse.push(row.name.clone());
        }
    }
    ensure!(
        count > 0,
        "no row with a ratio was measured that is among the recorded ones"
    );
    Ok((table, worse))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(name: &str, ratio: f64) -> Measured {
        Measured::of(name, vec![ratio * 1000.0], vec![1000.0])
    }

    fn recorded(rows: &[(&str, Option<f64>)]) -> Vec<Recorded> {
        let row = |(name, ratio): &(&str, Option<f64>)| Recorded {
            name: (*name).to_owned(),
            ratio: *ratio,
            floor: Some(1.0),
        };
        rows.iter().map(row).collect()
    }

    #[test]
    fn only_a_ratio_beyond_the_bound_is_worse() {
        let old = recorded(&[("a", Some(2.0)), ("b", Some(2.0)), ("c", None)]);
        let rows = [row("a", 2.4), row("b", 2.6), row("c", 90.0), row("new", 90.0)];
        let (table, worse) = compared(&old, 1.25, &rows).expect("some are compared");
        assert_eq!(worse, ["b"]);
        assert_eq!(table.lines().count(), 3, "{table}");
    }

    #[test]
    fn nothing_is_said_of_another_kind_of_machine() {
        let mut old = recorded(&[("a", Some(2.0)), ("b", Some(2.0))]);
        old[1].floor = Some(100.0);
        let (table, worse) = compared(&old, 1.25, &[row("a", 2.6), row("b", 2.6)]).expect("both are there");
        assert_eq!(worse, ["a"]);
        assert!(table.contains("NOT COMPARED"), "{table}");
    }

    #[test]
    fn a_ratio_that_is_no_number_is_worse() {
        let (_, worse) = compared(&recorded(&[("a", Some(1.0))]), 1.25, &[row("a", f64::NAN)]).expect("one");
        assert_eq!(worse, ["a"]);
    }

    #[test]
    fn nothing_to_compare_is_an_error() {
        let error = compared(&recorded(&[("a", Some(1.0))]), 1.25, &[row("b", 1.0)]).expect_err("none");
        assert!(error.to_string().contains("no row"), "{error}");
    }
}
