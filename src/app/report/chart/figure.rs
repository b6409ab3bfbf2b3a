//! Weight curves as an SVG file that stands alone: positives and negatives side by side, any number of weightings over one another.

use super::plot::{Plot, Point, Scale, path};
use super::ticks::{labelled, tick_distance, ticks_around, ticks_within};
use crate::evaluate::SimilarityHistogram;
use crate::files::output;
use maud::{Markup, PreEscaped, html};
use std::path::Path;

/// Stands near the beginning of every figure, so that it is known for one.
const MARK: &str = "xbm-fast weights";
/// Bytes that the mark is within.
const MARK_WITHIN: u64 = 512;
const PANEL_WIDTH: f64 = 360.0;
const PANEL_HEIGHT: f64 = 250.0;
const LEFT: f64 = 62.0;
const GAP: f64 = 62.0;
const RIGHT: f64 = 18.0;
const TOP: f64 = 34.0;
const BELOW_AXIS: f64 = 50.0;
const LEGEND_LINE: f64 = 20.0;
const LEGEND_COLUMNS: usize = 3;
const NOTE_LINE: f64 = 16.0;
const WIDTH: f64 = LEFT + 2.0 * PANEL_WIDTH + GAP + RIGHT;
/// Room above the largest weight, as a share of it.
const HEADROOM: f64 = 0.03;
/// Colours that stay apart for most kinds of colour blindness (Okabe and Ito 2008), and dashes for where colour is lost.
const STYLES: [(&str, Option<&str>); 8] = [
    ("#0072b2", None),
    ("#d55e00", Some("7 3")),
    ("#009e73", Some("2 3")),
    ("#cc79a7", Some("10 3 2 3")),
    ("#000000", Some("5 2")),
    ("#e69f00", Some("12 4")),
    ("#56b4e9", Some("3 2")),
    ("#7f7f7f", Some("1 2")),
];
const BLACK: &str = "#000000";
const AXIS: &str = "#333333";
const GRID: &str = "#dddddd";
const NOTE: &str = "#555555";
const BARS: &str = "#e4e4e4";

/// One weighting, sampled.
#[derive(Clone, Debug)]
pub struct FigureCurve {
    /// As it is called.
    pub name: String,
    /// `(similarity, weight)` of positives, similarities ascending.
    pub positive: Vec<(f64, f64)>,
    /// `(similarity, weight)` of negatives.
    pub negative: Vec<(f64, f64)>,
}

/// What is drawn.
#[derive(Clone, Debug, Default)]
pub struct Figure {
    /// The weightings.
    pub curves: Vec<FigureCurve>,
    /// What is written along the weights.
    pub weight_label: String,
    /// Similarities of pairs, drawn below the curves.
    pub histogram: Option<SimilarityHistogram>,
    /// Sentences below the legend.
    pub notes: Vec<String>,
}

impl Figure {
    /// Whether a file is a figure of this program.
    pub fn is_at(path: &Path) -> bool {
        let start = output::head(path, MARK_WITHIN);
        start.windows(MARK.len()).any(|bytes| bytes == MARK.as_bytes())
    }

    /// The figure as SVG.
    pub fn svg(&self) -> String {
        let (width, height) = (WIDTH, self.height());
        let histogram = self.histogram.as_ref();
        let positive = self.panel(LEFT, |curve| &curve.positive, histogram.map(|histogram| &histogram.positive));
        let negative =
            self.panel(LEFT + PANEL_WIDTH + GAP, |curve| &curve.negative, histogram.map(|histogram| &histogram.negative));
        let svg = html! {
            svg xmlns="http://www.w3.org/2000/svg" width=(width) height=(height) viewBox={ "0 0 " (width) " " (height) }
                font-family="Helvetica, Arial, sans-serif" {
                (PreEscaped(format!("<!-- {MARK} -->")))
                rect width=(width) height=(height) fill="#fff" {}
                (positive.draw("positive pairs"))
                (text((16.0, TOP + PANEL_HEIGHT / 2.0), Anchor::Upwards, &self.weight_label))
                (negative.draw("negative pairs"))
                @for (index, curve) in self.curves.iter().enumerate() {
                    @let (x, y) = legend_place(index);
                    (line(index, &path([(x, y), (x + 34.0, y)])))
                    (text((x + 42.0, y + 4.5), Anchor::Start, &curve.name))
                }
                @for (index, note) in self.notes.iter().enumerate() {
                    @let at = (LEFT, self.below_legend() + NOTE_LINE * index as f64 + 4.0);
                    (lettering(at, Anchor::Start, note, Letters { size: 11.0, weight: None, colour: NOTE }))
                }
            }
        };
        svg.into_string() + "\n"
    }

    fn below_legend(&self) -> f64 {
        TOP + PANEL_HEIGHT + BELOW_AXIS + LEGEND_LINE * self.curves.len().div_ceil(LEGEND_COLUMNS) as f64
    }

