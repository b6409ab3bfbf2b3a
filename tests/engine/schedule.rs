//! Learning-rate schedules: their values at steps worked out by hand, and that the plateau's state is all it remembers.

use xbm_fast::train::TrainSettings;
use xbm_fast::train::schedule::{Schedule, ScheduleKind, ScheduleSettings};

/// Products of a few f32 factors.
const TOLERANCE: f32 = 1e-6;

fn config(kind: ScheduleKind, warmup: u64) -> TrainSettings {
    let schedule = ScheduleSettings { kind, warmup, interval: 30, factor: 0.1, patience: 1 };
    let mut settings = TrainSettings { schedule, ..TrainSettings::default() };
    (settings.optimizer.lr, settings.batch.steps) = (0.5, 100);
    settings
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
    assert_rates(&Schedule::new(&config(ScheduleKind::Constant, 0)), &[(0, 0.5), (50, 0.5), (1_000_000, 0.5)]);
}

#[test]
fn step_drops_at_every_interval() {
    assert_rates(&Schedule::new(&config(ScheduleKind::Step, 0)), &[(0, 0.5), (29, 0.5), (30, 0.05), (59, 0.05), (60, 0.005)]);
}

#[test]
fn cosine_falls_from_the_peak_through_half_to_zero() {
    let schedule = Schedule::new(&config(ScheduleKind::Cosine, 0));
    let quarter = 0.5 * 0.5 * (1.0 + std::f32::consts::FRAC_1_SQRT_2);
    assert_rates(&schedule, &[(0, 0.5), (25, quarter), (50, 0.25), (100, 0.0), (500, 0.0)]);
}

#[test]
fn warm_up_rises_linearly_and_the_schedule_starts_after_it() {
    let warm = config(ScheduleKind::Cosine, 20);
    assert_rates(&Schedule::new(&warm), &[(0, 0.025), (9, 0.25), (19, 0.5), (20, 0.5), (60, 0.25), (100, 0.0)]);
    let warm = config(ScheduleKind::Step, 20);
    assert_rates(&Schedule::new(&warm), &[(19, 0.5), (20, 0.5), (49, 0.5), (50, 0.05)]);
}

#[test]
fn plateau_drops_after_more_evaluations_without_improvement_than_its_patience() {
    let mut schedule = Schedule::new(&config(ScheduleKind::Plateau, 0));
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
    let mut whole = Schedule::new(&config(ScheduleKind::Plateau, 0));
    let mut parts = whole.clone();
    for (index, score) in scores.into_iter().enumerate() {
        whole.observe(score);
        let state = serde_json::to_string(&parts.plateau).unwrap();
        parts = Schedule::new(&config(ScheduleKind::Plateau, 0));
        parts.plateau = serde_json::from_str(&state).unwrap();
        parts.observe(score);
        assert_eq!(whole, parts, "after evaluation {index}");
    }
    assert!(whole.learning_rate(0) < 0.5);
}

#[test]
fn scores_change_no_other_schedule() {
    let mut schedule = Schedule::new(&config(ScheduleKind::Cosine, 0));
    (0..9).for_each(|_| schedule.observe(0.0));
    assert_rates(&schedule, &[(50, 0.25)]);
}
