"""FastGRNN: float network with gradients, integer program with exact semantics, and the quantiser between them.

    c_t  = x_t W + h_{t-1} U                       (W and U may be products of several matrices)
    g_t  = sigmoid(c_t + Bg),  h~_t = tanh(c_t + Bh)
    h_t  = (zeta (1 - g_t) + nu) * h~_t + g_t * h_{t-1}
    scores = h_T FC + FCbias

Items are [N, T, F]; matrices are [in, out].

A *float network* is a dict of arrays: "W", "U" (lists of matrices), "Bg", "Bh", "FC", "FCbias" and the
numbers "zeta", "nu" as they enter the formula (already through their sigmoid). A *model* is the integer program:
`spec`, the public part, equal to what tomllib reads from model.toml, and `tensors`, the private integers.
README.md describes the directory format.
"""

import tomllib
from collections import namedtuple
from copy import deepcopy
from pathlib import Path

import numpy as np
from safetensors.numpy import load_file, save_file

import fixedpoint
from fixedpoint import FLOOR, fits, rescale, wrap

FORMAT = 1
ACTIVATION_BITS = 16  # input and output width of sigmoid and tanh
MAX_ACTIVATION_SCALE = 14

# ---------------------------------------------------------------------------------------------------------
# Float network


def sigmoid(x):
    return 0.5 * (1.0 + np.tanh(0.5 * x))  # does not overflow


def forward(net, x, trace=None):
    """Scores [N, classes]. `trace`, a list, receives (h, c, g, candidate) of each step for `backward`."""
    w, u = product(net["W"]), product(net["U"])
    h = np.zeros((x.shape[0], u.shape[0]))
    for t in range(x.shape[1]):
        c = x[:, t] @ w + h @ u
        g, candidate = sigmoid(c + net["Bg"]), np.tanh(c + net["Bh"])
        if trace is not None:
            trace.append((h, c, g, candidate))
        h = (net["zeta"] * (1.0 - g) + net["nu"]) * candidate + g * h
    if trace is not None:
        trace.append(h)
    return h @ net["FC"] + net["FCbias"]


def backward(net, x, trace, dscores):
    """Gradients, in the layout of `net`, of a loss whose derivative by the scores is `dscores`."""
    w, u = product(net["W"]), product(net["U"])
    dw, du = np.zeros_like(w), np.zeros_like(u)
    grad = {"Bg": 0.0, "Bh": 0.0, "zeta": 0.0, "nu": 0.0}
    grad["FC"] = trace[-1].T @ dscores
    grad["FCbias"] = dscores.sum(0)
    dh = dscores @ net["FC"].T
    for t in reversed(range(x.shape[1])):
        h, _, g, candidate = trace[t]
        dmix = dh * candidate
        grad["zeta"] += np.sum(dmix * (1.0 - g))
        grad["nu"] += np.sum(dmix)
        dgate = dh * (h - net["zeta"] * candidate) * g * (1.0 - g)
        dcand = dh * (net["zeta"] * (1.0 - g) + net["nu"]) * (1.0 - candidate**2)
        grad["Bg"] = grad["Bg"] + dgate.sum(0)
        grad["Bh"] = grad["Bh"] + dcand.sum(0)
        dc = dgate + dcand
        dw += x[:, t].T @ dc
        du += h.T @ dc
        dh = dh * g + dc @ u.T
    grad["W"], grad["U"] = split_gradient(net["W"], dw), split_gradient(net["U"], du)
    return grad


def product(chain):
    m = chain[0]
    for factor in chain[1:]:
        m = m @ factor
    return m


def collapse(net, letters):
    """The same network with the products of `letters` ("W", "U") multiplied out."""
    return dict(net, **{letter: [product(net[letter])] for letter in letters})


def split_gradient(chain, d):
    """Gradients of the factors, given the gradient of their product."""
    grads = []
    for i in range(len(chain)):
        g = d
        if i > 0:
            g = product(chain[:i]).T @ g
        if i + 1 < len(chain):
            g = g @ product(chain[i + 1 :]).T
        grads.append(g)
    return grads


