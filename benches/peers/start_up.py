"""From the start of `xbm-fast train` on its built-in data to its first step done."""

import os
import shutil
import subprocess
import time

from contest import Row, spread

TARGET = 1.0


def first_step(command, folder):
    """Seconds of wall and of processor time until the line of the first step."""
    shutil.rmtree(folder, ignore_errors=True)
    arguments = ["train", "--device", "cpu", "--steps", "100", "--log-every", "1", "--eval-every", "0", "--out", str(folder)]
    begun = time.perf_counter()
    process = subprocess.Popen([command, *arguments], stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True)
    said = []
    for line in process.stderr:
        said.append(line)
        if line.startswith("step ") and " 1/" in line:
            break
    else:
        raise SystemExit("no first step: " + "".join(said))
    wall = time.perf_counter() - begun
    with open(f"/proc/{process.pid}/stat") as stat:
        fields = stat.read().rsplit(")", 1)[1].split()
    process.kill()
    process.wait()
    return wall, (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def rows(options):
    times = [first_step(options.xbm_fast, options.folder / "run") for _ in range(options.rounds)]
    clocks = {
        "wall": spread([wall for wall, _ in times]),
        "processor": spread([processor / options.threads for _, processor in times]),
    }
    yield Row("start-up to the first step", "s", clocks["wall"][1], "", None, clocks, TARGET, least=False, samples={"engine": times})
