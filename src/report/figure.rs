//! Weight curves as a figure that stands alone: positives and negatives side by side, any number of weightings over one another.

use super::escape;
use crate::evaluate::SimilarityHistogram;
use std::fmt::Write;

const PANEL_WIDTH: f64 = 360.0;
const PANEL_HEIGHT: f64 = 250.0;
const LEFT: f64 = 62.0;
const GAP: f64 = 62.0;
const RIGHT: f64 = 18.0;
const TOP: f64 = 34.0;
const BELOW_AXIS: f64 = 50.0;
const LEGEND_LINE: f64 = 20.0;
const LEGEND_COLUMNS: usize = 3;
/// Height of the tallest bar of a histogram, as a share of the panel.
const HISTOGRAM_HEIGHT: f64 = 0.9;
/// Colours that stay apart for most kinds of colour blindness (Okabe and Ito 2008), and dashes for where colour is lost.
const STYLES: [(&str, &str); 8] = [
    ("#0072b2", ""),
    ("#d55e00", "7 3"),
    ("#009e73", "2 3"),
    ("#cc79a7", "10 3 2 3"),
    ("#000000", "5 2"),
    ("#e69f00", "12 4"),
    ("#56b4e9", "3 2"),
    ("#7f7f7f", "1 2"),
];

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

/// One of the two panels.
struct Panel {
    left: f64,
    /// Smallest and largest weight of its axis.
    low: f64,
    high: f64,
}

impl Panel {
    fn x(&self, s: f64) -> f64 {
        self.left + (s + 1.0) / 2.0 * PANEL_WIDTH
    }

    fn y(&self, weight: f64) -> f64 {
        TOP + PANEL_HEIGHT - (weight - self.low) / (self.high - self.low) * PANEL_HEIGHT
    }
}

impl Figure {
    /// The figure as SVG.
    pub fn svg(&self) -> String {
        let width = LEFT + 2.0 * PANEL_WIDTH + GAP + RIGHT;
        let legend_lines = self.curves.len().div_ceil(LEGEND_COLUMNS);
        let below = TOP + PANEL_HEIGHT + BELOW_AXIS;
        let height = below + LEGEND_LINE * legend_lines as f64 + 16.0 * self.notes.len() as f64 + 10.0;
        let mut svg = format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{width}\" height=\"{height}\" viewBox=\"0 0 {width} {height}\" \
             font-family=\"Helvetica, Arial, sans-serif\" font-size=\"13\"><rect width=\"{width}\" height=\"{height}\" fill=\"#fff\"/>"
        );
        self.panel(&mut svg, LEFT, "positive pairs", |curve| &curve.positive, |histogram| &histogram.positive);
        self.panel(&mut svg, LEFT + PANEL_WIDTH + GAP, "negative pairs", |curve| &curve.negative, |histogram| &histogram.negative);
        let column = (width - LEFT - RIGHT) / LEGEND_COLUMNS as f64;
        for (index, curve) in self.curves.iter().enumerate() {
            let x = LEFT + column * (index % LEGEND_COLUMNS) as f64;
            let y = below + LEGEND_LINE * (index / LEGEND_COLUMNS) as f64;
            let _ = write!(svg, "<path d=\"M{x:.1} {y:.1}h34\" {}/>", stroke(index));
            let _ = write!(svg, "<text x=\"{:.1}\" y=\"{:.1}\">{}</text>", x + 42.0, y + 4.5, escape(&curve.name));
        }
        for (index, note) in self.notes.iter().enumerate() {
            let y = below + LEGEND_LINE * legend_lines as f64 + 16.0 * index as f64 + 4.0;
            let _ = write!(svg, "<text x=\"{LEFT}\" y=\"{y:.1}\" font-size=\"11\" fill=\"#555\">{}</text>", escape(note));
        }
        svg + "</svg>\n"
    }

    fn panel(
        &self,
        svg: &mut String,
        left: f64,
        title: &str,
        points: impl Fn(&FigureCurve) -> &Vec<(f64, f64)>,
        bins: impl Fn(&SimilarityHistogram) -> &Vec<f64>,
    ) {
        let weights = || self.curves.iter().flat_map(|curve| points(curve).iter().map(|point| point.1));
        let (lowest, highest) = (weights().fold(0.0, f64::min), weights().fold(0.0, f64::max));
        let step = super::chart::tick_distance(if highest > lowest { highest - lowest } else { 1.0 });
        let panel = Panel { left, low: (lowest / step).floor() * step, high: ((highest * 1.03) / step).ceil().max(1.0) * step };
        if let Some(histogram) = &self.histogram {
            draw_bins(svg, &panel, bins(histogram));
        }
        draw_frame(svg, &panel, title, step);
        let middle = TOP + PANEL_HEIGHT / 2.0;
        if left <= LEFT {
            let label = escape(&self.weight_label);
            let _ = write!(
                svg,
                "<text x=\"16\" y=\"{middle}\" transform=\"rotate(-90 16 {middle})\" text-anchor=\"middle\">{label}</text>"
            );
        }
        for (index, curve) in self.curves.iter().enumerate() {
            svg.push_str("<path d=\"");
            for (point, &(s, weight)) in points(curve).iter().enumerate() {
                let _ = write!(svg, "{}{:.1} {:.1}", if point == 0 { 'M' } else { 'L' }, panel.x(s), panel.y(weight));
            }
            let _ = write!(svg, "\" {}/>", stroke(index));
        }
    }
}

