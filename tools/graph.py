"""Model files, format 2 (docs/models.md): a network as a graph of integer operations, written so that people can read it.

A graph is what tomllib reads from model.toml. `write` turns one into text; `read` reads a text and fills in what it leaves out,
so that every node has a list of operands, complete rescales and formats, and every tensor of the server its width.
"""

import tomllib

FORMAT = 2
HEAD = """\
# The public part of a model: all that both parties know. The weights are in weights.safetensors.
# Every number here is known to the client, including the widths and scales that were fitted to the weights.
# real value = integer / 2^scale; a rescale by s is v / 2^s, rounded as said below; values wrap, nothing saturates.
"""
# Operations whose results have the format of their operands.
KEEP_FORMAT = (
    "max_pool max argmax reshape transpose slice split concat pad gather reverse patches scan".split()
)
RESCALES = ("rescale", "operand", "rescale_bias")
TENSORS = ("weights", "bias")


class GraphError(ValueError):
    """A file that is not of this format."""


def value(v):
    """A value as TOML."""
    if isinstance(v, bool):
        return "true" if v else "false"
    if isinstance(v, str):
        return '"' + v.replace("\\", "\\\\").replace('"', '\\"') + '"'
    if isinstance(v, dict):
        return "{ " + ", ".join(f"{k} = {value(x)}" for k, x in v.items()) + " }" if v else "{}"
    if isinstance(v, (list, tuple)):
        return "[" + ", ".join(value(x) for x in v) + "]"
    return str(int(v))


def rescale(floor=0, shift=0, left=0):
    """The short form of a rescale; None for one that does nothing."""
    parts = {k: v for k, v in (("floor", floor), ("shift", shift), ("left", left)) if v}
    return parts["shift"] if list(parts) == ["shift"] else parts or None


def node(name, op, *ins, comment=None, **fields):
    """A node. Fields that are None are left out."""
    given = {k: v for k, v in fields.items() if v is not None}
    return {"comment": comment, "name": name, "op": op, "in": ins[0] if len(ins) == 1 else list(ins), **given}


def _lines(header, table, indent=""):
    """The body of a loop is indented."""
    yield ""
    if table.get("comment"):
        yield f"{indent}# {table['comment']}"
    yield f"{indent}[[{header}]]"
    for key, v in table.items():
        if key not in ("comment", "body"):
            yield f"{indent}{key} = {value(v)}"
    for inner in table.get("body", ()):
        yield from _lines(header + ".body", inner, indent + "  ")


def write(graph):
    """The text of a graph: its keys in order, `default` and lists of tables last."""
    lines = []
    for key, v in graph.items():
        if key == "default":
            lines += ["", "[default]", *(f"{k} = {value(x)}" for k, x in v.items())]
        elif isinstance(v, list) and v and isinstance(v[0], dict):
            for table in v:
                lines += _lines(key, table)
        else:
            lines.append(f"{key} = {value(v)}")
    return HEAD + "\n".join(lines) + "\n"


def read(text):
    """The graph of a text, with nothing left out."""
    graph = tomllib.loads(text)
    if graph.get("format") != FORMAT:
        raise GraphError(f"model format {graph.get('format')}, this tool reads {FORMAT}")
    rounding = graph.setdefault("rounding", "floor")
    if rounding == "zero":
        rounding = graph["rounding"] = "toward-zero"
    default = graph.pop("default", {})

    def number(table):
        table.setdefault("bits", default.get("bits"))
        table.setdefault("scale", default.get("scale", 0))

    def full(table, key):
        v = table.get(key, 0)
        v = v if isinstance(v, dict) else {"shift": v}
        table[key] = {"floor": 0, "shift": 0, "left": 0, "rounding": rounding, **v}

    def complete(nodes):
        for n in nodes:
            n["in"] = [n["in"]] if isinstance(n.get("in"), str) else n.get("in", [])
            for key in RESCALES:
                full(n, key)
            for term in n.get("terms", ()):
                full(term, "rescale")
            for key in TENSORS:
                if isinstance(n.get(key), str):
                    n[key] = {"tensor": n[key]}
                if isinstance(n.get(key), dict):
                    n[key].setdefault("bits", default.get("tensor_bits"))
            if n["op"] not in KEEP_FORMAT:
                number(n.setdefault("out", {}))
            for state in n.get("states", ()):
                number(state)
            complete(n.get("body", ()))

    complete(graph.get("node", []))
    for output in graph.get("output", ()):
        output.setdefault("value", output["name"])
    return graph