# ---------------------------------------------------------------------------------------------------------
# Integer program

Model = namedtuple("Model", "spec tensors")


def copy(model):
    """A model that shares nothing with `model` that may be changed in place."""
    return Model(deepcopy(model.spec), dict(model.tensors))


class ModelError(ValueError):
    """A model, or an input of it, that the format does not allow or that cannot be quantised as asked."""


class Headroom:
    """How near the values of a run came to the limits of their widths: place -> limit / largest magnitude.

    Below 1 something wrapped around, which destroys a result rather than blurring it.
    """

    def __init__(self):
        self.places = {}

    def note(self, place, v, bits):
        largest = max(int(np.abs(v).max(initial=0)), 1)
        self.places[place] = min(self.places.get(place, np.inf), ((1 << (bits - 1)) - 1) / largest)

    def worst(self):
        place = min(self.places, key=self.places.get)
        return self.places[place], place


def quantize_inputs(spec, x):
    """Integers of the client. Integer arrays are taken as they are; real ones are scaled, rounded to the nearest
    (ties to even); what does not fit is an error, for it must not wrap."""
    bits, scale = spec["input"]["bits"], spec["input"]["scale"]
    x = np.asarray(x)
    if x.dtype.kind in "iu":
        if not fits(x, bits):
            raise ModelError(f"an input integer does not fit {bits} bits")
        return x.astype(np.int64)
    if not np.isfinite(x).all():
        raise ModelError("an input is not a finite number")
    q = np.rint(x.astype(np.float64) * 2.0**scale)
    if not fits(q, bits):
        raise ModelError(f"an input does not fit {bits} bits at scale {scale}")
    return q.astype(np.int64)


def evaluate(model, x, headroom=None):
    """Runs the integer program on items [N, T, F] (integers or reals). Returns (scores, final hidden state)."""
    spec = model.spec
    tensors = {name: t.astype(np.int64) for name, t in model.tensors.items()}
    rounding = spec["rounding"]
    sequence = quantize_inputs(spec, x)
    if sequence.shape[1:] != (spec["steps"], spec["features"]):
        raise ModelError(f"items are {sequence.shape[1:]}, the model takes {(spec['steps'], spec['features'])}")
    for number, layer in enumerate(spec["layer"]):
        sequence = _run_layer(layer, tensors, sequence, rounding, headroom, f"layer {number}: ")
    h = sequence[:, -1]

    out = spec["output"]
    s = rescale((h @ tensors[out["tensor"]]) >> out["floor"], out["shift"], rounding)
    s = s + rescale(tensors[out["bias"]["tensor"]], out["bias"]["shift"], rounding)
    if headroom is not None:
        headroom.note("scores", s, out["out"])
    return wrap(s, out["out"]), h


def classify(scores):
    """Index of the first maximum."""
    return np.argmax(scores, axis=1)


