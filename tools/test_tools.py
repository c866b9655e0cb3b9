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

import collapse
import fastgrnn as fg
import fixedpoint
import google30
import graph as gr
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
        for rounding, suffix in ((fixedpoint.FLOOR, "floor"), (fixedpoint.TOWARD_ZERO, "div")):
            with self.subTest(rounding), tempfile.TemporaryDirectory() as directory:
                google30.main([str(data("google30")), "--out", directory, "--rounding", rounding])
                scores, hidden = fg.evaluate(fg.load_model(directory), np.load(Path(directory, "inputs.npy")))
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

    def test_programs_are_graphs_and_back(self):
        rng = np.random.default_rng(9)
        model, _ = fg.quantize(random_network(rng), rng.normal(size=(50, 6, 5)), "random", "abc")
        spec = fg.copy(model).spec
        upper = fg.copy(model).spec["layer"][0]
        upper["w"] = [dict(upper["u"][-1], tensor="V")]
        for layers in (spec["layer"], [*spec["layer"], upper]):
            stacked = dict(spec, layer=layers)
            text = gr.write(fg.to_graph(stacked))
            self.assertEqual(fg.from_graph(gr.read(text)), stacked)
        for wrong in (text.replace('op = "tanh"', 'op = "sigmoid"'), text.replace('in = ["z", "t"]', 'in = ["z", "g"]')):
            with self.assertRaises(fg.ModelError):
                fg.from_graph(gr.read(wrong))
        with self.assertRaises(gr.GraphError):
            gr.read(text.replace("format = 2", "format = 1"))

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


