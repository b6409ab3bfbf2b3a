"""Machine code as `nvdisasm -c` prints it: instructions, their registers, and where they may go next."""

import re
from dataclasses import dataclass, field

SECTION = re.compile(r"\s*\.section\s+\.text\.([^,\s]+)")
LABEL = re.compile(r"([^\s:]+):\s*$")
INSTRUCTION = re.compile(r"\s*/\*[0-9a-f]{4,}\*/\s+(?:@(!?U?P\w+)\s+)?([A-Z][\w.]*)\s*(.*)")
LABEL_OPERAND = re.compile(r"`\(([^)]+)\)")
BRANCH_TARGETS = re.compile(r'\(\*"BRANCH_TARGETS ([^"]+)"\*\)')
REGISTER = re.compile(r"(?<![A-Z])R(\d+)\b")

# Instructions whose first operand, where it is a register, is read; and those whose result may follow a predicate.
READS_FIRST_OPERAND = {"BRX", "JMX", "RET", "WARPSYNC", "BAR", "NANOSLEEP", "R2P", "BMOV"}
RESULT_AFTER_PREDICATE = {"SHFL", "LOP3", "ATOM", "ATOMG", "ATOMS", "MATCH"}
FP64_ARITHMETIC = {"DADD", "DMUL", "DFMA", "DSETP", "DMNMX", "DMMA"}
COPIES = ("MOV", "IMAD.MOV", "IMAD.MOV.U32")


@dataclass(frozen=True)
class Instruction:
    """One instruction; `guard` is its predicate, such as `!P0`, or empty."""

    guard: str
    opcode: str
    operands: tuple
    labels: tuple

    @property
    def base(self):
        """The opcode without its modifiers: LDG of LDG.E.U16."""
        return self.opcode.split(".")[0]

    @property
    def modifiers(self):
        return self.opcode.split(".")[1:]

    @property
    def never_executes(self):
        return self.guard == "!PT"

    @property
    def jumps(self):
        """Whether it may go to its labels. A call of a label inside the same function, which ptxas writes at the end of some loops, is a
        jump; any other call comes back and goes on behind itself. BSYNC stands right before its label, so it goes on as well."""
        if self.base == "CALL":
            return not self.is_call
        return self.base in ("BRA", "BRX", "BRXU", "JMP", "JMX")

    @property
    def is_call(self):
        return self.base == "CALL" and not (self.labels and self.labels[0].startswith(".L"))

    @property
    def goes_on(self):
        """Whether the next instruction may follow."""
        conditional = bool(self.guard) and self.guard not in ("PT", "UPT")
        if self.base in ("BRA", "JMP"):
            # BRA P0, `(label), BRA.U !UP0, `(label) and BRA.DIV UR4, `(label) state their condition as an operand.
            return conditional or len(self.operands) > 1
        return conditional or not (self.base in ("EXIT", "RET") or self.jumps)

    @property
    def written(self):
        """Numbers of the registers it writes."""
        first = self._result()
        return range(first, first + self._width()) if first is not None else range(0)

    @property
    def read(self):
        """Numbers of the registers it reads; of those that are several registers, the first."""
        result = self._result_place()
        texts = [operand for place, operand in enumerate(self.operands) if place != result]
        return [int(number) for text in texts for number in REGISTER.findall(text)]

    def _result_place(self):
        if not self.operands or self.base in READS_FIRST_OPERAND:
            return None
        place = 1 if self.base in RESULT_AFTER_PREDICATE and re.match(r"U?P", self.operands[0]) else 0
        is_register = place < len(self.operands) and re.match(r"R(\d+|Z)\b", self.operands[place])
        return place if is_register else None

    def _result(self):
        place = self._result_place()
        return register_of(self.operands[place]) if place is not None else None

    @property
    def added_to(self):
        """The first register of what a matrix product adds to; None where it adds to zeros."""
        sums = [operand for operand in self.operands if re.match(r"R(\d+|Z)\b", operand)]
        return register_of(sums[-1])

    def _width(self):
        if self.base == "HGMMA":
            # Sums of 64 x N numbers in 32 bits, over 128 threads.
            return int(self.modifiers[0].split("x")[1]) // 2
        if self.base == "HMMA" or "128" in self.modifiers or (self.base == "LDSM" and self.modifiers[-1] == "4"):
            return 4
        double = self.base in FP64_ARITHMETIC or self.base in ("FADD2", "FMUL2", "FFMA2")
        pair = {"64", "WIDE"} & set(self.modifiers) or "F64" in self.modifiers[:1] or (self.base == "CS2R" and "32" not in self.modifiers)
        return 2 if double or pair else 1


def register_of(operand):
    """The number of a register operand; None for RZ and for what is none."""
    found = REGISTER.match(operand)
    return int(found.group(1)) if found else None


@dataclass
class Code:
    """The section of one kernel: its own code first, then `helpers`, the functions that only it calls."""

    name: str
    instructions: list = field(default_factory=list)
    labels: dict = field(default_factory=dict)  # label to the index of its instruction
    helpers: int = None  # the index of the first helper's first instruction

    @property
    def own(self):
        return self.instructions[: self.helpers]


def parse_instruction(line):
    found = INSTRUCTION.match(line)
    if not found:
        return None
    guard, opcode, rest = found.groups()
    labels = LABEL_OPERAND.findall(rest)
    for targets in BRANCH_TARGETS.findall(rest):
        labels += targets.split(",")
    text = BRANCH_TARGETS.sub("", rest).strip().rstrip(";").strip()
    operands = tuple(part.strip() for part in text.split(",")) if text else ()
    return Instruction(guard or "", opcode, operands, tuple(labels))


def parse(text):
    """Every kernel's code in the disassembly of a cubin."""
    sections, code = [], None
    for line in text.splitlines():
        if section := SECTION.match(line):
            code = Code(section.group(1))
            sections.append(code)
        elif code is None:
            continue
        elif label := LABEL.match(line):
            code.labels[label.group(1)] = len(code.instructions)
            if label.group(1).startswith("$") and code.helpers is None:
                code.helpers = len(code.instructions)
        elif instruction := parse_instruction(line):
            code.instructions.append(instruction)
    return sections
