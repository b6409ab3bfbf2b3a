//! The page of a study: a verdict for each fact, the table of variants, and how the verdicts were reached.

use super::results::{ClaimResult, FactResult, Results, VariantResult};
use super::runner::Outcome;
use super::sketch;
use super::statistics::{Direction, Spread, Verdict};
use crate::app::report::{STYLE, escape};
use crate::words::counted;
use std::fmt::Write;

const OWN_STYLE: &str = include_str!("page.css");

/// The page as self-contained HTML: no scripts, nothing fetched.
pub fn render(results: &Results) -> String {
    let title = escape(&results.title);
    let mut html = format!(
        "<!DOCTYPE html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\"><meta name=\"color-scheme\" content=\"light dark\">\
         <title>{title} - xbm-fast</title><style>{STYLE}{OWN_STYLE}</style></head><body><main>"
    );
    html += &header(results);
    if !results.facts.is_empty() {
        html += "<section><h2>Facts</h2><div class=\"facts\">";
        results.facts.iter().for_each(|shown| html += &fact(shown));
        html += "</div></section>";
    }
    html += &variants(results);
    html += &failures(results);
    html += &reading(results);
    html += &settings(results);
    let _ = writeln!(html, "<footer>xbm-fast {}</footer></main></body></html>", escape(&results.version));
    html
}

fn header(results: &Results) -> String {
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
    format!("<header><h1>{}</h1><p class=\"subtitle\">{}</p></header>", escape(&results.title), escape(&line))
}

fn fact(fact: &FactResult) -> String {
    let (name, statement) = (escape(&fact.name), escape(&fact.statement));
    let mut html = format!("<div class=\"card fact\"><h3>{name} {}</h3><p>{statement}</p><table>", badge(fact.verdict));
    html += "<thead><tr><th scope=\"col\">claim</th><th scope=\"col\">points (seeds)</th><th scope=\"col\">95 % interval</th>\
             <th scope=\"col\">sign-flip p</th><th scope=\"col\"></th></tr></thead><tbody>";
    fact.claims.iter().for_each(|shown| html += &claim(shown));
    html + "</tbody></table></div>"
}

fn claim(claim: &ClaimResult) -> String {
    let relation = if claim.is == Direction::Better { "better than" } else { "no better than" };
    let words = escape(&format!("{} {relation} {}", claim.variant, claim.than));
    let mean = claim.spread.map_or("–".to_owned(), |spread| format!("{} ({})", points(spread.mean), spread.count));
    let interval = claim
        .spread
        .zip(claim.half_width)
        .map_or("–".to_owned(), |(spread, half)| format!("{} to {}", points(spread.mean - half), points(spread.mean + half)));
    let p = claim.sign_flip_p.map_or("–".to_owned(), |p| format!("{p:.3}"));
    format!(
        "<tr><th scope=\"row\">{words}</th><td>{mean}</td><td>{interval}</td><td>{p}</td><td>{}</td></tr>",
        badge(claim.verdict)
    )
}

fn badge(verdict: Verdict) -> String {
    let words = verdict.words();
    format!("<span class=\"verdict {}\">{words}</span>", words.replace(' ', "-"))
}