class FewRounds(unittest.TestCase):
    def write(self, directory, net, x):
        weights = Path(directory, "float.npz")
        chains = {f"{letter}{i + 1}": m for letter in "WU" for i, m in enumerate(net[letter])}
        rest = {name: v for name, v in net.items() if name not in ("W", "U")}
        y = fg.classify(fg.forward(net, x))
        np.savez(weights, **chains, **rest, x=x, y=y)
        out = Path(directory, "model")
        common = f"--weights {weights} --calibration {weights}:x --labels {weights}:y --zeta-nu activated --out {out}"
        return common.split(), out

    def test_options(self):
        rng = np.random.default_rng(4)
        net, x = random_network(rng), rng.normal(size=(60, 6, 5))
        with tempfile.TemporaryDirectory() as directory:
            command, out = self.write(directory, net, x)
            for options, letters, width in (
                ("--collapse u", "U", 10),
                ("--collapse both --pre-bits 8", "WU", 8),
                ("--pre-bits 12", "", 12),
            ):
                shown = io.StringIO()
                with self.subTest(options), contextlib.redirect_stdout(shown):
                    quantize.main(command + options.split())
                    model = fg.load_model(out)
                    layer = model.spec["layer"][0]
                    for letter in "WU":
                        self.assertEqual(len(layer[letter.lower()]), 1 if letter in letters else 2)
                    self.assertEqual((layer["pre"]["bits"], layer["pre"]["left"]), (width, 16 - width))
                    # The model is that of the network with the product in place of the factors.
                    expected, _ = fg.quantize(
                        fg.collapse(net, letters),
                        x.astype(np.float32),
                        "model",
                        ["0", "1", "2"],
                        fg.Options(pre_bits=width),
                    )
                    self.assertEqual(model.spec, expected.spec)
                    for name, t in expected.tensors.items():
                        np.testing.assert_array_equal(model.tensors[name], t)
                    # Float, the network as given, and what was asked for: nothing is collapsed silently.
                    report = (out / "report.md").read_text()
                    self.assertIn(report[report.index("|") :].strip(), shown.getvalue())
                    rows = report[report.index("|") :].strip().splitlines()[2:]
                    names = ["float", "as given"] + ["collapsed " + options.split()[1]] * bool(letters)
                    self.assertEqual([row.split("|")[1].strip() for row in rows], names)
                    classes = fg.classify(fg.evaluate(model, x.astype(np.float32))[0])
                    right = np.mean(classes == fg.classify(fg.forward(net, x)))
                    self.assertIn(f"{right:.2%}", rows[-1])

    def test_scan_writes_a_table_and_no_model(self):
        rng = np.random.default_rng(5)
        net, x = random_network(rng), rng.normal(size=(60, 6, 5))
        with tempfile.TemporaryDirectory() as directory, contextlib.redirect_stdout(io.StringIO()) as shown:
            command, out = self.write(directory, net, x)
            quantize.main(command + "--collapse w --pre-bits scan".split())
            self.assertEqual([path.name for path in out.iterdir()], ["report.md"])
        widths = [line.split("|")[2].strip() for line in shown.getvalue().strip().splitlines()[2:]]
        self.assertEqual(widths, ["-"] + [str(w) for w in quantize.SCAN] * 2)

    def test_integers_are_collapsed(self):
        rng = np.random.default_rng(6)
        net, x = random_network(rng), rng.normal(size=(80, 6, 5))
        for rounding in fixedpoint.ROUNDINGS:
            model, _ = fg.quantize(net, x, "random", "abc", fg.Options(16, 12, 16, 12, rounding=rounding))
            before = fg.copy(model)
            scale = model.spec["output"]["scale"]
            real = fg.forward(net, x)
            for letters, pre_bits, tolerance in (("u", None, 0.1), ("w", 10, 0.2), ("uw", 12, 0.1)):
                with self.subTest(rounding=rounding, letters=letters):
                    other = collapse.collapsed(model, letters, 14, pre_bits)
                    layer = other.spec["layer"][0]
                    self.assertEqual([len(layer[c]) for c in "uw"], [1 if c in letters else 2 for c in "uw"])
                    self.assertEqual(16 - layer["pre"]["left"], pre_bits or 12)
                    for name, t in fg.expected_tensors(other.spec).items():
                        self.assertTrue(fixedpoint.fits(other.tensors[name], t[0]), name)
                    scores = fg.evaluate(other, x)[0] / 2.0**scale
                    self.assertLess(np.abs(scores - real).max(), tolerance)
            self.assertEqual(model.spec, before.spec)
            with self.assertRaises(fg.ModelError):
                collapse.collapsed(model, "u", 14, 13)

    def test_mean_errors_of_chains(self):
        rng = np.random.default_rng(7)
        tensors = {"A": rng.integers(-127, 128, (30, 4)), "B": rng.integers(-60, 128, (4, 6))}
        x = rng.integers(-127, 128, (50000, 30))
        for rounding in fixedpoint.ROUNDINGS:
            first = {"tensor": "A", "floor": 3, "shift": 4, "left": 2}
            second = {"tensor": "B", "floor": 2, "shift": 3, "left": 1}
            v = x
            for f in (first, second):
                v = fixedpoint.rescale((v @ tensors[f["tensor"]]) >> f["floor"], f["shift"], rounding) << f["left"]
            exact = x @ tensors["A"] @ tensors["B"] * 2.0 ** -(7 - 2 + 5 - 1)
            predicted = collapse.mean_error([first, second], tensors, rounding)
            np.testing.assert_allclose(np.mean(v - exact, axis=0), predicted, atol=0.15)

    def test_biases_take_over_what_roundings_lose(self):
        rng = np.random.default_rng(8)
        net, x = random_network(rng), rng.normal(size=(400, 6, 5))
        model, _ = fg.quantize(net, x, "random", "abc", fg.Options(16, 12, 16, 12))
        other = collapse.collapsed(model, "u", 14, 8)
        drift = np.mean(fg.evaluate(other, x)[0] - fg.evaluate(model, x)[0]) / 2.0 ** model.spec["output"]["scale"]
        self.assertLess(abs(drift), 0.02)

    def test_google30(self):
        with tempfile.TemporaryDirectory() as directory, contextlib.redirect_stdout(io.StringIO()) as shown:
            original, out = Path(directory, "google30"), Path(directory, "collapsed")
            google30.main([str(data("google30")), "--out", str(original)])
            collapse.main(f"--model {original} --out {out} --pre-bits 9".split())
            self.assertIn("1 of 1", shown.getvalue())
            model = fg.load_model(out)
        # The example is the tool's description; `fits` is what the server would add.
        example = gr.read(google30.DESCRIPTION.with_name("google30_collapsed.toml").read_text())
        self.assertTrue(example["fits"])
        self.assertEqual(model.spec, fg.from_graph(example))


if __name__ == "__main__":
    unittest.main()