def _run_layer(layer, tensors, sequence, rounding, headroom, prefix):
    def note(place, v, bits):
        if headroom is not None:
            headroom.note(prefix + place, v, bits)

    def multiply(v, chain):
        for p in chain:
            v = rescale((v @ tensors[p["tensor"]]) >> p["floor"], p["shift"], rounding) << p["left"]
            note(p["tensor"], v, p["out"])
            v = wrap(v, p["out"])
        return v

    pre, gate, candidate, state = layer["pre"], layer["gate"], layer["candidate"], layer["state"]
    gate_bias, candidate_bias = tensors[pre["gate_bias"]], tensors[pre["candidate_bias"]]
    zeta, nu = tensors[layer["zeta"]["tensor"]], tensors[layer["nu"]["tensor"]]
    nu = rescale(nu, layer["nu"]["shift"], rounding)

    def activation(function, name, c, bias, out):
        v = (c + bias) << pre["left"]
        note(name, v, ACTIVATION_BITS)
        return function(wrap(v, ACTIVATION_BITS), pre["scale"], out["scale"])

    h = np.zeros((sequence.shape[0], layer["hidden"]), dtype=np.int64)
    states = []
    for t in range(sequence.shape[1]):
        a = multiply(sequence[:, t], layer["w"])
        b = multiply(h, layer["u"])
        c = rescale(a, pre["shift_w"], rounding) + rescale(b, pre["shift_u"], rounding)
        note("pre-activation", c, pre["bits"])
        c = wrap(c, pre["bits"])
        g = activation(fixedpoint.sigmoid, "gate input", c, gate_bias, gate)
        candidates = activation(fixedpoint.tanh, "candidate input", c, candidate_bias, candidate)
        z = rescale(zeta * ((1 << gate["scale"]) - g), layer["zeta"]["shift"], rounding) + nu
        note("zeta (1 - g) + nu", z, ACTIVATION_BITS)
        z = wrap(z, ACTIVATION_BITS)
        update = rescale(z * candidates, state["candidate_shift"], rounding)
        note("update", update, ACTIVATION_BITS)
        update = wrap(update, ACTIVATION_BITS)
        h = rescale(g * h, state["gate_shift"], rounding) + rescale(update, state["out_shift"], rounding)
        note("state", h, state["bits"])
        h = wrap(h, state["bits"])
        states.append(h)
    return np.stack(states, axis=1)


# ---------------------------------------------------------------------------------------------------------
# Model directory


def storage(bits):
    return np.int8 if bits <= 8 else np.int16 if bits <= 16 else np.int32


def expected_tensors(spec):
    """name -> (bits, shape) of every tensor that the public part names; None in a shape is a free length."""
    need = {}
    width = spec["features"]
    for layer in spec["layer"]:
        for chain, rows in ((layer["w"], width), (layer["u"], layer["hidden"])):
            for i, p in enumerate(chain):
                last = i + 1 == len(chain)
                need[p["tensor"]] = (p["bits"], (rows if i == 0 else None, layer["hidden"] if last else None))
        for bias in ("gate_bias", "candidate_bias"):
            need[layer["pre"][bias]] = (layer["pre"]["bias_bits"], (layer["hidden"],))
        for scalar in ("zeta", "nu"):
            need[layer[scalar]["tensor"]] = (layer[scalar]["bits"], (1,))
        width = layer["hidden"]
    out = spec["output"]
    need[out["tensor"]] = (out["bits"], (width, len(spec["labels"])))
    need[out["bias"]["tensor"]] = (out["bias"]["bits"], (len(spec["labels"]),))
    return need


def check(model):
    spec, tensors = model
    if spec["format"] != FORMAT:
        raise ModelError(f"model format {spec['format']}, this tool reads {FORMAT}")
    if spec["rounding"] not in fixedpoint.ROUNDINGS:
        raise ModelError(f"unknown rounding {spec['rounding']!r}")
    if spec["reveal"] not in ("scores", "class"):
        raise ModelError(f"unknown reveal {spec['reveal']!r}")
    need = expected_tensors(spec)
    if set(need) != set(tensors):
        raise ModelError(f"tensors differ from those of model.toml: {sorted(set(need) ^ set(tensors))}")
    for name, (bits, shape) in need.items():
        t = tensors[name]
        if t.dtype != storage(bits) or not fits(t, bits):
            raise ModelError(f"{name}: {t.dtype} does not hold {bits}-bit integers as it should")
        if t.ndim != len(shape) or any(n is not None and n != m for n, m in zip(shape, t.shape)):
            raise ModelError(f"{name}: shape {t.shape}, expected {shape}")
    check_shifts(spec)
    for layer in spec["layer"]:
        if layer["type"] != "fastgrnn":
            raise ModelError(f"unknown layer type {layer['type']!r}")
        for chain in (layer["w"], layer["u"]):
            for p, q in zip(chain, chain[1:]):
                if tensors[p["tensor"]].shape[1] != tensors[q["tensor"]].shape[0]:
                    raise ModelError(f"{p['tensor']} and {q['tensor']} cannot be multiplied")


