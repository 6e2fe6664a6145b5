//! A scenario's report as one picture: who answered, the first tier's circuit, and the plain retry loop beside it.

use std::fmt::{self, Write as _};

use super::report::{Baseline, Bucket, ScenarioReport};

/// The left edge and the width of the plots.
const LEFT: f64 = 150.0;
const WIDTH: f64 = 540.0;
/// The height of a plot of requests.
const HEIGHT: f64 = 84.0;
/// The tops of the three plots, and the line under the last one.
const ANSWERED: f64 = 52.0;
const CIRCUIT: f64 = 152.0;
const BASELINE: f64 = 188.0;
const FOOT: f64 = BASELINE + HEIGHT;
/// The number of tiers with a colour of their own; further tiers share them in turn.
const COLOURS: usize = 6;

/// Light and dark colours, by the reader's setting. No script, no font and no file is fetched.
const STYLE: &str = include_str!("picture.css");

impl ScenarioReport {
    /// Returns the scenario as an SVG image for a README or a page: requests by the tier that answered, the first
    /// tier's circuit, and the losses of the plain retry loop over the same traffic.
    ///
    /// The image follows the reader's light or dark setting, runs no script and fetches nothing.
    #[must_use]
    pub fn svg(&self) -> String {
        let plot = Plot::new(self);
        let mut out = format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 840 {}\" role=\"img\" aria-labelledby=\"title about\">\n\
             <title id=\"title\">{}: {} of {} requests lost</title>\n<desc id=\"about\">{}</desc>\n<style>\n{STYLE}</style>\n\
             <rect class=\"card\" width=\"840\" height=\"{}\" rx=\"8\"/>\n",
            FOOT + 60.0,
            Text(&self.name),
            grouped(self.lost),
            grouped(self.requests),
            Text(&self.about),
            FOOT + 60.0,
        );
        plot.faults(&mut out);
        let title = format!("{}: {} requests in {}", self.name, grouped(self.requests), hours(self.lasts_s));
        label(&mut out, 16.0, 26.0, "bold", &title);
        plot.answered(&mut out);
        plot.circuit(&mut out);
        if let Some(baseline) = self.baselines.iter().find(|baseline| baseline.name == "retry loop") {
            plot.baseline(&mut out, baseline);
        }
        plot.foot(&mut out);
        out.push_str("</svg>\n");
        out
    }
}

/// The scales that the parts of the picture share.
struct Plot<'a> {
    report: &'a ScenarioReport,
    /// The most requests of any bucket: the height of a plot.
    most: f64,
}

impl<'a> Plot<'a> {
    fn new(report: &'a ScenarioReport) -> Self {
        let most = report.timeline.iter().map(|bucket| bucket.requests).max().unwrap_or(0);
        Self { report, most: most.max(1) as f64 }
    }

    /// Returns the place of a moment on the time axis.
    fn x(&self, at_s: f64) -> f64 {
        LEFT + (at_s / self.report.lasts_s.max(1.0)).clamp(0.0, 1.0) * WIDTH
    }

    /// Returns the moments between which a bucket lies.
    fn span(&self, at: usize) -> (f64, f64) {
        let begins = |at: usize| self.report.timeline.get(at).map(|bucket: &Bucket| bucket.from_s);
        (begins(at).unwrap_or(0.0), begins(at + 1).unwrap_or(self.report.lasts_s))
    }

    /// Shades the time between the first tier's faults and their ends.
    fn faults(&self, out: &mut String) {
        let mut open: Vec<(&str, f64)> = Vec::new();
        let mut spans: Vec<(f64, f64)> = Vec::new();
        for event in &self.report.events {
            if let Some(name) = event.what.strip_prefix("fault begins: ") {
                open.push((name, event.at_s));
            } else if let Some(name) = event.what.strip_prefix("fault ends: ")
                && let Some(at) = open.iter().position(|(begun, _)| *begun == name)
            {
                spans.push((open.swap_remove(at).1, event.at_s));
            }
        }
        spans.extend(open.into_iter().map(|(_, from)| (from, self.report.lasts_s)));
        for (from, to) in spans {
            let (x, height) = (self.x(from), FOOT - ANSWERED);
            rect(out, "fault", x, ANSWERED, self.x(to) - x, height);
        }
    }

    /// Draws a bucket's counts upon each other, the first at the bottom.
    fn stack(&self, out: &mut String, at: usize, top: f64, parts: impl Iterator<Item = (String, u64)>) {
        let (from, to) = self.span(at);
        let mut y = top + HEIGHT;
        for (class, count) in parts.filter(|(_, count)| *count > 0) {
            let height = count as f64 / self.most * HEIGHT;
            y -= height;
            rect(out, &class, self.x(from), y, self.x(to) - self.x(from) - 1.0, height);
        }
    }

