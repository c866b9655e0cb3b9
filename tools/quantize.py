"""Turns a trained float FastGRNN into a model directory of integers.

  python tools/quantize.py --weights float.npz --calibration x.npy --labels y.npy --out models/mine

The weights are an .npz file with these arrays (matrices [in, out]; flat arrays are reshaped):
  W, or W1 and W2 with W = W1 W2      input to hidden
  U, or U1 and U2 with U = U1 U2      hidden to hidden
  Bg, Bh                              biases of gate and candidate
  zeta, nu                            numbers, as trained (before their sigmoid) unless --zeta-nu activated
  FC, FCbias                          hidden to classes

Calibration items decide every scale. Take a few hundred training items, never the test set: a value beyond their
range times --headroom wraps around and spoils the result. The items must be what the network takes, or be brought
there by --mean and --std, which turn x into (x - mean) / std; the transformed items are written as inputs.npy.

Two choices make a model with fewer rounds, and change its bits: --collapse multiplies W1 W2 or U1 U2 out before
anything is quantised, and --pre-bits narrows the pre-activation, with which a fused step indexes a table of 2^bits
entries (`scan` shows the accuracy of each width and writes no model). What they cost in accuracy is printed and
written to report.md.
"""

import argparse
from pathlib import Path

import numpy as np

import fastgrnn as fg
import fixedpoint

# Widths of the pre-activation that `--pre-bits scan` tries: what a look-up of the engine can be indexed with.
SCAN = range(8, 13)
CHAINS = {"none": "", "u": "u", "w": "w", "both": "uw"}


def read_array(source):
    """An array of a .npy file, or of a .npz file given as file.npz:name."""
    path, _, name = str(source).rpartition(":")
    return np.load(path)[name] if path.endswith(".npz") else np.load(source)


class Weights:
    """Arrays of the weights file by the names of this tool."""

    def __init__(self, path, prefix, renames):
        self.arrays = dict(np.load(path))
        self.prefix, self.renames = prefix, renames

    def find(self, name):
        name = self.renames.get(name, name)
        return next((self.arrays[n] for n in (self.prefix + name, name) if n in self.arrays), None)

    def get(self, name):
        v = self.find(name)
        if v is None:
            raise SystemExit(f"the weights hold no {name} (they hold {', '.join(self.arrays)}); see --prefix and --rename")
        return np.asarray(v, dtype=np.float64)

    def matrix(self, name, rows, columns, transposed):
        """[rows, columns]; one of the two may be None."""
        v = self.get(name)
        rows = rows or v.size // columns
        columns = columns or v.size // rows
        if v.size != rows * columns:
            raise SystemExit(f"{name} has {v.size} elements, expected {rows} x {columns}")
        stored = (columns, rows) if transposed else (rows, columns)
        if v.ndim == 2 and v.shape != stored:
            raise SystemExit(f"{name} is {v.shape}, expected {stored}; see --transposed")
        v = v.reshape(stored)
        return v.T if transposed else v

    def chain(self, name, rows, columns, transposed):
        if self.find(name) is not None:
            return [self.matrix(name, rows, columns, transposed)]
        first = self.matrix(name + "1", rows, None, transposed)
        return [first, self.matrix(name + "2", first.shape[1], columns, transposed)]

    def network(self, features, transposed, activated):
        hidden, classes = self.get("Bg").size, self.get("FCbias").size
        numbers = {}
        for name in ("zeta", "nu"):
            v = self.get(name)
            if v.size != 1:
                raise SystemExit(f"{name} has {v.size} elements, expected one")
            numbers[name] = float(v.reshape(())) if activated else float(fg.sigmoid(v.reshape(())))
            if not 0.0 <= numbers[name] <= 1.0:
                raise SystemExit(f"{name} = {numbers[name]} is not the output of a sigmoid; see --zeta-nu")
        return {
            "W": self.chain("W", features, hidden, transposed),
            "U": self.chain("U", hidden, hidden, transposed),
            "Bg": self.get("Bg").reshape(hidden),
            "Bh": self.get("Bh").reshape(hidden),
            "FC": self.matrix("FC", hidden, classes, transposed),
            "FCbias": self.get("FCbias").reshape(classes),
            **numbers,
        }


def parse(argv=None):
    default = fg.Options()
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--weights", required=True, metavar="FILE.npz")
    p.add_argument("--calibration", required=True, metavar="FILE", help="items [N, T, F]: x.npy or file.npz:name")
    p.add_argument("--labels", metavar="FILE", help="classes of the calibration items: y.npy or file.npz:name")
    p.add_argument("--out", required=True, type=Path, metavar="DIR")
    p.add_argument("--inputs", metavar="FILE", help="items to write as inputs.npy (default: the calibration items)")
    p.add_argument("--input-labels", metavar="FILE", help="classes of --inputs")
    p.add_argument("--steps", type=int, help="time steps, if the items are flat")
    p.add_argument("--features", type=int, help="values per step, if the items are flat")
    p.add_argument("--mean", metavar="ARRAY", help="name in the weights, or file; [F] or [T, F], flat or not")
    p.add_argument("--std", metavar="ARRAY", help="likewise")
    p.add_argument("--prefix", default="", help="what the names in the weights begin with")
    p.add_argument("--rename", action="append", default=[], metavar="NAME=THEIRS", help="may be repeated")
    p.add_argument("--transposed", action="store_true", help="matrices are stored [out, in]")
    p.add_argument("--zeta-nu", choices=("raw", "activated"), default="raw", help="activated: already through sigmoid")
    p.add_argument("--name", help="name of the model (default: that of the directory)")
    p.add_argument("--classes", metavar="A,B,...", help="names of the classes (default: 0,1,...)")
    p.add_argument("--reveal", choices=("scores", "class"), default=default.reveal, help="what the client learns")
    p.add_argument("--rounding", choices=fixedpoint.ROUNDINGS, default=default.rounding)
    p.add_argument("--headroom", type=float, default=default.headroom, help="default: %(default)s")
    for option, text in (
        ("input", "input values"),
        ("weight", "weights"),
        ("rank", "values between the two factors of a low-rank matrix"),
        ("state", "hidden state"),
        ("score", "scores"),
    ):
        value = getattr(default, option + "_bits")
        p.add_argument(f"--{option}-bits", type=int, default=value, help=f"width of {text} (default: {value})")
    add_choices(p, pre_bits=default.pre_bits, collapse="none")
    args = p.parse_args(argv)
    for option in ("input", "weight", "rank", "state", "score"):
        if not 4 <= getattr(args, option + "_bits") <= 16:
            p.error(f"--{option}-bits must be from 4 to 16")
    if args.headroom < 1.0:
        p.error("--headroom must be at least 1")
    return args


