"""FastGRNN: float network with gradients, integer program with exact semantics, and the quantiser between them.

    c_t  = x_t W + h_{t-1} U                       (W and U may be products of several matrices)
    g_t  = sigmoid(c_t + Bg),  h~_t = tanh(c_t + Bh)
    h_t  = (zeta (1 - g_t) + nu) * h~_t + g_t * h_{t-1}
    scores = h_T FC + FCbias

Items are [N, T, F]; matrices are [in, out].

A *float network* is a dict of arrays: "W", "U" (lists of matrices), "Bg", "Bh", "FC", "FCbias" and the
numbers "zeta", "nu" as they enter the formula (already through their sigmoid). A *model* is the integer program:
`spec`, the public numbers of its layers (README.md), and `tensors`, the private integers. In a model directory the
spec is a graph of operations (`to_graph`, `from_graph`; docs/models.md).
"""

from collections import namedtuple
from copy import deepcopy
from pathlib import Path

import numpy as np
from safetensors.numpy import load_file, save_file

import fixedpoint
import graph as gr
from fixedpoint import FLOOR, fits, rescale, wrap

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
    """name -> (bits, shape) of every tensor that the public part names."""
    need = {}
    width = spec["features"]
    for layer in spec["layer"]:
        for chain, rows in ((layer["w"], width), (layer["u"], layer["hidden"])):
            for p in chain:
                need[p["tensor"]] = (p["bits"], (rows, p["columns"]))
                rows = p["columns"]
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
        if t.shape != shape:
            raise ModelError(f"{name}: shape {t.shape}, expected {shape}")
    check_shifts(spec)
    for layer in spec["layer"]:
        if layer["type"] != "fastgrnn":
            raise ModelError(f"unknown layer type {layer['type']!r}")
        if any(layer[c][-1]["columns"] != layer["hidden"] for c in "wu"):
            raise ModelError("the last product of a chain has as many columns as there are units")


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
    (directory / "model.toml").write_text(gr.write(to_graph(model.spec)))
    tensors = {name: np.ascontiguousarray(t) for name, t in model.tensors.items()}
    save_file(tensors, directory / "weights.safetensors")


def load_model(directory):
    directory = Path(directory)
    spec = from_graph(gr.read((directory / "model.toml").read_text()))
    model = Model(spec, load_file(directory / "weights.safetensors"))
    check(model)
    return model


def save_labels(path, labels):
    Path(path).write_text("".join(f"{int(label)}\n" for label in labels))


def load_labels(path):
    return np.loadtxt(path, dtype=np.int64, ndmin=1)


def _names(spec, i):
    """Name of a layer's loop, and what the names of its products before the loop begin with."""
    return ("rnn", "") if len(spec["layer"]) == 1 else (f"rnn{i}", f"layer{i}_")


