//! Line plots as SVG, without scripts: axes straight or logarithmic, a legend, and a title for each point.

use std::fmt::Write;

/// Size of a plot, in its own units.
const WIDTH: f64 = 760.0;
const HEIGHT: f64 = 320.0;
/// Room for the labels of the axes.
const LEFT: f64 = 84.0;
const BOTTOM: f64 = 44.0;
const TOP: f64 = 14.0;
const RIGHT: f64 = 16.0;
/// Points of a line that are drawn with a mark.
const MARKS_MAX: usize = 40;
/// Colours that can be told apart, also by most who see colours otherwise.
const COLOURS: [&str; 8] = ["#0072b2", "#d55e00", "#009e73", "#cc79a7", "#56b4e9", "#e69f00", "#7f7f7f", "#8c564b"];

/// One axis.
pub struct Axis<'a> {
    /// What it shows.
    pub label: &'a str,
    /// Logarithmic; values must be above 0, others are left out.
    pub log: bool,
    /// How a value is written.
    pub show: &'a dyn Fn(f64) -> String,
}

/// One line.
pub struct Line {
    /// For the legend.
    pub name: String,
    /// Points in order.
    pub points: Vec<(f64, f64)>,
}

/// A value's place between 0 and 1, and the ticks.
struct Scale {
    low: f64,
    high: f64,
    log: bool,
}

impl Scale {
    fn of(values: impl Iterator<Item = f64>, log: bool) -> Self {
        let (mut low, mut high) = (f64::INFINITY, f64::NEG_INFINITY);
        for value in values {
            (low, high) = (low.min(value), high.max(value));
        }
        if !low.is_finite() || !high.is_finite() {
            (low, high) = (1.0, 10.0);
        }
        if !log {
            low = low.min(0.0);
        }
        if high <= low {
            high = if log { low * 10.0 } else { low + 1.0 };
        }
        Self { low, high: if log { high } else { high * 1.05 }, log }
    }

    fn place(&self, value: f64) -> f64 {
        if self.log { (value / self.low).ln() / (self.high / self.low).ln() } else { (value - self.low) / (self.high - self.low) }
    }

    fn ticks(&self) -> Vec<f64> {
        if self.log {
            let decades = (self.high / self.low).log10();
            let steps: &[f64] = if decades > 3.0 { &[1.0] } else { &[1.0, 2.0, 5.0] };
            let first = self.low.log10().floor() as i32;
            let last = self.high.log10().ceil() as i32;
            let all = (first..=last).flat_map(|power| steps.iter().map(move |step| step * 10_f64.powi(power)));
            return all.filter(|tick| *tick >= self.low * 0.999 && *tick <= self.high * 1.001).collect();
        }
        let rough = (self.high - self.low) / 6.0;
        let unit = 10_f64.powf(rough.log10().floor());
        let step = [1.0, 2.0, 5.0, 10.0].map(|m| m * unit).into_iter().find(|step| *step >= rough).unwrap_or(unit * 10.0);
        let first = (self.low / step).ceil() as i64;
        (first..).map(|n| n as f64 * step).take_while(|tick| *tick <= self.high).collect()
    }
}

/// Text that cannot end the element it stands in.
#[must_use]
pub fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

/// A plot of lines; empty where no line has a point.
#[must_use]
pub fn plot(x: &Axis<'_>, y: &Axis<'_>, lines: &[Line]) -> String {
    let fits = |(px, py): &(f64, f64)| px.is_finite() && py.is_finite() && (!x.log || *px > 0.0) && (!y.log || *py > 0.0);
    let points = || lines.iter().flat_map(|line| line.points.iter().copied().filter(fits));
    if points().next().is_none() {
        return String::new();
    }
    let (xs, ys) = (Scale::of(points().map(|p| p.0), x.log), Scale::of(points().map(|p| p.1), y.log));
    let at_x = |value: f64| LEFT + xs.place(value) * (WIDTH - LEFT - RIGHT);
    let at_y = |value: f64| HEIGHT - BOTTOM - ys.place(value) * (HEIGHT - BOTTOM - TOP);
    let mut out = format!("<svg viewBox=\"0 0 {WIDTH} {HEIGHT}\" role=\"img\">");
    for tick in xs.ticks() {
        let (px, text) = (at_x(tick), escape(&(x.show)(tick)));
        let _ = write!(out, "<path class=\"grid\" d=\"M{px:.1} {TOP}V{:.1}\"/>", HEIGHT - BOTTOM);
        let _ = write!(out, "<text x=\"{px:.1}\" y=\"{:.1}\" text-anchor=\"middle\">{text}</text>", HEIGHT - BOTTOM + 16.0);
    }
    for tick in ys.ticks() {
        let (py, text) = (at_y(tick), escape(&(y.show)(tick)));
        let _ = write!(out, "<path class=\"grid\" d=\"M{LEFT} {py:.1}H{:.1}\"/>", WIDTH - RIGHT);
        let _ = write!(out, "<text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"end\">{text}</text>", LEFT - 6.0, py + 4.0);
    }
    let middle = f64::midpoint(LEFT, WIDTH - RIGHT);
    let _ = write!(out, "<text x=\"{middle}\" y=\"{:.1}\" text-anchor=\"middle\">{}</text>", HEIGHT - 8.0, escape(x.label));
    let middle = f64::midpoint(TOP, HEIGHT - BOTTOM);
    let _ = write!(out, "<text transform=\"translate(14 {middle}) rotate(-90)\" text-anchor=\"middle\">{}</text>", escape(y.label));
    for (n, line) in lines.iter().enumerate() {
        let colour = COLOURS[n % COLOURS.len()];
        let kept: Vec<(f64, f64)> = line.points.iter().copied().filter(fits).collect();
        let path: Vec<String> = kept.iter().map(|(px, py)| format!("{:.1} {:.1}", at_x(*px), at_y(*py))).collect();
        let _ = write!(out, "<path class=\"line\" stroke=\"{colour}\" d=\"M{}\"/>", path.join("L"));
        let every = kept.len().div_ceil(MARKS_MAX).max(1);
        for (px, py) in kept.iter().step_by(every) {
            let title = escape(&format!("{}: {} at {}", line.name, (y.show)(*py), (x.show)(*px)));
            let _ = write!(
                out,
                "<circle cx=\"{:.1}\" cy=\"{:.1}\" r=\"2.5\" fill=\"{colour}\"><title>{title}</title></circle>",
                at_x(*px),
                at_y(*py)
            );
        }
    }
    out.push_str("</svg>");
    if lines.len() > 1 || lines.iter().any(|line| !line.name.is_empty()) {
        out.push_str("<p class=\"legend\">");
        for (n, line) in lines.iter().enumerate() {
            let _ = write!(out, "<span><i style=\"background:{}\"></i>{}</span> ", COLOURS[n % COLOURS.len()], escape(&line.name));
        }
        out.push_str("</p>");
    }
    out
}
