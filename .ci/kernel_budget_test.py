#!/usr/bin/env python3
"""Tests of .ci/kernel_budget.py on small machine code written by hand; `.ci/kernels budget` runs them first."""

import contextlib
import io
import pathlib
import tempfile
import unittest

import kernel_budget
from budget.flow import Graph, best_path
from budget.measure import ProductFlow, blocks_per_multiprocessor, measure, operation_counts, tile_loop
from budget.sass import parse, parse_instruction


def code_of(text):
    """A kernel of these lines: labels end in a colon, anything else is an instruction."""
    lines = ["\t.section\t.text.kernel,\"ax\",@progbits", "kernel:", ".text.kernel:"]
    for place, line in enumerate(text.strip().splitlines()):
        line = line.strip()
        lines.append(line if line.endswith(":") else f"        /*{16 * place:04x}*/      {line} ;")
    (code,) = parse("\n".join(lines))
    return code


def row_of(text):
    return measure(code_of(text), "sm_90a", 128, 256)


# One similarity product of two links; then two of its four elements have a branch each, and the others are read at once.
TILE = """
    MOV R0, RZ
.L_head:
    LDSM.16.M88.4 R8, [R1]
    LDSM.16.M88.4 R12, [R1+0x100]
    HMMA.16816.F32 R20, R8, R12, RZ
    HMMA.16816.F32 R24, R8.reuse, R14, R20
    FADD R2, R26, R27
    @P1 BRA `(.L_second)
    FFMA R3, RZ, R24, R3
    FSETP.GT.AND P0, PT, R24, R4, PT
    @!P0 BRA `(.L_second)
    @P4 BRA `(.L_call)
    FMUL R5, R24, R6
    FMUL R5, R5, R6
    FMUL R5, R5, R6
    BRA `(.L_second)
.L_call:
    MOV R30, R24
    NOP
    NOP
    NOP
    NOP
    CALL.REL.NOINC `($kernel$curve)
.L_second:
    @P2 BRA `(.L_end)
    FFMA R3, RZ, R25, R3
.L_end:
    VOTE.ANY P3, P0
    IADD3 R0, R0, 0x1, RZ
    @P0 BRA `(.L_head)
    EXIT
$kernel$curve:
    DADD R40, R42, R44
    RET.REL.NODEC R50 `(kernel)
"""


class Parsing(unittest.TestCase):
    def test_an_instruction_in_its_parts(self):
        instruction = parse_instruction("        /*0a40*/              @!P0 LDGSTS.E.BYPASS.128 [R23+0xc200], desc[UR6][R14.64], !P3 ;")
        self.assertEqual((instruction.guard, instruction.base, instruction.modifiers), ("!P0", "LDGSTS", ["E", "BYPASS", "128"]))
        self.assertEqual(instruction.operands, ("[R23+0xc200]", "desc[UR6][R14.64]", "!P3"))
        self.assertEqual((list(instruction.written), instruction.read), ([], [23, 14]))

    def test_registers_written_and_read(self):
        for text, written, read in [
            ("FFMA R2, -R3.reuse, |R4|, R2", [2], [3, 4, 2]),
            ("HMMA.16816.F32 R20, R8, R12, RZ", [20, 21, 22, 23], [8, 12]),
            ("LDG.E.64 R6, desc[UR4][R2.64]", [6, 7], [2]),
            ("SHFL.BFLY PT, R8, R4, 0x1, 0x1f", [8], [4]),
            ("ISETP.GE.AND P0, PT, R3, R4, PT", [], [3, 4]),
            ("LOP3.LUT P0, RZ, R15, 0x7f, R14, 0xc8, !PT", [], [15, 14]),
            ("STS.64 [R3], R4", [], [3, 4]),
            ("DFMA R4, R6, R8, R10", [4, 5], [6, 8, 10]),
        ]:
            instruction = parse_instruction(f"  /*0000*/  {text} ;")
            self.assertEqual((list(instruction.written), instruction.read), (written, read), text)

    def test_where_control_goes(self):
        for text, jumps, goes_on, calls in [
            ("BRA `(.L_1)", True, False, False),
            ("@P0 BRA `(.L_1)", True, True, False),
            ("BRA !P0, `(.L_1)", True, True, False),
            ("BRA.U UP0, `(.L_1)", True, True, False),
            ("CALL.REL.NOINC `($f)", False, True, True),
            ("CALL.REL.NOINC `(.L_1)", True, False, False),
            ("@P0 CALL.REL.NOINC `(.L_1)", True, True, False),
            ("BSSY B0, `(.L_1)", False, True, False),
            ("EXIT", False, False, False),
            ("@P0 EXIT", False, True, False),
            ("BRX R2 -0x3500   (*\"BRANCH_TARGETS .L_1,.L_2\"*)", True, False, False),
        ]:
            instruction = parse_instruction(f"  /*0000*/  {text};")
            self.assertEqual((instruction.jumps, instruction.goes_on, instruction.is_call), (jumps, goes_on, calls), text)

    def test_targets_of_an_indirect_branch(self):
        self.assertEqual(parse_instruction("  /*0000*/  BRX R2 -0x35  (*\"BRANCH_TARGETS .L_1,.L_2\"*);").labels, (".L_1", ".L_2"))

    def test_helpers_are_not_the_kernels_own_code(self):
        code = code_of(TILE)
        self.assertEqual((len(code.instructions), len(code.own)), (29, 27))


