//! The page of a study: a verdict for each fact, the table of variants, and how the verdicts were reached.

use super::results::{ClaimResult, FactResult, Results, VariantResult};
use super::runner::Outcome;
use super::statistics::{Direction, Spread, Verdict};
use crate::app::report::chart::{curves_sketch, scores_sketch};
use crate::app::report::page;
use crate::loss::ReferenceRow;
use crate::words::counted;
use maud::{Markup, html};
use std::fmt::Write;

const STYLE: &str = include_str!("page.css");
/// Similarities that a weight curve is drawn at.
const CURVE_POINTS: usize = 81;

/// The page as self-contained HTML: no scripts, nothing fetched.
pub fn render(results: &Results) -> String {
    let content = html! {
        header {
            h1 { (results.title) }
            p class="subtitle" { (subtitle(results)) }
        }
        @if !results.facts.is_empty() {
            section {
                h2 { "Facts" }
                div class="facts" {
                    @for shown in &results.facts { (fact(shown)) }
                }
            }
        }
        (variants(results))
        (failures(results))
        (reading(results))
        section class="tables" {
            div {
                h2 { "Shared settings" }
                div class="card" { (page::settings(results.base.iter())) }
                p class="small" { "All others have the defaults of xbm-fast train." }
            }
        }
    };
    page::document(&results.title, STYLE, &results.version, &content)
}

fn subtitle(results: &Results) -> String {
    let (finished, failed, total) = results.counts();
    let seeds: Vec<String> = results.seeds.iter().map(u64::to_string).collect();
    let (count, seeds) =
        (results.variants.len(), format!("{} {}", if seeds.len() == 1 { "seed" } else { "seeds" }, seeds.join(", ")));
    let open = total - finished - failed;
    let mut line = format!("{}, {seeds}: {finished} of {} finished", counted(count, "variant"), counted(total, "run"));
    if failed > 0 {
        let _ = write!(line, ", {failed} failed");
    }
    if open > 0 {
        let _ = write!(line, ", {open} still to come");
    }
    line
}

fn fact(fact: &FactResult) -> Markup {
    html! {
        div class="card fact" {
            h3 { (fact.name) " " (badge(fact.verdict)) }
            p { (fact.statement) }
            table {
                thead {
                    tr {
                        @for column in ["claim", "points (seeds)", "95 % interval", "sign-flip p", ""] {
                            th scope="col" { (column) }
                        }
                    }
                }
                tbody {
                    @for shown in &fact.claims { (claim(shown)) }
                }
            }
        }
    }
}

fn claim(claim: &ClaimResult) -> Markup {
    let relation = if claim.is == Direction::Better { "better than" } else { "no better than" };
    let mean = claim.spread.map_or("–".to_owned(), |spread| format!("{} ({})", points(spread.mean), spread.count));
    let interval = claim
        .spread
        .zip(claim.half_width)
        .map_or("–".to_owned(), |(spread, half)| format!("{} to {}", points(spread.mean - half), points(spread.mean + half)));
    let p = claim.sign_flip_p.map_or("–".to_owned(), |p| format!("{p:.3}"));
    html! {
        tr {
            th scope="row" { (claim.variant) " " (relation) " " (claim.than) }
            td { (mean) }
            td { (interval) }
            td { (p) }
            td { (badge(claim.verdict)) }
        }
    }
}

fn badge(verdict: Verdict) -> Markup {
    let words = verdict.words();
    html! { span class={ "verdict " (words.replace(' ', "-")) } { (words) } }
}

fn variants(results: &Results) -> Markup {
    let scores = || results.variants.iter().flat_map(scores_of);
    let (low, high) = (scores().fold(1.0, f64::min), scores().fold(0.0, f64::max));
    let axis = match scores().next() {
        Some(_) => format!("Dots: one seed each, on an axis from {:.1} % to {:.1} %.", 100.0 * low, 100.0 * high),
        None => "No run has finished.".to_owned(),
    };
    html! {
        section {
            h2 { "Variants" }
            @for remark in &results.remarks {
                p class="lead" { (remark) }
            }
            p class="lead" {
                (results.score) ": mean and standard deviation over seeds. Curves: weight of a positive pair (full) and of a negative \
                 pair (dashed) by similarity from −1 to 1."
            }
            div class="card scroll" {
                table class="variants" {
                    thead {
                        tr {
                            @for column in ["variant", "weights", "Recall@1", "seeds", "MAP@R", "seconds", "settings"] {
                                th scope="col" { (column) }
                            }
                        }
                    }
                    tbody {
                        @for shown in &results.variants { (variant(shown, (low, high))) }
                    }
                }
            }
            p class="small" { (axis) }
        }
    }
}

