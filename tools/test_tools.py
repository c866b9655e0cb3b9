"""Tests of the tools: python tools/test_tools.py

Some need test data that the project does not ship; SIRNN_DATA names its folder, without it they are skipped.
"""

import contextlib
import io
import os
import tempfile
import unittest
from pathlib import Path

import numpy as np

import fastgrnn as fg
import fixedpoint
import quantize

DIGITS = Path(__file__).resolve().parent.parent / "models" / "digits"


def data(*path):
    root = os.environ.get("SIRNN_DATA")
    if not root:
        raise unittest.SkipTest("SIRNN_DATA is not set")
    return Path(root, *path)


def random_network(rng, features=5, hidden=7, classes=3, ranks=(2, 3)):
    matrix = lambda a, b: rng.normal(size=(a, b)) / np.sqrt(a)
    chain = lambda a, b, r: [matrix(a, r), matrix(r, b)] if r else [matrix(a, b)]
    return {
        "W": chain(features, hidden, ranks[0]),
        "U": chain(hidden, hidden, ranks[1]),
        "Bg": rng.normal(size=hidden),
        "Bh": rng.normal(size=hidden),
        "FC": matrix(hidden, classes),
        "FCbias": rng.normal(size=classes),
        "zeta": 0.8,
        "nu": 0.05,
    }


def google30(rounding):
    """The Google-30 program of the SIRNN authors: 99x32 inputs, 100 hidden units, ranks 16 and 35, 30 classes."""
    raw = np.fromfile(data("google30", "weights_i8_12342.bin"), dtype=np.int8)
    tensors = {}
    for name, shape in (
        ("W1", (32, 16)),
        ("W2", (16, 100)),
        ("U1", (100, 35)),
        ("U2", (35, 100)),
        ("Bg", (100,)),
        ("Bh", (100,)),
        ("FC", (100, 30)),
        ("FCbias", (30,)),
    ):
        n = int(np.prod(shape))
        tensors[name], raw = raw[:n].reshape(shape), raw[n:]
    assert len(raw) == 0
    tensors["zeta"] = np.array([30498], dtype=np.int16)
    tensors["nu"] = np.array([22714], dtype=np.int16)

    def times(tensor, floor, shift, left, out):
        return {"tensor": tensor, "bits": 8, "floor": floor, "shift": shift, "left": left, "out": out}

    layer = {
        "type": "fastgrnn",
        "hidden": 100,
        "w": [times("W1", 5, 1, 0, 8), times("W2", 4, 0, 4, 16)],
        "u": [times("U1", 7, 8, 0, 8), times("U2", 6, 0, 0, 8)],
        "pre": {
            "bits": 16,
            "shift_w": 5,
            "shift_u": 0,
            "left": 6,
            "scale": 9,
            "bias_bits": 8,
            "gate_bias": "Bg",
            "candidate_bias": "Bh",
        },
        "gate": {"scale": 14},
        "candidate": {"scale": 9},
        "zeta": {"tensor": "zeta", "bits": 16, "shift": 14},
        "nu": {"tensor": "nu", "bits": 16, "shift": 6},
        "state": {"bits": 16, "scale": 14, "gate_shift": 14, "candidate_shift": 9, "out_shift": 1},
    }
    spec = {
        "format": 1,
        "name": "google30",
        "steps": 99,
        "features": 32,
        "rounding": rounding,
        "labels": [str(i) for i in range(30)],
        "reveal": "scores",
        "input": {"bits": 8, "scale": 4},
        "layer": [layer],
        "output": {
            "tensor": "FC",
            "bits": 8,
            "floor": 7,
            "shift": 10,
            "out": 8,
            "scale": 2,
            "bias": {"tensor": "FCbias", "bits": 8, "shift": 3},
        },
    }
    return fg.Model(spec, tensors)