fn variants(results: &Results) -> String {
    let scores = || results.variants.iter().flat_map(scores_of);
    let (low, high) = (scores().fold(1.0, f64::min), scores().fold(0.0, f64::max));
    let remarks: String = results.remarks.iter().map(|words| format!("<p class=\"lead\">{}</p>", escape(words))).collect();
    let mut html = format!(
        "<section><h2>Variants</h2>{remarks}<p class=\"lead\">{}: mean and standard deviation over seeds. Curves: \
         weight of a positive pair (full) and of a negative pair (dashed) by similarity from −1 to 1.</p>\
         <div class=\"card scroll\"><table class=\"variants\"><thead><tr><th scope=\"col\">variant</th><th scope=\"col\">weights</th>\
         <th scope=\"col\">Recall@1</th><th scope=\"col\">seeds</th><th scope=\"col\">MAP@R</th><th scope=\"col\">seconds</th>\
         <th scope=\"col\">settings</th></tr></thead><tbody>",
        escape(&results.score)
    );
    for variant in &results.variants {
        let changes: Vec<String> = variant.changes.iter().map(|(name, value)| format!("{name} = {value}")).collect();
        let _ = write!(html, "<tr><th scope=\"row\">{}</th>", escape(&variant.name));
        let _ = write!(html, "<td>{}</td>", sketch::curves(&variant.weighting));
        let _ = write!(html, "<td><b>{}</b></td>", share(variant.recall_at_1));
        let _ = write!(html, "<td>{}</td>", sketch::dots(&scores_of(variant).collect::<Vec<_>>(), low, high));
        let _ = write!(html, "<td>{}</td>", share(variant.map_at_r));
        let _ = write!(html, "<td>{}</td>", variant.seconds.map_or("–".to_owned(), |seconds| format!("{:.0}", seconds.mean)));
        let _ = write!(html, "<td class=\"settings\">{}</td></tr>", escape(&changes.join(", ")));
    }
    let axis = match scores().next() {
        Some(_) => format!("Dots: one seed each, on an axis from {:.1} % to {:.1} %.", 100.0 * low, 100.0 * high),
        None => "No run has finished.".to_owned(),
    };
    html + &format!("</tbody></table></div><p class=\"small\">{axis}</p></section>")
}

fn scores_of(variant: &VariantResult) -> impl Iterator<Item = f64> {
    variant
        .runs
        .iter()
        .filter_map(|run| if let Outcome::Finished(summary) = &run.outcome { Some(summary.recall_at_1) } else { None })
}

fn failures(results: &Results) -> String {
    let mut html = String::new();
    for variant in &results.variants {
        for run in &variant.runs {
            if let Outcome::Failed(error) = &run.outcome {
                let _ = write!(html, "<li><b>{}, seed {}</b>: {}</li>", escape(&variant.name), run.seed, escape(error));
            }
        }
    }
    if html.is_empty() { html } else { format!("<section class=\"failed\"><h2>Failed runs</h2><ul>{html}</ul></section>") }
}

/// How to read the verdicts, and what so few seeds can show.
fn reading(results: &Results) -> String {
    let seeds = results.seeds.len();
    let mut html = format!(
        "<section><h2>How the verdicts are reached</h2><p>A claim compares two variants seed by seed, so that both see the same classes, \
         batches and initial network. The interval is Student's, at 95 %, around the mean difference of Recall@1; claims are judged one by \
         one, without a correction for their number. “Better” is confirmed when the whole interval is above 0, and not confirmed when all \
         of it is below the smallest gain that matters (one point unless the study says otherwise); “no better” the other way round. \
         Everything else is undecided: more seeds would tell. So is a claim of one seed, or of differences that are all equal, for they \
         give no interval; one without a seed under which both variants have finished is not tested. A fact is confirmed when all its claims are, and not confirmed when one is \
         not. The sign-flip p assumes nothing about the distribution, but with {} it cannot fall below {:.3}.</p>",
        counted(seeds, "seed"),
        2.0 * 0.5f64.powi(seeds as i32)
    );
    let widths: Vec<f64> = results.facts.iter().flat_map(|fact| &fact.claims).filter_map(|claim| claim.half_width).collect();
    if let Some(typical) = median(widths) {
        let _ = write!(
            html,
            "<p>In half of the claims of this study a difference of less than {:.1} points could not have been told from none.</p>",
            100.0 * typical
        );
    }
    html + "</section>"
}

fn median(mut values: Vec<f64>) -> Option<f64> {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied()
}

fn settings(results: &Results) -> String {
    let mut html = String::from("<section class=\"tables\"><div><h2>Shared settings</h2><div class=\"card\"><table><tbody>");
    for (name, value) in &results.base {
        let _ = write!(html, "<tr><th scope=\"row\">{}</th><td>{}</td></tr>", escape(name), escape(value));
    }
    html + "</tbody></table></div><p class=\"small\">All others have the defaults of xbm-fast train.</p></div></section>"
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
