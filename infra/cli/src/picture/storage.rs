//! The storage and its cost over time.

use std::fmt::Write;

use maud::{Markup, html};

use super::Point;
use super::axis::Axis;
use super::text::{count, dollars, number, percent, time};
use super::timeline::{anchor, forecast, lines, now_name};

/// The height of the chart, in pixels.
const HEIGHT: f64 = 220.0;
/// The width of the drawing that is stretched to the chart's.
const WIDTH: f64 = 1000.0;
/// Into how many parts the lines divide the height, about.
const PARTS: f64 = 4.0;

pub(super) fn section(points: &[Point], axis: &Axis) -> Markup {
    html! {
        section aria-labelledby="storage" {
            h2 #storage { "Storage and cost" }
            @if points.is_empty() {
                p { "The storage over time is not known." }
            } @else {
                p { (words(points, axis)) }
                (chart(points, axis))
                (table(points, axis))
            }
        }
    }
}

/// The chart in a sentence or two.
fn words(points: &[Point], axis: &Axis) -> String {
    let say = |point: &Point| {
        let (size, cost) = (number(point.size_gb), dollars(point.cost_usd_month));
        format!("{size} GB at a cost of at most {cost} a month")
    };
    let (past, future): (Vec<&Point>, Vec<&Point>) =
        points.iter().partition(|point| axis.is_past(point.at));
    let now = past.last().map(|point| match axis.is_over() {
        true => format!("On {} the snapshots held {}.", time(point.at), say(point)),
        false => format!("The snapshots hold {}.", say(point)),
    });
    let then = future
        .last()
        .map(|point| format!("On {} they are expected to hold {}.", time(point.at), say(point)));
    [now, then].into_iter().flatten().collect::<Vec<_>>().join(" ")
}

/// A value as a line: its steps before and after now.
struct Steps {
    past: Vec<(f64, f64)>,
    future: Vec<(f64, f64)>,
}

impl Steps {
    fn new(points: &[Point], axis: &Axis, value: impl Fn(&Point) -> f64) -> Self {
        let at = |point: &Point| (axis.nearest(point.at), value(point));
        // Of what is left of the axis, only the last level reaches it.
        let first = points.iter().rposition(|point| axis.is_before(point.at)).unwrap_or(0);
        let is_shown = |point: &&Point| axis.is_before(point.at) || axis.place(point.at).is_some();
        let shown = points.iter().skip(first).filter(is_shown);
        let (past, future): (Vec<&Point>, Vec<&Point>) = shown.partition(|p| axis.is_past(p.at));
        let mut past: Vec<_> = past.into_iter().map(at).collect();
        let mut future: Vec<_> = future.into_iter().map(at).collect();
        let now = axis.forecast();
        if let Some(&(_, level)) = past.last() {
            past.push((now, level));
            if !future.is_empty() {
                future.insert(0, (now, level));
            }
        }
        // The last level lasts.
        if let Some(&(_, level)) = future.last() {
            future.push((1.0, level));
        }
        Self { past, future }
    }
}

/// A line that is level from each time to the next.
fn path(steps: &[(f64, f64)], top: f64) -> String {
    let mut path = String::new();
    for (x, value) in steps {
        let (x, y) = (x * WIDTH, HEIGHT * (1.0 - value / top));
        let step =
            if path.is_empty() { format!("M{x:.1} {y:.1}") } else { format!("H{x:.1}V{y:.1}") };
        path.push_str(&step);
    }
    path
}

/// What is below a line.
fn area(steps: &[(f64, f64)], top: f64) -> String {
    let mut area = path(steps, top);
    if let (Some((first, _)), false) = (steps.first(), area.is_empty()) {
        // Writing to a string cannot fail.
        let _ = write!(area, "V{HEIGHT}H{:.1}Z", first * WIDTH);
    }
    area
}

/// What a point costs; a number that is none draws nothing.
fn dollars_of(point: &Point) -> f64 {
    if point.cost_usd_month.is_finite() { point.cost_usd_month } else { 0.0 }
}

/// A round number that is at least this.
fn round_up(least: f64) -> f64 {
    if !least.is_finite() || least <= 0.0 {
        return 1.0;
    }
    let power = 10_f64.powf(least.log10().floor());
    let round = [1.0, 2.0, 5.0].into_iter().find(|n| n * power >= least * 0.999_999);
    round.unwrap_or(10.0) * power
}

/// The values of both edges.
struct Scale {
    /// The number of lines above the ground.
    parts: u32,
    /// The gigabytes between two lines.
    size: f64,
    /// The dollars between two lines.
    cost: f64,
    /// Whether one line shows both, because each gigabyte costs the same.
    is_shared: bool,
}

impl Scale {
    fn new(points: &[Point]) -> Self {
        let size = |point: &Point| point.size_gb as f64;
        let most = points.iter().map(size).fold(0.0, f64::max);
        let dearest = points.iter().map(dollars_of).fold(0.0, f64::max);
        let step = round_up(most / PARTS).max(1.0);
        let parts = (most / step).ceil().max(1.0);
        let price = if most > 0.0 { dearest / most } else { 0.0 };
        let near = |point: &Point| {
            (dollars_of(point) - size(point) * price).abs() <= 0.01 * dearest.max(0.01)
        };
        let is_shared = dearest == 0.0 || price > 0.0 && points.iter().all(near);
        let cost = if is_shared { price * step } else { round_up(dearest / parts) };
        Self { parts: parts as u32, size: step, cost, is_shared }
    }

