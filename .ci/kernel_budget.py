#!/usr/bin/env python3
"""A budget for the machine code of every kernel: what got dearer than .ci/kernel-budget.tsv allows is an error.

    .ci/kernel_budget.py [--update] TOOLS CUBINS ARCHITECTURE...     `.ci/kernels budget` calls it

TOOLS is the folder of nvdisasm and cuobjdump; CUBINS that of the compiled kernels, STEM.ARCHITECTURE.cubin. The table has one row a
kernel and architecture. Nothing is run and nothing is timed: these are counts of instructions, of which less is cheaper.

Of the whole kernel, the functions it calls among it:

    registers     a thread                      threads       of a block, by the launch bounds
    blocks        on a multiprocessor by registers, threads and hardware, not by shared memory
    instructions  in the text, padding too
    fp64          64-bit floating-point arithmetic, comparisons, conversions, and seeds of divisions and roots
    div64         calls of the compiler's function for a 64-bit integer quotient or remainder
    div32         32-bit integer quotients or remainders by what is not constant: I2F rounded up begins each
    calls         CALL, but for those that ptxas uses as jumps within a function
    local         loads and stores of local memory
    load8..load128, store8..store128    of global memory, by bits a thread (asynchronous copies not among them)
    generic       of those, the ones of which the compiler does not know that the memory is global
    lds, sts      loads and stores of shared memory
    wavefronts    cycles of shared memory without conflicts, of LDSM, LDS and STS, each once: of the tile loop, or of a kernel without one

Of the tile loop, the innermost with the most HMMA, or HGMMA, which count alike; `-` for a kernel without:

    elements      similarities that a thread holds of a tile: accumulators of products that begin at zero
    ldsm, hmma    in its text, the ratio ldsm_hmma, and of each how many are on the easy path
    chain         HMMA that wait for each other through their accumulators, in one turn of the loop, at most
    branches      jumps, and votes (VOTE, VOTEU)
    tile_*        issue slots of a warp for a tile: instructions on a path from the head to a back edge, each one slot whether its predicate
                  holds or not. A path takes no back edge, so a loop within counts once, or not at all where it may be passed by; a call
                  counts as the one instruction that it is.
    pair_*        of those, the slots between the products, divided by the elements: from the last HMMA of the similarities to the first vote,
                  barrier, LDSM or HMMA behind the last instruction that reads a similarity (or to the back edge)

Five paths are counted. Whether a pair counts is known once an instruction that is neither HMMA nor copy reads its similarity; so:

    least    the shortest, whatever it leaves out: nothing of the tile is a pair
    easy     the shortest on which every element is read: every one is a pair, and none has weight
    kept     the longest of those with the fewest calls and global loads, on which every element is read: every one has weight, by the
             plainest curve. Where a weight always needs a load (row_stats), it is not a kept one.
    negatives    the shortest through every vote and every product of the kept one: blocks of pairs are weighed, and what a vote says
             that no pair of theirs needs is left out, such as the weights of positives
    most     the longest on which every element is read, calls and global loads or not

Worse is more in any column of `WORSE_IF_MORE`, less in `blocks`, and another number of `elements`, to which others relate. Better
passes, with a word that the table should be written anew.
"""

import argparse
import concurrent.futures
import os
import pathlib
import re
import subprocess
import sys

from budget.measure import MEMORY_BITS, TILE_COLUMNS, measure
from budget.sass import parse

TABLE = pathlib.Path(__file__).with_name("kernel-budget.tsv")
KEY = ("kernel", "architecture")
COLUMNS = (
    *KEY,
    *("registers", "threads", "blocks", "instructions"),
    *TILE_COLUMNS,
    *("fp64", "div64", "div32", "calls", "local", "generic"),
    *(f"load{bits}" for bits in MEMORY_BITS),
    *(f"store{bits}" for bits in MEMORY_BITS),
    *("lds", "sts", "wavefronts"),
)
WORSE_IF_MORE = {
    *("tile_least", "tile_easy", "tile_negatives", "tile_kept", "tile_most"),
    *("pair_easy", "pair_negatives", "pair_kept", "pair_most"),
    *("ldsm_hmma", "chain", "fp64", "div64", "calls", "local", "load8", "load16"),
}
WORSE_IF_LESS = {"blocks"}
MUST_EQUAL = {"elements"}
UPDATE = "UPDATE=1 .ci/kernels budget"
SHOWN = 20  # lines of one kind, before a count of the rest


def resources(elf_text):
    """Registers and threads of each kernel, from `cuobjdump -elf`."""
    registers = dict(re.findall(r"function: (\S+)\(0x\w+\)\s+register count: (\d+)", elf_text))
    threads = {}
    for part in re.split(r"^\.nv\.info\.", elf_text, flags=re.MULTILINE)[1:]:
        if bounds := re.search(r"EIATTR_MAX_THREADS\s+Format:.*\s+Value:\s+((?:0x\w+ ?)+)", part):
            sizes = [int(size, 16) for size in bounds.group(1).split()]
            threads[part.split()[0]] = sizes[0] * sizes[1] * sizes[2]
    return {name: (int(registers[name]), threads[name]) for name in threads}