class FixedPoint(unittest.TestCase):
    def test_wrap_and_rescale(self):
        v = np.arange(-70000, 70000)
        np.testing.assert_array_equal(fixedpoint.wrap(v, 16), v.astype(np.int16))
        np.testing.assert_array_equal(fixedpoint.rescale(v, 3, fixedpoint.FLOOR), np.floor(v / 8))
        np.testing.assert_array_equal(fixedpoint.rescale(v, 3, fixedpoint.TOWARD_ZERO), np.trunc(v / 8))

    def test_functions_are_close(self):
        x = np.arange(-(1 << 15), 1 << 15)
        for scale_in, scale_out in ((8, 14), (9, 9), (11, 14), (14, 14), (5, 12)):
            real = x / 2.0**scale_in
            for function, exact in ((fixedpoint.sigmoid, fg.sigmoid), (fixedpoint.tanh, np.tanh)):
                error = function(x, scale_in, scale_out) - exact(real) * 2.0**scale_out
                self.assertLess(np.abs(error).max(), 4.5)

    def test_functions_equal_the_reference(self):
        raw = np.arange(1 << 16)
        x = fixedpoint.wrap(raw, 16)
        for function, name in (
            (fixedpoint.sigmoid, "sigmoid_16_8_16_14"),
            (fixedpoint.sigmoid, "sigmoid_16_12_16_12"),
            (fixedpoint.tanh, "tanh_16_12_16_12"),
        ):
            expected = np.fromfile(data("math", name + ".u16"), dtype="<u2")
            scale_in, scale_out = int(name.split("_")[2]), int(name.split("_")[4])
            np.testing.assert_array_equal(function(x, scale_in, scale_out) & 0xFFFF, expected, name)
        expected = np.fromfile(data("math", "exp_16_12_16_12.u16"), dtype="<u2")
        np.testing.assert_array_equal(fixedpoint.exp_neg(np.maximum(-x, 0), 12, 12), expected)


class Network(unittest.TestCase):
    def test_gradients(self):
        rng = np.random.default_rng(1)
        net, x = random_network(rng), rng.normal(size=(4, 6, 5))
        weights = rng.normal(size=(4, 3))
        trace = []
        fg.forward(net, x, trace)
        grad = fg.backward(net, x, trace, weights)
        loss = lambda n: float(np.sum(fg.forward(n, x) * weights))
        step = 1e-6
        for key in net:
            factors = net[key] if isinstance(net[key], list) else [net[key]]
            for i, factor in enumerate(factors):
                direction = rng.normal(size=np.shape(factor))
                moved = [
                    [f + s * direction if j == i else f for j, f in enumerate(factors)] for s in (step, -step)
                ]
                plus, minus = (dict(net, **{key: m if isinstance(net[key], list) else m[0]}) for m in moved)
                slope = (loss(plus) - loss(minus)) / (2 * step)
                g = grad[key][i] if isinstance(net[key], list) else grad[key]
                self.assertAlmostEqual(slope, float(np.sum(g * direction)), places=5, msg=key)