    fn answered(&self, out: &mut String) {
        let report = self.report;
        for (at, bucket) in report.timeline.iter().enumerate() {
            let tiers = bucket.by_tier.iter().enumerate().map(|(tier, count)| (tier_class(tier), *count));
            let others = [("lost".to_owned(), bucket.lost), ("refused".to_owned(), bucket.refused)];
            self.stack(out, at, ANSWERED, tiers.chain(others));
        }
        label(out, 16.0, ANSWERED + 18.0, "bold", "steadfast");
        let (mut y, used) = (ANSWERED + 40.0, report.tiers.iter().enumerate().filter(|(_, tier)| tier.answered > 0));
        for (at, tier) in used.take(3) {
            rect(out, &tier_class(at), 16.0, y - 9.0, 10.0, 10.0);
            label(out, 32.0, y, "soft", &short(&tier.name, 17));
            y += 18.0;
        }
        figures(out, ANSWERED, report.lost, report.amplification);
    }

    fn circuit(&self, out: &mut String) {
        let Some(tier) = self.report.tiers.first() else { return };
        for (at, bucket) in self.report.timeline.iter().enumerate() {
            let state = bucket.circuits.first().map_or("-", String::as_str);
            if ["closed", "half-open", "open"].contains(&state) {
                let (from, to) = self.span(at);
                rect(out, state, self.x(from), CIRCUIT, self.x(to) - self.x(from) - 1.0, 14.0);
            }
        }
        label(out, 16.0, CIRCUIT + 11.0, "soft", &short(&format!("circuit of {}", tier.name), 19));
        rect(out, "open", 704.0, CIRCUIT + 2.0, 10.0, 10.0);
        label(out, 720.0, CIRCUIT + 11.0, "soft", "open");
    }

    fn baseline(&self, out: &mut String, baseline: &Baseline) {
        for (at, (_, answered, lost)) in baseline.timeline.iter().enumerate() {
            let parts = [("alone".to_owned(), *answered), ("lost".to_owned(), *lost)];
            self.stack(out, at, BASELINE, parts.into_iter());
        }
        label(out, 16.0, BASELINE + 18.0, "bold", "plain retry loop");
        for (y, class, name) in [(BASELINE + 40.0, "alone", "answered"), (BASELINE + 58.0, "lost", "lost")] {
            rect(out, class, 16.0, y - 9.0, 10.0, 10.0);
            label(out, 32.0, y, "soft", name);
        }
        figures(out, BASELINE, baseline.lost, baseline.amplification);
    }

    /// Draws the time axis and its moments.
    fn foot(&self, out: &mut String) {
        let right = LEFT + WIDTH;
        for y in [ANSWERED + HEIGHT, FOOT] {
            let _ = writeln!(out, "<path class=\"axis\" d=\"M{LEFT} {y}H{right}\"/>");
        }
        for quarter in 0..=4 {
            let at_s = self.report.lasts_s * f64::from(quarter) / 4.0;
            label(out, self.x(at_s), FOOT + 18.0, "soft middle", &moment(at_s, self.report.clock_s));
        }
        let notes = "shaded: the fault · the same traffic for both · drawn by steadfast drill --svg";
        label(out, LEFT + WIDTH / 2.0, FOOT + 44.0, "soft middle", notes);
    }
}

/// Writes the losses and the calls beside a plot.
fn figures(out: &mut String, top: f64, lost: u64, amplification: f64) {
    label(out, 704.0, top + 24.0, "big", &format!("{} lost", grouped(lost)));
    label(out, 704.0, top + 46.0, "soft", &format!("{amplification:.2} calls a request"));
    label(out, 704.0, top + 62.0, "soft", "to the sick provider");
}

fn tier_class(tier: usize) -> String {
    format!("t{}", tier % COLOURS)
}

fn rect(out: &mut String, class: &str, x: f64, y: f64, width: f64, height: f64) {
    let _ = writeln!(
        out,
        "<rect class=\"{class}\" x=\"{x:.1}\" y=\"{y:.1}\" width=\"{:.1}\" height=\"{height:.1}\"/>",
        width.max(0.0)
    );
}

fn label(out: &mut String, x: f64, y: f64, class: &str, text: &str) {
    let _ = writeln!(out, "<text class=\"{class}\" x=\"{x:.0}\" y=\"{y:.0}\">{}</text>", Text(text));
}

/// Cuts a text to so many characters.
fn short(text: &str, most: usize) -> String {
    match text.char_indices().nth(most) {
        Some(_) => text.chars().take(most - 1).chain(['…']).collect(),
        None => text.to_owned(),
    }
}

/// Text as XML may hold it: a configuration chooses the names of tiers.
struct Text<'a>(&'a str);

