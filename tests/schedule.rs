//! Learning-rate schedules: their values at steps worked out by hand, and that the plateau's state is all it remembers.

use xbm_fast::app::config::{ScheduleKind, TrainConfig};
use xbm_fast::train::schedule::Schedule;

/// Products of a few f32 factors.
const TOLERANCE: f32 = 1e-6;

fn config(schedule: ScheduleKind) -> TrainConfig {
    let (lr, schedule_factor) = (0.5, 0.1);
    TrainConfig { schedule, lr, schedule_factor, steps: 100, schedule_steps: 30, schedule_patience: 1, ..TrainConfig::default() }
}

#[track_caller]
fn assert_rates(schedule: &Schedule, expected: &[(u64, f32)]) {
    for &(step, rate) in expected {
        let found = schedule.learning_rate(step);
        assert!((found - rate).abs() <= TOLERANCE * 0.5, "step {step}: expected {rate}, found {found}");
    }
}

#[test]
fn constant_stays() {
    assert_rates(&Schedule::new(&config(ScheduleKind::Constant)), &[(0, 0.5), (50, 0.5), (1_000_000, 0.5)]);
}

#[test]
fn step_drops_at_every_interval() {
    assert_rates(&Schedule::new(&config(ScheduleKind::Step)), &[(0, 0.5), (29, 0.5), (30, 0.05), (59, 0.05), (60, 0.005)]);
}

#[test]
fn cosine_falls_from_the_peak_through_half_to_zero() {
    let schedule = Schedule::new(&config(ScheduleKind::Cosine));
    let quarter = 0.5 * 0.5 * (1.0 + std::f32::consts::FRAC_1_SQRT_2);
    assert_rates(&schedule, &[(0, 0.5), (25, quarter), (50, 0.25), (100, 0.0), (500, 0.0)]);
}

#[test]
fn warm_up_rises_linearly_and_the_schedule_starts_after_it() {
    let warm = TrainConfig { warmup: 20, ..config(ScheduleKind::Cosine) };
    assert_rates(&Schedule::new(&warm), &[(0, 0.025), (9, 0.25), (19, 0.5), (20, 0.5), (60, 0.25), (100, 0.0)]);
    let warm = TrainConfig { warmup: 20, ..config(ScheduleKind::Step) };
    assert_rates(&Schedule::new(&warm), &[(19, 0.5), (20, 0.5), (49, 0.5), (50, 0.05)]);
}

#[test]
fn plateau_drops_after_more_evaluations_without_improvement_than_its_patience() {
    let mut schedule = Schedule::new(&config(ScheduleKind::Plateau));
    let rates = [0.3, 0.4, 0.4, 0.2, 0.39, 0.41, 0.41, 0.41].map(|score| {
        schedule.observe(score);
        schedule.learning_rate(0)
    });
    let expected = [0.5, 0.5, 0.5, 0.05, 0.05, 0.05, 0.05, 0.005];
    assert!(rates.iter().zip(expected).all(|(found, expected)| (found - expected).abs() < TOLERANCE), "{rates:?}");
}

#[test]
fn plateau_goes_on_from_its_state() {
    let scores = [0.1, 0.3, 0.2, 0.1, 0.1, 0.35, 0.3, 0.2, 0.1];
    let mut whole = Schedule::new(&config(ScheduleKind::Plateau));
    let mut parts = whole.clone();
    for (index, score) in scores.into_iter().enumerate() {
        whole.observe(score);
        let state = serde_json::to_string(&parts.plateau).unwrap();
        parts = Schedule::new(&config(ScheduleKind::Plateau));
        parts.plateau = serde_json::from_str(&state).unwrap();
        parts.observe(score);
        assert_eq!(whole, parts, "after evaluation {index}");
    }
    assert!(whole.learning_rate(0) < 0.5);
}

#[test]
fn scores_change_no_other_schedule() {
    let mut schedule = Schedule::new(&config(ScheduleKind::Cosine));
    (0..9).for_each(|_| schedule.observe(0.0));
    assert_rates(&schedule, &[(50, 0.25)]);
}