/// A row of the table; scores are drawn on an axis from the least to the largest of the study.
fn variant(variant: &VariantResult, (low, high): (f64, f64)) -> Markup {
    let (row, weighting) = (ReferenceRow::default(), &variant.weighting);
    let [positive, negative] = [true, false].map(|positive| row.curve(weighting, positive, CURVE_POINTS));
    let changes: Vec<String> = variant.changes.iter().map(|(name, value)| format!("{name} = {value}")).collect();
    html! {
        tr {
            th scope="row" { (variant.name) }
            td { (curves_sketch(&positive, &negative)) }
            td { b { (share(variant.recall_at_1)) } }
            td { (scores_sketch(&scores_of(variant).collect::<Vec<_>>(), low, high)) }
            td { (share(variant.map_at_r)) }
            td { (variant.seconds.map_or("–".to_owned(), |seconds| format!("{:.0}", seconds.mean))) }
            td class="settings" { (changes.join(", ")) }
        }
    }
}

fn scores_of(variant: &VariantResult) -> impl Iterator<Item = f64> {
    variant.runs.iter().filter_map(|run| if let Outcome::Finished(summary) = &run.outcome { summary.recall_at_1 } else { None })
}

fn failures(results: &Results) -> Markup {
    let failed: Vec<(&str, u64, &str)> = results
        .variants
        .iter()
        .flat_map(|variant| variant.runs.iter().map(move |run| (variant, run)))
        .filter_map(|(variant, run)| match &run.outcome {
            Outcome::Failed(error) => Some((variant.name.as_str(), run.seed, error.as_str())),
            _ => None,
        })
        .collect();
    html! {
        @if !failed.is_empty() {
            section class="failed" {
                h2 { "Failed runs" }
                ul {
                    @for (name, seed, error) in failed {
                        li { b { (name) ", seed " (seed) } ": " (error) }
                    }
                }
            }
        }
    }
}

/// How to read the verdicts, and what so few seeds can show.
fn reading(results: &Results) -> Markup {
    let seeds = results.seeds.len();
    let widths: Vec<f64> = results.facts.iter().flat_map(|fact| &fact.claims).filter_map(|claim| claim.half_width).collect();
    html! {
        section {
            h2 { "How the verdicts are reached" }
            p {
                "A claim compares two variants seed by seed, so that both see the same classes, batches and initial network. The interval \
                 is Student's, at 95 %, around the mean difference of Recall@1; claims are judged one by one, without a correction for \
                 their number. “Better” is confirmed when the whole interval is above 0, and not confirmed when all of it is below the \
                 smallest gain that matters (one point unless the study says otherwise); “no better” the other way round. Everything else \
                 is undecided: more seeds would tell. So is a claim of one seed, or of differences that are all equal, for they give no \
                 interval; one without a seed under which both variants have finished is not tested. A fact is confirmed when all its \
                 claims are, and not confirmed when one is not. The sign-flip p assumes nothing about the distribution, but with "
                (counted(seeds, "seed")) " it cannot fall below " (format_args!("{:.3}", 2.0 * 0.5f64.powi(seeds as i32))) "."
            }
            @if let Some(typical) = median(widths) {
                p {
                    "In half of the claims of this study a difference of less than " (format_args!("{:.1}", 100.0 * typical))
                    " points could not have been told from none."
                }
            }
        }
    }
}

fn median(mut values: Vec<f64>) -> Option<f64> {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied()
}

/// A mean in percent with its spread.
fn share(spread: Option<Spread>) -> String {
    let Some(Spread { count, mean, deviation }) = spread else { return "–".to_owned() };
    let mean = format!("{:.1}", 100.0 * mean);
    if count > 1 { format!("{mean} ± {:.1}", 100.0 * deviation) } else { mean }
}

/// A difference in points, with its sign.
fn points(difference: f64) -> String {
    let sign = if difference < 0.0 { "−" } else { "+" };
    format!("{sign}{:.1}", 100.0 * difference.abs())
}