    fn height(&self) -> f64 {
        self.below_legend() + NOTE_LINE * self.notes.len() as f64 + 10.0
    }

    fn panel<'a>(&'a self, left: f64, points: impl Fn(&FigureCurve) -> &Vec<Point>, bins: Option<&'a Vec<f64>>) -> Panel<'a> {
        let curves: Vec<&[Point]> = self.curves.iter().map(|curve| points(curve).as_slice()).collect();
        let weights = || curves.iter().copied().flatten().map(|point| point.1);
        let (lowest, highest) = (weights().fold(0.0, f64::min), weights().fold(0.0, f64::max));
        let distance = tick_distance(if highest > lowest { highest - lowest } else { 1.0 });
        let y_ticks = ticks_around(lowest, highest * (1.0 + HEADROOM), distance);
        let plot = Plot {
            x: Scale { values: (-1.0, 1.0), pixels: (left, left + PANEL_WIDTH) },
            y: Scale { values: (y_ticks[0], y_ticks[y_ticks.len() - 1]), pixels: (TOP + PANEL_HEIGHT, TOP) },
        };
        Panel { plot, y_ticks, curves, bins }
    }
}

/// One of the two panels.
struct Panel<'a> {
    plot: Plot,
    y_ticks: Vec<f64>,
    curves: Vec<&'a [Point]>,
    bins: Option<&'a Vec<f64>>,
}

impl Panel<'_> {
    fn draw(&self, title: &str) -> Markup {
        let ((left, right), (bottom, top)) = (self.plot.x.pixels, self.plot.y.pixels);
        let middle = (left + right) / 2.0;
        let tallest = |bins: &[f64]| bins.iter().copied().fold(f64::MIN_POSITIVE, f64::max);
        html! {
            @if let Some(bins) = self.bins {
                path fill=(BARS) d=(self.plot.histogram(bins, tallest(bins))) {}
            }
            @for (tick, label) in labelled(&self.y_ticks) {
                @let y = self.plot.y.at(tick);
                (thin(GRID, &path([(left, y), (right, y)])))
                (text((left - 8.0, y + 4.5), Anchor::End, &label))
            }
            @for (tick, label) in labelled(&ticks_within(-1.0, 1.0)) {
                @let x = self.plot.x.at(tick);
                (thin(AXIS, &path([(x, bottom), (x, bottom + 5.0)])))
                (text((x, bottom + 18.0), Anchor::Middle, &label))
            }
            (thin(AXIS, &path([(left, top), (left, bottom), (right, bottom)])))
            (text((middle, bottom + 36.0), Anchor::Middle, "similarity"))
            (lettering((middle, 20.0), Anchor::Middle, title, Letters { size: 14.0, weight: Some("bold"), colour: BLACK }))
            @for (index, points) in self.curves.iter().enumerate() {
                (line(index, &self.plot.path(points)))
            }
        }
    }
}

/// Where the line of a weighting begins in the legend.
fn legend_place(index: usize) -> Point {
    let column = (WIDTH - LEFT - RIGHT) / LEGEND_COLUMNS as f64;
    let (row, place) = (index / LEGEND_COLUMNS, index % LEGEND_COLUMNS);
    (LEFT + column * place as f64, TOP + PANEL_HEIGHT + BELOW_AXIS + LEGEND_LINE * row as f64)
}

/// The line of a weighting, by its place among them.
fn line(index: usize, path: &str) -> Markup {
    let (colour, dashes) = STYLES[index % STYLES.len()];
    html! { path fill="none" d=(path) stroke=(colour) stroke-width="2" stroke-linejoin="round" stroke-dasharray=[dashes] {} }
}

fn thin(colour: &str, path: &str) -> Markup {
    html! { path fill="none" d=(path) stroke=(colour) stroke-width="1" stroke-linejoin="round" {} }
}

/// Where a text stands in relation to its point.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Anchor {
    Start,
    Middle,
    End,
    /// Middle, read from below to above.
    Upwards,
}

/// How a text looks.
struct Letters {
    size: f64,
    weight: Option<&'static str>,
    colour: &'static str,
}

fn text(at: Point, anchor: Anchor, text: &str) -> Markup {
    lettering(at, anchor, text, Letters { size: 13.0, weight: None, colour: BLACK })
}

fn lettering((x, y): Point, anchor: Anchor, text: &str, letters: Letters) -> Markup {
    let (place, turned) = match anchor {
        Anchor::Start => (None, None),
        Anchor::Middle => (Some("middle"), None),
        Anchor::End => (Some("end"), None),
        Anchor::Upwards => (Some("middle"), Some(format!("rotate(-90 {x:.1} {y:.1})"))),
    };
    html! {
        text x=(format_args!("{x:.1}")) y=(format_args!("{y:.1}")) font-size=(letters.size) fill=(letters.colour)
            font-weight=[letters.weight] text-anchor=[place] transform=[turned] { (text) }
    }
}
