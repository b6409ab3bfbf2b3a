//! A block: its warps take turns between barriers.

use super::counts::{Counts, sectors};
use super::memory::{Access, Global, Shared};
use super::warp::{Arrival, Stop, Trouble, Warp};
use super::{Launch, Order};
use crate::ptx::program::{Program, SHARED_WINDOW, Space, WARP};

/// What the warps of a block share.
pub struct Surroundings<'p> {
    pub program: &'p Program,
    pub launch: &'p Launch,
    /// The address of the kernel's parameters.
    pub params: u64,
    pub index: [u32; 3],
    pub global: Global,
    pub shared: Shared,
    pub counts: Counts,
    epoch: u32,
    random: Random,
}

/// A few random numbers of a seed (xorshift).
#[derive(Clone, Copy)]
pub struct Random(u64);

impl Random {
    pub fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    pub fn below(&mut self, limit: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) % limit
    }
}

impl<'p> Surroundings<'p> {
    pub fn new(program: &'p Program, launch: &'p Launch, params: u64, global: Global) -> Self {
        Self {
            program,
            launch,
            params,
            index: [0; 3],
            global,
            shared: Shared::new(0, true),
            counts: Counts::default(),
            epoch: 1,
            random: Random::new(1),
        }
    }

    /// Makes these those of another block.
    fn begin(&mut self, number: u64) {
        let [x, y, _] = self.launch.grid.map(u64::from);
        self.index = [number % x, number / x % y, number / (x * y)].map(|index| index as u32);
        let bytes = super::dynamic_offset(self.program) + self.launch.shared_bytes;
        self.shared = Shared::new(bytes as usize, self.launch.needs_written);
        self.epoch = 1;
        self.random = Random::new(self.launch.seed.wrapping_mul(1_000_003) + number + 1);
    }

    pub fn threads(&self) -> usize {
        self.launch.block.iter().product::<u32>() as usize
    }

    pub fn access(&self, warp: usize, line: u32) -> Access {
        Access { warp: warp as u8, epoch: self.epoch, line }
    }

    pub fn copy_lands_at_once(&mut self) -> bool {
        if self.launch.order == Order::Random { self.random.below(2) == 0 } else { !self.launch.late_copies }
    }

    pub fn count(&mut self, space: Space, addresses: &[(usize, u64)], bytes: u64, written: bool) {
        match space {
            // Parameters are no device memory, however they are read.
            Space::Global | Space::Generic if addresses[0].1.wrapping_sub(self.params) < u64::from(self.program.params_bytes) => {}
            Space::Global | Space::Generic => {
                let (sectors, bytes) = (sectors(addresses, bytes), bytes * addresses.len() as u64);
                if written {
                    self.counts.sectors_written += sectors;
                    self.counts.bytes_written += bytes;
                } else {
                    self.counts.sectors_read += sectors;
                    self.counts.bytes_read += bytes;
                }
            }
            Space::Shared => {
                let mut words = [(0, 0); WARP];
                for (word, &(lane, address)) in words.iter_mut().zip(addresses) {
                    *word = (lane, (address & !SHARED_WINDOW) as u32);
                }
                self.counts.shared_access(&words[..addresses.len()], bytes as u32);
            }
            Space::Frame => {}
        }
    }

    pub fn count_copy(&mut self, read: &[(usize, u64)], bytes: u64) {
        self.counts.sectors_read += sectors(read, bytes);
        self.counts.bytes_read += bytes * read.len() as u64;
        self.counts.bytes_copied += bytes * read.len() as u64;
    }
}

#[derive(Clone, Copy)]
enum State {
    Ready,
    Waiting(Arrival),
    Finished,
}

/// Threads that have arrived at each of the barriers.
#[derive(Default)]
struct Barriers {
    arrived: [u32; 16],
    votes: [u32; 16],
}

