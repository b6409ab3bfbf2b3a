//! The page around the charts.

use super::chart::{LineChart, Series, percent, weight_chart};
use super::{Gallery, Neighbour, Note, Query, Report, Score, escape};
use crate::app::runlog::StepMetrics;
use std::fmt::Write;

/// Colours and shapes of every page.
pub const STYLE: &str = include_str!("page.css");

/// The report as one HTML page.
pub fn render(report: &Report) -> String {
    let title = escape(&report.title);
    let mut html = format!(
        "<!DOCTYPE html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\"><meta name=\"color-scheme\" content=\"light dark\">\
         <title>{title} - xbm-fast</title><style>{STYLE}</style></head><body><main>"
    );
    html += &header(report);
    html += &notes(&report.notes);
    let charts = charts(report);
    if !charts.is_empty() {
        let _ = write!(html, "<section><h2>Training</h2><div class=\"charts\">{charts}</div></section>");
    }
    report.galleries.iter().filter(|gallery| !gallery.queries.is_empty()).for_each(|shown| html += &gallery(shown));
    html += &tables(report);
    let _ = writeln!(html, "<footer>xbm-fast {}</footer></main></body></html>", escape(&report.version));
    html
}

fn header(report: &Report) -> String {
    let headline = report.headline.as_ref().map_or(String::new(), headline);
    let (title, subtitle) = (escape(&report.title), escape(&report.subtitle));
    format!("<header><h1>{title}</h1><p class=\"subtitle\">{subtitle}</p>{headline}</header>")
}

fn headline(Score { name, before, after }: &Score) -> String {
    let mut html = format!("<div class=\"headline\"><p class=\"name\">{}</p><p class=\"numbers\">", escape(name));
    if let Some(before) = before {
        let _ = write!(
            html,
            "<span class=\"before\">{}</span><span class=\"arrow\" role=\"img\" aria-label=\"to\">→</span>",
            percent(*before)
        );
    }
    let _ = write!(html, "<strong>{}</strong></p>{}</div>", percent(*after), meter(*before, *after));
    html
}

/// A bar from 0 to 100% with the score before training marked.
fn meter(before: Option<f64>, after: f64) -> String {
    let width = |share: f64| share.clamp(0.0, 1.0) * 100.0;
    let mark = before.map_or(String::new(), |before| format!("<i style=\"left:{:.2}%\"></i>", width(before)));
    format!("<div class=\"meter\" aria-hidden=\"true\"><b style=\"width:{:.2}%\"></b>{mark}</div>", width(after))
}

fn notes(notes: &[Note]) -> String {
    let mut html = String::new();
    for note in notes {
        let (kind, symbol, name, text) = match note {
            Note::Warning(text) => ("warning", "!", "Warning", text),
            Note::Information(text) => ("information", "i", "Note", text),
        };
        let _ = write!(html, "<p class=\"note {kind}\"><span class=\"symbol\" aria-hidden=\"true\">{symbol}</span>");
        let _ = write!(html, "<span><b>{name}.</b> {}</span></p>", escape(text));
    }
    html
}

fn series(name: &'static str, style: &'static str, steps: &[StepMetrics], value: impl Fn(&StepMetrics) -> Option<f64>) -> Series {
    Series { name, style, points: steps.iter().filter_map(|metrics| Some((metrics.step as f64, value(metrics)?))).collect() }
}

fn charts(report: &Report) -> String {
    let steps = &report.steps;
    let chart = |title, percent, markers, series| LineChart { title, x_label: "step", percent, markers, series }.render();
    let mut html = String::new();
    let recall = vec![
        series("Recall@1", "positive", steps, |metrics| metrics.recall_at_1),
        series("MAP@R", "memory dashed", steps, |metrics| metrics.map_at_r),
    ];
    html += &chart("Retrieval on unseen classes", true, true, recall);
    let losses = vec![
        series("batch", "batch", steps, |metrics| metrics.batch_loss),
        series("memory", "memory dashed", steps, |metrics| metrics.memory_loss),
    ];
    html += &chart("Loss per anchor", false, false, losses);
    if let Some(curves) = &report.weights {
        html += &weight_chart(curves);
    }
    let kept = vec![
        series("positive", "positive", steps, |metrics| metrics.kept_positives),
        series("negative", "negative dashed", steps, |metrics| metrics.kept_negatives),
    ];
    html += &chart("Pairs with a weight, per anchor", false, false, kept);
    html += &drift_chart(steps);
    html +=
        &chart("Images per second", false, false, vec![series("training", "batch", steps, |metrics| metrics.images_per_second)]);
    html +=
        &chart("Time waiting for images", true, false, vec![series("share of time", "batch", steps, |metrics| metrics.data_wait)]);
    html
}