class Program(unittest.TestCase):
    def test_google30(self):
        x = np.fromfile(data("google30", "input_i8_99x32.bin"), dtype=np.int8).reshape(1, 99, 32)
        for rounding, suffix in ((fixedpoint.FLOOR, "floor"), (fixedpoint.TOWARD_ZERO, "div")):
            with self.subTest(rounding), tempfile.TemporaryDirectory() as directory:
                fg.save_model(google30(rounding), directory)
                scores, hidden = fg.evaluate(fg.load_model(directory), x)
                expected = np.fromfile(data("google30", f"scores_sirnn_{suffix}_i8_30.bin"), dtype=np.int8)
                np.testing.assert_array_equal(scores[0], expected)
                expected = np.fromfile(data("google30", f"hidden_final_{suffix}_i16_100.bin"), dtype="<i2")
                np.testing.assert_array_equal(hidden[0], expected)

    def test_shipped_digits(self):
        model = fg.load_model(DIGITS)
        scores, _ = fg.evaluate(model, np.load(DIGITS / "inputs.npy"))
        np.testing.assert_array_equal(scores, np.load(DIGITS / "expected_scores.npy"))
        labels = fg.load_labels(DIGITS / "labels.csv")
        self.assertGreater(np.mean(fg.classify(scores) == labels), 0.95)

    def test_inputs_are_rounded_to_even_and_have_to_fit(self):
        spec = {"input": {"bits": 8, "scale": 4}}
        q = fg.quantize_inputs(spec, np.array([-8.0, -0.03125, 0.03125, 0.04, 0.09375, 7.9375]))
        self.assertEqual(q.tolist(), [-128, 0, 0, 1, 2, 127])
        for wrong in [np.array([200]), np.array([100.0]), np.array([-8.1]), np.array([np.nan])]:
            with self.assertRaises(fg.ModelError):
                fg.quantize_inputs(spec, wrong)

    def test_broken_models_are_refused(self):
        rng = np.random.default_rng(3)
        model, _ = fg.quantize(random_network(rng), rng.normal(size=(50, 6, 5)), "random", "abc")
        fg.check(model)
        for change in (
            {"FC": model.tensors["FC"].astype(np.int16)},
            {"FC": model.tensors["FC"].T},
            {"zeta": np.array([1, 2], dtype=np.int16)},
            {"extra": np.array([1], dtype=np.int16)},
        ):
            with self.assertRaises(fg.ModelError):
                fg.check(fg.Model(model.spec, {**model.tensors, **change}))


class Quantiser(unittest.TestCase):
    def test_integer_program_follows_the_float_network(self):
        rng = np.random.default_rng(2)
        for ranks in ((0, 0), (2, 3)):
            net = random_network(rng, ranks=ranks)
            x = rng.normal(size=(100, 6, 5))
            wide = fg.Options(16, 16, 16, 16, 16, 16)
            for rounding in fixedpoint.ROUNDINGS:
                for options, tolerance in ((wide, 0.01), (fg.Options(), 0.25)):
                    with self.subTest(ranks=ranks, rounding=rounding, options=options):
                        model, headroom = fg.quantize(
                            net, x, "random", "abc", options._replace(rounding=rounding)
                        )
                        self.assertGreater(headroom.worst()[0], 1.0)
                        scores, _ = fg.evaluate(model, x)
                        real = scores / 2.0 ** model.spec["output"]["scale"]
                        self.assertLess(np.abs(real - fg.forward(net, x)).max(), tolerance)

    def test_usps(self):
        archive = data("usps", "usps_fastgrnn_lr.npz")
        original = np.load(archive)
        with tempfile.TemporaryDirectory() as directory:
            # Five of the ten digits for the scales, all ten for the result.
            few = Path(directory, "few.npy")
            np.save(few, original["input"].reshape(10, 16, 16)[:5])
            out = Path(directory, "usps")
            command = f"""--weights {archive} --calibration {few} --out {out}
                --inputs {archive}:input --input-labels {archive}:labels --steps 16 --features 16
                --prefix USPS_ --rename FC=FC_weights --rename zeta=sigmoid_zeta --rename nu=sigmoid_nu
                --zeta-nu activated --transposed --mean mean --std stdDev"""
            for options in ("", "--rounding toward-zero", "--pre-bits 8"):
                with self.subTest(options), contextlib.redirect_stdout(io.StringIO()):
                    quantize.main((command + " " + options).split())
                    scores, _ = fg.evaluate(fg.load_model(out), np.load(out / "inputs.npy"))
                    labels = fg.load_labels(out / "labels.csv")
                    self.assertEqual(labels.tolist(), original["labels"].tolist())
                    self.assertEqual(fg.classify(scores).tolist(), labels.tolist())


if __name__ == "__main__":
    unittest.main()