    fn top(&self) -> (f64, f64) {
        let parts = f64::from(self.parts);
        (self.size * parts, self.cost * parts)
    }

    /// The dollars of a line; cents only where they differ.
    fn dollars(&self, part: u32) -> String {
        let text = dollars(self.cost * f64::from(part));
        let is_whole = (self.cost - self.cost.round()).abs() < 0.005;
        match text.strip_suffix(".00") {
            Some(whole) if is_whole || part == 0 => whole.to_owned(),
            _ => text,
        }
    }
}

fn chart(points: &[Point], axis: &Axis) -> Markup {
    let scale = Scale::new(points);
    html! {
        div.scroll role="region" aria-label="Storage and cost over time" tabindex="0" {
            div.storage {
                p.units aria-hidden="true" { span { "GB" } span { "dollars a month at most" } }
                svg.chart height="268" role="img"
                    aria-label="Storage and its cost at most; the table below has the numbers." {
                    svg height=(HEIGHT) width="100%" { (forecast(axis)) (lines(axis)) }
                    (levels(&scale))
                    (drawing(points, axis, &scale))
                    (hovers(points, axis))
                    @if let Some(now) = axis.now() {
                        @let x = percent(now);
                        line.now x1=(x) x2=(x) y1="0" y2=(HEIGHT) {}
                    }
                    (now_name(axis, "-8"))
                    @for tick in axis.ticks() {
                        @let (x, anchor) = (percent(tick.x), anchor(tick.x));
                        text x=(x) y="240" text-anchor=(anchor) { (tick.name) }
                        @if let Some(context) = &tick.context {
                            text.context x=(x) y="258" text-anchor=(anchor) { (context) }
                        }
                    }
                }
                (legend(scale.is_shared))
            }
        }
    }
}

/// The horizontal lines and their values.
fn levels(scale: &Scale) -> Markup {
    html! {
        @for part in 0..=scale.parts {
            @let y = format!("{:.1}", HEIGHT * (1.0 - f64::from(part) / f64::from(scale.parts)));
            line.major x1="0" x2="100%" y1=(y) y2=(y) {}
            text x="0" y=(y) dx="-10" dy=".35em" text-anchor="end" {
                (number(format!("{:.0}", scale.size * f64::from(part))))
            }
            text x="100%" y=(y) dx="10" dy=".35em" { (scale.dollars(part)) }
        }
    }
}

/// The lines and areas, stretched to the width of the chart.
fn drawing(points: &[Point], axis: &Axis, scale: &Scale) -> Markup {
    let (top_size, top_cost) = scale.top();
    let size = Steps::new(points, axis, |point| point.size_gb as f64);
    let cost = Steps::new(points, axis, dollars_of);
    html! {
        svg viewBox={ "0 0 " (WIDTH) " " (HEIGHT) } preserveAspectRatio="none" width="100%"
            height=(HEIGHT) overflow="visible" {
            path.area d=(area(&size.past, top_size)) {}
            path.area.expected d=(area(&size.future, top_size)) {}
            path.line d=(path(&size.past, top_size)) {}
            path.line.expected d=(path(&size.future, top_size)) {}
            @if !scale.is_shared {
                path.line.cost d=(path(&cost.past, top_cost)) {}
                path.line.cost.expected d=(path(&cost.future, top_cost)) {}
            }
        }
    }
}

/// What the chart says when somebody points at it.
fn hovers(points: &[Point], axis: &Axis) -> Markup {
    let ends = points.iter().skip(1).map(|point| axis.nearest(point.at)).chain([1.0]);
    html! {
        @for (point, end) in points.iter().zip(ends) {
            @let begin = axis.nearest(point.at);
            @if end > begin {
                rect.hover x=(percent(begin)) width=(percent(end - begin)) y="0" height=(HEIGHT) {
                    title { (time(point.at)) "\n" (number(point.size_gb)) " GB\n"
                        (dollars(point.cost_usd_month)) " a month at most" }
                }
            }
        }
    }
}

fn legend(is_shared: bool) -> Markup {
    let item = |class: &str, meaning: &str| {
        html! {
            li { svg.shape aria-hidden="true" { path class=(class) d="M1 10H19" {} } (meaning) }
        }
    };
    html! {
        ul.legend aria-label="Legend of storage and cost" {
            @if is_shared {
                (item("line", "storage, and its cost at most"))
            } @else {
                (item("line", "storage (left)"))
                (item("line cost", "cost at most (right)"))
            }
            (item("line expected", "forecast"))
        }
    }
}

fn table(points: &[Point], axis: &Axis) -> Markup {
    html! {
        details.numbers {
            summary { "The numbers as a table" }
            div.scroll role="region" aria-label="Storage and cost, as a table" tabindex="0" {
                table {
                    caption { "Storage and cost at " (count(points.len(), "time", "times")) }
                    thead {
                        tr {
                            th scope="col" { "From" }
                            th.n scope="col" { "GB" }
                            th.n scope="col" { "Dollars a month at most" }
                            th scope="col" { "Kind" }
                        }
                    }
                    tbody {
                        @for point in points {
                            tr {
                                th scope="row" { (time(point.at)) }
                                td.n { (number(point.size_gb)) }
                                td.n { (dollars(point.cost_usd_month)) }
                                td {
                                    @if axis.is_past(point.at) { "measured" } @else { "forecast" }
                                }
                            }
                        }
                    }
                }
            }
        }
    }
}
