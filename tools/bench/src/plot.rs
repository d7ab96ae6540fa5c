//! The plot for the README: a look-up over the size of the table, and below it what else grows with
//! the size, both logarithmic. Written by hand, and readable on light and on dark ground.

use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use anyhow::{Context, bail};

use crate::report::{Point, Report};

const WIDTH: f64 = 760.0;
/// Of one panel.
const HEIGHT: f64 = 420.0;
/// Of the field inside the axes: left, top, right, bottom.
const LEFT: f64 = 64.0;
const TOP: f64 = 40.0;
const RIGHT: f64 = WIDTH - 200.0;
const BOTTOM: f64 = HEIGHT - 56.0;

/// Lines over one pair of axes.
struct Panel {
    heading: &'static str,
    lines: &'static [Line],
}

struct Line {
    name: &'static str,
    unit: &'static str,
    /// Of its colour. Floors are dashed.
    class: &'static str,
}

const fn line(name: &'static str, unit: &'static str, class: &'static str) -> Line {
    Line { name, unit, class }
}

const PANELS: [Panel; 2] = [
    Panel {
        heading: "ns a hit, batches of 128, one core",
        lines: &[
            line("binary search", "ns", "peer"),
            line("Adamant, 4 KiB pages", "ns", "small"),
            line("Adamant, 2 MiB pages", "ns", "ours"),
            line("floor, 4 KiB pages", "ns", "small floor"),
            line("floor, 2 MiB pages", "ns", "ours floor"),
        ],
    },
    Panel {
        heading: "what grows with the table, and what does not",
        lines: &[
            line("build", "s", "ours"),
            line("daemon's first answer", "s", "small"),
            line("daemon's memory", "MiB", "peer"),
        ],
    },
];

const STYLE: &str = "\
text{font:13px system-ui,sans-serif;fill:#333}\
.axis{stroke:#888;fill:none}.grid{stroke:#ddd;fill:none}\
.line{fill:none;stroke-width:2}.floor{stroke-dasharray:5 4}\
.peer{stroke:#b3541e}.small{stroke:#5b7fb5}.ours{stroke:#1a7f4b}\
@media(prefers-color-scheme:dark){text{fill:#ccc}.axis{stroke:#888}.grid{stroke:#444}\
.peer{stroke:#f0955a}.small{stroke:#8fb4ec}.ours{stroke:#4fc98a}}";

pub(crate) fn write(report: &Report, path: &Path) -> anyhow::Result<()> {
    let svg = draw(report.points(), report.machine()["processor"].as_str().unwrap_or("unknown"))?;
    fs::write(path, svg).with_context(|| format!("cannot write {}", path.display()))
}

/// From a value to a place, logarithmically.
struct Scale {
    from: f64,
    to: f64,
    begin: f64,
    end: f64,
}

impl Scale {
    /// Whole powers of ten around all values.
    fn around(values: impl Iterator<Item = f64> + Clone, begin: f64, end: f64) -> Scale {
        let from = values.clone().fold(f64::INFINITY, f64::min).log10().floor();
        let to = values.fold(f64::MIN_POSITIVE, f64::max).log10().ceil();
        Scale { from, to: to.max(from + 1.0), begin, end }
    }

    fn place(&self, value: f64) -> f64 {
        let part = (value.log10() - self.from) / (self.to - self.from);
        self.begin + part * (self.end - self.begin)
    }

    fn powers(&self) -> impl Iterator<Item = f64> {
        let (from, to) = (self.from, self.to);
        (0..).map(move |step| from + f64::from(step)).take_while(move |it| *it <= to).map(power)
    }
}

fn power(of: f64) -> f64 {
    10_f64.powf(of)
}

fn draw(points: &[Point], processor: &str) -> anyhow::Result<String> {
    let panels = PANELS.iter().map(|panel| (panel, panel.drawn(points)));
    let panels: Vec<_> = panels.filter(|(_, lines)| !lines.is_empty()).collect();
    if panels.is_empty() {
        bail!("nothing that is drawn was measured: --svg goes with `index`, `build` or `all`");
    }
    let height = HEIGHT * panels.len() as f64;
    let mut out = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {height}\" \
         role=\"img\"><title>Figures of Adamant over the size of the table</title>\n\
         <style>{STYLE}</style>\n"
    );
    for (number, (panel, lines)) in panels.iter().enumerate() {
        let down = HEIGHT * number as f64;
        writeln!(out, "<g transform=\"translate(0 {down})\">")?;
        panel.draw(&mut out, lines, processor)?;
        out.push_str("</g>\n");
    }
    out.push_str("</svg>\n");
    Ok(out)
}

/// A line that has points, in the order of their sizes.
type Drawn<'a> = (&'static Line, Vec<&'a Point>);

