//! The page around the charts.

use super::chart::{LineChart, Series, percent, weight_chart};
use super::{Gallery, Neighbour, Note, Query, Report, Score};
use crate::app::runlog::StepMetrics;
use maud::{DOCTYPE, Markup, PreEscaped, html};

/// Colours and shapes of every page.
const STYLE: &str = include_str!("page.css");

/// A page of this program: its title, what it holds, CSS beside that of every page, and the version at its foot.
pub(crate) fn document(title: &str, style: &str, version: &str, content: &Markup) -> String {
    let page = html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width, initial-scale=1";
                meta name="color-scheme" content="light dark";
                title { (title) " - xbm-fast" }
                style { (PreEscaped(STYLE)) (PreEscaped(style)) }
            }
            body {
                main {
                    (content)
                    footer { "xbm-fast " (version) }
                }
            }
        }
    };
    page.into_string() + "\n"
}

/// The report as one HTML page.
pub fn render(report: &Report) -> String {
    let charts = charts(report);
    let content = html! {
        header {
            h1 { (report.title) }
            p class="subtitle" { (report.subtitle) }
            @if let Some(score) = &report.headline { (headline(score)) }
        }
        @for note in &report.notes { (remark(note)) }
        @if !charts.is_empty() {
            section {
                h2 { "Training" }
                div class="charts" {
                    @for chart in &charts { (chart) }
                }
            }
        }
        @for shown in report.galleries.iter().filter(|gallery| !gallery.queries.is_empty()) { (gallery(shown)) }
        (tables(report))
    };
    document(&report.title, "", &report.version, &content)
}

fn headline(Score { name, before, after }: &Score) -> Markup {
    html! {
        div class="headline" {
            p class="name" { (name) }
            p class="numbers" {
                @if let Some(before) = before {
                    span class="before" { (percent(*before)) }
                    span class="arrow" role="img" aria-label="to" { "→" }
                }
                strong { (percent(*after)) }
            }
            (meter(*before, *after))
        }
    }
}

/// A bar from 0 to 100% with the score before training marked.
fn meter(before: Option<f64>, after: f64) -> Markup {
    let width = |share: f64| format!("{:.2}%", share.clamp(0.0, 1.0) * 100.0);
    html! {
        div class="meter" aria-hidden="true" {
            b style={ "width:" (width(after)) } {}
            @if let Some(before) = before {
                i style={ "left:" (width(before)) } {}
            }
        }
    }
}

fn remark(note: &Note) -> Markup {
    let (kind, symbol, name, text) = match note {
        Note::Warning(text) => ("warning", "!", "Warning", text),
        Note::Information(text) => ("information", "i", "Note", text),
    };
    html! {
        p class={ "note " (kind) } {
            span class="symbol" aria-hidden="true" { (symbol) }
            span { b { (name) "." } " " (text) }
        }
    }
}

fn series(name: &'static str, style: &'static str, steps: &[StepMetrics], value: impl Fn(&StepMetrics) -> Option<f64>) -> Series {
    Series { name, style, points: steps.iter().filter_map(|metrics| Some((metrics.step as f64, value(metrics)?))).collect() }
}

/// The charts of which there is something to show.
fn charts(report: &Report) -> Vec<Markup> {
    let steps = &report.steps;
    let chart = |title, percent, markers, series| LineChart { title, x_label: "step", percent, markers, series }.render();
    let recall = vec![
        series("Recall@1", "positive", steps, |metrics| metrics.recall_at_1),
        series("MAP@R", "memory dashed", steps, |metrics| metrics.map_at_r),
    ];
    let losses = vec![
        series("batch", "batch", steps, |metrics| metrics.batch_loss),
        series("memory", "memory dashed", steps, |metrics| metrics.memory_loss),
    ];
    let kept = vec![
        series("positive", "positive", steps, |metrics| metrics.kept_positives),
        series("negative", "negative dashed", steps, |metrics| metrics.kept_negatives),
    ];
    let rate = vec![series("training", "batch", steps, |metrics| metrics.images_per_second)];
    let wait = vec![series("share of time", "batch", steps, |metrics| metrics.data_wait)];
    let all = [
        chart("Retrieval on unseen classes", true, true, recall),
        chart("Loss per anchor", false, false, losses),
        report.weights.as_ref().map(weight_chart),
        chart("Pairs with a weight, per anchor", false, false, kept),
        drift_chart(steps),
        chart("Images per second", false, false, rate),
        chart("Time waiting for images", true, false, wait),
    ];
    all.into_iter().flatten().collect()
}