fn stroke(index: usize) -> String {
    let (colour, dashes) = STYLES[index % STYLES.len()];
    let dashes = if dashes.is_empty() { String::new() } else { format!(" stroke-dasharray=\"{dashes}\"") };
    format!("fill=\"none\" stroke=\"{colour}\" stroke-width=\"2\" stroke-linejoin=\"round\"{dashes}")
}

fn draw_frame(svg: &mut String, panel: &Panel, title: &str, step: f64) {
    let (left, right, bottom) = (panel.left, panel.left + PANEL_WIDTH, TOP + PANEL_HEIGHT);
    for tick in 0..=((panel.high - panel.low) / step).round() as usize {
        let weight = panel.low + tick as f64 * step;
        let (y, text) = (panel.y(weight), super::chart::number(weight, step));
        let _ = write!(svg, "<path d=\"M{left} {y:.1}H{right}\" stroke=\"#ddd\"/>");
        let _ = write!(svg, "<text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"end\">{text}</text>", left - 8.0, y + 4.5);
    }
    for tick in -2..=2 {
        let (s, y) = (f64::from(tick) / 2.0, bottom + 18.0);
        let (x, text) = (panel.x(s), super::chart::number(s, 0.5));
        let _ = write!(
            svg,
            "<path d=\"M{x:.1} {bottom}v5\" stroke=\"#333\"/><text x=\"{x:.1}\" y=\"{y}\" text-anchor=\"middle\">{text}</text>"
        );
    }
    let middle = left + PANEL_WIDTH / 2.0;
    let _ = write!(svg, "<path d=\"M{left} {TOP}V{bottom}H{right}\" fill=\"none\" stroke=\"#333\"/>");
    let _ = write!(svg, "<text x=\"{middle}\" y=\"{:.1}\" text-anchor=\"middle\">similarity</text>", bottom + 36.0);
    let _ =
        write!(svg, "<text x=\"{middle}\" y=\"20\" text-anchor=\"middle\" font-size=\"14\" font-weight=\"bold\">{title}</text>");
}

fn draw_bins(svg: &mut String, panel: &Panel, bins: &[f64]) {
    let tallest = bins.iter().copied().fold(f64::MIN_POSITIVE, f64::max);
    let bottom = TOP + PANEL_HEIGHT;
    let _ = write!(svg, "<path fill=\"#e4e4e4\" d=\"M{:.1} {bottom}", panel.x(-1.0));
    for (bin, share) in bins.iter().enumerate() {
        let edge = |index: usize| panel.x(-1.0 + 2.0 * index as f64 / bins.len() as f64);
        let y = bottom - share / tallest * HISTOGRAM_HEIGHT * PANEL_HEIGHT;
        let _ = write!(svg, "L{:.1} {y:.1}L{:.1} {y:.1}", edge(bin), edge(bin + 1));
    }
    let _ = write!(svg, "L{:.1} {bottom}Z\"/>", panel.x(1.0));
}
