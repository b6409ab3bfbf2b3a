//! Weight curves as a figure that stands alone: positives and negatives side by side, any number of weightings over one another. It is
//! laid out once, as shapes, and written as SVG or as PNG.

mod letters;
mod png;
mod svg;

use crate::evaluate::SimilarityHistogram;
use crate::files::output;
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
/// Height of the tallest bar of a histogram, as a share of the panel.
const HISTOGRAM_HEIGHT: f64 = 0.9;
/// Colours that stay apart for most kinds of colour blindness (Okabe and Ito 2008), and dashes for where colour is lost.
const STYLES: [(Colour, &[f64]); 8] = [
    ([0x00, 0x72, 0xb2], &[]),
    ([0xd5, 0x5e, 0x00], &[7.0, 3.0]),
    ([0x00, 0x9e, 0x73], &[2.0, 3.0]),
    ([0xcc, 0x79, 0xa7], &[10.0, 3.0, 2.0, 3.0]),
    ([0x00, 0x00, 0x00], &[5.0, 2.0]),
    ([0xe6, 0x9f, 0x00], &[12.0, 4.0]),
    ([0x56, 0xb4, 0xe9], &[3.0, 2.0]),
    ([0x7f, 0x7f, 0x7f], &[1.0, 2.0]),
];
const BLACK: Colour = [0, 0, 0];
const AXIS: Colour = [0x33, 0x33, 0x33];
const GRID: Colour = [0xdd, 0xdd, 0xdd];
const NOTE: Colour = [0x55, 0x55, 0x55];
const BARS: Colour = [0xe4, 0xe4, 0xe4];

type Colour = [u8; 3];
type Point = (f64, f64);

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

/// Where a text stands in relation to its point.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Anchor {
    Start,
    Middle,
    End,
    /// Middle, read from below to above.
    Upwards,
}

/// What a figure is made of.
#[derive(Clone, Debug)]
enum Shape {
    Line { points: Vec<Point>, colour: Colour, width: f64, dashes: &'static [f64] },
    Area { points: Vec<Point>, colour: Colour },
    Text { at: Point, text: String, size: f64, bold: bool, anchor: Anchor, colour: Colour },
}

fn line(points: Vec<Point>, colour: Colour) -> Shape {
    Shape::Line { points, colour, width: 1.0, dashes: &[] }
}

fn curve(points: Vec<Point>, index: usize) -> Shape {
    let (colour, dashes) = STYLES[index % STYLES.len()];
    Shape::Line { points, colour, width: 2.0, dashes }
}

fn text(at: Point, text: impl Into<String>, anchor: Anchor) -> Shape {
    Shape::Text { at, text: text.into(), size: 13.0, bold: false, anchor, colour: BLACK }
}

/// One of the two panels.
struct Panel {
    left: f64,
    /// Smallest and largest weight of its axis.
    low: f64,
    high: f64,
    /// Weight from one line of the grid to the next.
    step: f64,
}

impl Figure {
    /// Whether a file is a figure of this program.
    pub fn is_at(path: &Path) -> bool {
        let start = output::head(path, MARK_WITHIN);
        start.windows(MARK.len()).any(|bytes| bytes == MARK.as_bytes())
    }

    /// The figure as SVG.
    pub fn svg(&self) -> String {
        svg::render(&self.shapes(), WIDTH, self.height())
    }

    /// The figure as PNG, `scale` pixels to a unit of the SVG.
    pub fn png(&self, scale: f64) -> Vec<u8> {
        png::render(&self.shapes(), WIDTH, self.height(), scale)
    }

    fn legend_lines(&self) -> usize {
        self.curves.len().div_ceil(LEGEND_COLUMNS)
    }

    fn below_legend(&self) -> f64 {
        TOP + PANEL_HEIGHT + BELOW_AXIS + LEGEND_LINE * self.legend_lines() as f64
    }

    fn height(&self) -> f64 {
        self.below_legend() + NOTE_LINE * self.notes.len() as f64 + 10.0
    }

