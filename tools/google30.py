"""Makes a model directory of the Google-30 network of the SIRNN authors, from their raw files.

  python tools/google30.py DIR --out models/google30

DIR holds weights_i8_12342.bin (W1, W2, U1, U2, Bg, Bh, FC, FCbias, row-major) and input_i8_99x32.bin, one utterance
(EzPC, FSS/tests/google30, as raw bytes). The program is engine/examples/google30.toml.
"""

import argparse
from pathlib import Path

import numpy as np

import fastgrnn as fg
import fixedpoint
import graph as gr

DESCRIPTION = Path(__file__).resolve().parent.parent / "engine" / "examples" / "google30.toml"
# Of the authors' program: neither is in the file of weights.
ZETA, NU = 30498, 22714


def load(directory, rounding=fixedpoint.FLOOR):
    """The model of the raw files in `directory`."""
    spec = dict(fg.from_graph(gr.read(DESCRIPTION.read_text())), rounding=rounding)
    raw = np.fromfile(Path(directory, "weights_i8_12342.bin"), dtype=np.int8)
    layer, classes = spec["layer"][0], len(spec["labels"])
    tensors = {"zeta": np.array([ZETA], dtype=np.int16), "nu": np.array([NU], dtype=np.int16)}

    def take(name, *shape):
        nonlocal raw
        n = int(np.prod(shape))
        tensors[name], raw = raw[:n].reshape(shape), raw[n:]

    for chain, rows in ((layer["w"], spec["features"]), (layer["u"], layer["hidden"])):
        for factor in chain:
            take(factor["tensor"], rows, factor["columns"])
            rows = factor["columns"]
    for bias in ("gate_bias", "candidate_bias"):
        take(layer["pre"][bias], layer["hidden"])
    take(spec["output"]["tensor"], layer["hidden"], classes)
    take(spec["output"]["bias"]["tensor"], classes)
    if raw.size:
        raise fg.ModelError(f"{raw.size} weights too many")
    return fg.Model(spec, tensors)


def items(directory, spec):
    """The utterances in `directory`, [N, T, F]."""
    raw = np.fromfile(Path(directory, "input_i8_99x32.bin"), dtype=np.int8)
    return raw.reshape(-1, spec["steps"], spec["features"])


def main(argv=None):
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("directory", type=Path, metavar="DIR")
    p.add_argument("--out", required=True, type=Path, metavar="DIR")
    p.add_argument("--rounding", choices=fixedpoint.ROUNDINGS, default=fixedpoint.FLOOR)
    args = p.parse_args(argv)
    model = load(args.directory, args.rounding)
    fg.save_model(model, args.out)
    x = items(args.directory, model.spec)
    np.save(args.out / "inputs.npy", x)
    np.save(args.out / "expected_scores.npy", fg.evaluate(model, x)[0].astype(np.int32))


if __name__ == "__main__":
    main()