/// How the drift grew with age when it was first measured, half-way, and at last.
fn drift_chart(steps: &[StepMetrics]) -> String {
    let measured: Vec<&StepMetrics> = steps.iter().filter(|metrics| !metrics.memory_drift.is_empty()).collect();
    let (Some(first), Some(last)) = (measured.first(), measured.last()) else { return String::new() };
    let line = |name, style, metrics: &StepMetrics| Series {
        name,
        style,
        points: metrics.memory_drift.iter().map(|(&age, &drift)| (f64::from(age), drift)).collect(),
    };
    let middle = measured[measured.len() / 2];
    let series = vec![
        line("when first measured", "negative dashed", first),
        line("half-way", "memory dashed", middle),
        line("at the end", "positive", last),
    ];
    LineChart { title: "Drift (1 − similarity) of a stored row", x_label: "age in steps", percent: false, markers: false, series }
        .render()
}

fn gallery(gallery: &Gallery) -> String {
    let mut html = format!("<section><h2>{}</h2><p class=\"lead\">{}</p>", escape(&gallery.title), escape(&gallery.description));
    let judged = gallery.queries.iter().flat_map(|query| &query.neighbours).any(|neighbour| neighbour.correct.is_some());
    html += "<p class=\"small key\">";
    if judged {
        html += "<span><span class=\"badge right\">✓</span> same class</span>\
                 <span><span class=\"badge wrong\">✗</span> another class</span>";
    }
    html += "<span>below each image: class and similarity</span></p><div class=\"queries\">";
    gallery.queries.iter().for_each(|shown| html += &query(shown));
    html + "</div></section>"
}

fn query(query: &Query) -> String {
    let (address, label) = (query.image.address(), escape(&query.label));
    let mut html = format!(
        "<div class=\"card query\"><div class=\"tile asked\"><img src=\"{address}\" alt=\"query of class {label}\" loading=\"lazy\">\
         <p class=\"label\" title=\"{label}\">{label}</p><p class=\"similarity\">query</p></div><ol>"
    );
    query.neighbours.iter().for_each(|shown| html += &neighbour(shown));
    html + "</ol></div>"
}

fn neighbour(neighbour: &Neighbour) -> String {
    let (kind, badge, spoken) = match neighbour.correct {
        Some(true) => ("right", "<span class=\"badge right\" aria-hidden=\"true\">✓</span>", "right: neighbour"),
        Some(false) => ("wrong", "<span class=\"badge wrong\" aria-hidden=\"true\">✗</span>", "wrong: neighbour"),
        None => ("found", "", "neighbour"),
    };
    let (address, label) = (neighbour.image.address(), escape(&neighbour.label));
    format!(
        "<li class=\"tile {kind}\">{badge}<img src=\"{address}\" alt=\"{spoken} of class {label}\" loading=\"lazy\">\
         <p class=\"label\" title=\"{label}\">{label}</p><p class=\"similarity\">{:.3}</p></li>",
        neighbour.similarity
    )
}

fn tables(report: &Report) -> String {
    let mut html = String::from("<section class=\"tables\">");
    if !report.scores.is_empty() {
        html += "<div><h2>Scores</h2><div class=\"card\"><table><thead><tr><th scope=\"col\">Score</th>\
                 <th scope=\"col\">before</th><th scope=\"col\">after</th></tr></thead><tbody>";
        for score in &report.scores {
            let before = score.before.map_or("–".to_owned(), percent_with_decimal);
            let (name, after) = (escape(&score.name), percent_with_decimal(score.after));
            let _ = write!(html, "<tr><th scope=\"row\">{name}</th><td>{before}</td><td><b>{after}</b></td></tr>");
        }
        html += "</tbody></table></div></div>";
    }
    if !report.settings.is_empty() {
        html += "<div><h2>Settings</h2><div class=\"card\"><table><tbody>";
        for (name, value) in &report.settings {
            let _ = write!(html, "<tr><th scope=\"row\">{}</th><td>{}</td></tr>", escape(name), escape(value));
        }
        html += "</tbody></table></div></div>";
    }
    html + "</section>"
}

/// Digits line up in a column only when each has the same number of decimals.
fn percent_with_decimal(share: f64) -> String {
    format!("{:.1}%", share * 100.0)
}