impl Panel {
    fn drawn<'a>(&self, points: &'a [Point]) -> Vec<Drawn<'a>> {
        let of_line = |line: &'static Line| {
            let mut of_line: Vec<&Point> =
                points.iter().filter(|it| it.line == line.name).collect();
            of_line.sort_by_key(|point| point.records);
            (line, of_line)
        };
        self.lines.iter().map(of_line).filter(|(_, points)| !points.is_empty()).collect()
    }

    fn draw(&self, out: &mut String, lines: &[Drawn<'_>], processor: &str) -> anyhow::Result<()> {
        let all = || lines.iter().flat_map(|(_, points)| points.iter());
        let x = Scale::around(all().map(|point| point.records as f64), LEFT, RIGHT);
        let y = Scale::around(all().map(|point| point.value), BOTTOM, TOP);
        let processor = processor.replace('&', "&amp;").replace('<', "&lt;");
        writeln!(out, "<text x=\"8\" y=\"20\">{}, {processor}</text>", self.heading)?;
        draw_axes(out, &x, &y)?;
        let end_of = |points: &[&Point]| points.last().map(|last| y.place(last.value));
        let mut lines: Vec<_> = lines.iter().map(|it| (end_of(&it.1), it)).collect();
        lines.sort_by(|a, b| a.0.unwrap_or_default().total_cmp(&b.0.unwrap_or_default()));
        let mut lowest = f64::NEG_INFINITY;
        for (end, (line, points)) in lines {
            let Line { name, unit, class } = line;
            let place = |it: &&Point| (x.place(it.records as f64), y.place(it.value));
            let places = points.iter().map(place).map(|(x, y)| format!("{x:.1},{y:.1}"));
            let places: Vec<String> = places.collect();
            writeln!(out, "<polyline class=\"line {class}\" points=\"{}\"/>", places.join(" "))?;
            // Names stand beside the ends of the lines, one under the other.
            lowest = end.context("a line has points")?.max(lowest + 16.0);
            let last = points.last().context("a line has points")?;
            let (beside, below) = (x.place(last.records as f64) + 8.0, lowest + 4.0);
            let value = shown(last.value);
            writeln!(
                out,
                "<text x=\"{beside:.1}\" y=\"{below:.1}\">{name}: {value} {unit}</text>"
            )?;
        }
        Ok(())
    }
}

fn draw_axes(out: &mut String, x: &Scale, y: &Scale) -> anyhow::Result<()> {
    for value in x.powers() {
        let at = x.place(value);
        writeln!(out, "<path class=\"grid\" d=\"M{at:.1} {TOP}V{BOTTOM}\"/>")?;
        let below = BOTTOM + 18.0;
        let text = short(value);
        writeln!(out, "<text x=\"{at:.1}\" y=\"{below}\" text-anchor=\"middle\">{text}</text>")?;
    }
    for value in y.powers() {
        let at = y.place(value);
        writeln!(out, "<path class=\"grid\" d=\"M{LEFT} {at:.1}H{RIGHT}\"/>")?;
        let (beside, at) = (LEFT - 8.0, at + 4.0);
        let text = short(value);
        writeln!(out, "<text x=\"{beside}\" y=\"{at:.1}\" text-anchor=\"end\">{text}</text>")?;
    }
    writeln!(out, "<path class=\"axis\" d=\"M{LEFT} {TOP}V{BOTTOM}H{RIGHT}\"/>")?;
    let middle = f64::midpoint(LEFT, RIGHT);
    let below = HEIGHT - 16.0;
    writeln!(
        out,
        "<text x=\"{middle}\" y=\"{below}\" text-anchor=\"middle\">tokens in the table</text>"
    )?;
    Ok(())
}

/// To two or three digits.
fn shown(value: f64) -> String {
    match value {
        value if value >= 10.0 => format!("{value:.0}"),
        value if value >= 1.0 => format!("{value:.1}"),
        value => format!("{value:.2}"),
    }
}

/// 1,000,000 as 1 M.
fn short(value: f64) -> String {
    match value {
        value if value >= 1e6 => format!("{:.0} M", value / 1e6),
        value if value >= 1e3 => format!("{:.0} k", value / 1e3),
        value => format!("{value}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_point_is_inside_the_field_and_every_line_is_named() -> anyhow::Result<()> {
        let point = |line, records, value| Point { line, records, value };
        let points = [
            point("binary search", 1_000_000, 258.0),
            point("binary search", 100_000_000, 1980.0),
            point("Adamant, 2 MiB pages", 1_000_000, 11.0),
            point("Adamant, 2 MiB pages", 100_000_000, 28.0),
            point("build", 1_000_000, 0.7),
            point("build", 100_000_000, 71.0),
        ];
        let svg = draw(&points, "A & B")?;
        assert!(
            svg.contains("binary search: 1980 ns") && svg.contains("Adamant, 2 MiB pages: 28 ns")
        );
        assert!(svg.contains("build: 71 s") && svg.contains("translate(0 420)"));
        assert!(svg.contains("A &amp; B") && svg.contains("prefers-color-scheme:dark"));
        let lines = svg.lines().filter_map(|line| line.split("points=\"").nth(1));
        for place in lines.flat_map(|line| line.split('"').next().unwrap_or_default().split(' ')) {
            let (x, y) = place.split_once(',').context("a place")?;
            let (x, y): (f64, f64) = (x.parse()?, y.parse()?);
            assert!((LEFT..=RIGHT).contains(&x) && (TOP..=BOTTOM).contains(&y), "{place}");
        }
        assert_eq!(svg.matches("<polyline").count(), 3);
        Ok(())
    }
}
