"""The control-flow graph of a kernel's own code, its loops, and the cheapest and dearest ways through one."""

from dataclasses import dataclass


@dataclass
class Block:
    """Instructions first..last-1 of the kernel, which run one after the other; `next` are the blocks that may follow."""

    first: int
    last: int
    next: list


@dataclass
class Loop:
    head: int
    body: set  # blocks, the head among them
    latches: set  # blocks that go back to the head


class Graph:
    """Blocks of a kernel. `order` has every block that can be reached, each before all that follow it but by a back edge."""

    def __init__(self, code):
        self.code = code
        self.blocks = self._blocks()
        self.order, self.back_edges = self._depth_first()
        self.place = {block: place for place, block in enumerate(self.order)}
        self.before = {block: [] for block in self.order}
        for block in self.order:
            for following in self.blocks[block].next:
                self.before[following].append(block)
        self.loops = self._loops()

    def instructions(self, block):
        return self.code.own[self.blocks[block].first : self.blocks[block].last]

    def forward(self, block):
        """Blocks that follow without a back edge."""
        return [following for following in self.blocks[block].next if (block, following) not in self.back_edges]

    def _blocks(self):
        own, labels = self.code.own, self.code.labels
        starts = {0} | {place for place in labels.values() if place < len(own)}
        for place, instruction in enumerate(own):
            if instruction.jumps or not instruction.goes_on or instruction.base == "EXIT":
                starts.add(place + 1)
        starts = sorted(place for place in starts if place < len(own))
        number = {place: block for block, place in enumerate(starts)}
        blocks = []
        for first, end in zip(starts, starts[1:] + [len(own)]):
            last, following = own[end - 1], []
            if last.jumps:
                following += [number[labels[label]] for label in last.labels]
            if last.goes_on and end in number:
                following.append(number[end])
            blocks.append(Block(first, end, list(dict.fromkeys(following))))
        return blocks

    def _depth_first(self):
        """Reverse postorder from the entry, and the edges that go back to a block whose visit has not ended."""
        finished, open_blocks, back_edges = [], {0}, set()
        seen, stack = {0}, [(0, iter(self.blocks[0].next))]
        while stack:
            block, rest = stack[-1]
            following = next(rest, None)
            if following is None:
                finished.append(block)
                open_blocks.discard(block)
                stack.pop()
            elif following in open_blocks:
                back_edges.add((block, following))
            elif following not in seen:
                seen.add(following)
                open_blocks.add(following)
                stack.append((following, iter(self.blocks[following].next)))
        return finished[::-1], back_edges

    def _loops(self):
        """One loop a head: every block from which a latch is reached without the head."""
        loops = {}
        for latch, head in self.back_edges:
            loop = loops.setdefault(head, Loop(head, {head}, set()))
            loop.latches.add(latch)
            waiting = [latch]
            while waiting:
                block = waiting.pop()
                if block not in loop.body:
                    loop.body.add(block)
                    waiting += self.before[block]
            if 0 in loop.body and head != 0:
                raise ValueError(f"{self.code.name}: a loop is entered beside its head, which this counting does not understand")
        return list(loops.values())


def best_path(graph, loop, cost, stops=()):
    """The way from the head of a loop to a latch, as a list of blocks, with the least sum of `cost(block)`, a tuple. It passes one block
    of each set in `stops`, in their order, and goes through the body of an inner loop at most once. None where there is none."""
    deadline = [max(graph.place[block] for block in stop) for stop in stops]
    ways = {}  # (block, stops passed) to (cost, way before)

    def arrive(block, passed, so_far, previous):
        while passed < len(stops) and block in stops[passed]:
            passed += 1
        # A stop that lies behind can no longer be passed.
        if passed < len(stops) and deadline[passed] < graph.place[block]:
            return
        total = tuple(a + b for a, b in zip(so_far, cost(block))) if so_far else cost(block)
        if (block, passed) not in ways or total < ways[block, passed][0]:
            ways[block, passed] = (total, previous)
            states[block].add(passed)

    body = [block for block in graph.order if block in loop.body]
    states = {block: set() for block in body}
    arrive(loop.head, 0, None, None)
    for block in body:
        for passed in states[block]:
            for following in graph.forward(block):
                if following in loop.body:
                    arrive(following, passed, ways[block, passed][0], (block, passed))
    ends = [(latch, len(stops)) for latch in loop.latches if (latch, len(stops)) in ways]
    if not ends:
        return None
    path, state = [], min(ends, key=lambda end: ways[end][0])
    while state:
        path.append(state[0])
        state = ways[state][1]
    return path[::-1]
