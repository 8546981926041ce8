//! Medians, percentiles, and how they are shown.

use serde::Serialize;

/// One row's figures.
#[derive(Debug, Serialize)]
pub struct Measured {
    pub name: String,
    /// Of median, p99 and floor.
    pub unit: &'static str,
    pub median: f64,
    pub p99: f64,
    pub n: usize,
    /// Median of the floor, if the row has one.
    pub floor: Option<f64>,
    /// Median over the floor's median.
    pub ratio: Option<f64>,
}

impl Measured {
    /// From samples in nanoseconds.
    pub fn of(name: &str, mut samples: Vec<f64>, mut floors: Vec<f64>) -> Measured {
        for sample in samples.iter_mut().chain(&mut floors) {
            *sample /= 1e3;
        }
        Measured::in_unit("us", name, samples, floors)
    }

    /// From samples in `unit`.
    pub fn in_unit(unit: &'static str, name: &str, mut samples: Vec<f64>, mut floors: Vec<f64>) -> Measured {
        let median = percentile(&mut samples, 50);
        let floor = (!floors.is_empty()).then(|| percentile(&mut floors, 50));
        Measured {
            name: name.to_owned(),
            unit,
            median,
            p99: percentile(&mut samples, 99),
            n: samples.len(),
            floor,
            ratio: floor.map(|floor| median / floor),
        }
    }
}

fn percentile(samples: &mut [f64], percent: usize) -> f64 {
    samples.sort_by(f64::total_cmp);
    let index = samples.len() * percent / 100;
    samples.get(index).or(samples.last()).copied().unwrap_or(f64::NAN)
}

/// Prints the names of the columns.
pub fn head() {
    println!(
        "{:<16} {:>4} {:>10} {:>10} {:>6} {:>10} {:>6}",
        "row", "unit", "median", "p99", "n", "floor", "ratio"
    );
}

/// Prints one row.
pub fn line(row: &Measured, what: &str) {
    let optional = |value: Option<f64>| value.map_or("-".into(), |value| format!("{value:.2}"));
    println!(
        "{:<16} {:>4} {:>10.2} {:>10.2} {:>6} {:>10} {:>6}  {what}",
        row.name,
        row.unit,
        row.median,
        row.p99,
        row.n,
        optional(row.floor),
        optional(row.ratio)
    );
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_ratio_is_that_of_the_medians() {
        let samples: Vec<f64> = (1..=100).rev().map(f64::from).collect();
        let row = Measured::of("row", samples, vec![5.0, 10.0, 500.0]);
        assert_eq!((row.median, row.p99, row.n), (0.051, 0.1, 100));
        assert_eq!((row.floor, row.ratio), (Some(0.01), Some(5.1)));
    }
}
