//! Shuffles and votes: every lane that the instruction names must be there.

use super::warp::{Trouble, Warp};
use crate::ptx::program::{Op, Shuffle, Vote, WARP};
use crate::ptx::registers::{Mask, lanes_of};

/// Fails unless the lanes that are here are those the instruction names.
pub fn named_lanes(warp: &Warp<'_>, members: u32, lanes: u32, what: &str) -> Result<(), Trouble> {
    for lane in lanes_of(lanes) {
        let named = warp.registers.words[members as usize][lane];
        if named != lanes {
            let missing = named & !lanes;
            let lane = Some(if missing == 0 { lane } else { missing.trailing_zeros() as usize });
            return Err(Trouble {
                lane,
                words: format!("the warp diverged: {what} names lanes {named:#010x}, and {lanes:#010x} are here"),
            });
        }
    }
    Ok(())
}

pub fn shuffle(warp: &mut Warp<'_>, op: &Op, lanes: u32) -> Result<(), Trouble> {
    let &Op::Shuffle { kind, d, inside, a, b, c, members } = op else { return Ok(()) };
    named_lanes(warp, members, lanes, "shfl.sync")?;
    let words = &warp.registers.words;
    let (values, by, bounds) = (words[a as usize], words[b as usize], words[c as usize]);
    let (mut new, mut valid) = (values, 0_u32);
    for lane in lanes_of(lanes) {
        let (clamp, segments) = (bounds[lane] as usize & 31, bounds[lane] as usize >> 8 & 31);
        let highest = lane & segments | clamp & !segments;
        let lowest = lane & segments;
        let distance = by[lane] as usize & 31;
        let source = match kind {
            Shuffle::Up => lane.checked_sub(distance).filter(|&source| source >= highest),
            Shuffle::Down => Some(lane + distance).filter(|&source| source <= highest),
            Shuffle::Butterfly => Some(lane ^ distance).filter(|&source| source <= highest),
            Shuffle::Index => Some(lowest | distance & !segments).filter(|&source| source <= highest),
        };
        if let Some(source) = source {
            if lanes >> source & 1 == 0 {
                return Err(Trouble { lane: Some(lane), words: format!("shfl.sync reads lane {source}, which is not there") });
            }
            new[lane] = values[source % WARP];
            valid |= 1 << lane;
        }
    }
    let mask = Mask::new(lanes);
    mask.keep_words(&mut warp.registers.words[d as usize], &new);
    if let Some(inside) = inside {
        mask.keep_bits(&mut warp.registers.predicates[inside as usize], valid);
    }
    Ok(())
}

pub fn vote(warp: &mut Warp<'_>, op: &Op, lanes: u32) -> Result<(), Trouble> {
    let &Op::Vote { kind, d, predicate, negated, members } = op else { return Ok(()) };
    named_lanes(warp, members, lanes, "vote.sync")?;
    let predicate = warp.registers.predicates[predicate as usize];
    let votes = lanes & if negated { !predicate } else { predicate };
    let mask = Mask::new(lanes);
    let truth = match kind {
        Vote::Ballot => {
            mask.keep_words(&mut warp.registers.words[d as usize], &[votes; WARP]);
            return Ok(());
        }
        Vote::All => votes == lanes,
        Vote::Any => votes != 0,
        Vote::Uniform => votes == lanes || votes == 0,
    };
    mask.keep_bits(&mut warp.registers.predicates[d as usize], if truth { u32::MAX } else { 0 });
    Ok(())
}