def check_shifts(node):
    for key, v in node.items() if isinstance(node, dict) else enumerate(node):
        if isinstance(v, (dict, list)):
            check_shifts(v)
        elif (key in ("floor", "left") or "shift" in str(key)) and not 0 <= v < 64:
            raise ModelError(f"{key} = {v}: shifts are from 0 to 63")


def save_model(model, directory):
    check(model)
    directory = Path(directory)
    directory.mkdir(parents=True, exist_ok=True)
    (directory / "model.toml").write_text(to_toml(model.spec))
    tensors = {name: np.ascontiguousarray(t) for name, t in model.tensors.items()}
    save_file(tensors, directory / "weights.safetensors")


def load_model(directory):
    directory = Path(directory)
    spec = tomllib.loads((directory / "model.toml").read_text())
    model = Model(spec, load_file(directory / "weights.safetensors"))
    check(model)
    return model


def save_labels(path, labels):
    Path(path).write_text("".join(f"{int(label)}\n" for label in labels))


def load_labels(path):
    return np.loadtxt(path, dtype=np.int64, ndmin=1)


def _value(v):
    if isinstance(v, bool):
        return "true" if v else "false"
    if isinstance(v, (int, np.integer)):
        return str(int(v))
    if isinstance(v, str):
        return '"' + v.replace("\\", "\\\\").replace('"', '\\"') + '"'
    if isinstance(v, dict):
        return "{ " + ", ".join(f"{k} = {_value(x)}" for k, x in v.items()) + " }"
    if v and isinstance(v[0], dict):
        return "[\n" + "".join(f"  {_value(x)},\n" for x in v) + "]"
    return "[" + ", ".join(_value(x) for x in v) + "]"


def to_toml(spec):
    lines = [
        "# The public part of a model: all that both parties know. The weights are in weights.safetensors.",
        "# Every number here is known to the client, including the widths and scales that were fitted to the weights.",
        "# real value = integer / 2^scale; R(v, s) is v / 2^s with the rounding below; values wrap, nothing saturates.",
        f"format = {spec['format']}",
        f"name = {_value(spec['name'])}",
        f"steps = {spec['steps']}  # time steps of an item",
        f"features = {spec['features']}  # values per step",
        f"rounding = {_value(spec['rounding'])}  # of every `shift`: \"floor\" or \"toward-zero\"; `floor` rounds down",
        f"labels = {_value(spec['labels'])}",
        f"reveal = {_value(spec['reveal'])}  # what the client learns: \"scores\" or \"class\"",
        f"input = {_value(spec['input'])}  # signed",
    ]
    for layer in spec["layer"]:
        lines += [
            "",
            "[[layer]]",
            f"type = {_value(layer['type'])}",
            f"hidden = {layer['hidden']}",
            "# Chains of products. y = R(floor(sum / 2^floor), shift) << left, wrapped to `out` bits; the sum is exact.",
            f"w = {_value(layer['w'])}",
            f"u = {_value(layer['u'])}",
            "# c = R(x*w, shift_w) + R(h*u, shift_u), wrapped to `bits`;",
            "# input of an activation = (c + bias) << left, wrapped to 16 bits, at `scale`.",
            f"pre = {_value(layer['pre'])}",
            f"gate = {_value(layer['gate'])}  # g = sigmoid(.), 16 bits",
            f"candidate = {_value(layer['candidate'])}  # h~ = tanh(.), 16 bits",
            "# z = R(zeta * (2^gate.scale - g), zeta.shift) + R(nu, nu.shift), 16 bits",
            f"zeta = {_value(layer['zeta'])}",
            f"nu = {_value(layer['nu'])}",
            "# h' = R(g * h, gate_shift) + R(R(z * h~, candidate_shift), out_shift), wrapped to `bits`; h starts at 0",
            f"state = {_value(layer['state'])}",
        ]
    lines += [
        "",
        "# scores = R(floor(sum / 2^floor), shift) + R(bias, bias.shift), wrapped to `out` bits; class = first maximum",
        "[output]",
    ]
    lines += [f"{key} = {_value(value)}" for key, value in spec["output"].items()]
    return "\n".join(lines) + "\n"