def to_graph(spec):
    """The program as a graph of operations."""

    def out(bits, scale=0):
        return {**({"bits": bits} if bits != ACTIVATION_BITS else {}), **({"scale": scale} if scale else {})} or None

    def tensor(name, bits, **bounds):
        return name if bits == 8 and not bounds else {"tensor": name, "bits": bits, **bounds}

    def products(chain, letter, source, scale, comment):
        nodes = []
        for j, f in enumerate(chain):
            last = j + 1 == len(chain)
            name = letter if last else f"{letter}{j + 1}"
            fields = dict(weights=tensor(f["tensor"], f["bits"]), columns=f["columns"])
            fields |= dict(rescale=gr.rescale(f["floor"], f["shift"], f["left"]), out=out(f["out"], scale if last else 0))
            nodes.append(gr.node(name, "matmul", source, comment=comment if j == 0 else None, **fields))
            source = name
        return nodes

    nodes, source = [], "x"
    for i, layer in enumerate(spec["layer"]):
        (loop, prefix), pre, state = _names(spec, i), layer["pre"], layer["state"]
        gate, candidate, zeta, nu = layer["gate"], layer["candidate"], layer["zeta"], layer["nu"]
        c_scale = pre["scale"] - pre["left"]
        update_scale = state["scale"] + state["out_shift"]
        z_scale = update_scale + state["candidate_shift"] - candidate["scale"]
        shifts = (pre["shift_w"], pre["shift_u"])
        terms = lambda *all: [{"rescale": s} if s else {} for s in all] if any(all) else None
        up = gr.rescale(left=pre["left"])
        bias = lambda name: tensor(name, pre["bias_bits"])
        body = products(layer["u"], "b", "h", c_scale + pre["shift_u"], "b: the state's products") + [
            gr.node("c", "add", "a", "b", terms=terms(*shifts), out=out(pre["bits"], c_scale), comment="c = a + b"),
            gr.node(
                "gate_input", "bias", "c", bias=bias(pre["gate_bias"]), rescale=up, out=out(ACTIVATION_BITS, pre["scale"]),
                comment="g = sigmoid(c + gate bias), t = tanh(c + candidate bias)",
            ),
            gr.node("g", "sigmoid", "gate_input", out=out(ACTIVATION_BITS, gate["scale"])),
            gr.node(
                "candidate_input", "bias", "c", bias=bias(pre["candidate_bias"]), rescale=up,
                out=out(ACTIVATION_BITS, pre["scale"]),
            ),
            gr.node("t", "tanh", "candidate_input", out=out(ACTIVATION_BITS, candidate["scale"])),
            gr.node(
                "open", "add", "g", terms=[{"minus": True}], constant=1 << gate["scale"],
                out=out(ACTIVATION_BITS, gate["scale"]), comment="z = zeta (1 - g) + nu",
            ),
            gr.node(
                "scaled", "scale", "open", weights=tensor(zeta["tensor"], zeta["bits"], min=0), shape=[1],
                rescale=gr.rescale(shift=zeta["shift"]), out=out(ACTIVATION_BITS, z_scale),
            ),
            gr.node(
                "z", "bias", "scaled", bias=tensor(nu["tensor"], nu["bits"], min=0), shape=[1],
                rescale_bias=gr.rescale(shift=nu["shift"]), out=out(ACTIVATION_BITS, z_scale),
            ),
            gr.node(
                "update", "mul", "z", "t", rescale=gr.rescale(shift=state["candidate_shift"]),
                out=out(ACTIVATION_BITS, update_scale), comment="h' = z t + g h",
            ),
            gr.node(
                "kept", "mul", "g", "h", rescale=gr.rescale(shift=state["gate_shift"]),
                out=out(state["bits"], state["scale"]),
            ),
            gr.node(
                "h_next", "add", "kept", "update", terms=terms(0, state["out_shift"]),
                out=out(state["bits"], state["scale"]),
            ),
        ]
        nodes += products(layer["w"], prefix + "a", source, c_scale + pre["shift_w"], "a: the input's products, of all steps")
        last = i + 1 == len(spec["layer"])
        initial = {"name": "h", "next": "h_next", "shape": [layer["hidden"]], **(out(state["bits"], state["scale"]) or {})}
        result = {"name": "last" if last else "all", "value": "h_next", "steps": "last" if last else "every"}
        nodes.append(
            gr.node(loop, "scan", prefix + "a", slices=["a"], states=[initial], yields=[result], body=body, comment="the loop over time")
        )
        source = f"{loop}.{result['name']}"
    o = spec["output"]
    nodes += [
        gr.node(
            "products", "matmul", source, weights=tensor(o["tensor"], o["bits"]), columns=len(spec["labels"]),
            rescale=gr.rescale(o["floor"], o["shift"]), out=out(o["out"], o["scale"]), comment="the classifier on the last state",
        ),
        gr.node(
            "logits", "bias", "products", bias=tensor(o["bias"]["tensor"], o["bias"]["bits"]),
            rescale_bias=gr.rescale(shift=o["bias"]["shift"]), out=out(o["out"], o["scale"]),
        ),
    ]
    x = {"name": "x", "shape": ["steps", spec["features"]], **spec["input"]}
    scores = {"name": "scores", "value": "logits", "reveal": spec["reveal"], "labels": spec["labels"]}
    return {
        "format": gr.FORMAT,
        "name": spec["name"],
        "steps": spec["steps"],
        "rounding": spec["rounding"],
        "default": {"bits": ACTIVATION_BITS, "tensor_bits": 8},
        "input": [x],
        "node": nodes,
        "output": [scores],
    }


