//! The two figures of `docs/scheduling.md`.

use std::error::Error;
use std::path::Path;

use plotters::prelude::*;

use crate::scenarios::{DEPLOYED, Fairness, WEIGHTS};

/// A line of a plot.
pub struct Series {
    pub name: String,
    pub points: Vec<(f64, f64)>,
}

/// What each tenant had over time, and how far it was from its ideal.
pub fn fairness(run: &Fairness, path: &Path) -> Result<(), Box<dyn Error>> {
    let root = SVGBackend::new(path, (900, 720)).into_drawing_area();
    root.fill(&WHITE)?;
    let (above, below) = root.split_vertically(380);
    let seconds = |sample: &crate::scenarios::FairnessSample| sample.at.as_ns() as f64 / 1e9;
    let end = run.samples.last().map_or(1.0, seconds);

    let mut chart = ChartBuilder::on(&above)
        .caption(
            "Slots held by three tenants; the one with 4 shares sleeps for a third of the time",
            ("sans-serif", 17),
        )
        .margin(12)
        .margin_right(24)
        .x_label_area_size(42)
        .y_label_area_size(62)
        .build_cartesian_2d(0.0..end, 0.0..3.6)?;
    axes(&mut chart, "time (s)", "slots held (mean over 100 ms)", |y| {
        format!("{y:.1}")
    })?;
    for (i, colour) in COLOURS.into_iter().enumerate() {
        let name = format!("{}, {} tasks", counted(WEIGHTS[i]), DEPLOYED[i]);
        let had = run.samples.iter().map(|sample| (seconds(sample), sample.rate[i]));
        let ideal = run
            .samples
            .iter()
            .map(|sample| (seconds(sample), sample.ideal[i]));
        chart
            .draw_series(LineSeries::new(had, colour.stroke_width(2)))?
            .label(name)
            .legend(move |(x, y)| PathElement::new([(x, y), (x + 22, y)], colour.stroke_width(2)));
        chart.draw_series(DashedLineSeries::new(ideal, 3, 4, BLACK.mix(0.7).into()))?;
    }
    chart
        .draw_series(DashedLineSeries::new([(0.0, -1.0)], 3, 4, BLACK.mix(0.7).into()))?
        .label("ideal")
        .legend(|(x, y)| {
            let dash = |from: i32| PathElement::new([(x + from, y), (x + from + 4, y)], BLACK.mix(0.7));
            EmptyElement::at((0, 0)) + dash(0) + dash(9) + dash(18)
        });
    legend(&mut chart, SeriesLabelPosition::UpperRight)?;

    let bound = run.bound_ms.iter().copied().fold(f64::INFINITY, f64::min);
    let mut chart = ChartBuilder::on(&below)
        .caption(
            "Fairness error: slot time had since the start, less the ideal",
            ("sans-serif", 17),
        )
        .margin(12)
        .margin_right(24)
        .x_label_area_size(42)
        .y_label_area_size(62)
        .build_cartesian_2d(0.0..end, -bound * 1.3..bound * 1.3)?;
    axes(&mut chart, "time (s)", "error (ms)", |y| format!("{y:.0}"))?;
    for side in [bound, -bound] {
        chart.draw_series(LineSeries::new(
            [(0.0, side), (end, side)],
            RED.mix(0.7).stroke_width(1),
        ))?;
    }
    chart.draw_series([Text::new(
        format!("bound, ±{bound:.0} ms"),
        (end * 0.85, bound * 1.2),
        ("sans-serif", 14).into_font().color(&RED),
    )])?;
    for (i, colour) in COLOURS.into_iter().enumerate() {
        let error = run
            .samples
            .iter()
            .map(|sample| (seconds(sample), sample.error_ms[i]));
        chart.draw_series(LineSeries::new(error, colour.stroke_width(2)))?;
    }
    root.present()?;
    Ok(())
}

