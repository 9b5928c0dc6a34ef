//! The report: one page of HTML that needs nothing beside it.
//!
//! First what a reader asks first: how fusewire stands to each other, and where it is behind. Then
//! the plots, then every row with its latencies and how to repeat it. Neighbour: [`svg`].

pub mod svg;

use std::collections::BTreeMap;
use std::fmt::Write;

use crate::load::QUANTILES;
use crate::matrix::Figure;
use crate::results::{Measure, RowResult, Run};
use crate::statistics::Spread;
use crate::table::{cpu, middle, ratios, short, shown, standings};
use svg::{Line, Plot, escaped};

const STYLE: &str = "
body { font: 15px/1.45 system-ui, sans-serif; max-width: 1100px; margin: 2em auto; padding: 0 1em; \
color: #222; background: #fff }
table { border-collapse: collapse; margin: .6em 0 1.2em; font-variant-numeric: tabular-nums }
th, td { padding: .2em .7em; border-bottom: 1px solid #ddd; text-align: right; white-space: nowrap }
th:first-child, td:first-child, td.text { text-align: left; white-space: normal }
.behind { background: #fbe3e0 } .ahead { background: #e3f3e3 } .failed { color: #a00; \
text-align: left }
svg { width: 100%; max-width: 860px; display: block; margin: .5em 0 1.2em }
svg .title { font: 600 14px system-ui, sans-serif } svg .mark { font: 11px system-ui, sans-serif; \
fill: #444 } svg .grid { stroke: #e4e4e4 }
code { background: #f3f3f3; padding: .1em .3em } h2 { margin-top: 2em } summary { cursor: pointer }
";

/// The page.
#[must_use]
pub fn page(run: &Run) -> String {
    let mut html =
        String::from("<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">");
    let _ = writeln!(html, "<title>fusewire-bench</title><style>{STYLE}</style></head><body>");
    html.push_str("<h1>fusewire and its peers</h1>\n");
    if run.interrupted {
        html.push_str(
            "<p class=\"failed\">This run was ended before its end: rows are missing.</p>\n",
        );
    }
    html.push_str(
        "<p>Each figure is from one run in which all contenders of a row took turns, forth and \
         back. A ratio is fusewire's figure by the other's in the same round: the median, and the \
         least and the most. Above 1 fusewire is ahead. All data were compared, byte by byte; who \
         showed a wrong one has no figure.</p>\n",
    );
    summary(&mut html, run);
    setting(&mut html, run);
    html.push_str("<h2>Against depth, clients and size</h2>\n");
    for plot in curves(run) {
        html += &plot.svg();
    }
    html.push_str("<h2>Row by row</h2>\n");
    for row in &run.rows {
        add_row(&mut html, run, row);
    }
    html.push_str("</body></html>\n");
    html
}

fn summary(html: &mut String, run: &Run) {
    html.push_str(
        "<h2>In short</h2>\n<table><tr><th>the best transport in each row, against<th>rows\
         <th>geometric mean<th>each alone<th>below 1</tr>\n",
    );
    for standing in standings(run) {
        let behind = standing.behind.iter().map(|(row, spread)| {
            format!("<a href=\"#{}\">{}</a> {spread}", anchor(row), escaped(row))
        });
        let behind: Vec<String> = behind.collect();
        let way = |(way, mean): &(&str, f64)| format!("{} {mean:.2}", escaped(way));
        let ways: Vec<String> = standing.ways.iter().map(way).collect();
        let _ = writeln!(
            html,
            "<tr><td>{} / {}<td>{}<td class=\"{}\">{:.2}<td>{}<td class=\"text\">{}</tr>",
            escaped(standing.ours),
            escaped(standing.other),
            standing.rows,
            class(standing.mean),
            standing.mean,
            ways.join("<br>"),
            if behind.is_empty() { "none".to_owned() } else { behind.join("<br>") },
        );
    }
    html.push_str("</table>\n");
}

fn class(ratio: f64) -> &'static str {
    if ratio < 1.0 { "behind" } else { "ahead" }
}

fn anchor(name: &str) -> String {
    name.chars().map(|letter| if letter.is_ascii_alphanumeric() { letter } else { '-' }).collect()
}

fn setting(html: &mut String, run: &Run) {
    let machine = &run.machine;
    html.push_str("<h2>Where and who</h2>\n<table>\n");
    let facts = [
        ("processor", format!("{}, {} CPUs", machine.cpu, machine.cpus)),
        ("memory", format!("{} MiB", machine.memory_mib)),
        ("kernel", format!("Linux {}, {}", machine.kernel, machine.system)),
        ("fs.fuse.max_pages_limit", machine.max_pages_limit.clone()),
        ("FUSE-over-io_uring", if machine.uring { "on" } else { "off" }.to_owned()),
        ("load average at the start", machine.load.clone()),
        ("seconds since 1970", run.time.to_string()),
        ("options", run.arguments.join(" ")),
    ];
    for (name, value) in facts {
        let _ = writeln!(html, "<tr><td>{name}<td class=\"text\">{}</tr>", escaped(&value));
    }
    html.push_str("</table>\n<table><tr><th>contender<th>of<th>version<th>configuration</tr>\n");
    for about in &run.contenders {
        let cells = [&about.name, &about.library, &about.version, &about.configuration];
        let cells: Vec<String> =
            cells.iter().map(|cell| format!("<td class=\"text\">{}", escaped(cell))).collect();
        let _ = writeln!(html, "<tr>{}</tr>", cells.concat());
    }
    let _ = writeln!(
        html,
        "</table>\n<p>To repeat all of it: <code>cargo run --release -p fusewire-benches -- \
         {}</code>.
         In each row all have the same write-back setting, 1 MiB as largest request, and what the \
         kernel may keep is kept for a day or longer.</p>",
        escaped(&run.arguments.join(" "))
    );
}

/// The figures of rows that belong together.
fn curves(run: &Run) -> Vec<Plot> {
    let mut curves: BTreeMap<(&str, &str), Vec<(u64, &RowResult)>> = BTreeMap::new();
    for row in &run.rows {
        if let Some((curve, place)) = &row.curve {
            curves.entry((row.group.name(), curve)).or_default().push((*place, row));
        }
    }
    let many = curves.into_iter().filter(|(_, rows)| rows.len() > 1);
    many.map(|((group, curve), mut rows)| {
        rows.sort_by_key(|(place, _)| *place);
        let lines = run.names().map(|name| Line {
            name: name.to_owned(),
            points: rows.iter().filter_map(|(place, row)| point(*place, row, name)).collect(),
        });
        let x_marks = rows.iter().map(|(place, _)| (at(*place), place.to_string())).collect();
        let bytes = rows.iter().all(|(_, row)| row.figure == Figure::BytesPerSecond);
        Plot {
            title: format!("{group}: {curve}"),
            x_marks,
            y_name: if bytes { bytes_per_second } else { operations_per_second },
            lines: lines.filter(|line| !line.points.is_empty()).collect(),
        }
    })
    .collect()
}

#[expect(clippy::cast_precision_loss, reason = "a place in a picture")]
fn at(place: u64) -> f64 {
    place as f64
}

fn point(place: u64, row: &RowResult, name: &str) -> Option<(f64, f64, f64, f64)> {
    let figures: Vec<f64> = row.figures(name).into_iter().flatten().collect();
    let spread = Spread::of(&figures)?;
    Some((at(place), spread.median, spread.min, spread.max))
}

fn bytes_per_second(value: f64) -> String {
    format!("{:.2} GiB/s", value / f64::from(1 << 30))
}

fn operations_per_second(value: f64) -> String {
    format!("{} op/s", short(value))
}

fn microseconds(value: f64) -> String {
    format!("{} us", short(value / 1e3))
}

/// The latencies of a row: x is how rare they are.
fn distribution(run: &Run, row: &RowResult) -> Plot {
    let rarity = |quantile: f64| 1.0 / (1.0 - quantile).max(1e-5);
    let lines = run.names().map(|name| {
        let points = QUANTILES.iter().filter(|quantile| **quantile < 1.0).filter_map(|quantile| {
            let values = row.values(name, |measure| measure.quantile(*quantile));
            let spread = Spread::of(&values.into_iter().flatten().collect::<Vec<_>>())?;
            Some((rarity(*quantile), spread.median, spread.median, spread.median))
        });
        Line { name: name.to_owned(), points: points.collect() }
    });
    let marks = [(0.5, "p50"), (0.9, "p90"), (0.99, "p99"), (0.999, "p99.9"), (0.9999, "p99.99")];
    Plot {
        title: format!("{}: latency by quantile", row.name),
        x_marks: marks.map(|(quantile, name)| (rarity(quantile), name.to_owned())).into(),
        y_name: microseconds,
        lines: lines.filter(|line| !line.points.is_empty()).collect(),
    }
}

fn add_row(html: &mut String, run: &Run, row: &RowResult) {
    let _ = writeln!(
        html,
        "<h3 id=\"{}\">{}</h3>\n<p>{}. To repeat: <code>cargo run --release -p fusewire-benches -- \
         {}--only '{}'</code></p>\n<table><tr><th>contender<th>figure<th>daemon CPU<th>p50<th>p99\
         <th>p99.9<th>fusewire by it</tr>",
        anchor(&row.name),
        escaped(&row.name),
        escaped(row.about.as_str()),
        scale(run),
        escaped(&row.name),
    );
    let ratios = ratios(row);
    for name in run.names() {
        if let Some(why) = row.failures.get(name) {
            let (name, why) = (escaped(name), escaped(why));
            let _ = writeln!(
                html,
                "<tr><td>{name}<td colspan=\"6\" class=\"failed\">no figure: {why}</tr>"
            );
            continue;
        }
        let Some(figure) = middle(row, name, |measure| Some(measure.figure(row.figure))) else {
            continue;
        };
        let cpu = cpu(row, name).map(|(value, unit)| format!("{} {unit}", short(value)));
        let latency = [0.5, 0.99, 0.999].map(|quantile| {
            let value = middle(row, name, |measure: &Measure| measure.quantile(quantile));
            format!("<td>{}", value.map(microseconds).unwrap_or_default())
        });
        let _ = write!(
            html,
            "<tr><td>{}<td>{}<td>{}{}<td class=\"text\">",
            escaped(name),
            shown(row, figure),
            cpu.unwrap_or_default(),
            latency.concat(),
        );
        for ratio in ratios.iter().filter(|ratio| ratio.other == name) {
            let class = class(ratio.spread.median);
            let ours = ratio.ours.trim_start_matches("fusewire-");
            let _ = write!(html, "<span class=\"{class}\">{ours} {}</span> ", ratio.spread);
        }
        html.push_str("</tr>\n");
    }
    html.push_str("</table>\n");
    let plot = distribution(run, row).svg();
    if !plot.is_empty() {
        let _ = writeln!(html, "<details><summary>latencies</summary>{plot}</details>");
    }
}

/// The option that chose sizes and lengths.
fn scale(run: &Run) -> &'static str {
    let has = |word: &str| run.arguments.iter().any(|argument| argument == word);
    match (has("--quick"), has("--full")) {
        (true, _) => "--quick ",
        (_, true) => "--full ",
        _ => "",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::table::tests::sample;

    #[test]
    fn the_page_holds_all_and_needs_nothing_else() {
        let mut run = sample();
        let mut deeper = run.rows[0].clone();
        deeper.name = "memory/read/4k-d8".to_owned();
        deeper.curve = Some(("reads against depth".to_owned(), 8));
        run.rows.push(deeper);
        let html = page(&run);
        for wanted in [
            "2.00 (1.00..3.00)",
            "no figure: wrong data at offset 8",
            "a &lt;library&gt;",
            "--quick --only &#39;",
            "memory: reads against depth",
            "latency by quantile",
            "id=\"memory-read-4k-d1\"",
        ] {
            let found = html.contains(wanted) || html.contains(&wanted.replace("&#39;", "'"));
            assert!(found, "{wanted} is missing");
        }
        for outside in ["http:", "https:", "src=", "@import", "<script", "url("] {
            assert!(!html.contains(outside), "{outside}");
        }
        assert!(!html.contains("NaN") && !html.contains("ended before"));
    }

    #[test]
    fn who_failed_is_in_no_curve() {
        let mut run = sample();
        run.rows.push(RowResult { name: "b".to_owned(), ..run.rows[0].clone() });
        let names: Vec<String> =
            curves(&run)[0].lines.iter().map(|line| line.name.clone()).collect();
        assert_eq!(names, ["fusewire-uring", "fusewire-device", "peer:best"]);
    }
}
