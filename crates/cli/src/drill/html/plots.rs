//! Plots as SVG: drawn in a box of 600 by 100 that takes whatever room there is. Their words are HTML beside them, so
//! that they keep their size on a phone; and no stroke grows with the box.

use std::fmt::{Display, Write as _};

use super::words::{self, Text};

/// The width of the box.
const WIDTH: f64 = 600.0;
/// Its height.
const HEIGHT: f64 = 100.0;
/// The number of tiers with a colour of their own.
pub(super) const COLOURS: usize = 6;

/// The time axis of a scenario's plots.
pub(super) struct Times {
    /// The start of each piece of time, in seconds, and the end of the last one.
    edges: Vec<f64>,
    clock_s: Option<f64>,
    /// The faults, as shapes behind the others.
    faults: String,
}

impl Times {
    pub(super) fn new(begins: impl Iterator<Item = f64>, lasts_s: f64, clock_s: Option<f64>) -> Self {
        let mut edges: Vec<f64> = begins.collect();
        edges.push(edges.last().map_or(lasts_s, |last| lasts_s.max(last + 1.0)));
        Self { edges, clock_s, faults: String::new() }
    }

    /// Marks these stretches of time, from and to in seconds, as faults.
    pub(super) fn with_faults(mut self, faults: impl Iterator<Item = (f64, f64)>) -> Self {
        let (first, last) = (self.edges[0], self.edges[self.len()]);
        let x = |at: f64| (at.clamp(first, last) - first) / (last - first) * WIDTH;
        for (from, to) in faults {
            let (from, width) = (x(from), x(to) - x(from));
            let _ =
                write!(self.faults, "<rect class=\"fault\" x=\"{from:.1}\" width=\"{width:.1}\" height=\"{HEIGHT}\"/>");
        }
        self
    }

    /// Returns the number of pieces.
    fn len(&self) -> usize {
        self.edges.len() - 1
    }

    /// Returns the left edge of a piece in the box; the number of pieces gives the right edge of the last.
    fn x(&self, at: usize) -> f64 {
        let (first, last) = (self.edges[0], self.edges[self.len()]);
        (self.edges[at] - first) / (last - first) * WIDTH
    }

    /// Returns the middle of a piece.
    fn middle(&self, at: usize) -> f64 {
        self.x(at).midpoint(self.x(at + 1))
    }

    fn moment(&self, share: f64) -> String {
        let (first, last) = (self.edges[0], self.edges[self.len()]);
        words::moment(first + (last - first) * share, self.clock_s)
    }

    /// Returns the line of moments under a plot.
    fn foot(&self) -> String {
        let mut foot = String::from("<div class=\"times\" aria-hidden=\"true\">");
        for (at, kind) in [(0.0, ""), (0.25, " class=\"odd\""), (0.5, ""), (0.75, " class=\"odd\""), (1.0, "")] {
            let _ = write!(foot, "<span{kind}>{}</span>", self.moment(at));
        }
        foot + "</div>"
    }
}

/// A name in the legend, and how it is drawn: the class of its sign.
pub(super) struct Label<'a> {
    pub(super) name: &'a str,
    pub(super) class: String,
}

/// A plot with its title, its legend and its axes.
fn figure(title: &str, label: &str, legend: &[Label<'_>], ticks: &[String], shapes: &str, times: &Times) -> String {
    let mut names = String::new();
    for Label { name, class } in legend.iter().filter(|label| !label.name.is_empty()) {
        let sign = if class.starts_with("line") { "<path d=\"M0 5H20\"" } else { "<rect width=\"20\" height=\"10\"" };
        let _ = write!(
            names,
            "<li><svg viewBox=\"0 0 20 10\" aria-hidden=\"true\">{sign} class=\"{class}\"/></svg>{}</li>",
            Text(name)
        );
    }
    let mut grid = times.faults.clone();
    for at in 0..ticks.len() {
        let y = HEIGHT * at as f64 / (ticks.len() - 1).max(1) as f64;
        let class = if at + 1 == ticks.len() { "axis" } else { "grid" };
        let _ = write!(grid, "<path class=\"{class}\" d=\"M0 {y:.1}H{WIDTH}\"/>");
    }
    let ticks: String = ticks.iter().map(|tick| format!("<span>{tick}</span>")).collect();
    format!(
        "<figure><figcaption><h3>{title}</h3><ul class=\"legend\">{names}</ul></figcaption>\
         <div class=\"chart\"><div class=\"ticks\" aria-hidden=\"true\">{ticks}</div>{}</div>{}</figure>\n",
        svg(label, &format!("{grid}{shapes}")),
        times.foot()
    )
}

fn svg(label: &str, shapes: &str) -> String {
    format!(
        "<svg viewBox=\"0 0 {WIDTH} {HEIGHT}\" preserveAspectRatio=\"none\" role=\"img\" aria-label=\"{}\">{shapes}</svg>",
        Text(label)
    )
}

/// Returns the top of an axis for `most`, and its steps: 1, 2 or 5 times a power of ten.
fn scale(most: f64) -> (f64, usize) {
    let most = if most.is_finite() && most > 0.0 { most } else { 1.0 };
    let rough = most / 4.0;
    let power = 10_f64.powf(rough.log10().floor());
    let step = [1.0, 2.0, 5.0, 10.0].map(|times| times * power).into_iter().find(|step| *step >= rough);
    let step = step.unwrap_or(10.0 * power);
    let steps = (most / step).ceil().max(1.0);
    (step * steps, steps as usize)
}

/// Returns the labels of an axis, from the top.
fn ticks<T: Display>(top: f64, steps: usize, word: impl Fn(f64) -> T) -> Vec<String> {
    (0..=steps).rev().map(|at| word(top * at as f64 / steps as f64).to_string()).collect()
}

/// A series of a stack.
pub(super) struct Layer<'a> {
    pub(super) label: Label<'a>,
    pub(super) values: Vec<f64>,
}

