#!/usr/bin/env python3
"""Draws some rounds of a trace of `sirnn run --profile DIR` as an SVG, for documents; ui.perfetto.dev shows all of it.

    python3 tools/trace_picture.py DIR/trace.json --first 672 --rounds 14 > rounds.svg

Above each other: what the server and the client computed and how long each waited, from the start of round `first`.
Colours are by protocol (the last part of a slice's name); numbers on top are rounds.
"""

import argparse
import html
import json
import zlib

WIDTH, LEFT, TRACK, GAP = 1200, 110, 34, 8
TRACKS = [(0, 0, "server computes"), (0, 1, "server waits"), (1, 0, "client computes"), (1, 1, "client waits")]


def protocol(name):
    return name.split(", ")[-1].split("/")[-1]


def colour(name):
    return f"hsl({zlib.crc32(name.encode()) % 360}, 60%, 70%)"


def draw(events, first, rounds):
    slices = [e for e in events if e["ph"] == "X" and first <= e["args"].get("round", -1) < first + rounds]
    if not slices:
        raise SystemExit(f"no rounds {first} to {first + rounds - 1} in this trace")
    start = min(e["ts"] for e in slices)
    scale = (WIDTH - LEFT - 10) / (max(e["ts"] + e["dur"] for e in slices) - start)
    x = lambda t: LEFT + (t - start) * scale
    top = 30
    bottom = top + len(TRACKS) * (TRACK + GAP)
    names = sorted({protocol(e["name"]) for e in slices if e["tid"] == 0 and e["name"]})
    out = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{bottom + 60}" '
        'font-family="sans-serif" font-size="11">',
        f'<rect width="{WIDTH}" height="{bottom + 60}" fill="white"/>',
    ]
    for i, (pid, tid, label) in enumerate(TRACKS):
        y = top + i * (TRACK + GAP)
        out.append(f'<text x="4" y="{y + TRACK / 2 + 4}">{label}</text>')
        for e in (e for e in slices if (e["pid"], e["tid"]) == (pid, tid)):
            fill = "#dddddd" if tid else colour(protocol(e["name"]))
            sent = ", ".join(f"{k.replace('_', ' ')} {v}" for k, v in e["args"].items())
            title = html.escape(f"{e['name']}: {e['dur']:.0f} us, {sent}")
            out.append(
                f'<rect x="{x(e["ts"]):.1f}" y="{y}" width="{max(e["dur"] * scale, 0.5):.1f}" height="{TRACK}" '
                f'fill="{fill}" stroke="#555" stroke-width="0.3"><title>{title}</title></rect>'
            )
    for e in (e for e in slices if (e["pid"], e["tid"]) == (0, 0)):
        out.append(f'<text x="{x(e["ts"]):.1f}" y="{top - 8}" fill="#555">{e["args"]["round"]}</text>')
    at = LEFT
    for name in names:
        out.append(f'<rect x="{at}" y="{bottom + 12}" width="12" height="12" fill="{colour(name)}"/>')
        out.append(f'<text x="{at + 16}" y="{bottom + 22}">{html.escape(name)}</text>')
        at += 40 + 7 * len(name)
    span = (WIDTH - LEFT - 10) / scale
    out.append(f'<text x="{LEFT}" y="{bottom + 46}" fill="#555">{span / 1e3:.2f} ms from left to right</text></svg>')
    return "\n".join(out)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("trace")
    parser.add_argument("--first", type=int, default=0, help="the first round to draw")
    parser.add_argument("--rounds", type=int, default=20)
    options = parser.parse_args()
    with open(options.trace, encoding="utf-8") as file:
        print(draw(json.load(file)["traceEvents"], options.first, options.rounds))


if __name__ == "__main__":
    main()