def from_graph(graph):
    """The program of a graph that `to_graph` made, or that is like one."""
    try:
        spec = _from_graph(graph)
        again = gr.read(gr.write(to_graph(spec)))
    except (KeyError, IndexError, TypeError, ValueError) as error:
        raise ModelError(f"the graph is no stack of FastGRNN layers: {error!r}") from None
    # What the server proves about its weights it may add.
    if again != {k: v for k, v in graph.items() if k != "fits"}:
        raise ModelError("the graph is no stack of FastGRNN layers with a classifier, as these tools write it")
    return spec


def _from_graph(graph):
    (x,), (scores,) = graph["input"], graph["output"]
    nodes = graph["node"]
    loops = [n for n in nodes if n["op"] == "scan"]
    spec = {"name": graph["name"], "steps": graph["steps"], "features": x["shape"][1], "rounding": graph["rounding"]}
    spec |= {"labels": scores["labels"], "reveal": scores["reveal"]}
    spec |= {"input": {"bits": x["bits"], "scale": x["scale"]}}

    def chain(nodes, name):
        """The products that end in a node."""
        n = nodes.get(name)
        if n is None or n["op"] != "matmul":
            return []
        f = {"tensor": n["weights"]["tensor"], "bits": n["weights"]["bits"]}
        f |= {k: n["rescale"][k] for k in ("floor", "shift", "left")}
        return chain(nodes, n["in"][0]) + [{**f, "out": n["out"]["bits"], "columns": n["columns"]}]

    by_name = lambda nodes: {n["name"]: n for n in nodes}
    layers = []
    for loop in loops:
        b = by_name(loop["body"])
        term = lambda n, i: n["terms"][i]["rescale"]["shift"] if "terms" in n else 0
        parameter = lambda n, key, rescale: {
            "tensor": n[key]["tensor"], "bits": n[key]["bits"], "shift": n[rescale]["shift"],
        }
        scale = lambda name: b[name]["out"]["scale"]
        layers.append(
            {
                "type": "fastgrnn",
                "hidden": loop["states"][0]["shape"][0],
                "w": chain(by_name(nodes), loop["in"][0]),
                "u": chain(b, "b"),
                "pre": {
                    "bits": b["c"]["out"]["bits"],
                    "shift_w": term(b["c"], 0),
                    "shift_u": term(b["c"], 1),
                    "left": b["gate_input"]["rescale"]["left"],
                    "scale": scale("gate_input"),
                    "bias_bits": b["gate_input"]["bias"]["bits"],
                    "gate_bias": b["gate_input"]["bias"]["tensor"],
                    "candidate_bias": b["candidate_input"]["bias"]["tensor"],
                },
                "gate": {"scale": scale("g")},
                "candidate": {"scale": scale("t")},
                "zeta": parameter(b["scaled"], "weights", "rescale"),
                "nu": parameter(b["z"], "bias", "rescale_bias"),
                "state": {
                    "bits": b["h_next"]["out"]["bits"],
                    "scale": scale("h_next"),
                    "gate_shift": b["kept"]["rescale"]["shift"],
                    "candidate_shift": b["update"]["rescale"]["shift"],
                    "out_shift": term(b["h_next"], 1),
                },
            }
        )
    spec["layer"] = layers
    products, logits = nodes[-2:]
    spec["output"] = {
        "tensor": products["weights"]["tensor"],
        "bits": products["weights"]["bits"],
        "floor": products["rescale"]["floor"],
        "shift": products["rescale"]["shift"],
        "out": logits["out"]["bits"],
        "scale": logits["out"]["scale"],
        "bias": {
            "tensor": logits["bias"]["tensor"],
            "bits": logits["bias"]["bits"],
            "shift": logits["rescale_bias"]["shift"],
        },
    }
    return spec


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
                    "columns": factor.shape[1],
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
