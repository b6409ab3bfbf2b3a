"""The engine beside its peers on this machine's CPU: one command, one table.

    python benches/peers/run.py [--quick] [--only pair_loss,network] [--rounds 5] [--evaluation-rows 60000] [--json FILE]

Needs benches/peers/requirements.txt, and cargo, which builds what is measured. Contenders take turns, one run (at least 0.3 s) each, so that
all of them see the same machine; their results are compared first. Ratios are of each round: least, median and largest. Wall time is what
counts on a quiet machine; on a loaded one read processor time. A row holds if the median does, by the clock that `--clock` names (auto: wall
time where the load was below 1 at the start).
"""

import argparse
import dataclasses
import importlib
import json
import os
import pathlib
import platform
import subprocess
import sys
import tempfile
import time

PARTS = ["start_up", "pair_loss", "network", "evaluation", "photographs"]
ROOT = pathlib.Path(__file__).resolve().parents[2]


def build():
    """Builds the engine's side and the command; returns their paths."""
    command = ["cargo", "build", "--release", "--bench", "peers", "--bin", "xbm-fast", "--message-format", "json-render-diagnostics"]
    lines = subprocess.run(command, cwd=ROOT, check=True, stdout=subprocess.PIPE, text=True).stdout.splitlines()
    built = [json.loads(line) for line in lines if '"executable"' in line]
    return {artifact["target"]["name"]: artifact["executable"] for artifact in built if artifact.get("executable")}


def machine(options):
    import faiss
    import pytorch_metric_learning
    import torch
    import torchvision

    model = ""
    if os.path.exists("/proc/cpuinfo"):
        model = next((line.split(":")[1].strip() for line in open("/proc/cpuinfo") if line.startswith("model name")), "")
    commit = subprocess.run(["git", "describe", "--always", "--dirty"], cwd=ROOT, capture_output=True, text=True).stdout.strip()
    versions = {"python": platform.python_version(), "torch": torch.__version__, "torchvision": torchvision.__version__}
    versions |= {"pytorch-metric-learning": pytorch_metric_learning.__version__, "faiss": faiss.__version__}
    return {
        "processor": model,
        "threads": options.threads,
        "load": os.getloadavg()[0],
        "commit": commit,
        "date": time.strftime("%Y-%m-%d %H:%M", time.gmtime()),
        "versions": versions,
    }


def line(row, clock):
    number = lambda value: "" if value is None else f"{value:,.3g}" if value < 1000 else f"{value:,.0f}"
    ratios = "; ".join(f"{clock} {middle:.2f} ({least:.2f} to {most:.2f})" for clock, (least, middle, most) in row.ratios.items())
    target = f"{'at least' if row.least else 'at most'} {row.target:g}"
    other = f"{row.peer} {number(row.other)}".strip()
    return f"| {row.name} | {number(row.engine)} {row.unit} | {other} | {ratios} | {target} | {'holds' if row.holds(clock) else 'MISSED'} |"


def main():
    import contest

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="fewer cases and rounds, 10,000 rows to evaluate")
    parser.add_argument("--only", default=",".join(PARTS), help=f"some of {','.join(PARTS)}")
    parser.add_argument("--rounds", type=int)
    parser.add_argument("--threads", type=int, default=contest.threads())
    parser.add_argument("--evaluation-rows", type=int)
    parser.add_argument("--deep", action="store_true", help="also let faiss list the 1,001 neighbours that Recall@1000 needs")
    parser.add_argument("--clock", choices=["auto", "wall", "processor"], default="auto")
    parser.add_argument("--json", type=pathlib.Path, help="write every sample here, too")
    options = parser.parse_args()
    options.rounds = options.rounds or (3 if options.quick else 5)
    options.evaluation_rows = options.evaluation_rows or (10_000 if options.quick else 60_000)
    built = build()
    options.program, options.xbm_fast = built["peers"], built["xbm-fast"]
    parts = {name: importlib.import_module(name) for name in options.only.split(",")}
    import torch

    torch.set_num_threads(options.threads)
    facts = machine(options)
    clock = options.clock if options.clock != "auto" else "wall" if facts["load"] < 1 else "processor"
    print(", ".join(f"{name} {value}" for name, value in facts.items()), f"clock {clock}", sep=", ")
    print("\n| what | engine | beside | times ahead, median (least to largest) | target | |\n|---|---|---|---|---|---|", flush=True)
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        options.folder = pathlib.Path(folder)
        for part in parts.values():
            for row in part.rows(options):
                rows.append(row)
                print(line(row, clock), flush=True)
    held = sum(row.holds(clock) for row in rows)
    print(f"\n{held} of {len(rows)} rows hold; load now {os.getloadavg()[0]:.1f}")
    if options.json:
        options.json.parent.mkdir(parents=True, exist_ok=True)
        options.json.write_text(json.dumps({**facts, "clock": clock, "rows": [dataclasses.asdict(row) for row in rows]}, indent=1) + "\n")


if __name__ == "__main__":
    sys.path.insert(0, str(pathlib.Path(__file__).parent))
    main()
