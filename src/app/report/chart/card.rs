//! A chart as a card of a page: title, picture, legend, a note.

use super::plot::{Plot, Scale};
use super::ticks::{labelled, ticks_within};
use maud::{Markup, html};

const WIDTH: f64 = 460.0;
const HEIGHT: f64 = 270.0;
const LEFT: f64 = 50.0;
const RIGHT: f64 = 14.0;
const BOTTOM: f64 = 40.0;
/// Room above the plot.
pub const TOP: f64 = 14.0;

/// The plot of a card.
pub fn plot(x: (f64, f64), y: (f64, f64)) -> Plot {
    Plot { x: Scale { values: x, pixels: (LEFT, WIDTH - RIGHT) }, y: Scale { values: y, pixels: (HEIGHT - BOTTOM, TOP) } }
}

/// What a card holds.
pub struct Card<'a> {
    pub title: &'a str,
    /// The chart in words, for those who do not see it.
    pub description: &'a str,
    pub picture: Markup,
    /// Names and styles, which are CSS classes of colour and dashes; one that begins with `area` is filled.
    pub legend: &'a [(&'a str, &'a str)],
    pub note: &'a str,
}

impl Card<'_> {
    pub fn render(&self) -> Markup {
        html! {
            figure class="card" {
                figcaption { (self.title) }
                svg viewBox={ "0 0 " (WIDTH) " " (HEIGHT) } role="img" {
                    title { (self.title) }
                    desc { (self.description) }
                    (self.picture)
                }
                ul class="legend" {
                    @for (name, style) in self.legend {
                        li {
                            svg viewBox="0 0 26 12" aria-hidden="true" {
                                @if style.starts_with("area") {
                                    rect class=(style) x="1" y="1" width="24" height="10" {}
                                } @else {
                                    path class={ "line " (style) } d="M1 6H25" {}
                                }
                            }
                            (name)
                        }
                    }
                }
                @if !self.note.is_empty() {
                    p class="small" { (self.note) }
                }
            }
        }
    }
}

/// The grid with `y_ticks` and what is written beside each, and the ticks of the other axis with its name.
pub fn axes(plot: &Plot, y_ticks: impl Iterator<Item = (f64, String)>, x_label: &str) -> Markup {
    let x_ticks = ticks_within(plot.x.values.0, plot.x.values.1);
    html! {
        @for (tick, text) in y_ticks {
            @let y = plot.y.at(tick);
            path class="grid" d=(format_args!("M{LEFT} {y:.1}H{:.1}", WIDTH - RIGHT)) {}
            text x=(format_args!("{:.1}", LEFT - 7.0)) y=(format_args!("{:.1}", y + 4.0)) text-anchor="end" { (text) }
        }
        @for (tick, text) in labelled(&x_ticks) {
            @let (x, y) = (plot.x.at(tick), HEIGHT - BOTTOM + 18.0);
            text x=(format_args!("{x:.1}")) y=(format_args!("{y:.1}")) text-anchor="middle" { (text) }
        }
        text class="axis" x=((LEFT + WIDTH - RIGHT) / 2.0) y=(HEIGHT - 5.0) text-anchor="middle" { (x_label) }
    }
}

/// A line in a style.
pub fn line(style: &str, path: &str) -> Markup {
    html! { path class={ "line " (style) } d=(path) {} }
}
