//! The blocks of a cluster: their warps take turns between barriers.

use super::Order;
use super::cluster::registers_at_start;
use super::surroundings::{Surroundings, shuffle};
use super::tensor_copies::{all_landed, land_one};
use super::warp::{Arrival, Stop, Trouble, Warp};
use crate::ptx::program::WARP;

/// Rounds in which nothing happens but polling, before that is called a deadlock.
const IDLE_ROUNDS: u32 = 2000;

/// What a warp polls for.
#[derive(Clone, Copy, Debug)]
pub enum Wait {
    /// A phase of the mbarrier at an address.
    Barrier {
        lane: usize,
        address: u64,
    },
    Cluster,
    Registers {
        needed: u32,
        free: u32,
    },
    /// Other warps to issue the product that is waited for.
    Warpgroup,
}

#[derive(Clone, Copy, Default)]
enum State {
    #[default]
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

/// Warps and barriers of a block.
#[derive(Default)]
pub struct Team<'p> {
    warps: Vec<Warp<'p>>,
    states: Vec<State>,
    barriers: Barriers,
}

/// Runs the cluster of a number from start to end.
pub fn run<'p>(around: &mut Surroundings<'p>, teams: &mut Vec<Team<'p>>, number: u64) -> Result<(), String> {
    around.begin(number);
    let count = around.threads().div_ceil(WARP);
    teams.resize_with(around.blocks_in_cluster() as usize, Team::default);
    for (rank, team) in teams.iter_mut().enumerate() {
        around.switch_to(rank as u32);
        if team.warps.is_empty() {
            team.warps.extend((0..count).map(|warp| Warp::new(around.program, around, warp)));
        } else {
            team.warps.iter_mut().for_each(|warp| warp.restart(around.program, around));
        }
        team.warps.iter_mut().for_each(|warp| warp.thread_registers = registers_at_start(around));
        team.states = vec![State::Ready; count];
        team.barriers = Barriers::default();
    }
    let mut turns = turns(around, teams.len(), count);
    let mut idle = 0;
    loop {
        let is_ready = |&(rank, warp): &(usize, usize)| matches!(teams[rank].states[warp], State::Ready);
        let ready: Vec<(usize, usize)> = turns.iter().copied().filter(is_ready).collect();
        if ready.is_empty() {
            break;
        }
        let before = around.progress;
        for (rank, warp) in ready {
            around.switch_to(rank as u32);
            turn(around, &mut teams[rank], warp)?;
        }
        let random = around.launch.order == Order::Random;
        if random {
            shuffle(&mut turns, &mut around.random);
        }
        idle = if around.progress == before { idle + 1 } else { 0 };
        // Copies come as late as nobody can go on without them; some earlier, where chance decides.
        if idle > 0 || random && around.random.below(4) == 0 {
            let landed = land_one(around).map_err(|words| format!("{}: {words}", around.program.name))?;
            if landed {
                idle = 0;
            }
        }
        if idle > IDLE_ROUNDS {
            break;
        }
    }
    deadlock(around, teams)?;
    all_landed(around).map_err(|words| format!("{}: {words}", around.program.name))
}

fn turn<'p>(around: &mut Surroundings<'p>, team: &mut Team<'p>, warp: usize) -> Result<(), String> {
    let most = if around.launch.order == Order::Random { 1 + around.random.below(200) } else { u64::MAX };
    let running = &mut team.warps[warp];
    match running.run(around, most).map_err(|trouble| described(around, &team.warps[warp], trouble))? {
        // A warp that polls is not getting on, wherever in its loop it pauses.
        Stop::Pause => around.progress += u64::from(team.warps[warp].waits_for.is_none()),
        Stop::Poll(wait) => team.warps[warp].waits_for = Some(wait),
        Stop::Finished => {
            around.progress += 1;
            team.states[warp] = State::Finished;
            around.leave_cluster_barrier(team.warps[warp].threads(around), team.warps[warp].arrived_at_cluster_barrier(around));
            if team.states.iter().all(|state| matches!(state, State::Finished)) {
                around.own.ended = true;
            }
        }
        Stop::Barrier(arrival) => {
            around.progress += 1;
            team.states[warp] = if arrival.waits { State::Waiting(arrival) } else { State::Ready };
            arrive(around, team, &arrival)?;
        }
    }
    Ok(())
}

/// In which order the warps take their turns: the ranks of blocks and the numbers of warps.
fn turns(around: &mut Surroundings<'_>, blocks: usize, warps: usize) -> Vec<(usize, usize)> {
    let mut turns: Vec<_> = (0..blocks).flat_map(|rank| (0..warps).map(move |warp| (rank, warp))).collect();
    match around.launch.order {
        Order::Fifo => {}
        Order::Reverse => turns.reverse(),
        Order::Random | Order::Greedy => shuffle(&mut turns, &mut around.random),
    }
    turns
}

