//! Lines on logarithmic scales: times against sizes.

use std::path::Path;

use anyhow::{Context, Result, ensure};

use super::canvas::{Anchor, Canvas, FAINT_INK, GRID, INK, Letters, OURS, Point, Stroke};

const SIZE: (u32, u32) = (1020, 560);
const LEFT: i32 = 84;
const RIGHT: i32 = 640;
const TOP: i32 = 92;
const BOTTOM: i32 = 498;
/// Pixels between the lines of labels.
const LABEL_GAP: i32 = 21;

/// A line: sizes and microseconds.
pub struct Series {
    pub label: &'static str,
    pub stroke: Stroke,
    pub points: Vec<(f64, f64)>,
}

/// What a plot says around its lines.
pub struct Chart {
    pub title: &'static str,
    /// The line below the title.
    pub about: String,
    pub series: Vec<Series>,
    /// What the sizes are.
    pub sizes: &'static str,
    /// How a size is written.
    pub size: fn(f64) -> String,
}

/// From sizes and microseconds to pixels.
struct Scale {
    size: (f64, f64),
    us: (f64, f64),
}

impl Scale {
    fn of(series: &[Series]) -> Result<Self> {
        let points = || series.iter().flat_map(|series| &series.points);
        let span = |values: &mut dyn Iterator<Item = f64>| {
            values.fold((f64::INFINITY, 0.0f64), |(low, high), value| (low.min(value), high.max(value)))
        };
        let size = span(&mut points().map(|point| point.0));
        let us = span(&mut points().map(|point| point.1));
        ensure!(
            size.0 > 0.0 && size.0 < size.1 && us.0 > 0.0,
            "a plot needs times for two sizes, as of cold --sizes 1,5,20,50"
        );
        // Up to the next power of ten on both sides.
        Ok(Self { size, us: (10f64.powf(us.0.log10().floor()), 10f64.powf(us.1.log10().ceil())) })
    }

    fn x(&self, size: f64) -> i32 {
        LEFT + 24 + share(size, self.size, RIGHT - LEFT - 24)
    }

    fn y(&self, us: f64) -> i32 {
        BOTTOM - share(us, self.us, BOTTOM - TOP)
    }
}

fn share(value: f64, (low, high): (f64, f64), pixels: i32) -> i32 {
    (f64::from(pixels) * (value / low).ln() / (high / low).ln()).round() as i32
}

pub fn draw(chart: &Chart, to: &Path) -> Result<()> {
    let series = &chart.series;
    let scale = Scale::of(series)?;
    let canvas = Canvas::new(to, SIZE)?;
    canvas.text((24, 30), chart.title, Letters::new(20, INK, Anchor::Left).bold(true))?;
    canvas.text((24, 58), &chart.about, Letters::new(13, FAINT_INK, Anchor::Left))?;
    axes(&canvas, &scale, chart)?;
    for series in series {
        let points: Vec<Point> = series.points.iter().map(|&(size, us)| (scale.x(size), scale.y(us))).collect();
        canvas.line(&points, series.stroke)?;
        for &point in &points {
            canvas.dot(point, 2 + series.stroke.width as i32 / 2, series.stroke.color)?;
        }
    }
    labels(&canvas, &scale, series)?;
    canvas.finish()
}

fn axes(canvas: &Canvas<'_>, scale: &Scale, chart: &Chart) -> Result<()> {
    let grid = Stroke { color: GRID, width: 1, dashed: false };
    let mut us = scale.us.0;
    while us <= scale.us.1 * 1.001 {
        let y = scale.y(us);
        canvas.line(&[(LEFT, y), (RIGHT, y)], grid)?;
        canvas.text((LEFT - 10, y), &round_time(us), Letters::new(13, FAINT_INK, Anchor::Right))?;
        us *= 10.0;
    }
    let longest = chart.series.iter().max_by_key(|series| series.points.len()).context("there are series")?;
    for &(size, _) in &longest.points {
        let x = scale.x(size);
        canvas.line(&[(x, BOTTOM), (x, BOTTOM + 5)], Stroke { color: FAINT_INK, width: 1, dashed: false })?;
        canvas.text((x, BOTTOM + 20), &(chart.size)(size), Letters::new(13, FAINT_INK, Anchor::Middle))?;
    }
    canvas.line(&[(LEFT, BOTTOM), (RIGHT, BOTTOM)], Stroke { color: FAINT_INK, width: 1, dashed: false })?;
    let about = format!("{} (both scales are logarithmic)", chart.sizes);
    canvas.text((i32::midpoint(LEFT, RIGHT), BOTTOM + 44), &about, Letters::new(13, FAINT_INK, Anchor::Middle))
}

