//! Which lanes run, and where: a stack of paths, which part at branches and meet at post-dominators.

use crate::ptx::program::{Call, NOWHERE};

/// Lanes on their way to where they meet those of the path below.
#[derive(Clone, Copy, Debug)]
pub struct Path {
    pub at: u32,
    pub join: u32,
    pub mask: u32,
}

/// A call that has not returned.
pub struct Frame<'p> {
    pub call: &'p Call,
    pub mask: u32,
    /// Paths below the call's.
    depth: usize,
}

#[derive(Default)]
pub struct Stack<'p> {
    paths: Vec<Path>,
    frames: Vec<Frame<'p>>,
}

impl<'p> Stack<'p> {
    pub fn new(mask: u32) -> Self {
        Self { paths: vec![Path { at: 0, join: NOWHERE, mask }], frames: Vec::new() }
    }

    fn depth(&self) -> usize {
        self.frames.last().map_or(0, |frame| frame.depth)
    }

    /// The path to go on with; `returned` is told of every call that has ended.
    pub fn settle(&mut self, mut returned: impl FnMut(&Frame<'p>)) -> Option<Path> {
        loop {
            if self.paths.len() == self.depth() {
                returned(&self.frames.pop()?);
                continue;
            }
            let path = *self.paths.last()?;
            if path.mask != 0 && path.at != path.join {
                return Some(path);
            }
            self.paths.pop();
        }
    }

    pub fn go_to(&mut self, at: u32) {
        self.paths.last_mut().expect("a path").at = at;
    }

    /// Parts the lanes `taken` from the others.
    pub fn part(&mut self, taken: u32, target: u32, join: u32) {
        let path = self.paths.pop().expect("a path");
        let (rest, next) = (path.mask & !taken, path.at + 1);
        let join = if join == NOWHERE { path.join } else { join };
        // Where the path below waits at the same place, it keeps these lanes.
        if join != path.join {
            self.paths.push(Path { at: join, ..path });
        }
        self.paths.push(Path { at: next, join, mask: rest });
        self.paths.push(Path { at: target, join, mask: taken });
    }

    pub fn call(&mut self, call: &'p Call, mask: u32) {
        self.go_to(self.paths.last().expect("a path").at + 1);
        self.frames.push(Frame { call, mask, depth: self.paths.len() });
        self.paths.push(Path { at: call.target, join: NOWHERE, mask });
    }

    /// Ends the running function for these lanes; true if that ends their threads.
    pub fn leave(&mut self, lanes: u32) -> bool {
        let depth = self.depth();
        self.paths.last_mut().expect("a path").at += 1;
        for path in &mut self.paths[depth..] {
            path.mask &= !lanes;
        }
        self.frames.is_empty()
    }

    /// Ends the threads of these lanes.
    pub fn exit(&mut self, lanes: u32) {
        self.paths.last_mut().expect("a path").at += 1;
        for path in &mut self.paths {
            path.mask &= !lanes;
        }
    }
}