    fn shapes(&self) -> Vec<Shape> {
        let mut shapes = Vec::new();
        self.panel(&mut shapes, LEFT, "positive pairs", |curve| &curve.positive, |histogram| &histogram.positive);
        let second = LEFT + PANEL_WIDTH + GAP;
        self.panel(&mut shapes, second, "negative pairs", |curve| &curve.negative, |histogram| &histogram.negative);
        let column = (WIDTH - LEFT - RIGHT) / LEGEND_COLUMNS as f64;
        for (index, drawn) in self.curves.iter().enumerate() {
            let x = LEFT + column * (index % LEGEND_COLUMNS) as f64;
            let y = TOP + PANEL_HEIGHT + BELOW_AXIS + LEGEND_LINE * (index / LEGEND_COLUMNS) as f64;
            shapes.push(curve(vec![(x, y), (x + 34.0, y)], index));
            shapes.push(text((x + 42.0, y + 4.5), &drawn.name, Anchor::Start));
        }
        for (index, note) in self.notes.iter().enumerate() {
            let at = (LEFT, self.below_legend() + NOTE_LINE * index as f64 + 4.0);
            shapes.push(Shape::Text { at, text: note.clone(), size: 11.0, bold: false, anchor: Anchor::Start, colour: NOTE });
        }
        shapes
    }

    fn panel(
        &self,
        shapes: &mut Vec<Shape>,
        left: f64,
        title: &str,
        points: impl Fn(&FigureCurve) -> &Vec<Point>,
        bins: impl Fn(&SimilarityHistogram) -> &Vec<f64>,
    ) {
        let weights = || self.curves.iter().flat_map(|curve| points(curve).iter().map(|point| point.1));
        let (lowest, highest) = (weights().fold(0.0, f64::min), weights().fold(0.0, f64::max));
        let step = super::chart::tick_distance(if highest > lowest { highest - lowest } else { 1.0 });
        let (low, high) = ((lowest / step).floor() * step, ((highest * 1.03) / step).ceil().max(1.0) * step);
        let panel = Panel { left, low, high, step };
        if let Some(histogram) = &self.histogram {
            shapes.push(panel.bars(bins(histogram)));
        }
        panel.frame(shapes, title);
        if left <= LEFT {
            shapes.push(text((16.0, TOP + PANEL_HEIGHT / 2.0), &self.weight_label, Anchor::Upwards));
        }
        for (index, drawn) in self.curves.iter().enumerate() {
            shapes.push(curve(points(drawn).iter().map(|&(s, weight)| (panel.x(s), panel.y(weight))).collect(), index));
        }
    }
}

impl Panel {
    fn x(&self, s: f64) -> f64 {
        self.left + (s + 1.0) / 2.0 * PANEL_WIDTH
    }

    fn y(&self, weight: f64) -> f64 {
        TOP + PANEL_HEIGHT - (weight - self.low) / (self.high - self.low) * PANEL_HEIGHT
    }

    fn frame(&self, shapes: &mut Vec<Shape>, title: &str) {
        let (left, right, bottom) = (self.left, self.left + PANEL_WIDTH, TOP + PANEL_HEIGHT);
        for tick in 0..=((self.high - self.low) / self.step).round() as usize {
            let weight = self.low + tick as f64 * self.step;
            let y = self.y(weight);
            shapes.push(line(vec![(left, y), (right, y)], GRID));
            shapes.push(text((left - 8.0, y + 4.5), super::chart::number(weight, self.step), Anchor::End));
        }
        for tick in -2..=2 {
            let s = f64::from(tick) / 2.0;
            let x = self.x(s);
            shapes.push(line(vec![(x, bottom), (x, bottom + 5.0)], AXIS));
            shapes.push(text((x, bottom + 18.0), super::chart::number(s, 0.5), Anchor::Middle));
        }
        let middle = left + PANEL_WIDTH / 2.0;
        shapes.push(line(vec![(left, TOP), (left, bottom), (right, bottom)], AXIS));
        shapes.push(text((middle, bottom + 36.0), "similarity", Anchor::Middle));
        let (at, text) = ((middle, 20.0), title.to_owned());
        shapes.push(Shape::Text { at, text, size: 14.0, bold: true, anchor: Anchor::Middle, colour: BLACK });
    }

    fn bars(&self, bins: &[f64]) -> Shape {
        let tallest = bins.iter().copied().fold(f64::MIN_POSITIVE, f64::max);
        let bottom = TOP + PANEL_HEIGHT;
        let edge = |index: usize| self.x(-1.0 + 2.0 * index as f64 / bins.len() as f64);
        let tops = bins.iter().enumerate().flat_map(|(bin, share)| {
            let y = bottom - share / tallest * HISTOGRAM_HEIGHT * PANEL_HEIGHT;
            [(edge(bin), y), (edge(bin + 1), y)]
        });
        let points = std::iter::once((self.x(-1.0), bottom)).chain(tops).chain([(self.x(1.0), bottom)]).collect();
        Shape::Area { points, colour: BARS }
    }
}
