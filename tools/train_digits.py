"""Trains a FastGRNN on the 8x8 handwritten digits that come with scikit-learn and writes models/digits.

A digit is read row by row: 8 time steps of 8 pixels. The data set is split as it lies, without shuffling: the
first 1400 items train, the last 397 are held out and serve for the final accuracy only. (Neighbouring items
resemble each other, so that a shuffled split would be an easier test.) The recipe below was chosen on a part of
the training items; the seed is the first one tried.
"""

import argparse
from pathlib import Path

import numpy as np
from sklearn.datasets import load_digits

import fastgrnn as fg

TRAIN_ITEMS = 1400
EPOCHS, BATCH = 100, 50
LEARNING_RATE, WEIGHT_DECAY = 0.01, 0.1
SMOOTHING, NOISE = 0.1, 0.05
RAW = ("zeta", "nu")  # trained before their sigmoid


def initial(rng, features, hidden, classes, rank=None):
    """Random weights; U of a `rank` is a product of two matrices."""
    matrix = lambda rows, columns: rng.normal(0.0, 1.0 / np.sqrt(rows), (rows, columns))
    return {
        "W": [matrix(features, hidden)],
        "U": [0.5 * matrix(hidden, rank), matrix(rank, hidden)] if rank else [0.5 * matrix(hidden, hidden)],
        "Bg": np.ones(hidden),
        "Bh": np.zeros(hidden),
        "FC": matrix(hidden, classes),
        "FCbias": np.zeros(classes),
        "zeta": 1.0,
        "nu": -4.0,
    }


def through_sigmoid(p):
    return dict(p, **{k: fg.sigmoid(p[k]) for k in RAW})


def augment(x, rng):
    """Moves half of the images by up to one pixel in both directions and adds noise."""
    padded = np.pad(x, ((0, 0), (1, 1), (1, 1)))
    corner = np.where(rng.random((len(x), 1)) < 0.5, 1, rng.integers(0, 3, (len(x), 2)))
    moved = np.stack([p[r : r + x.shape[1], c : c + x.shape[2]] for p, (r, c) in zip(padded, corner)])
    return moved + NOISE * rng.normal(size=moved.shape)


def loss_gradient(scores, y):
    """Derivative of the mean cross-entropy with smoothed labels."""
    classes = scores.shape[1]
    p = np.exp(scores - scores.max(1, keepdims=True))
    p /= p.sum(1, keepdims=True)
    target = np.eye(classes)[y] * (1.0 - SMOOTHING) + SMOOTHING / classes
    return (p - target) / len(y)


class Adam:
    def __init__(self):
        self.moments = {}
        self.step = 0

    def update(self, key, value, gradient, rate):
        m, v = self.moments.get(key, (0.0, 0.0))
        m, v = 0.9 * m + 0.1 * gradient, 0.999 * v + 0.001 * gradient**2
        self.moments[key] = m, v
        m, v = m / (1.0 - 0.9**self.step), v / (1.0 - 0.999**self.step)
        return value - rate * m / (np.sqrt(v) + 1e-8)


