//! Signed distances to the outlines that parts are made of: negative inside, in product units (a product spans about -1 to 1 in
//! both directions, y down).

/// A position `(x, y)`.
pub(super) type Point = [f32; 2];

/// An outline.
#[derive(Clone, Debug)]
pub(super) enum Shape {
    Ellipse {
        centre: Point,
        radii: Point,
    },
    /// A closed polygon whose corners are rounded outwards.
    Polygon {
        points: Vec<Point>,
        rounding: f32,
    },
    /// A line of some width through points.
    Stroke {
        points: Vec<Point>,
        radius: f32,
    },
}

impl Shape {
    /// Distance from `point` to the outline. That of an ellipse is an estimate, exact to first order at the outline.
    pub(super) fn distance(&self, point: Point) -> f32 {
        match self {
            Self::Ellipse { centre, radii } => {
                let (x, y) = ((point[0] - centre[0]) / radii[0], (point[1] - centre[1]) / radii[1]);
                let level = x.hypot(y);
                let slope = (x / radii[0]).hypot(y / radii[1]).max(1e-6);
                if level < 1e-3 { -radii[0].min(radii[1]) } else { level * (level - 1.0) / slope }
            }
            Self::Polygon { points, rounding } => polygon_distance(points, point) - rounding,
            Self::Stroke { points, radius } => {
                let squared = points.windows(2).map(|edge| segment_distance_squared(edge[0], edge[1], point));
                squared.fold(f32::INFINITY, f32::min).sqrt() - radius
            }
        }
    }

    /// The corners `(low, high)` of a box around the shape.
    pub(super) fn bounds(&self) -> (Point, Point) {
        let around = |points: &[Point], margin: f32| {
            let fold = |axis: usize, start, pick: fn(f32, f32) -> f32| points.iter().map(|point| point[axis]).fold(start, pick);
            let low = [0, 1].map(|axis| fold(axis, f32::INFINITY, f32::min) - margin);
            (low, [0, 1].map(|axis| fold(axis, f32::NEG_INFINITY, f32::max) + margin))
        };
        match self {
            Self::Ellipse { centre: [x, y], radii: [w, h] } => ([x - w, y - h], [x + w, y + h]),
            Self::Polygon { points, rounding } => around(points, *rounding),
            Self::Stroke { points, radius } => around(points, *radius),
        }
    }
}

fn segment_distance_squared(from: Point, to: Point, point: Point) -> f32 {
    let (dx, dy) = (to[0] - from[0], to[1] - from[1]);
    let (px, py) = (point[0] - from[0], point[1] - from[1]);
    let along = ((px * dx + py * dy) / (dx * dx + dy * dy).max(1e-12)).clamp(0.0, 1.0);
    let (x, y) = (px - dx * along, py - dy * along);
    x * x + y * y
}

fn polygon_distance(points: &[Point], point: Point) -> f32 {
    let mut squared = f32::INFINITY;
    let mut inside = false;
    let mut from = points[points.len() - 1];
    for &to in points {
        squared = squared.min(segment_distance_squared(from, to, point));
        let crosses = (from[1] > point[1]) != (to[1] > point[1]);
        if crosses && point[0] < from[0] + (point[1] - from[1]) / (to[1] - from[1]) * (to[0] - from[0]) {
            inside = !inside;
        }
        from = to;
    }
    if inside { -squared.sqrt() } else { squared.sqrt() }
}

/// Points along an arc of an ellipse, from one angle to another in turns (0 is to the right, a quarter is down).
pub(super) fn arc(centre: Point, radii: Point, turns: (f32, f32)) -> Vec<Point> {
    const SEGMENTS: usize = 10;
    let at = |step: usize| {
        let angle = std::f32::consts::TAU * (turns.0 + (turns.1 - turns.0) * step as f32 / SEGMENTS as f32);
        [centre[0] + radii[0] * angle.cos(), centre[1] + radii[1] * angle.sin()]
    };
    (0..=SEGMENTS).map(at).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn distances_are_those_of_the_geometry() {
        let disc = Shape::Ellipse { centre: [1.0, 0.0], radii: [0.5, 0.5] };
        let square = Shape::Polygon { points: vec![[-1.0, -1.0], [1.0, -1.0], [1.0, 1.0], [-1.0, 1.0]], rounding: 0.0 };
        let line = Shape::Stroke { points: vec![[0.0, 0.0], [2.0, 0.0]], radius: 0.1 };
        for (shape, point, expected) in [
            (&disc, [2.0, 0.0], 0.5),
            (&disc, [1.25, 0.0], -0.25),
            (&square, [0.0, 0.25], -0.75),
            (&square, [2.0, 0.0], 1.0),
            (&square, [4.0, 5.0], 5.0),
            (&line, [1.0, 0.3], 0.2),
            (&line, [2.5, 0.0], 0.4),
        ] {
            let found = shape.distance(point);
            assert!((found - expected).abs() < 1e-5, "{shape:?} at {point:?}: found {found}, expected {expected}");
        }
    }
}