class Flow(unittest.TestCase):
    def path_lengths(self, text):
        graph = Graph(code_of(text))
        (loop,) = [loop for loop in graph.loops if not any(loop.body < other.body for other in graph.loops)]
        length = lambda block: graph.blocks[block].last - graph.blocks[block].first
        shortest, longest = (best_path(graph, loop, lambda block, sign=sign: (sign * length(block),)) for sign in (1, -1))
        return sum(map(length, shortest)), sum(map(length, longest))

    def test_two_paths_through_a_loop(self):
        text = """
            MOV R0, RZ
        .L_head:
            IADD3 R0, R0, 0x1, RZ
            @P0 BRA `(.L_short)
            NOP
            NOP
            NOP
            BRA `(.L_join)
        .L_short:
            NOP
        .L_join:
            @P1 BRA `(.L_head)
            EXIT
        """
        self.assertEqual(self.path_lengths(text), (4, 7))

    def test_an_inner_loop_counts_once(self):
        text = """
        .L_head:
            @P2 BRA `(.L_behind)
        .L_inner:
            NOP
            NOP
            @P0 BRA `(.L_inner)
        .L_behind:
            @P1 BRA `(.L_head)
            EXIT
        """
        self.assertEqual(self.path_lengths(text), (2, 5))

    def test_a_second_way_back_to_the_head(self):
        text = """
        .L_head:
            NOP
            @P0 BRA `(.L_head)
            NOP
            BRA `(.L_head)
        """
        self.assertEqual(self.path_lengths(text), (2, 4))

    def test_a_call_used_as_a_jump_leaves_the_loop(self):
        text = """
        .L_head:
            NOP
            @P0 CALL.REL.NOINC `(.L_out)
            BRA `(.L_head)
        .L_out:
            NOP
            EXIT
        """
        self.assertEqual(self.path_lengths(text), (3, 3))

    def test_an_unreachable_loop_is_none(self):
        self.assertEqual(Graph(code_of("EXIT\n.L_1:\nBRA `(.L_1)")).loops, [])

    def test_a_path_passes_its_stops(self):
        graph = Graph(code_of(TILE))
        loop = tile_loop(graph)
        stops = ProductFlow(graph, loop).first_readers()
        self.assertEqual(len(stops), 3)
        path = best_path(graph, loop, lambda block: (1,), stops)
        for stop in stops:
            self.assertTrue(stop & set(path))
        self.assertIsNone(best_path(graph, loop, lambda block: (1,), stops[::-1]))

    def test_one_block_may_be_several_stops(self):
        graph = Graph(code_of(TILE))
        loop = tile_loop(graph)
        self.assertIsNotNone(best_path(graph, loop, lambda block: (1,), [{loop.head}, {loop.head}]))

    def test_a_loop_with_two_entries_is_refused(self):
        text = """
            @P0 BRA `(.L_middle)
        .L_head:
            NOP
        .L_middle:
            NOP
            @P1 BRA `(.L_head)
            EXIT
        """
        with self.assertRaisesRegex(ValueError, "entered beside its head"):
            Graph(code_of(text))