/// Runs a block from start to end.
pub fn run<'p>(around: &mut Surroundings<'p>, warps: &mut Vec<Warp<'p>>, number: u64) -> Result<(), String> {
    around.begin(number);
    if warps.is_empty() {
        warps.extend((0..around.threads().div_ceil(WARP)).map(|warp| Warp::new(around.program, around, warp)));
    } else {
        warps.iter_mut().for_each(|warp| warp.restart(around.program, around));
    }
    let mut states = vec![State::Ready; warps.len()];
    let mut barriers = Barriers::default();
    let mut turns = turns(around, warps.len());
    loop {
        let ready: Vec<usize> = turns.iter().copied().filter(|&warp| matches!(states[warp], State::Ready)).collect();
        if ready.is_empty() {
            break;
        }
        for warp in ready {
            let most = if around.launch.order == Order::Random { 1 + around.random.below(200) } else { u64::MAX };
            let stop = warps[warp].run(around, most).map_err(|trouble| described(around, &warps[warp], trouble))?;
            match stop {
                Stop::Pause => {}
                Stop::Finished => states[warp] = State::Finished,
                Stop::Barrier(arrival) => {
                    states[warp] = if arrival.waits { State::Waiting(arrival) } else { State::Ready };
                    arrive(around, warps, &mut states, &mut barriers, &arrival)?;
                }
            }
        }
        if around.launch.order == Order::Random {
            shuffle(&mut turns, &mut around.random);
        }
    }
    deadlock(around, warps, &states)
}

/// In which order the warps take their turns.
fn turns(around: &mut Surroundings<'_>, warps: usize) -> Vec<usize> {
    let mut turns: Vec<usize> = (0..warps).collect();
    match around.launch.order {
        Order::Fifo => {}
        Order::Reverse => turns.reverse(),
        Order::Random | Order::Greedy => shuffle(&mut turns, &mut around.random),
    }
    turns
}

pub fn shuffle<T>(items: &mut [T], random: &mut Random) {
    for last in (1..items.len()).rev() {
        items.swap(last, random.below(last as u64 + 1) as usize);
    }
}

fn arrive<'p>(
    around: &mut Surroundings<'p>,
    warps: &mut [Warp<'p>],
    states: &mut [State],
    barriers: &mut Barriers,
    arrival: &Arrival,
) -> Result<(), String> {
    let whole = around.threads() as u32;
    let (id, expected) = (arrival.id as usize % 16, arrival.threads.unwrap_or(whole));
    barriers.arrived[id] += if arrival.threads.is_some() { WARP as u32 } else { arrival.lanes.count_ones() };
    barriers.votes[id] += arrival.reduction.map_or(0, |(_, _, votes)| votes.count_ones());
    around.shared.finds_races &= expected == whole;
    if barriers.arrived[id] < expected {
        return Ok(());
    }
    if barriers.arrived[id] > expected {
        let (kernel, found) = (&around.program.name, barriers.arrived[id]);
        return Err(format!("{kernel}: barrier {id} waits for {expected} threads, and {found} came"));
    }
    let votes = std::mem::take(&mut barriers.votes[id]);
    barriers.arrived[id] = 0;
    around.epoch += 1;
    for (warp, state) in warps.iter_mut().zip(states) {
        match state {
            State::Waiting(waiting) if waiting.id == arrival.id => {
                warp.finish_barrier(waiting, votes, expected);
                *state = State::Ready;
            }
            _ => {}
        }
    }
    Ok(())
}

fn deadlock(around: &Surroundings<'_>, warps: &[Warp<'_>], states: &[State]) -> Result<(), String> {
    let waiting: Vec<usize> = (0..states.len()).filter(|&warp| matches!(states[warp], State::Waiting(_))).collect();
    let Some(&first) = waiting.first() else { return Ok(()) };
    let threads: u32 = waiting.iter().map(|&warp| warps[warp].alive.count_ones()).sum();
    let words = format!("deadlock, {threads} of {} threads cannot go on; warp {first} waits at a barrier", around.threads());
    Err(described(around, &warps[first], Trouble { lane: None, words }))
}

/// The words of a trouble, and where it happened.
fn described(around: &Surroundings<'_>, warp: &Warp<'_>, trouble: Trouble) -> String {
    let program = around.program;
    let place = program.code[warp.at as usize].place;
    let thread = match trouble.lane {
        Some(lane) => format!("thread {}", WARP * warp.number + lane),
        None => format!("warp {}", warp.number),
    };
    let [x, y, z] = around.index;
    let block = if y == 0 && z == 0 { x.to_string() } else { format!("({x}, {y}, {z})") };
    let source = program.files.get(&place.file).map(|file| format!(", {file}:{}", place.source_line)).unwrap_or_default();
    format!("{}, block {block} {thread}: {} (PTX line {}{source})", program.name, trouble.words, place.line)
}