fn arrive<'p>(around: &mut Surroundings<'p>, team: &mut Team<'p>, arrival: &Arrival) -> Result<(), String> {
    let barriers = &mut team.barriers;
    let whole = around.threads() as u32;
    let (id, expected) = (arrival.id as usize % 16, arrival.threads.unwrap_or(whole));
    barriers.arrived[id] += if arrival.threads.is_some() { WARP as u32 } else { arrival.lanes.count_ones() };
    barriers.votes[id] += arrival.reduction.map_or(0, |(_, _, votes)| votes.count_ones());
    around.own.shared.finds_races &= expected == whole;
    if barriers.arrived[id] < expected {
        return Ok(());
    }
    if barriers.arrived[id] > expected {
        let (kernel, found) = (&around.program.name, barriers.arrived[id]);
        return Err(format!("{kernel}: barrier {id} waits for {expected} threads, and {found} came"));
    }
    let votes = std::mem::take(&mut barriers.votes[id]);
    barriers.arrived[id] = 0;
    around.own.epoch += 1;
    for (warp, state) in team.warps.iter_mut().zip(&mut team.states) {
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

fn deadlock(around: &mut Surroundings<'_>, teams: &[Team<'_>]) -> Result<(), String> {
    let everyone = teams.iter().enumerate().flat_map(|(rank, team)| (0..team.states.len()).map(move |warp| (rank, warp)));
    let stuck: Vec<_> = everyone.filter(|&(rank, warp)| !matches!(teams[rank].states[warp], State::Finished)).collect();
    let Some(&(rank, first)) = stuck.first() else { return Ok(()) };
    let threads: u32 = stuck.iter().map(|&(rank, warp)| teams[rank].warps[warp].alive.count_ones()).sum();
    let all = around.threads() * teams.len();
    let mut words = format!("deadlock, {threads} of {all} threads cannot go on");
    // Those that wait for the same are named once.
    let mut told: Vec<String> = Vec::new();
    for &(rank, warp) in &stuck {
        around.switch_to(rank as u32);
        let what = match teams[rank].states[warp] {
            State::Waiting(_) => "at a barrier".into(),
            _ => waited_for(around, &teams[rank].warps[warp]),
        };
        if !told.contains(&what) && told.len() < 4 {
            let block = if teams.len() > 1 { format!(" of block {rank} of the cluster") } else { String::new() };
            words += &format!("; warp {warp}{block} waits {what}");
            told.push(what);
        }
    }
    around.switch_to(rank as u32);
    Err(described(around, &teams[rank].warps[first], Trouble { lane: None, words }))
}

fn waited_for(around: &Surroundings<'_>, warp: &Warp<'_>) -> String {
    match warp.waits_for {
        None => "for nothing that is known".into(),
        Some(Wait::Warpgroup) => "for the other warps of its warpgroup to issue its product".into(),
        Some(Wait::Cluster) => "at the barrier of the cluster".into(),
        Some(Wait::Registers { needed, free }) => format!("for {needed} registers, and {free} are free"),
        Some(Wait::Barrier { lane, address }) => {
            let shared = &around.own.shared;
            let place = shared.place(address, 8).unwrap_or_default();
            let Some(barrier) = shared.barriers.get(&place) else { return format!("for the mbarrier at shared offset {place}") };
            let (phase, pending, bytes) = (barrier.phase, barrier.pending, barrier.bytes);
            let place =
                format!("for the mbarrier at shared offset {place} (lane {lane}), whose phase {phase} lacks {pending} arrivals");
            if bytes < 0 {
                return format!("{place} and has got {} bytes more than were expected", -bytes);
            }
            format!("{place} and {bytes} bytes")
        }
    }
}

/// The words of a trouble, and where it happened.
fn described(around: &Surroundings<'_>, warp: &Warp<'_>, trouble: Trouble) -> String {
    let program = around.program;
    let place = program.code[warp.at as usize].place;
    let thread = match trouble.lane {
        Some(lane) => format!("thread {}", WARP * warp.number + lane),
        None => format!("warp {}", warp.number),
    };
    let [x, y, z] = around.own.index;
    let block = if y == 0 && z == 0 { x.to_string() } else { format!("({x}, {y}, {z})") };
    let source = program.files.get(&place.file).map(|file| format!(", {file}:{}", place.source_line)).unwrap_or_default();
    format!("{}, block {block} {thread}: {} (PTX line {}{source})", program.name, trouble.words, place.line)
}
