//! Sums and products rounded in a direction, from double precision and its error.

#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Direction {
    Down,
    Up,
    Zero,
}

/// A sum in double precision, and exactly what it lacks.
fn two_sum(a: f64, b: f64) -> (f64, f64) {
    let sum = a + b;
    let from_b = sum - a;
    (sum, (a - (sum - from_b)) + (b - from_b))
}

/// The neighbour of `sum + error` in single precision that lies in this direction.
fn directed(sum: f64, error: f64, direction: Direction) -> f32 {
    let nearest = sum as f32;
    if !sum.is_finite() || sum == 0.0 && error == 0.0 {
        return nearest;
    }
    let direction = match direction {
        Direction::Zero if sum < 0.0 => Direction::Up,
        Direction::Zero => Direction::Down,
        other => other,
    };
    let above = f64::from(nearest) > sum || f64::from(nearest) == sum && error < 0.0;
    let below = f64::from(nearest) < sum || f64::from(nearest) == sum && error > 0.0;
    match direction {
        Direction::Down if above => nearest.next_down(),
        Direction::Up if below => nearest.next_up(),
        _ => nearest,
    }
}

pub fn multiply_add(a: f32, b: f32, c: f32, direction: Direction) -> f32 {
    // A product of two numbers of 24 bits is exact.
    let (sum, error) = two_sum(f64::from(a) * f64::from(b), f64::from(c));
    directed(sum, error, direction)
}

pub fn add(a: f32, b: f32, direction: Direction) -> f32 {
    multiply_add(a, 1.0, b, direction)
}

pub fn multiply(a: f32, b: f32, direction: Direction) -> f32 {
    directed(f64::from(a) * f64::from(b), 0.0, direction)
}