/// Returns stacked values, in steps. `tooltips` has the tooltip of each piece of time.
pub(super) fn stack(
    title: &str,
    label: &str,
    layers: &[Layer<'_>],
    word: impl Fn(f64) -> String,
    tooltips: &[String],
    times: &Times,
) -> String {
    let pieces = times.len();
    let value = |layer: &Layer<'_>, at: usize| layer.values.get(at).copied().unwrap_or(0.0).max(0.0);
    let sums = (0..pieces).map(|at| layers.iter().map(|layer| value(layer, at)).sum::<f64>());
    let (top, steps) = scale(sums.fold(0.0, f64::max));
    let y = |value: f64| HEIGHT - value / top * HEIGHT;
    let mut below = vec![0.0; pieces];
    let mut shapes = String::new();
    for layer in layers {
        if layer.values.iter().all(|value| *value <= 0.0) {
            continue;
        }
        let above: Vec<f64> = (0..pieces).map(|at| below[at] + value(layer, at)).collect();
        let _ = write!(shapes, "<path class=\"{}\" d=\"M{:.1} {:.1}", layer.label.class, times.x(0), y(below[0]));
        steps_along(&mut shapes, (0..pieces).map(|at| (y(above[at]), times.x(at + 1))));
        // And back along the foot.
        let back = (0..pieces).rev().map(|at| (y(below[at]), times.x(at)));
        steps_along(&mut shapes, back);
        shapes.push_str("Z\"/>");
        below = above;
    }
    for (at, tooltip) in tooltips.iter().enumerate().take(pieces) {
        let (x, width) = (times.x(at), times.x(at + 1) - times.x(at));
        let _ = write!(
            shapes,
            "<rect class=\"told\" x=\"{x:.1}\" width=\"{width:.1}\" height=\"{HEIGHT}\"><title>{}</title></rect>",
            Text(tooltip)
        );
    }
    let legend: Vec<_> =
        layers.iter().map(|layer| Label { name: layer.label.name, class: layer.label.class.clone() }).collect();
    figure(title, label, &legend, &ticks(top, steps, word), &shapes, times)
}

/// Vertically to each height, then along to each place; a height that stays is not written again.
fn steps_along(path: &mut String, steps: impl Iterator<Item = (f64, f64)>) {
    let mut last = (f64::NAN, f64::NAN);
    for (y, x) in steps {
        if last.0 != y {
            if !last.0.is_nan() {
                let _ = write!(path, "H{:.1}", last.1);
            }
            let _ = write!(path, "V{y:.1}");
        }
        last = (y, x);
    }
    if !last.0.is_nan() {
        let _ = write!(path, "H{:.1}", last.1);
    }
}

/// Latencies as lines, on an axis where each step is ten times the one below: an outage's half minute and an ordinary
/// day's half second can both be read. What is not known breaks the line.
pub(super) fn latencies(title: &str, label: &str, lines: &[Layer<'_>], times: &Times) -> String {
    let all = || lines.iter().flat_map(|line| line.values.iter().copied()).filter(|value| words::known(*value));
    let low = all().fold(f64::INFINITY, f64::min).log10().floor();
    let high = all().fold(0.0, f64::max).log10().ceil();
    let (low, high) = if low.is_finite() && high.is_finite() { (low, high.max(low + 1.0)) } else { (2.0, 3.0) };
    let y = |value: f64| HEIGHT - (value.log10() - low) / (high - low) * HEIGHT;
    let mut shapes = String::new();
    for line in lines {
        let (mut path, mut alone) = (String::new(), String::new());
        let value =
            |at: Option<usize>| at.and_then(|at| line.values.get(at)).copied().filter(|value| words::known(*value));
        for at in 0..times.len() {
            let Some(here) = value(Some(at)) else { continue };
            let (before, after) = (value(at.checked_sub(1)), value(Some(at + 1)));
            let place = format!("{:.1} {:.1}", times.middle(at), y(here));
            match (before, after) {
                (None, None) => alone.push_str(&format!("M{place}h.01")),
                (None, _) => path.push_str(&format!("M{place}")),
                _ => path.push_str(&format!("L{place}")),
            }
        }
        for (path, kind) in [(path, ""), (alone, " point")] {
            if !path.is_empty() {
                let _ = write!(shapes, "<path class=\"{}{kind}\" d=\"{path}\"/>", line.label.class);
            }
        }
    }
    let steps = (high - low) as usize;
    let ticks: Vec<_> = (0..=steps).rev().map(|at| words::power(10_f64.powf(low + at as f64))).collect();
    let legend: Vec<_> =
        lines.iter().map(|line| Label { name: line.label.name, class: line.label.class.clone() }).collect();
    figure(title, label, &legend, &ticks, &shapes, times)
}

/// A band for each name, coloured through time.
pub(super) struct Lane<'a> {
    pub(super) name: &'a str,
    /// A description of the band.
    pub(super) label: String,
    /// The shapes for each piece of time; see [`lanes`].
    pub(super) bands: Vec<Band>,
}

/// A piece of a lane: its class, how high it is (0 to 1), and how strong its colour.
#[derive(Clone, PartialEq)]
pub(super) struct Band {
    pub(super) class: &'static str,
    pub(super) height: f64,
    pub(super) strength: f64,
}

/// Bands under each other. What is alike and side by side is one shape.
pub(super) fn lanes(title: &str, legend: &[(&str, &'static str)], lanes: &[Lane<'_>], times: &Times) -> String {
    let mut names = String::new();
    for (name, class) in legend {
        let _ = write!(
            names,
            "<li><svg viewBox=\"0 0 20 10\" aria-hidden=\"true\"><rect width=\"20\" height=\"10\" class=\"{class}\"/></svg>{name}</li>"
        );
    }
    let mut drawn = String::new();
    for lane in lanes {
        let mut shapes = String::new();
        let mut from = 0;
        for run in lane.bands.chunk_by(|one, next| one == next) {
            let to = (from + run.len()).min(times.len());
            let Band { class, height, strength } = &run[0];
            if *height > 0.0 && *strength > 0.0 && to > from {
                let (x, width) = (times.x(from), times.x(to) - times.x(from));
                let height = height.min(1.0) * HEIGHT;
                let opacity = if *strength < 1.0 { format!(" opacity=\"{strength:.2}\"") } else { String::new() };
                let _ = write!(
                    shapes,
                    "<rect class=\"{class}\" x=\"{x:.1}\" y=\"{:.1}\" width=\"{width:.1}\" height=\"{height:.1}\"{opacity}/>",
                    HEIGHT - height
                );
            }
            from = to;
        }
        let _ =
            write!(drawn, "<div class=\"lane\"><span>{}</span>{}</div>", Text(lane.name), svg(&lane.label, &shapes));
    }
    format!(
        "<figure><figcaption><h3>{title}</h3><ul class=\"legend\">{names}</ul></figcaption><div class=\"lanes\">{drawn}</div>{}</figure>\n",
        times.foot()
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_axis_holds_its_greatest_value_in_round_steps() {
        assert_eq!(scale(37.0), (40.0, 4));
        assert_eq!(scale(1.0), (1.0, 2));
        assert_eq!(scale(0.0), (1.0, 2));
        assert_eq!(ticks(40.0, 4, |value| value), ["40", "30", "20", "10", "0"]);
    }

    #[test]
    fn a_step_that_stays_is_one_line() {
        let mut path = String::new();
        steps_along(&mut path, [(5.0, 10.0), (5.0, 20.0), (7.0, 30.0)].into_iter());
        assert_eq!(path, "V5.0H20.0V7.0H30.0");
    }

    #[test]
    fn bands_that_are_alike_are_one_shape() {
        let times = Times::new([0.0, 1.0, 2.0, 3.0].into_iter(), 4.0, None);
        let band = |class| Band { class, height: 1.0, strength: 1.0 };
        let bands = vec![band("closed"), band("closed"), band("open"), band("closed")];
        let drawn = lanes("Circuits", &[], &[Lane { name: "a", label: "a".to_owned(), bands }], &times);
        assert_eq!(drawn.matches("<rect").count(), 3);
        assert!(
            drawn.contains("<rect class=\"open\" x=\"300.0\" y=\"0.0\" width=\"150.0\" height=\"100.0\"/>"),
            "{drawn}"
        );
    }

    #[test]
    fn what_is_not_known_breaks_a_line() {
        let times = Times::new((0..5).map(f64::from), 5.0, None);
        let values = vec![100.0, 200.0, 0.0, 300.0, f64::NAN];
        let line = Layer { label: Label { name: "p50", class: "line s0".to_owned() }, values };
        let drawn = latencies("Latency", "x", &[line], &times);
        assert_eq!(drawn.matches("class=\"line s0\" d=\"M60.0").count(), 1, "{drawn}");
        assert_eq!(drawn.matches("class=\"line s0 point\" d=\"M420.0").count(), 1, "{drawn}");
    }
}