def rows_of(cubin, tools):
    """The rows of a compiled source, by kernel and architecture."""

    def output_of(*command):
        return subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout

    architecture = "sm_" + cubin.suffixes[0][1:]
    found = resources(output_of(tools / "cuobjdump", "-elf", cubin))
    rows = {}
    for code in parse(output_of(tools / "nvdisasm", "-c", cubin)):
        if code.name not in found:
            raise ValueError(f"{code.name} for {architecture} has no launch bounds")
        rows[code.name, architecture] = measure(code, architecture, *found[code.name])
    return rows


def measure_all(folder, tools, architectures):
    """The rows of every compiled source for these architectures."""
    cubins = [cubin for architecture in architectures for cubin in sorted(folder.glob(f"**/*.{architecture}.cubin"))]
    found = {}
    with concurrent.futures.ProcessPoolExecutor(os.cpu_count()) as pool:
        for rows in pool.map(rows_of, cubins, [tools] * len(cubins)):
            found.update(rows)
    return found


def text_of(row, column):
    return str(row.get(column, "-"))


def write_table(path, found):
    lines = ["\t".join(COLUMNS)]
    for key in sorted(found):
        lines.append("\t".join([*key, *(text_of(found[key], column) for column in COLUMNS[len(KEY) :])]))
    path.write_text("\n".join(lines) + "\n")


def read_table(path):
    """Rows by kernel and architecture, each without the columns that it has not."""
    header, *lines = [line.split("\t") for line in path.read_text().splitlines()]
    if tuple(header) != COLUMNS:
        raise ValueError(f"{path}: expected the columns {' '.join(COLUMNS)}; if they changed, {UPDATE}")
    rows = {}
    for line in lines:
        cells = dict(zip(header, line))
        counts = {column: cell for column, cell in cells.items() if column not in KEY and cell != "-"}
        rows[cells["kernel"], cells["architecture"]] = {column: float(cell) if "." in cell else int(cell) for column, cell in counts.items()}
    return rows


def compare(found, allowed):
    """What is worse than the table, and what is better: lines of text."""
    worse, better = [], []
    for key in sorted(found.keys() | allowed.keys()):
        name = f"{key[0]} for {key[1]}"
        if key not in allowed:
            worse.append(f"{name}: not in the table; {UPDATE}")
        elif key not in found:
            worse.append(f"{name}: in the table, but there is no such kernel; {UPDATE}")
        else:
            compare_row(name, found[key], allowed[key], worse, better)
    return worse, better


def compare_row(name, found, allowed, worse, better):
    for column in COLUMNS:
        if column not in WORSE_IF_MORE | WORSE_IF_LESS | MUST_EQUAL:
            continue
        if column not in found or column not in allowed:
            # A tile loop that came or went.
            if column in found or column in allowed:
                worse.append(f"{name}: {column} found {text_of(found, column)}, in the table {text_of(allowed, column)}")
            continue
        more = found[column] - allowed[column]
        if more == 0:
            continue
        if column in MUST_EQUAL:
            worse.append(f"{name}: {column} found {found[column]}, in the table {allowed[column]}: other columns relate to it; {UPDATE}")
        elif (more > 0) == (column in WORSE_IF_MORE):
            worse.append(f"{name}: {column} found {found[column]}, allowed {allowed[column]}")
        else:
            better.append(f"{name}: {column} {found[column]}, better than the table's {allowed[column]}")


def show(lines, file):
    print(*lines[:SHOWN], sep="\n", file=file)
    if len(lines) > SHOWN:
        print(f"... and {len(lines) - SHOWN} more", file=file)


def print_fused(found):
    """The fused pair loss, for people; both 16-bit formats compile alike."""
    columns = ("pair_easy", "pair_negatives", "pair_kept", "tile_easy", "tile_negatives", "tile_kept", "ldsm_hmma", "chain", "blocks")
    print(f"{'kernel':<36}{'arch':<9}" + "".join(f"{column:>15}" for column in columns))
    fused = [key for key in found if key[0].startswith(("pair_loss_constant_f16_", "pair_loss_curve_f16_"))]
    for kernel, architecture in sorted(fused, key=lambda key: (int(re.search(r"\d{2,4}(?=$|_large)", key[0]).group()), key)):
        print(f"{kernel:<36}{architecture:<9}" + "".join(f"{text_of(found[kernel, architecture], column):>15}" for column in columns))


def main():
    parser = argparse.ArgumentParser(description="Compares compiled kernels with .ci/kernel-budget.tsv.")
    parser.add_argument("tools", type=pathlib.Path)
    parser.add_argument("cubins", type=pathlib.Path)
    parser.add_argument("architectures", nargs="+", help="such as 90a")
    parser.add_argument("--update", action="store_true", help="write the table anew")
    options = parser.parse_args()
    found = measure_all(options.cubins, options.tools, options.architectures)
    if options.update:
        write_table(TABLE, found)
    worse, better = compare(found, read_table(TABLE))
    print_fused(found)
    print(f"{len(found)} kernels and architectures counted: {len(worse)} worse than {TABLE.name}, {len(better)} better")
    if better:
        show(better, sys.stdout)
        print(f"better than the table: {UPDATE}")
    if worse:
        show(worse, sys.stderr)
        sys.exit(1)


if __name__ == "__main__":
    main()