impl fmt::Display for Text<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for c in self.0.chars() {
            match c {
                '&' => f.write_str("&amp;")?,
                '<' => f.write_str("&lt;")?,
                '>' => f.write_str("&gt;")?,
                '"' => f.write_str("&quot;")?,
                '\'' => f.write_str("&#39;")?,
                // Control characters, and those that turn the direction of what follows.
                c if c.is_control()
                    || matches!(c, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{fffe}' | '\u{ffff}') =>
                {
                    f.write_char('\u{fffd}')?;
                }
                c => f.write_char(c)?,
            }
        }
        Ok(())
    }
}

/// Formats a whole number with its thousands apart.
fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut out = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

/// Formats a scenario's length.
fn hours(seconds: f64) -> String {
    let minutes = (seconds / 60.0).round() as u64;
    match (minutes / 60, minutes % 60) {
        (0, minutes) => format!("{minutes} min"),
        (hours, 0) => format!("{hours} h"),
        (hours, minutes) => format!("{hours} h {minutes} min"),
    }
}

/// Formats a moment: the time of day where the scenario has one, else the time since its beginning.
fn moment(at_s: f64, clock_s: Option<f64>) -> String {
    let minutes = ((at_s + clock_s.unwrap_or(0.0)) / 60.0).max(0.0).round() as u64;
    let (hours, minutes) = (minutes / 60, minutes % 60);
    match clock_s {
        Some(_) => format!("{:02}:{minutes:02}", hours % 24),
        None => format!("{hours}:{minutes:02}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::{TierReport, TimelineEvent};

    /// Two buckets: the first tier answers, then it fails, and the loop loses what the second tier answers.
    fn report(tier: &str) -> ScenarioReport {
        let bucket = |from_s: f64, by_tier: [u64; 2], circuit: &str| Bucket {
            from_s,
            requests: 10,
            by_tier: by_tier.into(),
            circuits: vec![circuit.to_owned(), "closed".to_owned()],
            ..Bucket::default()
        };
        let named = |name: &str| TierReport { name: name.to_owned(), answered: 10, ..TierReport::default() };
        let event = |at_s: f64, what: &str| TimelineEvent { at_s, what: what.to_owned() };
        ScenarioReport {
            name: "half".to_owned(),
            lasts_s: 7200.0,
            requests: 20,
            tiers: vec![named(tier), named("backup")],
            timeline: vec![bucket(0.0, [10, 0], "closed"), bucket(3600.0, [0, 10], "open")],
            events: vec![event(3600.0, "fault begins: down"), event(7200.0, "fault ends: down")],
            baselines: vec![Baseline {
                name: "retry loop".to_owned(),
                lost: 1234,
                timeline: vec![(0.0, 10, 0), (3600.0, 0, 10)],
                ..Baseline::default()
            }],
            ..ScenarioReport::default()
        }
    }

    #[test]
    fn each_half_is_drawn_where_it_is() {
        let svg = report("sonnet").svg();
        // The plot is 540 wide from 150 on, and 84 high: a half is 270, all requests are the whole height.
        for shape in [
            "<rect class=\"t0\" x=\"150.0\" y=\"52.0\" width=\"269.0\" height=\"84.0\"/>",
            "<rect class=\"t1\" x=\"420.0\" y=\"52.0\" width=\"269.0\" height=\"84.0\"/>",
            "<rect class=\"closed\" x=\"150.0\" y=\"152.0\" width=\"269.0\" height=\"14.0\"/>",
            "<rect class=\"open\" x=\"420.0\" y=\"152.0\" width=\"269.0\" height=\"14.0\"/>",
            "<rect class=\"lost\" x=\"420.0\" y=\"188.0\" width=\"269.0\" height=\"84.0\"/>",
            "<rect class=\"fault\" x=\"420.0\" y=\"52.0\" width=\"270.0\" height=\"220.0\"/>",
        ] {
            assert_eq!(svg.matches(shape).count(), 1, "{shape}\n{svg}");
        }
        assert!(svg.contains(">0 lost<") && svg.contains(">1,234 lost<") && svg.contains(">1:00<"));
    }

    #[test]
    fn a_hostile_name_is_text_and_nothing_is_fetched() {
        let svg = report("</text><script href='http://a'>\u{202e}\u{1}").svg();
        assert_eq!(svg.matches('<').count(), report("sonnet").svg().matches('<').count(), "it adds no element");
        assert!(svg.contains("&lt;/text&gt;") && !svg.contains('\u{202e}') && !svg.contains('\u{1}'));
        for refused in ["<script", "url(", "@import", "<image", "href=\""] {
            assert!(!svg.contains(refused), "{refused}");
        }
    }

    #[test]
    fn a_report_of_nothing_is_a_picture_too() {
        let svg = ScenarioReport::default().svg();
        assert!(svg.ends_with("</svg>\n") && !svg.contains("NaN") && !svg.contains("inf"));
    }
}