class Products(unittest.TestCase):
    def chain(self, *products):
        readers = [f"FADD R2, R{register}, R2" for register in (20, 24, 40)]
        lines = [".L_head:", *products, *readers, "@P0 BRA `(.L_head)", "EXIT"]
        return row_of("\n".join(lines))["chain"]

    def test_dependent_products(self):
        link = "HMMA.16816.F32 R20, R8, R12, R20"
        self.assertEqual(self.chain("HMMA.16816.F32 R20, R8, R12, RZ", link, link, link, link), 5)

    def test_independent_products(self):
        others = ["HMMA.16816.F32 R24, R8, R14, RZ", "HMMA.16816.F32 R28, R8, R14, R28"]
        self.assertEqual(self.chain("HMMA.16816.F32 R20, R8, R12, RZ", *others), 1)

    def test_a_chain_goes_on_in_other_registers(self):
        first, copy = "HMMA.16816.F32 R20, R8, R12, RZ", "IMAD.MOV.U32 R40, RZ, RZ, R24"
        self.assertEqual(self.chain(first, "HMMA.16816.F32 R24, R8, R12, R20", copy, "HMMA.16816.F32 R40, R8, R12, R40"), 3)

    def test_a_chain_ends_where_its_registers_are_written(self):
        reset = ["FADD R2, R20, R2", "CS2R R20, SRZ", "CS2R R22, SRZ"]
        self.assertEqual(self.chain("HMMA.16816.F32 R20, R8, R12, RZ", *reset, "HMMA.16816.F32 R20, R8, R12, R20"), 1)

    def test_the_longer_side_of_a_branch(self):
        link = "HMMA.16816.F32 R20, R8, R12, R20"
        self.assertEqual(self.chain("HMMA.16816.F32 R20, R8, R12, RZ", "@P1 BRA `(.L_1)", link, link, ".L_1:", link), 4)

    def test_a_register_may_hold_either_of_two_similarities(self):
        either = ["MOV R40, R21", "@P1 BRA `(.L_1)", "MOV R40, R20", ".L_1:", "FADD R2, R40, R2"]
        lines = [".L_head:", "HMMA.16816.F32 R20, R8, R12, RZ", *either, "@P0 BRA `(.L_head)", "EXIT"]
        graph = Graph(code_of("\n".join(lines)))
        flow = ProductFlow(graph, tile_loop(graph))
        self.assertEqual((flow.readers, set(flow.reader_blocks)), ({4}, {(0, 0), (0, 1)}))

    def test_the_tile_loop_is_the_innermost_with_most_products(self):
        text = """
        .L_outer:
            NOP
        .L_copy:
            NOP
            @P0 BRA `(.L_copy)
        .L_tile:
            HMMA.16816.F32 R20, R8, R12, RZ
            FADD R2, R20, R2
            @P1 BRA `(.L_tile)
            @P2 BRA `(.L_outer)
            EXIT
        """
        self.assertEqual((row_of(text)["tile_least"], row_of(text)["elements"]), (3, 4))


