//! Ranks in one process, each a thread: what they say to each other goes through mailboxes. Whoever asks for something that nobody sends
//! fails after a while, with words.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Condvar, Mutex};
use std::thread;
use std::time::{Duration, Instant};
use xbm_fast::group::{Group, Message, Wire, gave_up};
use xbm_fast::{Cpu, Result};

/// Longer than any rank of a test computes between two exchanges.
const PATIENCE: Duration = Duration::from_secs(120);

type Mail = HashMap<(usize, usize), VecDeque<(&'static str, Vec<u8>)>>;

/// One end of the mailboxes.
#[derive(Debug)]
struct Thread {
    rank: usize,
    size: usize,
    mail: Arc<(Mutex<Mail>, Condvar)>,
}

impl Wire for Thread {
    fn rank(&self) -> usize {
        self.rank
    }

    fn size(&self) -> usize {
        self.size
    }

    fn exchange(
        &self,
        what: &'static str,
        outgoing: &[Message<&[u8]>],
        incoming: Vec<Message<&mut [u8]>>,
        patience: Duration,
    ) -> Result<()> {
        let (mail, arrived) = &*self.mail;
        for Message { rank, bytes } in outgoing {
            mail.lock().unwrap().entry((self.rank, *rank)).or_default().push_back((what, bytes.to_vec()));
        }
        arrived.notify_all();
        for Message { rank, bytes } in incoming {
            let (begun, mut boxes) = (Instant::now(), mail.lock().unwrap());
            loop {
                if let Some((sent, message)) = boxes.get_mut(&(rank, self.rank)).and_then(VecDeque::pop_front) {
                    assert_eq!((sent, message.len()), (what, bytes.len()), "rank {} hears rank {rank}", self.rank);
                    bytes.copy_from_slice(&message);
                    break;
                }
                let left = patience.checked_sub(begun.elapsed()).ok_or_else(|| gave_up(self.rank, what, &[rank], patience))?;
                boxes = arrived.wait_timeout(boxes, left).unwrap().0;
            }
        }
        Ok(())
    }

    fn abort(&self) {}
}

/// The groups of `size` ranks.
pub fn groups(size: usize) -> Vec<Group> {
    let mail = Arc::new((Mutex::default(), Condvar::new()));
    let groups = (0..size).map(|rank| Group::new(Box::new(Thread { rank, size, mail: mail.clone() })));
    groups.inspect(|group| group.wait_at_most(PATIENCE)).collect()
}

/// What `work` gives on each of `size` ranks, which run at the same time with one thread of the CPU each.
pub fn on_ranks<T: Send>(size: usize, work: impl Fn(Cpu) -> T + Sync) -> Vec<T> {
    thread::scope(|scope| {
        let work = &work;
        let ranks: Vec<_> = groups(size)
            .into_iter()
            .map(|group| scope.spawn(move || work(Cpu::new(Some(1)).expect("a thread starts").in_group(group))))
            .collect();
        ranks.into_iter().map(|rank| rank.join().expect("no rank panics")).collect()
    })
}
