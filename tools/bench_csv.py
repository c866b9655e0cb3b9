#!/usr/bin/env python3
"""Writes the medians of the last `cargo bench` as CSV, one line per benchmark.

    python3 tools/bench_csv.py [TARGET_DIR] > benches/results/CPU-DATE.csv

Columns: benchmark, level (of kernels), median in nanoseconds, and the throughput where the benchmark declares one
(elements or bytes per second). The first lines, behind #, say on which machine and day.
"""

import csv
import datetime
import json
import os
import pathlib
import sys


def machine():
    model = "?"
    for line in open("/proc/cpuinfo", encoding="utf-8"):
        if line.startswith("model name"):
            model = line.split(":", 1)[1].strip()
            break
    return f"{model}, {os.cpu_count()} threads"


def rows(target):
    for found in sorted(pathlib.Path(target, "criterion").rglob("new/estimates.json")):
        if not (found.parent / "benchmark.json").exists():
            continue  # interrupted
        about = json.loads((found.parent / "benchmark.json").read_text())
        median = json.loads(found.read_text())["median"]["point_estimate"]
        name, level = about["full_id"], ""
        if name.startswith("kernels/"):
            name, level = name.rsplit("/", 1)
        rate = unit = ""
        throughput = about.get("throughput")
        if throughput:
            unit, amount = next(iter(throughput.items()))
            rate = f"{amount / median * 1e9:.4g}"
        yield [name, level, f"{median:.1f}", rate, unit and f"{unit.lower()}/s"]


def main():
    target = sys.argv[1] if len(sys.argv) > 1 else os.environ.get("CARGO_TARGET_DIR", "target")
    print(f"# {machine()}, {datetime.date.today().isoformat()}")
    out = csv.writer(sys.stdout, lineterminator="\n")
    out.writerow(["benchmark", "level", "median_ns", "rate", "unit"])
    out.writerows(rows(target))


if __name__ == "__main__":
    main()
