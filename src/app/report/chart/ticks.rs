//! Ticks of an axis, and numbers as they are written beside them.

/// Ticks of `distance` whose first and last enclose the range.
pub fn ticks_around(low: f64, high: f64, distance: f64) -> Vec<f64> {
    let (first, last) = ((low / distance + 1e-9).floor() as i64, (high / distance - 1e-9).ceil() as i64);
    (first..=last.max(first + 1)).map(|index| index as f64 * distance).collect()
}

/// Ticks inside the range.
pub fn ticks_within(low: f64, high: f64) -> Vec<f64> {
    let distance = tick_distance(high - low);
    let (first, last) = ((low / distance - 1e-9).ceil() as i64, (high / distance + 1e-9).floor() as i64);
    (first..=last).map(|index| index as f64 * distance).collect()
}

/// Distance between ticks: 1, 2 or 5 times a power of ten, about five of them.
pub fn tick_distance(range: f64) -> f64 {
    let rough = range / 5.0;
    let power = 10f64.powf(rough.log10().floor());
    let factor = [1.0, 2.0, 5.0].into_iter().find(|factor| factor * power >= rough * 0.999).unwrap_or(10.0);
    factor * power
}

/// Ticks with what is written beside each.
pub fn labelled(ticks: &[f64]) -> impl Iterator<Item = (f64, String)> {
    let step = ticks.get(1).map_or(1.0, |second| second - ticks[0]);
    ticks.iter().map(move |&tick| (tick, number(tick, step)))
}

/// A number with the decimals that a distance between ticks needs.
pub fn number(value: f64, step: f64) -> String {
    let value = if value == 0.0 { 0.0 } else { value };
    if value.abs() >= 10_000.0 {
        return format!("{}k", number(value / 1000.0, (step / 1000.0).max(0.1)));
    }
    let decimals = (-step.abs().max(1e-9).log10() - 1e-9).ceil().clamp(0.0, 6.0) as usize;
    let sign = if value < 0.0 { "\u{2212}" } else { "" };
    format!("{sign}{:.decimals$}", value.abs())
}

/// A share as a percentage.
pub fn percent(share: f64) -> String {
    let value = share * 100.0;
    if (value - value.round()).abs() < 0.05 { format!("{value:.0}%") } else { format!("{value:.1}%") }
}