class Tile(unittest.TestCase):
    def test_elements_and_matrix_loads(self):
        row = row_of(TILE)
        columns = ("elements", "ldsm", "hmma", "ldsm_hmma", "chain", "branches", "votes")
        self.assertEqual([row[column] for column in columns], [4, 2, 2, 1.0, 2, 6, 1])

    def test_paths_by_name(self):
        row = row_of(TILE)
        # The head's six; the jump to .L_second; its one; three at the end.
        self.assertEqual(row["tile_least"], 6 + 1 + 3)
        # Both elements with a branch are read: three instructions each, and the jump past what has weight.
        self.assertEqual(row["tile_easy"], 6 + 3 + 2 + 3)
        # The weight, without the call.
        self.assertEqual(row["tile_kept"], 6 + 3 + 5 + 2 + 3)
        self.assertEqual(row["tile_most"], 6 + 3 + 1 + 6 + 2 + 3)

    def test_negatives_pass_the_votes_and_products_of_what_is_kept_and_nothing_else(self):
        text = """
        .L_head:
            HMMA.16816.F32 R20, R8, R12, RZ
            FADD R2, R20, R21
            FADD R2, R22, R23
            VOTE.ANY P1, P2
            @!P1 BRA `(.L_easy)
            MOV R0, RZ
            VOTE.ANY P3, P4
            @!P3 BRA `(.L_negatives)
            MOV R1, RZ
            MOV R2, RZ
        .L_negatives:
            MOV R3, RZ
        .L_easy:
            VOTE.ANY P5, P6
            @!P5 BRA `(.L_end)
            HMMA.16816.F32 R40, R8, R12, R40
        .L_end:
            @P0 BRA `(.L_head)
            EXIT
        """
        row = row_of(text)
        self.assertEqual((row["tile_easy"], row["tile_negatives"], row["tile_kept"]), (5 + 2 + 1, 5 + 3 + 1 + 2 + 1 + 1, 13 + 2))
        self.assertEqual((row["hmma"], row["hmma_easy"], row["ldsm_easy"]), (2, 1, 0))

    def test_slots_between_the_products(self):
        row = row_of(TILE)
        # Without the four of the products before, and the three from the vote on.
        self.assertEqual((row["pair_easy"], row["pair_kept"]), (round(7 / 4, 1), round(12 / 4, 1)))

    def test_votes_before_the_last_reader_are_between_the_products(self):
        row = row_of(TILE.replace("FADD R2, R26, R27", "FADD R2, R26, R27\nVOTE.ANY P6, P5"))
        self.assertEqual(row["pair_easy"], 8 / 4)

    def test_what_a_register_held_before_is_not_read(self):
        # R20 has gone into the next product; R30 goes into the call and comes out as something else.
        for register in ("R20", "R30"):
            row = row_of(TILE.replace(".L_second:", f".L_second:\nFADD R0, {register}, R0"))
            self.assertEqual(row["tile_easy"], 1 + row_of(TILE)["tile_easy"], register)

    def test_a_tile_that_nothing_reads_is_refused(self):
        with self.assertRaisesRegex(ValueError, "nothing reads a similarity"):
            row_of(".L_head:\nHMMA.16816.F32 R20, R8, R12, RZ\n@P0 BRA `(.L_head)\nEXIT")

    def test_shared_memory_of_the_loop_only(self):
        self.assertEqual(row_of(TILE.replace("MOV R0, RZ", "LDS.128 R0, [R2]", 1))["wavefronts"], 8)

    def test_a_kernel_without_products_has_no_tile(self):
        row = row_of("LDS.64 R2, [R4]\n@!PT LDS RZ, [RZ]\nSTS [R4], R2\nEXIT")
        self.assertNotIn("tile_least", row)
        self.assertEqual((row["lds"], row["sts"], row["wavefronts"]), (1, 1, 3))


class Operations(unittest.TestCase):
    def counts(self, *lines):
        return operation_counts(code_of("\n".join(lines)).instructions)

    def test_64_bit_floating_point(self):
        counted = ["DADD R2, R4, R6", "@P0 DFMA R2, R4, R6, R8", "DSETP.GT.AND P0, PT, R2, R4, PT"]
        counted += ["MUFU.RCP64H R3, R5", "F2F.F64.F32 R2, R4"]
        self.assertEqual(self.counts(*counted, "DEPBAR.LE SB0, 0x0", "FADD R2, R3, R4", "IMAD.WIDE R2, R3, R4, R6")["fp64"], 5)

    def test_integer_divisions(self):
        counts = self.counts(
            *("CALL.REL.NOINC `($__internal_1_$__cuda_sm20_div_u64)", "CALL.REL.NOINC `($__internal_2_$__cuda_sm20_rem_u64)"),
            *("CALL.REL.NOINC `($__internal_3_$__cuda_sm3x_div_rn_noftz_f32_slowpath)", "I2F.U32.RP R0, R9", "I2F.RP R0, R9"),
            *("I2F.U32 R0, R9", "I2F.U64.RP R0, R8"),
        )
        self.assertEqual((counts["div64"], counts["div32"], counts["calls"]), (2, 2, 3))

    def test_widths_of_memory(self):
        counts = self.counts(
            *("LDG.E.U8 R2, desc[UR4][R4.64]", "LDG.E.S8 R2, [R4.64]", "LDG.E.U16.CONSTANT R2, [R4.64]", "LDG.E R2, [R4.64]"),
            *("LDG.E.64 R2, [R4.64]", "LDG.E.128 R4, [R8.64]", "LD.E.U8 R2, [R4.64]", "STG.E.U16 [R4.64], R2", "STG.E.128 [R4.64], R8"),
            *("LDGSTS.E.BYPASS.128 [R2], [R4.64]", "LDL R2, [R1]", "STL [R1], R2"),
        )
        self.assertEqual([counts[f"load{bits}"] for bits in (8, 16, 32, 64, 128)], [3, 1, 1, 1, 1])
        self.assertEqual([counts[f"store{bits}"] for bits in (8, 16, 32, 64, 128)], [0, 1, 0, 0, 1])
        self.assertEqual((counts["generic"], counts["local"]), (1, 2))

    def test_blocks_of_a_multiprocessor(self):
        for architecture, registers, threads, blocks in [
            *(("sm_90a", 198, 128, 2), ("sm_90a", 134, 256, 1), ("sm_90a", 128, 256, 2), ("sm_80", 140, 128, 3)),
            *(("sm_90a", 16, 32, 32), ("sm_90a", 150, 32, 12), ("sm_90a", 16, 1024, 2), ("sm_120", 16, 1024, 1)),
        ]:
            self.assertEqual(blocks_per_multiprocessor(architecture, registers, threads), blocks, (architecture, registers, threads))