def train(x, y, hidden, classes, seed, epochs=EPOCHS, rank=None):
    rng = np.random.default_rng(seed)
    p = initial(rng, x.shape[2], hidden, classes, rank)
    adam = Adam()
    steps = epochs * -(-len(x) // BATCH)
    for _ in range(epochs):
        order = rng.permutation(len(x))
        for start in range(0, len(x), BATCH):
            i = order[start : start + BATCH]
            batch, net, trace = augment(x[i], rng), through_sigmoid(p), []
            grad = fg.backward(net, batch, trace, loss_gradient(fg.forward(net, batch, trace), y[i]))
            adam.step += 1
            rate = LEARNING_RATE * 0.5 * (1.0 + np.cos(np.pi * adam.step / steps))
            for key in ("Bg", "Bh", "FC", "FCbias"):
                p[key] = adam.update(key, p[key], grad[key], rate)
            for key in RAW:
                p[key] = adam.update(key, p[key], grad[key] * net[key] * (1.0 - net[key]), rate)
            for key in ("W", "U"):
                p[key] = [
                    adam.update((key, n), factor * (1.0 - rate * WEIGHT_DECAY), grad[key][n], rate)
                    for n, factor in enumerate(p[key])
                ]
    return through_sigmoid(p)


README = """# Handwritten digits

A FastGRNN with {hidden} hidden units that reads an 8x8 image row by row ({steps} time steps of {features} pixels) and
names the digit. `tools/train_digits.py` makes this directory; the format is described in `docs/models.md`.

| file | content |
|---|---|
| `model.toml` | the public program: shapes, widths, scales |
| `weights.safetensors` | the private integers ({weight_bytes} bytes) |
| `inputs.npy` | {items} held-out digits, float32 [{items}, {steps}, {features}], pixels from 0 to 1 in steps of 1/16 |
| `labels.csv` | what they show, one number per line |
| `expected_scores.npy` | the integer scores of `model.toml` for them, int32 [{items}, 10] |

Right answers on the {items} held-out digits: {real:.1f} % as a float network, {integer:.1f} % as this integer program.
They are the last {items} of the data set, the first {train_items} were used for training and for all scales.

## Data

`inputs.npy` and `labels.csv` are a part of *Optical Recognition of Handwritten Digits* by E. Alpaydin and C. Kaynak
(UCI Machine Learning Repository, 1998, <https://doi.org/10.24432/C50P49>), licensed under
[CC BY 4.0](https://creativecommons.org/licenses/by/4.0/), in the copy that scikit-learn carries (`load_digits`).
Changes: the pixel values 0..16 were divided by 16, and only the last {items} items are kept.
"""


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    default = Path(__file__).resolve().parent.parent / "models" / "digits"
    parser.add_argument("--out", type=Path, default=default, help="directory to write (default: %(default)s)")
    parser.add_argument("--hidden", type=int, default=32)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--pre-bits", type=int, default=10, help="width of the pre-activation")
    parser.add_argument("--rank", type=int, help="make U a product of two matrices of this rank")
    text = "write weights and items for quantize.py, no model"
    parser.add_argument("--float", type=Path, metavar="FILE.npz", help=text)
    args = parser.parse_args()

    digits = load_digits()
    x, y = digits.images / 16.0, digits.target
    x_train, y_train, x_test, y_test = x[:TRAIN_ITEMS], y[:TRAIN_ITEMS], x[TRAIN_ITEMS:], y[TRAIN_ITEMS:]

    net = train(x_train, y_train, args.hidden, 10, args.seed, rank=args.rank)
    if args.float:
        numbered = lambda letter, i: letter if len(net[letter]) == 1 else f"{letter}{i + 1}"
        chains = {numbered(letter, i): m for letter in "WU" for i, m in enumerate(net[letter])}
        rest = {name: v for name, v in net.items() if name not in ("W", "U")}
        items = {"x_train": x_train, "y_train": y_train, "x_test": x_test, "y_test": y_test}
        np.savez(args.float, **chains, **rest, **items)
        return
    labels = [str(name) for name in digits.target_names]
    model, headroom = fg.quantize(net, x_train, "digits", labels, fg.Options(pre_bits=args.pre_bits))
    print("training items: float %.4f, integer %.4f" % fg.accuracy(model, net, x_train, y_train))
    real, integer = fg.accuracy(model, net, x_test, y_test)
    print(f"held-out items: float {real:.4f}, integer {integer:.4f}")
    for place, ratio in headroom.places.items():
        print(f"headroom {ratio:8.2f}  {place}")

    fg.save_model(model, args.out)
    scores, _ = fg.evaluate(model, x_test)
    np.save(args.out / "inputs.npy", x_test.astype(np.float32))
    np.save(args.out / "expected_scores.npy", scores.astype(np.int32))
    fg.save_labels(args.out / "labels.csv", y_test)
    text = README.format(
        hidden=args.hidden,
        steps=x.shape[1],
        features=x.shape[2],
        items=len(x_test),
        train_items=TRAIN_ITEMS,
        weight_bytes=(args.out / "weights.safetensors").stat().st_size,
        real=100 * real,
        integer=100 * integer,
    )
    (args.out / "README.md").write_text(text)


if __name__ == "__main__":
    main()