/// How the drift grew with age when it was first measured, half-way, and at last.
fn drift_chart(steps: &[StepMetrics]) -> Option<Markup> {
    let measured: Vec<&StepMetrics> = steps.iter().filter(|metrics| !metrics.memory_drift.is_empty()).collect();
    let (first, last) = (measured.first()?, measured.last()?);
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

fn gallery(gallery: &Gallery) -> Markup {
    let judged = gallery.queries.iter().flat_map(|query| &query.neighbours).any(|neighbour| neighbour.correct.is_some());
    html! {
        section {
            h2 { (gallery.title) }
            p class="lead" { (gallery.description) }
            p class="small key" {
                @if judged {
                    span { span class="badge right" { "✓" } " same class" }
                    span { span class="badge wrong" { "✗" } " another class" }
                }
                span { "below each image: class and similarity" }
            }
            div class="queries" {
                @for shown in &gallery.queries { (query(shown)) }
            }
        }
    }
}

fn query(query: &Query) -> Markup {
    html! {
        div class="card query" {
            div class="tile asked" {
                img src=(query.image.address()) alt={ "query of class " (query.label) } loading="lazy";
                p class="label" title=(query.label) { (query.label) }
                p class="similarity" { "query" }
            }
            ol {
                @for shown in &query.neighbours { (neighbour(shown)) }
            }
        }
    }
}

fn neighbour(Neighbour { image, label, similarity, correct }: &Neighbour) -> Markup {
    let (kind, badge, spoken) = match correct {
        Some(true) => ("right", Some("✓"), "right: neighbour"),
        Some(false) => ("wrong", Some("✗"), "wrong: neighbour"),
        None => ("found", None, "neighbour"),
    };
    html! {
        li class={ "tile " (kind) } {
            @if let Some(badge) = badge {
                span class={ "badge " (kind) } aria-hidden="true" { (badge) }
            }
            img src=(image.address()) alt={ (spoken) " of class " (label) } loading="lazy";
            p class="label" title=(label) { (label) }
            p class="similarity" { (format_args!("{similarity:.3}")) }
        }
    }
}

fn tables(report: &Report) -> Markup {
    html! {
        section class="tables" {
            @if !report.scores.is_empty() {
                div {
                    h2 { "Scores" }
                    div class="card" {
                        table {
                            thead {
                                tr {
                                    th scope="col" { "Score" }
                                    th scope="col" { "before" }
                                    th scope="col" { "after" }
                                }
                            }
                            tbody {
                                @for Score { name, before, after } in &report.scores {
                                    tr {
                                        th scope="row" { (name) }
                                        td { (before.map_or("–".to_owned(), percent_with_decimal)) }
                                        td { b { (percent_with_decimal(*after)) } }
                                    }
                                }
                            }
                        }
                    }
                }
            }
            @if !report.settings.is_empty() {
                div {
                    h2 { "Settings" }
                    div class="card" { (settings(report.settings.iter().map(|(name, value)| (name, value)))) }
                }
            }
        }
    }
}

/// A table of names and values.
pub(crate) fn settings<'a>(settings: impl Iterator<Item = (&'a String, &'a String)>) -> Markup {
    html! {
        table {
            tbody {
                @for (name, value) in settings {
                    tr { th scope="row" { (name) } td { (value) } }
                }
            }
        }
    }
}

/// Digits line up in a column only when each has the same number of decimals.
fn percent_with_decimal(share: f64) -> String {
    format!("{:.1}%", share * 100.0)
}
