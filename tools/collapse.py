"""Multiplies out the low-rank products of an integer model, so that a step has fewer rescales and a run fewer rounds.

  python tools/collapse.py --model models/mine --collapse u --out models/mine-collapsed

For models of which only the integers are left; with the float weights at hand use quantize.py --collapse. The
integers of a chain's factors are multiplied exactly and rounded to --weight-bits, the scales add up. The result is
another program: fewer roundings, other low bits. What the roundings lose on average, before and after, goes into the
biases. The tool runs both programs on the items and reports how far they agree.

--pre-bits drops low bits of the pre-activation as well: a fused step looks it up in a table of 2^bits entries. `scan`
shows what each width does and writes no model.
"""

import argparse
from pathlib import Path

import numpy as np

import fastgrnn as fg
import fixedpoint
from quantize import CHAINS, SCAN, add_choices, table


def lost(bits, rounding):
    """What dropping so many bits takes off a number on average."""
    return 0.5 * (1.0 - 2.0**-bits) if rounding == fixedpoint.FLOOR else 0.0


def mean_error(factors, tensors, rounding):
    """What the roundings of a chain add on average to its results."""
    error = np.zeros(tensors[factors[0]["tensor"]].shape[0])
    for f in factors:
        error = error @ tensors[f["tensor"]].astype(np.float64) * 2.0 ** -(f["floor"] + f["shift"])
        error = error - lost(f["floor"], fixedpoint.FLOOR) * 2.0 ** -f["shift"] - lost(f["shift"], rounding)
        error = error * 2.0 ** f["left"]
    return error


def collapsed(model, letters, weight_bits, pre_bits=None):
    """The model with the chains of `letters` ("u", "w") as single products, its pre-activation of `pre_bits` bits."""
    spec, tensors = fg.copy(model)
    rounding = spec["rounding"]
    for layer in spec["layer"]:
        pre = layer["pre"]
        significant = fg.ACTIVATION_BITS - pre["left"]
        cut = 0 if pre_bits is None else significant - pre_bits
        if cut < 0:
            raise fg.ModelError(f"the pre-activation has {significant} bits, not {pre_bits}")
        before, after = 0.0, 0.0
        for letter in ("w", "u"):
            chain, rescaled = layer[letter], "shift_" + letter
            error = mean_error(chain, tensors, rounding) * 2.0 ** -pre[rescaled]
            before = before + error - lost(pre[rescaled], rounding)
            if letter in letters and len(chain) > 1:
                names = [f["tensor"] for f in chain]
                m = fg.product([tensors[n].astype(np.int64) for n in names])
                down = sum(f["floor"] + f["shift"] - f["left"] for f in chain) + pre[rescaled] + cut
                # Round to as many bits as asked for, and no more than the shift has.
                drop = 0
                while not fixedpoint.fits((m + (1 << drop >> 1)) >> drop, weight_bits):
                    drop += 1
                if drop > down:
                    raise fg.ModelError(f"{weight_bits} bits for the product {'*'.join(names)} are too few")
                name = letter.upper() if letter.upper() not in tensors else f"{letter.upper()}{len(tensors)}"
                shared = {f["tensor"] for l in spec["layer"] for c in "wu" if l[c] is not chain for f in l[c]}
                for n in set(names) - shared:
                    del tensors[n]
                tensors[name] = ((m + (1 << drop >> 1)) >> drop).astype(fg.storage(weight_bits))
                # Nothing wraps in between, and the last wrap is that of the pre-activation.
                single = {"tensor": name, "bits": weight_bits, "floor": 0, "shift": down - drop, "left": 0}
                layer[letter] = [{**single, "out": significant - cut, "columns": layer["hidden"]}]
                pre[rescaled] = 0
                after = after - lost(down - drop, rounding)
            else:
                pre[rescaled] += cut
                after = after + error * 2.0**-cut - lost(pre[rescaled], rounding)
        # The biases stand at the scale of the pre-activation and take over the difference.
        for bias in {pre["gate_bias"], pre["candidate_bias"]}:
            v = np.rint((tensors[bias] + before) * 2.0**-cut - after).astype(np.int64)
            if not fixedpoint.fits(v, pre["bias_bits"]):
                pre["bias_bits"] = fg.ACTIVATION_BITS
            tensors[bias] = v
        for bias in {pre["gate_bias"], pre["candidate_bias"]}:
            tensors[bias] = tensors[bias].astype(fg.storage(pre["bias_bits"]))
        pre["left"] += cut
    spec["name"] += "_collapsed"
    result = fg.Model(spec, tensors)
    fg.check(result)
    return result


def compare(model, other, x):
    """Of two models with the same items: (same class, items), largest and mean difference of the scores."""
    a, b = (fg.evaluate(m, x)[0] for m in (model, other))
    difference = np.abs(a - b)
    return int(np.sum(fg.classify(a) == fg.classify(b))), int(difference.max()), float(difference.mean())


def main(argv=None):
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--model", required=True, type=Path, metavar="DIR")
    p.add_argument("--out", required=True, type=Path, metavar="DIR")
    p.add_argument("--inputs", type=Path, metavar="FILE", help="items [N, T, F] (default: inputs.npy of the model)")
    p.add_argument("--labels", type=Path, metavar="FILE", help="their classes, one per line (default: labels.csv)")
    p.add_argument("--weight-bits", type=int, default=10, help="width of the product (default: %(default)s)")
    add_choices(p, pre_bits=None, collapse="u")
    args = p.parse_args(argv)
    if not 4 <= args.weight_bits <= 16:
        p.error("--weight-bits must be from 4 to 16")
    model = fg.load_model(args.model)
    x = np.load(args.inputs or args.model / "inputs.npy")
    labels = args.labels or args.model / "labels.csv"
    y = fg.load_labels(labels) if labels.exists() else None
    own = fg.ACTIVATION_BITS - max(layer["pre"]["left"] for layer in model.spec["layer"])
    widths = [w for w in SCAN if w <= own] if args.pre_bits == "scan" else [args.pre_bits or own]
    try:
        results = [(w, collapsed(model, CHAINS[args.collapse], args.weight_bits, w)) for w in widths]
    except fg.ModelError as error:
        raise SystemExit(f"error: {error}") from None

    right = lambda m: f"{np.mean(fg.classify(fg.evaluate(m, x)[0]) == y):.2%}" if y is not None else "-"
    rows = [("original", own, "-", right(model), "-", "-")]
    for width, other in results:
        same, most, mean = compare(model, other, x)
        rows.append((f"collapsed {args.collapse}", width, f"{same} of {len(x)}", right(other), most, f"{mean:.2f}"))
    text = table(("program", "pre-bits", "same class", "right", "largest score difference", "mean"), rows)
    print(text)
    args.out.mkdir(parents=True, exist_ok=True)
    (args.out / "report.md").write_text(f"# {model.spec['name']}, collapsed from its integers\n\n{text}\n")
    if args.pre_bits != "scan":
        fg.save_model(other, args.out)
        np.save(args.out / "inputs.npy", x)
        np.save(args.out / "expected_scores.npy", fg.evaluate(other, x)[0].astype(np.int32))
        if y is not None:
            fg.save_labels(args.out / "labels.csv", y)


if __name__ == "__main__":
    main()