class Table(unittest.TestCase):
    KEY = ("kernel", "sm_90a")

    def compared(self, **found):
        before = row_of(TILE)
        return kernel_budget.compare({self.KEY: {**before, **found}}, {self.KEY: before})

    def test_the_same_is_neither_worse_nor_better(self):
        self.assertEqual(self.compared(), ([], []))

    def test_worse_in_any_column_is_named(self):
        before = row_of(TILE)
        for column in kernel_budget.WORSE_IF_MORE:
            worse, better = self.compared(**{column: before[column] + 0.1})
            self.assertEqual((worse, better), ([f"kernel for sm_90a: {column} found {before[column] + 0.1}, allowed {before[column]}"], []))
        worse, _ = self.compared(blocks=before["blocks"] - 1)
        self.assertEqual(len(worse), 1)

    def test_better_passes_and_is_told(self):
        for column, value in (("tile_easy", 1), ("blocks", 9)):
            worse, better = self.compared(**{column: value})
            self.assertEqual((worse, len(better)), ([], 1))

    def test_what_has_no_direction_is_free(self):
        self.assertEqual(self.compared(instructions=9999, load128=0, registers=255), ([], []))

    def test_another_tile_is_told(self):
        worse, _ = self.compared(elements=8)
        self.assertIn("elements found 8, in the table 4", worse[0])

    def test_a_tile_loop_that_goes_is_told(self):
        before = row_of(TILE)
        without = {column: value for column, value in before.items() if not column.startswith("tile_")}
        worse, _ = kernel_budget.compare({self.KEY: without}, {self.KEY: before})
        self.assertEqual(len(worse), 5)

    def test_kernels_missing_on_either_side(self):
        row = row_of(TILE)
        self.assertIn("not in the table", kernel_budget.compare({self.KEY: row}, {})[0][0])
        self.assertIn("no such kernel", kernel_budget.compare({}, {self.KEY: row})[0][0])

    def test_the_file_holds_what_was_counted(self):
        rows = {self.KEY: row_of(TILE), ("other", "sm_80"): row_of("LDS.64 R2, [R4]\nEXIT")}
        with tempfile.TemporaryDirectory() as folder:
            path = pathlib.Path(folder) / "table.tsv"
            kernel_budget.write_table(path, rows)
            self.assertEqual(kernel_budget.read_table(path), rows)
            path.write_text(path.read_text().replace("chain", "chains"))
            with self.assertRaisesRegex(ValueError, "expected the columns"):
                kernel_budget.read_table(path)

    def test_registers_and_threads_of_the_object(self):
        text = (
            ".nv.info\n\t<0x1>\n\tAttribute:\tEIATTR_REGCOUNT\n\tFormat:\tEIFMT_SVAL\n\tValue:\tfunction: kernel(0x3f)\tregister count: 140\n"
            ".nv.info.kernel\n\t<0x11>\n\tAttribute:\tEIATTR_MAX_THREADS\n\tFormat:\tEIFMT_SVAL\n\tValue:\t0x80 0x2 0x1 \n"
        )
        self.assertEqual(kernel_budget.resources(text), {"kernel": (140, 256)})

    def test_the_fused_pair_loss_is_printed_by_length_whatever_its_tiling(self):
        names = ["pair_loss_constant_f16_1024_large", "pair_loss_curve_f16_64", "pair_loss_constant_f16_512_large"]
        with contextlib.redirect_stdout(io.StringIO()) as printed:
            kernel_budget.print_fused({(name, "sm_80"): {"chain": 8} for name in names} | {("cast_f16", "sm_80"): {}})
        self.assertEqual([line.split()[0] for line in printed.getvalue().splitlines()[1:]], [names[1], names[2], names[0]])


if __name__ == "__main__":
    unittest.main()