/// A power of ten, without decimals.
fn round_time(us: f64) -> String {
    match us {
        us if us < 0.999 => format!("{:.0} ns", us * 1e3),
        us if us < 999.0 => format!("{us:.0} us"),
        us if us < 999_000.0 => format!("{:.0} ms", us / 1e3),
        us => format!("{:.0} s", us / 1e6),
    }
}

/// A time with three digits, as far as they are there.
fn three_digits(us: f64) -> String {
    let (value, unit) = match us {
        us if us < 1e3 => (us, "us"),
        us if us < 1e6 => (us / 1e3, "ms"),
        us => (us / 1e6, "s"),
    };
    let decimals = match value {
        value if value < 10.0 => 2,
        value if value < 100.0 => 1,
        _ => 0,
    };
    format!("{value:.decimals$} {unit}")
}

/// Writes the last time and the name of every line beside its end.
fn labels(canvas: &Canvas<'_>, scale: &Scale, series: &[Series]) -> Result<()> {
    let mut ends: Vec<(&Series, f64)> =
        series.iter().filter_map(|series| Some((series, series.points.last()?.1))).collect();
    ends.sort_by(|a, b| b.1.total_cmp(&a.1));
    let wanted: Vec<i32> = ends.iter().map(|(_, us)| scale.y(*us)).collect();
    for ((series, us), (y, label_y)) in ends.iter().zip(wanted.iter().zip(spread(&wanted))) {
        let end = scale.x(series.points.last().map_or(0.0, |point| point.0));
        let leader = Stroke { width: 1, dashed: false, ..series.stroke };
        canvas.line(&[(end + 6, *y), (RIGHT + 28, label_y), (RIGHT + 34, label_y)], leader)?;
        let ours = series.stroke.color == OURS;
        let letters = Letters::new(14, if ours { OURS } else { INK }, Anchor::Left).bold(ours && !series.stroke.dashed);
        let time = Letters { anchor: Anchor::Right, ..letters };
        canvas.text((RIGHT + 106, label_y), &three_digits(*us), time)?;
        canvas.text((RIGHT + 118, label_y), series.label, letters)?;
    }
    Ok(())
}

/// Moves ascending places apart so that there is room for a label at each, and none leaves the plot.
fn spread(wanted: &[i32]) -> Vec<i32> {
    let mut places = wanted.to_vec();
    let mut free_from = i32::MIN;
    for place in &mut places {
        *place = (*place).max(free_from);
        free_from = *place + LABEL_GAP;
    }
    let mut free_until = BOTTOM;
    for place in places.iter_mut().rev() {
        *place = (*place).min(free_until);
        free_until = *place - LABEL_GAP;
    }
    places
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_do_not_overlap_and_stay_in_the_plot() {
        for wanted in [vec![100, 100, 101, 300], vec![BOTTOM; 5], vec![TOP, TOP + 100]] {
            let places = spread(&wanted);
            assert!(places.windows(2).all(|pair| pair[1] - pair[0] >= LABEL_GAP), "{places:?}");
            assert!(places.iter().all(|place| (TOP..=BOTTOM).contains(place)), "{places:?}");
        }
        assert_eq!(spread(&[TOP, TOP + 100]), [TOP, TOP + 100]);
    }

    #[test]
    fn powers_of_ten_have_no_decimals() {
        let times = [1.0, 100.0, 1000.0, 100_000.0, 1e6].map(round_time);
        assert_eq!(times, ["1 us", "100 us", "1 ms", "100 ms", "1 s"]);
        assert_eq!([5.234, 52.34, 523.4, 5234.0].map(three_digits), ["5.23 us", "52.3 us", "523 us", "5.23 ms"]);
    }
}
