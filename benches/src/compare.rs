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
}

/// Prints each ratio beside the recorded one.
///
/// # Errors
/// When a ratio is more than `bound` times the recorded one, or nothing could be compared.
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
        let old = recorded
            .iter()
            .find(|old| old.name == row.name)
            .and_then(|old| old.ratio);
        let (Some(now), Some(old)) = (row.ratio, old) else {
            continue;
        };
        count += 1;
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