/// How long jobs took, and what becomes of deadlines when the machine costs more than was stated.
pub fn deadlines(responses: &[Series], misses: &[Series], path: &Path) -> Result<(), Box<dyn Error>> {
    let root = SVGBackend::new(path, (900, 760)).into_drawing_area();
    root.fill(&WHITE)?;
    let (above, below) = root.split_vertically(380);
    let mut chart = ChartBuilder::on(&above)
        .caption(
            "Response of admitted jobs, costs as stated: none takes longer than its deadline",
            ("sans-serif", 17),
        )
        .margin(12)
        .margin_right(24)
        .x_label_area_size(42)
        .y_label_area_size(82)
        .build_cartesian_2d(0.0..110.0, (0.0001..100.0).log_scale())?;
    axes(
        &mut chart,
        "response (% of the deadline)",
        "jobs that took longer (%)",
        |y| format!("{y}"),
    )?;
    chart.draw_series(LineSeries::new(
        [(100.0, 0.0001), (100.0, 100.0)],
        RED.mix(0.7).stroke_width(1),
    ))?;
    let text = ("sans-serif", 14).into_font().color(&RED);
    chart.draw_series([Text::new("deadline", (92.0, 60.0), text)])?;
    lines(&mut chart, responses)?;
    legend(&mut chart, SeriesLabelPosition::LowerLeft)?;

    let most = misses
        .iter()
        .flat_map(|series| &series.points)
        .map(|(_, y)| *y)
        .fold(1.0, f64::max);
    let last = misses
        .iter()
        .flat_map(|series| &series.points)
        .map(|(x, _)| *x)
        .fold(1.0, f64::max);
    let mut chart = ChartBuilder::on(&below)
        .caption(
            "Missed deadlines, when switching and stopping cost more than was stated",
            ("sans-serif", 17),
        )
        .margin(12)
        .margin_right(24)
        .x_label_area_size(42)
        .y_label_area_size(82)
        .build_cartesian_2d(0.0..last, 0.0..most * 1.1)?;
    axes(
        &mut chart,
        "real costs (% of those stated)",
        "jobs that missed their deadline (%)",
        |y| format!("{y:.0}"),
    )?;
    chart.draw_series(LineSeries::new(
        [(100.0, 0.0), (100.0, most * 1.1)],
        RED.mix(0.7).stroke_width(1),
    ))?;
    let text = ("sans-serif", 14).into_font().color(&RED);
    chart.draw_series([Text::new("as stated", (102.0, most * 1.06), text)])?;
    lines(&mut chart, misses)?;
    legend(&mut chart, SeriesLabelPosition::UpperLeft)?;
    root.present()?;
    Ok(())
}

type Chart<'a, Y> = ChartContext<'a, SVGBackend<'a>, Cartesian2d<plotters::coord::types::RangedCoordf64, Y>>;

fn axes<'a, Y>(
    chart: &mut Chart<'a, Y>,
    x: &str,
    y: &str,
    label: impl Fn(&f64) -> String,
) -> Result<(), Box<dyn Error>>
where
    Y: plotters::coord::ranged1d::Ranged<ValueType = f64> + plotters::coord::ranged1d::ValueFormatter<f64>,
{
    chart
        .configure_mesh()
        .x_desc(x)
        .y_desc(y)
        .x_label_formatter(&|x| format!("{x:.0}"))
        .y_label_formatter(&|y| label(y))
        .axis_desc_style(("sans-serif", 15))
        .label_style(("sans-serif", 13))
        .bold_line_style(BLACK.mix(0.12))
        .light_line_style(TRANSPARENT)
        .draw()?;
    Ok(())
}

fn lines<'a, Y>(chart: &mut Chart<'a, Y>, series: &[Series]) -> Result<(), Box<dyn Error>>
where
    Y: plotters::coord::ranged1d::Ranged<ValueType = f64>,
{
    for (series, colour) in series.iter().zip(COLOURS) {
        chart
            .draw_series(LineSeries::new(
                series.points.iter().copied(),
                colour.stroke_width(2),
            ))?
            .label(series.name.clone())
            .legend(move |(x, y)| PathElement::new([(x, y), (x + 22, y)], colour.stroke_width(2)));
    }
    Ok(())
}

fn legend<'a, Y>(chart: &mut Chart<'a, Y>, position: SeriesLabelPosition) -> Result<(), Box<dyn Error>>
where
    Y: plotters::coord::ranged1d::Ranged<ValueType = f64> + 'a,
{
    chart
        .configure_series_labels()
        .position(position)
        .background_style(WHITE.mix(0.9))
        .border_style(BLACK.mix(0.3))
        .label_font(("sans-serif", 14))
        .margin(10)
        .draw()?;
    Ok(())
}

fn counted(shares: u32) -> String {
    if shares == 1 {
        "1 share".to_owned()
    } else {
        format!("{shares} shares")
    }
}

/// Told apart by those who do not see red and green too (Okabe and Ito).
const COLOURS: [RGBColor; 3] = [
    RGBColor(0, 114, 178),
    RGBColor(230, 159, 0),
    RGBColor(0, 158, 115),
];
