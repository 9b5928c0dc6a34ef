//! Line plots as SVG, with logarithmic axes.

use std::fmt::Write;

/// A line of a plot.
#[derive(Clone, Debug)]
pub struct Line {
    /// In the legend.
    pub name: String,
    /// Places, in order of x: x, y, and the least and the most of y. All above 0.
    pub points: Vec<(f64, f64, f64, f64)>,
}

/// A plot.
#[derive(Clone, Debug)]
pub struct Plot {
    /// Above it.
    pub title: String,
    /// Marks of the x axis: the place and its name.
    pub x_marks: Vec<(f64, String)>,
    /// How a value of y is written.
    pub y_name: fn(f64) -> String,
    /// The lines.
    pub lines: Vec<Line>,
}

const WIDTH: f64 = 760.0;
const HEIGHT: f64 = 360.0;
const LEFT: f64 = 84.0;
const RIGHT: f64 = 210.0;
const TOP: f64 = 30.0;
const BOTTOM: f64 = 36.0;
const COLOURS: [&str; 8] =
    ["#c02020", "#e07b00", "#1f5fbf", "#2f8f3f", "#7a3fa0", "#008b8b", "#8b6b2f", "#d04090"];

/// Text that is safe in HTML and SVG.
#[must_use]
pub fn escaped(text: &str) -> String {
    let mut safe = String::with_capacity(text.len());
    for letter in text.chars() {
        match letter {
            '&' => safe.push_str("&amp;"),
            '<' => safe.push_str("&lt;"),
            '>' => safe.push_str("&gt;"),
            '"' => safe.push_str("&quot;"),
            '\'' => safe.push_str("&#39;"),
            letter => safe.push(letter),
        }
    }
    safe
}

/// A logarithmic axis between two places of the picture.
struct Axis {
    low: f64,
    high: f64,
    from: f64,
    to: f64,
}

impl Axis {
    fn over(values: impl Iterator<Item = f64>, from: f64, to: f64) -> Option<Self> {
        let (mut low, mut high) = (f64::INFINITY, 0.0_f64);
        for value in values.filter(|value| *value > 0.0 && value.is_finite()) {
            (low, high) = (low.min(value), high.max(value));
        }
        (high > 0.0).then(|| {
            let room = if high / low < 1.2 { 1.2 } else { 1.05 };
            Self { low: (low / room).ln(), high: (high * room).ln(), from, to }
        })
    }

    fn place(&self, value: f64) -> f64 {
        let share = (value.ln() - self.low) / (self.high - self.low);
        self.from + share * (self.to - self.from)
    }

    /// Marks at 1, 2 and 5 of each power of ten.
    fn marks(&self) -> Vec<f64> {
        let mut marks = Vec::new();
        let mut power = 10_f64.powf((self.low / 10_f64.ln()).floor());
        while power.ln() <= self.high {
            marks.extend([1.0, 2.0, 5.0].map(|digit| digit * power));
            power *= 10.0;
        }
        marks.retain(|mark| (self.low..=self.high).contains(&mark.ln()));
        if marks.len() > 9 {
            marks.retain(|mark| (mark.log10() - mark.log10().round()).abs() < 1e-9);
        }
        marks
    }
}

impl Plot {
    /// The picture; nothing where there is nothing to show.
    #[must_use]
    pub fn svg(&self) -> String {
        let points = || self.lines.iter().flat_map(|line| &line.points);
        let xs = points().map(|point| point.0);
        let ys = points().flat_map(|point| [point.1, point.2, point.3]);
        let x_axis = Axis::over(xs, LEFT, WIDTH - RIGHT);
        let y_axis = Axis::over(ys, HEIGHT - BOTTOM, TOP);
        let (Some(x_axis), Some(y_axis)) = (x_axis, y_axis) else { return String::new() };
        let mut svg = format!(
            "<svg viewBox=\"0 0 {WIDTH} {HEIGHT}\" role=\"img\"><text x=\"{LEFT}\" y=\"18\" \
             class=\"title\">{}</text>\n",
            escaped(&self.title)
        );
        self.frame(&mut svg, &x_axis, &y_axis);
        for (number, line) in self.lines.iter().enumerate() {
            draw(&mut svg, line, number, &x_axis, &y_axis);
        }
        svg.push_str("</svg>\n");
        svg
    }