# ---------------------------------------------------------------------------------------------------------
# Quantiser

Options = namedtuple(
    "Options",
    "input_bits weight_bits rank_bits pre_bits state_bits score_bits rounding headroom reveal",
    defaults=(8, 8, 8, 10, 16, 16, FLOOR, 2.0, "scores"),
)
MIN_HEADROOM = 1.5  # what must be left of the requested headroom when the integer program runs


def largest(v):
    return max(float(np.abs(v).max(initial=0.0)), 1e-9)


def fit_scale(magnitude, bits, headroom):
    """The largest scale at which `headroom * magnitude` fits a signed integer."""
    return int(np.floor(np.log2(((1 << (bits - 1)) - 1) / (headroom * magnitude))))


def to_fixed(v, scale, bits):
    q = np.floor(np.asarray(v, dtype=np.float64) * 2.0**scale + 0.5).astype(np.int64)
    if not fits(q, bits):
        raise ModelError(f"a value does not fit {bits} bits at scale {scale}")
    return q.astype(storage(bits))


def quantize(net, calibration, name, labels, options=Options()):
    """The integer program of a float network.

    Every scale comes from the weights and from the ranges seen on `calibration` ([N, T, F], as the network takes
    it), multiplied by `options.headroom`. Returns (model, headroom of the calibration items).
    """
    o = options
    trace = []
    scores = forward(net, calibration, trace)
    tensors = {}

    def add(name, v, scale, bits):
        tensors[name] = to_fixed(v, scale, bits)
        return tensors[name].astype(np.float64) / 2.0**scale

    xs = [calibration[:, t] for t in range(calibration.shape[1])]
    hs = [step[0] for step in trace[:-1]]
    everything = lambda chain, vs: max(largest(v @ product(chain)) for v in vs)
    with_bias = lambda bias: max(largest(step[1] + net[bias]) for step in trace[:-1])
    c_range = max(
        everything(net["W"], xs),
        everything(net["U"], hs),
        max(largest(step[1]) for step in trace[:-1]),
        with_bias("Bg"),
        with_bias("Bh"),
    )
    left = ACTIVATION_BITS - o.pre_bits
    c_scale = min(fit_scale(c_range, o.pre_bits, o.headroom), MAX_ACTIVATION_SCALE - left)
    input_scale = fit_scale(largest(calibration), o.input_bits, o.headroom)

    # z = zeta (1 - g) + nu never exceeds zeta + nu, so this scale needs no observation.
    gate_scale = candidate_scale = MAX_ACTIVATION_SCALE
    z_scale = min(15, fit_scale(net["zeta"] + net["nu"] + 2.0**-14, 16, 1.0))
    states = hs + [trace[-1]]
    state_scale = min(z_scale, fit_scale(max(map(largest, states)), o.state_bits, o.headroom))

    def chain(letter, vs, scale):
        """Products of one chain, and the mean error that their roundings leave in its result."""
        factors, products = net[letter], []
        error = np.zeros(factors[0].shape[0])
        for i, factor in enumerate(factors):
            last = i + 1 == len(factors)
            out = o.pre_bits if last else o.rank_bits
            tensor = letter if len(factors) == 1 else f"{letter}{i + 1}"
            weight_scale = fit_scale(largest(factor), o.weight_bits, 1.0)
            rounded = add(tensor, factor, weight_scale, o.weight_bits)
            target = c_scale if last else fit_scale(everything(factors[: i + 1], vs), out, o.headroom)
            shift = scale + weight_scale - target
            products.append(
                {
                    "tensor": tensor,
                    "bits": o.weight_bits,
                    "floor": 0,
                    "shift": max(shift, 0),
                    "left": max(-shift, 0),
                    "out": out,
                }
            )
            error = error @ rounded
            if shift > 0 and o.rounding == FLOOR:
                error = error - 0.5 * 2.0**-target
            scale = target
        return products, error

    w, w_error = chain("W", xs, input_scale)
    u, u_error = chain("U", hs, state_scale)

    # The biases stand at the scale of c and take back what rounding down loses on average.
    bias = {"Bg": net["Bg"] - w_error - u_error, "Bh": net["Bh"] - w_error - u_error}
    bias_bits = 8 if max(map(largest, bias.values())) * 2.0**c_scale < 127 else 16
    for key, v in bias.items():
        add(key, v, c_scale, bias_bits)

    add("zeta", [net["zeta"]], z_scale, 16)
    nu_shift = max(0, min(12, fit_scale(max(net["nu"], 2.0**-12), 16, 1.0) - z_scale))
    add("nu", [net["nu"]], z_scale + nu_shift, 16)

    fc_scale = fit_scale(largest(net["FC"]), o.weight_bits, 1.0)
    score_range = max(largest(scores), largest(scores - net["FCbias"]))
    score_scale = min(fit_scale(score_range, o.score_bits, o.headroom), state_scale + fc_scale)
    add("FC", net["FC"], fc_scale, o.weight_bits)
    score_shift = state_scale + fc_scale - score_scale
    score_error = -0.5 * 2.0**-score_scale if score_shift > 0 and o.rounding == FLOOR else 0.0
    add("FCbias", net["FCbias"] - score_error, score_scale, o.score_bits)

    spec = {
        "format": FORMAT,
        "name": name,
        "steps": calibration.shape[1],
        "features": calibration.shape[2],
        "rounding": o.rounding,
        "labels": list(labels),
        "reveal": o.reveal,
        "input": {"bits": o.input_bits, "scale": input_scale},
        "layer": [
            {
                "type": "fastgrnn",
                "hidden": net["U"][0].shape[0],
                "w": w,
                "u": u,
                "pre": {
                    "bits": o.pre_bits,
                    "shift_w": 0,
                    "shift_u": 0,
                    "left": left,
                    "scale": c_scale + left,
                    "bias_bits": bias_bits,
                    "gate_bias": "Bg",
                    "candidate_bias": "Bh",
                },
                "gate": {"scale": gate_scale},
                "candidate": {"scale": candidate_scale},
                "zeta": {"tensor": "zeta", "bits": 16, "shift": gate_scale},
                "nu": {"tensor": "nu", "bits": 16, "shift": nu_shift},
                "state": {
                    "bits": o.state_bits,
                    "scale": state_scale,
                    "gate_shift": gate_scale,
                    "candidate_shift": candidate_scale,
                    "out_shift": z_scale - state_scale,
                },
            }
        ],
        "output": {
            "tensor": "FC",
            "bits": o.weight_bits,
            "floor": 0,
            "shift": score_shift,
            "out": o.score_bits,
            "scale": score_scale,
            "bias": {"tensor": "FCbias", "bits": o.score_bits, "shift": 0},
        },
    }
    model = Model(spec, tensors)
    check(model)
    seen = Headroom()
    evaluate(model, calibration, seen)
    bounded = ("zeta (1 - g) + nu", "update")  # these two cannot wrap, whatever the input
    tight = {p: r for p, r in seen.places.items() if not p.endswith(bounded) and r < min(MIN_HEADROOM, o.headroom)}
    if tight:
        raise ModelError(f"too little headroom on the calibration items: {tight}")
    return model, seen


def accuracy(model, net, x, labels):
    """(float, integer) fraction of right answers on items in the network's own input range."""
    labels = np.asarray(labels)
    real = classify(forward(net, x))
    integer = classify(evaluate(model, x)[0])
    return float(np.mean(real == labels)), float(np.mean(integer == labels))
