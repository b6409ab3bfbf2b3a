"""What one kernel costs on one architecture: the columns of the table, as .ci/kernel_budget.py describes them."""

from collections import defaultdict
from dataclasses import dataclass

from .flow import Graph, best_path
from .sass import COPIES, FP64_ARITHMETIC, register_of

ACCUMULATORS = 4  # numbers of a product that a thread holds
MEMORY_BITS = (8, 16, 32, 64, 128)
TILE_COLUMNS = (
    *("elements", "ldsm", "hmma", "ldsm_hmma", "ldsm_easy", "hmma_easy", "chain", "branches", "votes"),
    *("tile_least", "tile_easy", "tile_negatives", "tile_kept", "tile_most"),
    *("pair_easy", "pair_negatives", "pair_kept", "pair_most"),
)

# Of a multiprocessor: warps and blocks that it holds at once. Every architecture here has 64 Ki registers, a quarter for each scheduler.
RESIDENT = {"sm_80": (64, 32), "sm_86": (48, 16), "sm_89": (48, 24), "sm_90a": (64, 32), "sm_100": (64, 32), "sm_120": (48, 24)}


def blocks_per_multiprocessor(architecture, registers, threads):
    """Blocks that fit by registers, warps and the hardware's limit; shared memory, which the launch asks for, is not looked at."""
    most_warps, most_blocks = RESIDENT[architecture]
    warps = -(-threads // 32)
    registers_of_warp = -(-registers * 32 // 256) * 256
    warps_by_registers = 65536 // 4 // registers_of_warp * 4
    return min(warps_by_registers // warps, most_warps // warps, most_blocks)


def measure(code, architecture, registers, threads):
    """A row of the table, by column; columns of a tile loop are missing where the kernel has none."""
    row = {
        "registers": registers,
        "threads": threads,
        "blocks": blocks_per_multiprocessor(architecture, registers, threads),
        "instructions": len(code.instructions),
        **operation_counts(code.instructions),
    }
    graph = Graph(code)
    loop = tile_loop(graph)
    if loop:
        row.update(tile_counts(graph, loop))
    hot = in_blocks(graph, loop.body) if loop else code.instructions
    row["wavefronts"] = sum(wavefronts(instruction) for instruction in hot)
    return row


def operation_counts(instructions):
    """Instructions of each kind in the whole text of a kernel, the functions it calls among them."""
    live = [instruction for instruction in instructions if not instruction.never_executes]
    counts = {
        "fp64": sum(is_fp64(instruction) for instruction in live),
        "div64": sum(is_64_bit_division(instruction) for instruction in live),
        "div32": sum(is_32_bit_division(instruction) for instruction in live),
        "calls": sum(instruction.is_call for instruction in live),
        "local": sum(instruction.base in ("LDL", "STL") for instruction in live),
        "generic": sum(instruction.base in ("LD", "ST") for instruction in live),
        "lds": sum(instruction.base == "LDS" for instruction in live),
        "sts": sum(instruction.base == "STS" for instruction in live),
    }
    for column, bases in (("load", ("LDG", "LD")), ("store", ("STG", "ST"))):
        widths = [memory_bits(instruction) for instruction in live if instruction.base in bases]
        counts.update({f"{column}{bits}": widths.count(bits) for bits in MEMORY_BITS})
    return counts


def is_fp64(instruction):
    """Arithmetic, comparison, seed of a division or root, or conversion."""
    return instruction.base in FP64_ARITHMETIC or any(part == "F64" or part.endswith("64H") for part in instruction.modifiers)


def is_64_bit_division(instruction):
    """A call of the compiler's function for a quotient or remainder of 64-bit integers: it has no other way to divide them."""
    names = ("_div_u64", "_div_s64", "_rem_u64", "_rem_s64")
    return instruction.is_call and any(label.endswith(names) for label in instruction.labels)


def is_32_bit_division(instruction):
    """The conversion with which the compiler begins a quotient or remainder of 32-bit integers: rounded up, then a reciprocal."""
    return instruction.base == "I2F" and "RP" in instruction.modifiers and not {"U64", "S64"} & set(instruction.modifiers)


def memory_bits(instruction):
    """Bits that a thread loads or stores, at most 128: wider ones count there."""
    for part in instruction.modifiers:
        if part in ("U8", "S8", "U16", "S16"):
            return int(part[1:])
    widths = [int(part) for part in instruction.modifiers if part in ("64", "128", "256")]
    return min(widths[0], 128) if widths else 32


def wavefronts(instruction):
    """Cycles of shared memory, each 128 bytes, that a warp needs without conflicts."""
    if instruction.never_executes:
        return 0
    if instruction.base == "LDSM":
        return int(instruction.modifiers[-1]) if instruction.modifiers[-1] in ("2", "4") else 1
    if instruction.base in ("LDS", "STS"):
        return max(memory_bits(instruction) // 32, 1)
    return 0


def is_product(instruction):
    """Of a warp or a warpgroup; ptxas ends some groups with one of the latter that writes nothing."""
    return instruction.base in ("HMMA", "HGMMA") and len(instruction.written) > 0


def in_blocks(graph, blocks):
    return [instruction for block in graph.order if block in blocks for instruction in graph.instructions(block)]


def tile_loop(graph):
    """The innermost loop with the most matrix products; None where no loop has any."""
    products = [(sum(map(is_product, in_blocks(graph, loop.body))), loop) for loop in graph.loops]
    products = [(count, -len(loop.body), loop) for count, loop in products if count]
    return max(products, key=lambda found: found[:2])[2] if products else None


def tile_counts(graph, loop):
    """The columns of the tile loop."""
    text = in_blocks(graph, loop.body)
    live = [instruction for instruction in text if not instruction.never_executes]
    ldsm = sum(instruction.base == "LDSM" for instruction in live)
    hmma = sum(map(is_product, live))
    flow = ProductFlow(graph, loop)
    elements = len(flow.elements)
    paths = tile_paths(graph, loop, flow)
    row = {
        "elements": elements,
        "ldsm": ldsm,
        "hmma": hmma,
        "ldsm_hmma": round(ldsm / hmma, 2),
        "chain": flow.longest_chain,
        "branches": sum(instruction.jumps for instruction in text),
        "votes": sum(instruction.base in ("VOTE", "VOTEU") for instruction in text),
    }
    row["ldsm_easy"] = number_of(graph, paths["easy"], lambda instruction: instruction.base == "LDSM")
    row["hmma_easy"] = number_of(graph, paths["easy"], is_product)
    for name, path in paths.items():
        row[f"tile_{name}"] = sum(slots(graph, block) for block in path)
        if name != "least" and elements:
            row[f"pair_{name}"] = round(len(between_products(graph, path, flow)) / elements, 1)
    return row


def number_of(graph, path, kind):
    """Instructions on a path of which `kind` says that they are meant."""
    return sum(kind(instruction) and not instruction.never_executes for block in path for instruction in graph.instructions(block))


def slots(graph, block):
    return graph.blocks[block].last - graph.blocks[block].first


def is_decisive(instruction):
    """Whether what all lanes of a warp do is decided here, or done: votes, and products."""
    return is_product(instruction) or instruction.base in ("VOTE", "VOTEU")


def tile_paths(graph, loop, flow):
    """The ways through the tile loop by name."""

    def rare(block):
        return sum(instruction.is_call or instruction.base in ("LDG", "LD") for instruction in graph.instructions(block))

    stops = flow.first_readers()
    if flow.elements and not stops:
        raise ValueError(f"{graph.code.name}: nothing reads a similarity of the tile loop, so what its paths cost cannot be told apart")
    paths = {
        "least": best_path(graph, loop, lambda block: (slots(graph, block),)),
        "easy": best_path(graph, loop, lambda block: (slots(graph, block),), stops),
        "kept": best_path(graph, loop, lambda block: (rare(block), -slots(graph, block)), stops),
        "most": best_path(graph, loop, lambda block: (-slots(graph, block),), stops),
    }
    if paths["kept"]:
        decisive = [block for block in paths["kept"] if any(map(is_decisive, graph.instructions(block)))]
        paths["negatives"] = best_path(graph, loop, lambda block: (slots(graph, block),), [{block} for block in decisive])
    for name, path in paths.items():
        if path is None:
            raise ValueError(f"{graph.code.name}: no {name} path through the tile loop")
    return paths


def between_products(graph, path, flow):
    """Instructions of a path from the last product of the similarities to the first vote, barrier, matrix load or product behind the
    last reader of one."""
    places = [place for block in path for place in range(graph.blocks[block].first, graph.blocks[block].last)]
    own = graph.code.own
    begin = max(index for index, place in enumerate(places) if place in flow.similarity_products)
    last_reader = max((index for index, place in enumerate(places) if place in flow.readers), default=begin)
    end = last_reader + 1
    while end < len(places) and own[places[end]].base not in ("VOTE", "VOTEU", "BAR", "LDSM", "HMMA", "HGMMA"):
        end += 1
    return [own[place] for place in places[begin + 1 : end]]


@dataclass(frozen=True)
class Held:
    """What a register holds: the end of a chain of so many products, and the elements that it may be."""

    length: int = 0
    elements: frozenset = frozenset()
    copied: bool = False


class ProductFlow:
    """Where the accumulators of products go in one turn of the tile loop.

    A product whose accumulators begin at zero begins a similarity in each of them: an `element`, of which this finds the readers
    (what is not a product or a copy; a call reads the copies, which are its arguments). Every product is one longer than the chain of
    products that its accumulators come from."""

    def __init__(self, graph, loop):
        self.graph, self.loop = graph, loop
        self.elements = set()  # (place of the product that begins it, accumulator)
        self.readers = set()  # places of instructions that read one
        self.reader_blocks = defaultdict(set)  # by element
        self.similarity_products = set()  # places of products of elements
        self.longest_chain = 0
        at_end = {}
        for block in graph.order:
            if block in loop.body:
                before = [at_end[other] for other in graph.before[block] if other in at_end and (other, block) not in graph.back_edges]
                at_end[block] = self._through(block, merged(before) if block != loop.head else {})

    def _through(self, block, registers):
        """What registers hold behind a block, by number, from what they hold before it."""
        first = self.graph.blocks[block].first
        for place, instruction in enumerate(self.graph.instructions(block), first):
            if is_product(instruction):
                self._product(place, instruction, registers)
            elif instruction.is_call:
                arguments = [register for register, held in registers.items() if held.copied]
                self._read(place, block, arguments, registers)
                for register in arguments:
                    del registers[register]
            else:
                self._other(place, block, instruction, registers)
        return registers

    def _product(self, place, instruction, registers):
        accumulator = instruction.added_to
        for number, register in enumerate(instruction.written):
            if accumulator is None:
                before = Held(elements=frozenset({(place, number)}))
                self.elements |= before.elements
            else:
                # Taken out: nobody needs what it held, and a function called later may use the register.
                before = registers.pop(accumulator + number, Held())
            registers[register] = Held(before.length + 1, before.elements)
            self.longest_chain = max(self.longest_chain, before.length + 1)
            if before.elements:
                self.similarity_products.add(place)

    def _other(self, place, block, instruction, registers):
        source = copied(instruction)
        if source is None:
            self._read(place, block, instruction.read, registers)
        moved = registers.get(source)
        for register in instruction.written:
            if not instruction.guard:
                registers.pop(register, None)
            if moved:
                registers[register] = Held(moved.length, moved.elements, copied=True)

    def _read(self, place, block, numbers, registers):
        for register in numbers:
            for element in registers.get(register, Held()).elements:
                self.readers.add(place)
                self.reader_blocks[element].add(block)

    def first_readers(self):
        """For every element that is read, the blocks that may be the first to do so, in the order of the paths."""
        stops = {frozenset(self._first(blocks)) for blocks in self.reader_blocks.values()}
        return sorted(stops, key=lambda stop: min(self.graph.place[block] for block in stop))

    def _first(self, readers):
        found, seen, waiting = set(), set(), [self.loop.head]
        while waiting:
            block = waiting.pop()
            if block in readers:
                found.add(block)
            elif block not in seen:
                seen.add(block)
                waiting += [following for following in self.graph.forward(block) if following in self.loop.body]
        return found


def copied(instruction):
    """The register that an instruction copies, or None."""
    if instruction.opcode not in COPIES or len(instruction.written) != 1:
        return None
    if instruction.base == "IMAD" and instruction.operands[1:3] != ("RZ", "RZ"):
        return None
    return register_of(instruction.operands[-1])


def merged(states):
    """What registers hold where paths meet: the end of the longest chain, and any of the elements."""
    together = {}
    for state in states:
        for register, held in state.items():
            other = together.get(register, held)
            together[register] = Held(max(held.length, other.length), held.elements | other.elements, held.copied and other.copied)
    return together