    fn frame(&self, svg: &mut String, x_axis: &Axis, y_axis: &Axis) {
        let (right, bottom) = (WIDTH - RIGHT, HEIGHT - BOTTOM);
        for mark in y_axis.marks() {
            let y = y_axis.place(mark);
            let name = escaped(&(self.y_name)(mark));
            let _ = writeln!(
                svg,
                "<line x1=\"{LEFT}\" x2=\"{right}\" y1=\"{y:.1}\" y2=\"{y:.1}\" class=\"grid\"/>\
                 <text x=\"{:.1}\" y=\"{:.1}\" class=\"mark\" text-anchor=\"end\">{name}</text>",
                LEFT - 6.0,
                y + 4.0
            );
        }
        for (mark, name) in &self.x_marks {
            let x = x_axis.place(*mark);
            let _ = writeln!(
                svg,
                "<line x1=\"{x:.1}\" x2=\"{x:.1}\" y1=\"{TOP}\" y2=\"{bottom}\" class=\"grid\"/>\
                 <text x=\"{x:.1}\" y=\"{:.1}\" class=\"mark\" text-anchor=\"middle\">{}</text>",
                bottom + 18.0,
                escaped(name)
            );
        }
    }
}

fn draw(svg: &mut String, line: &Line, number: usize, x_axis: &Axis, y_axis: &Axis) {
    let colour = COLOURS[number % COLOURS.len()];
    let dashes = match number / COLOURS.len() {
        0 => "none",
        _ => "5 3",
    };
    let mut path = String::new();
    for (x, y, least, most) in &line.points {
        let (x, y) = (x_axis.place(*x), y_axis.place(*y));
        let (low, high) = (y_axis.place(*least), y_axis.place(*most));
        let _ = write!(path, "{}{x:.1} {y:.1}", if path.is_empty() { "M" } else { "L" });
        let _ = writeln!(
            svg,
            "<line x1=\"{x:.1}\" x2=\"{x:.1}\" y1=\"{low:.1}\" y2=\"{high:.1}\" \
             stroke=\"{colour}\"/><circle cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"2\" fill=\"{colour}\"/>"
        );
    }
    #[expect(clippy::cast_precision_loss, reason = "a place in a picture")]
    let y = TOP + 12.0 + 18.0 * number as f64;
    let x = WIDTH - RIGHT + 12.0;
    let _ = writeln!(
        svg,
        "<path d=\"{path}\" fill=\"none\" stroke=\"{colour}\" stroke-width=\"1.6\" \
         stroke-dasharray=\"{dashes}\"/>\
         <line x1=\"{x}\" x2=\"{}\" y1=\"{:.1}\" y2=\"{:.1}\" stroke=\"{colour}\" \
         stroke-width=\"2\" stroke-dasharray=\"{dashes}\"/>\
         <text x=\"{}\" y=\"{y:.1}\" class=\"mark\">{}</text>",
        x + 22.0,
        y - 4.0,
        y - 4.0,
        x + 28.0,
        escaped(&line.name)
    );
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plot(points: Vec<(f64, f64, f64, f64)>) -> String {
        let lines = vec![Line { name: "a <b>".to_owned(), points }];
        let x_marks = vec![(1.0, "1".to_owned()), (4.0, "4".to_owned())];
        let y_name = |value: f64| format!("{value}");
        Plot { title: "t & u".to_owned(), x_marks, y_name, lines }.svg()
    }

    #[test]
    fn a_plot_has_its_lines_and_is_well_formed() {
        let svg = plot(vec![(1.0, 100.0, 90.0, 110.0), (4.0, 1000.0, 900.0, 1100.0)]);
        assert!(svg.contains("a &lt;b&gt;") && svg.contains("t &amp; u") && !svg.contains("<b>"));
        assert_eq!(svg.matches("<circle").count(), 2);
        assert!(!svg.contains("NaN") && !svg.contains("inf"));
        for tag in ["svg", "text"] {
            let (open, close) = (format!("<{tag} "), format!("</{tag}>"));
            assert_eq!(svg.matches(&open).count(), svg.matches(&close).count(), "{tag}");
        }
    }

    #[test]
    fn more_is_further_up_and_one_point_has_room() {
        let height = |value: f64| {
            let axis = Axis::over([1.0, 100.0].into_iter(), HEIGHT, 0.0).unwrap();
            axis.place(value)
        };
        assert!(height(100.0) < height(10.0) && height(10.0) < height(1.0));
        assert!((height(10.0) - HEIGHT / 2.0).abs() < 1.0, "logarithmic");
        assert!(plot(vec![(1.0, 5.0, 5.0, 5.0)]).contains("<circle"));
        assert_eq!(plot(Vec::new()), "");
    }
}
