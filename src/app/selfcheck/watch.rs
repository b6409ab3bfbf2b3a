//! Follows a checking process from its start to a verdict.

use super::cache::Identity;
use super::child::{Child, Heard};
use super::event::{Event, Ran};
use super::failure::{Failure, FailureKind};
use super::machine::Machine;
use super::steps::STEPS;
use super::worker::PREPARATIONS;
use crate::device::cuda::{CudaOptions, Probe};
use std::time::{Duration, Instant};

/// A step takes milliseconds on a device; libraries are read from a cold disk, which may be far away.
const STEP_LIMIT: Duration = Duration::from_secs(60);
/// The largest source takes the run-time compiler half a minute on a busy core.
const COMPILE_LIMIT: Duration = Duration::from_secs(300);
/// Replaces both, in seconds.
const LIMIT_VARIABLE: &str = "XBM_CHECK_SECONDS";

/// How much is done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Extent {
    /// Looks at the machine and at what is known of it.
    Look,
    /// As above; runs the steps until one fails if nothing is known.
    Once,
    /// Runs the steps, whatever is known.
    Every,
}

/// What is known of this machine's GPU.
#[derive(Clone, Debug, PartialEq)]
pub enum Verdict {
    /// It computes what the CPU does.
    Passed,
    /// The check failed; how long ago, if not now.
    Failed(Failure, Option<Duration>),
    /// There is nothing to check: no driver, no device, no library, in one sentence with what to do.
    Unavailable(String),
    /// Nobody has checked it.
    Unknown,
}

impl Verdict {
    /// Why the GPU is not used, if it is not.
    pub fn reason(&self) -> Option<String> {
        match self {
            Self::Passed | Self::Unknown => None,
            Self::Unavailable(reason) => Some(reason.clone()),
            Self::Failed(Failure { step, words, .. }, age) => {
                let ago = age.map_or_else(String::new, |age| format!(", {} minutes ago", age.as_secs() / 60));
                Some(format!("the GPU self-check failed at `{step}`{ago}: {words}; `xbm-fast doctor --check` shows all of it"))
            }
        }
    }

    /// The number of the step after the one that failed now, if there is one that can be run without it.
    pub(super) fn step_after(&self) -> Option<usize> {
        let Self::Failed(failure, None) = self else { return None };
        let failed = STEPS.iter().position(|step| step.name == failure.step)?;
        Some(failed + 1).filter(|&next| next < STEPS.len())
    }
}

/// Who follows: what is told of, and what was learnt.
pub struct Watch<T, F> {
    options: CudaOptions,
    tell: T,
    first: F,
    /// What the machine has, once it was looked at.
    pub machine: Option<Machine>,
}

/// One process that is followed.
struct Course {
    extent: Extent,
    /// The step it was asked to begin with.
    from: usize,
    /// What an outcome is kept under.
    identity: Identity,
    /// What it is at, and since when.
    step: String,
    part: Option<String>,
    since: Instant,
}

impl<T: FnMut(&Ran), F: FnMut(&Machine)> Watch<T, F> {
    /// Tells of each step that ran, and of the machine before the first of them.
    pub fn new(options: CudaOptions, tell: T, first: F) -> Self {
        Self { options, tell, first, machine: None }
    }

    /// Starts a process that checks from step `from` on, and follows it.
    pub fn follow(&mut self, extent: Extent, from: usize) -> Verdict {
        if let Some(reason) = Probe::missing_driver() {
            return Verdict::Unavailable(reason);
        }
        let identity = Identity::unseen(self.options);
        if extent != Extent::Every
            && let Some((Some(failure), age)) = identity.recall()
        {
            return Verdict::Failed(failure, Some(age));
        }
        let mut course = Course { extent, from, identity, step: PREPARATIONS[0].to_owned(), part: None, since: Instant::now() };
        match Child::start(self.options) {
            Ok(mut child) => self.listen(&mut child, &mut course),
            Err(error) => {
                let words = format!("this program could not be started again: {error}");
                Verdict::Failed(course.failure(FailureKind::Refused, words, String::new()), None)
            }
        }
    }

    fn listen(&mut self, child: &mut Child, course: &mut Course) -> Verdict {
        loop {
            let (kind, words) = match child.hear(course.limit()) {
                Heard::Event(event) => match self.take(event, child, course) {
                    Some(verdict) => return verdict,
                    None => continue,
                },
                Heard::Ended(words) => (FailureKind::Crashed, words),
                Heard::Silence => {
                    (FailureKind::TimedOut, format!("it did not come to an end within {} seconds", course.limit().as_secs()))
                }
            };
            let failure = course.failure(kind, words, child.said());
            let (step, seconds) = (failure.step.clone(), course.since.elapsed().as_secs_f64());
            (self.tell)(&Ran { step, comparisons: Vec::new(), seconds, failure: Some(failure.clone()) });
            return course.failed(failure);
        }
    }

    /// What an event decides, if it does.
    fn take(&mut self, event: Event, child: &mut Child, course: &mut Course) -> Option<Verdict> {
        match event {
            Event::Begun { step, part } => {
                course.since = if step == course.step { course.since } else { Instant::now() };
                (course.step, course.part) = (step, part);
                None
            }
            Event::Found { machine, identity, obstacle } => {
                // Whatever is known of a driver that could not be looked at is no longer true.
                course.identity.forget();
                course.identity = identity;
                let known = course.known(obstacle);
                if known.is_none() {
                    (self.first)(&machine);
                    child.go(course.from);
                }
                self.machine = Some(machine);
                known
            }
            Event::Ran(ran) => {
                if course.from == 0 || !PREPARATIONS.contains(&ran.step.as_str()) {
                    (self.tell)(&ran);
                }
                ran.failure.map(|failure| course.failed(failure))
            }
            Event::Finished => {
                if course.from == 0 {
                    course.identity.keep(None);
                }
                Some(Verdict::Passed)
            }
        }
    }
}

impl Course {
    /// How long the next event may take.
    fn limit(&self) -> Duration {
        let wished = std::env::var(LIMIT_VARIABLE).ok().and_then(|text| text.parse().ok());
        let otherwise = if self.part.is_some() { COMPILE_LIMIT } else { STEP_LIMIT };
        wished.map_or(otherwise, Duration::from_secs)
    }

    /// The verdict without running anything, where there is one.
    fn known(&self, obstacle: Option<String>) -> Option<Verdict> {
        if let Some(reason) = obstacle {
            return Some(Verdict::Unavailable(reason));
        }
        let recalled = (self.extent != Extent::Every).then(|| self.identity.recall()).flatten();
        match recalled {
            Some((None, _)) => Some(Verdict::Passed),
            Some((Some(failure), age)) => Some(Verdict::Failed(failure, Some(age))),
            None => (self.extent == Extent::Look).then_some(Verdict::Unknown),
        }
    }

    fn failure(&self, kind: FailureKind, words: String, said: String) -> Failure {
        let part = self.part.as_ref().map_or_else(String::new, |part| format!("{part}: "));
        Failure { step: self.step.clone(), kind, words: format!("{part}{words}"), said }
    }

    /// Keeps a failure.
    fn failed(&self, failure: Failure) -> Verdict {
        self.identity.keep(Some(&failure));
        Verdict::Failed(failure, None)
    }
}
