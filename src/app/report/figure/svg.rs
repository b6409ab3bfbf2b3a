//! A figure as SVG.

use super::{Anchor, Colour, MARK, Point, Shape};
use crate::app::report::escape;
use std::fmt::Write;

pub(super) fn render(shapes: &[Shape], width: f64, height: f64) -> String {
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{width}\" height=\"{height}\" viewBox=\"0 0 {width} {height}\" \
         font-family=\"Helvetica, Arial, sans-serif\"><!-- {MARK} --><rect width=\"{width}\" height=\"{height}\" fill=\"#fff\"/>"
    );
    shapes.iter().for_each(|shape| draw(&mut svg, shape));
    svg + "</svg>\n"
}

fn draw(svg: &mut String, shape: &Shape) {
    let _ = match shape {
        Shape::Area { points, colour } => write!(svg, "<path fill=\"{}\" d=\"{}Z\"/>", hex(*colour), path(points)),
        Shape::Line { points, colour, width, dashes } => {
            let (path, colour) = (path(points), hex(*colour));
            let dashes = dashes.iter().map(f64::to_string).collect::<Vec<_>>().join(" ");
            let dashes = if dashes.is_empty() { dashes } else { format!(" stroke-dasharray=\"{dashes}\"") };
            let stroke = format!("stroke=\"{colour}\" stroke-width=\"{width}\" stroke-linejoin=\"round\"{dashes}");
            write!(svg, "<path fill=\"none\" d=\"{path}\" {stroke}/>")
        }
        Shape::Text { at: (x, y), text, size, bold, anchor, colour } => {
            let anchored = match anchor {
                Anchor::Start => String::new(),
                Anchor::Middle => " text-anchor=\"middle\"".to_owned(),
                Anchor::End => " text-anchor=\"end\"".to_owned(),
                Anchor::Upwards => format!(" text-anchor=\"middle\" transform=\"rotate(-90 {x:.1} {y:.1})\""),
            };
            let weight = if *bold { " font-weight=\"bold\"" } else { "" };
            let (colour, text) = (hex(*colour), escape(text));
            write!(svg, "<text x=\"{x:.1}\" y=\"{y:.1}\" font-size=\"{size}\" fill=\"{colour}\"{weight}{anchored}>{text}</text>")
        }
    };
}

fn hex([red, green, blue]: Colour) -> String {
    format!("#{red:02x}{green:02x}{blue:02x}")
}

fn path(points: &[Point]) -> String {
    let mut path = String::new();
    for (index, (x, y)) in points.iter().enumerate() {
        let _ = write!(path, "{}{x:.1} {y:.1}", if index == 0 { 'M' } else { 'L' });
    }
    path
}