def add_choices(p, pre_bits, collapse):
    """The options that trade accuracy for rounds."""

    def width(text):
        if text != "scan" and not 4 <= int(text) <= 16:
            raise argparse.ArgumentTypeError("from 4 to 16, or scan")
        return text if text == "scan" else int(text)

    shown = f" (default: {pre_bits})" if pre_bits else ""
    text = f"width of pre-activations{shown}"
    p.add_argument("--pre-bits", type=width, default=pre_bits, metavar="N|scan", help=text)
    p.add_argument("--collapse", choices=CHAINS, default=collapse, help="low-rank products to multiply out")


def table(head, rows):
    """A table in Markdown."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(map(str, line)) + " |" for line in lines)


def main(argv=None):
    args = parse(argv)
    weights = Weights(args.weights, args.prefix, dict(r.split("=", 1) for r in args.rename))

    def statistic(name, neutral, shape):
        if name is None:
            return neutral
        v = weights.find(name)
        v = read_array(name) if v is None else v
        return v.reshape(shape if v.size == np.prod(shape) else shape[-1:])

    def items(source):
        x = read_array(source).astype(np.float64)
        if x.ndim != 3:
            if not (args.steps and args.features):
                raise SystemExit(f"{source} is {x.shape}, not [N, T, F]: give --steps and --features")
            x = x.reshape(-1, args.steps, args.features)
        shape = x.shape[1:]
        # What the tool writes is what it evaluates: single precision.
        return ((x - statistic(args.mean, 0.0, shape)) / statistic(args.std, 1.0, shape)).astype(np.float32)

    calibration = items(args.calibration)
    net = weights.network(calibration.shape[2], args.transposed, args.zeta_nu == "activated")
    classes = args.classes.split(",") if args.classes else [str(i) for i in range(net["FCbias"].size)]
    inputs = items(args.inputs) if args.inputs else None
    read_labels = lambda source: read_array(source).reshape(-1) if source else None
    sets = [("calibration", calibration, read_labels(args.labels))]
    if args.inputs:
        sets.append(("inputs", inputs, read_labels(args.input_labels)))

    name = args.name or args.out.resolve().name
    options = fg.Options(**{field: getattr(args, field) for field in fg.Options._fields})
    nets = {"as given": net}
    if args.collapse != "none":
        nets[f"collapsed {args.collapse}"] = fg.collapse(net, CHAINS[args.collapse].upper())
    scan = args.pre_bits == "scan"
    rows = [("float", "-", *(cell for _, x, y in sets for cell in agreement(fg.forward(net, x), net, x, y)))]
    for title, variant in nets.items():
        for bits in SCAN if scan else [args.pre_bits]:
            try:
                model, headroom = fg.quantize(variant, calibration, name, classes, options._replace(pre_bits=bits))
            except fg.ModelError as error:
                if not scan:
                    raise SystemExit(f"error: {error}") from None
                rows.append((title, bits, str(error), *[""] * (2 * len(sets) - 1)))
                continue
            measured = (agreement(fg.evaluate(model, x)[0], net, x, y) for _, x, y in sets)
            rows.append((title, bits, *(cell for cells in measured for cell in cells)))
    head = ["program", "pre-bits", *(f"{title}: {what}" for title, _, _ in sets for what in ("as float", "right"))]
    sizes = ", ".join(f"{len(x)} {title} items" for title, x, _ in sets)
    text = table(head, rows)
    args.out.mkdir(parents=True, exist_ok=True)
    report = f"# {name}\n\n{sizes}; `as float`: same class as the float network.\n\n{text}\n"
    (args.out / "report.md").write_text(report)
    if scan:
        print(text)
        return

    # The last one is the one that was asked for.
    fg.save_model(model, args.out)
    _, x, y = sets[-1]
    np.save(args.out / "inputs.npy", x)
    np.save(args.out / "expected_scores.npy", fg.evaluate(model, x)[0].astype(np.int32))
    if y is not None:
        fg.save_labels(args.out / "labels.csv", y)
    for place, ratio in headroom.places.items():
        print(f"headroom {ratio:8.2f}  {place}")
    print(text)
    if args.inputs:
        seen = fg.Headroom()
        fg.evaluate(model, inputs, seen)
        if seen.worst()[0] < 1.0:
            print("warning: %s wraps around on the inputs; calibrate on more items" % seen.worst()[1])


def agreement(scores, net, x, labels):
    """Of a program's scores: same class as the float network, right answers. For a table."""
    classes = fg.classify(scores)
    same = f"{np.mean(classes == fg.classify(fg.forward(net, x))):.2%}"
    return same, "-" if labels is None else f"{np.mean(classes == labels):.2%}"


if __name__ == "__main__":
    main()
