"""Arrays of numpy, lists, pandas and pyarrow, as the extension takes them."""

from __future__ import annotations

from typing import Any, Mapping, Sequence

import numpy as np

from ._errors import InputError

#: Name of the input, kind of number, data, shape, lengths: see ``Array`` in ``src/lib.rs``.
Packed = tuple[Any, str, bytes, list[int], Any]


def _kind(array: np.ndarray, place: str) -> tuple[str, str]:
    """Kind of number and the type in which it is handed over."""
    if array.dtype.kind == "f":
        return "f", "<f8"
    if array.dtype.kind in "iub":
        if array.dtype.kind == "u" and array.size and int(array.max()) > np.iinfo(np.int64).max:
            raise InputError(f"{place}: {array.max()} does not fit 64 bits")
        return "i", "<i8"
    raise InputError(f"{place}: numbers of type {array.dtype}, floats or integers are expected")


def _bytes(array: np.ndarray, dtype: str) -> bytes:
    return np.ascontiguousarray(array, dtype=dtype).tobytes()


def _sequences(name: str | None, items: Sequence[Any], port: Mapping[str, Any]) -> Packed:
    """Items of different lengths."""
    place = f"input '{port['name']}'"
    if port["shape"][:1] != [None]:
        raise InputError(f"{place}: items of different shapes, but it has no time axis")
    step = [int(n) for n in port["shape"][1:]]
    arrays = []
    for i, item in enumerate(items):
        array = np.asarray(item)
        if array.size == 0:
            raise InputError(f"{place}, item {i}: it has no steps")
        _kind(array, f"{place}, item {i}")
        if list(array.shape[1:]) != step:
            raise InputError(f"{place}, item {i}: shape {list(array.shape)}, {_shown(port)} is expected")
        arrays.append(array)
    kind, dtype = ("f", "<f8") if any(a.dtype.kind == "f" for a in arrays) else ("i", "<i8")
    return name, kind, b"".join(_bytes(a, dtype) for a in arrays), step, [len(a) for a in arrays]


def _shown(port: Mapping[str, Any]) -> str:
    return "[" + ", ".join("steps" if n is None else str(n) for n in port["shape"]) + "]"


def _one(name: str | None, x: Any, port: Mapping[str, Any]) -> Packed:
    """An array, or a list of them, for one input."""
    place = f"input '{port['name']}'"
    if not isinstance(x, np.ndarray) or x.dtype == object:
        items = list(x)
        shapes = {np.shape(item) for item in items}
        if len(shapes) > 1:
            return _sequences(name, items, port)
        x = np.asarray([np.asarray(item) for item in items])
        if not items:
            x = np.empty([0], dtype=np.int64)
    if x.size == 0:
        raise InputError(f"{place}: there are no items")
    kind, dtype = _kind(x, place)
    return name, kind, _bytes(x, dtype), list(x.shape), None


def _frame(columns: Mapping[str, Any], ports: Sequence[Mapping[str, Any]], what: str) -> Mapping[str, Any]:
    """Columns by name as arrays by input: a column for each input, or the numbers of one input, a row an item."""
    if all(port["name"] in columns for port in ports):
        return {port["name"]: columns[port["name"]] for port in ports}
    if len(ports) != 1:
        missing = [port["name"] for port in ports if port["name"] not in columns]
        raise InputError(f"the {what} has no column {', '.join(map(repr, missing))}")
    (port,) = ports
    arrays = {name: np.asarray(column) for name, column in columns.items()}
    for name, array in arrays.items():
        if array.dtype.kind not in "fiub" or array.ndim != 1:
            raise InputError(
                f"the {what} has no column '{port['name']}', and its column '{name}' holds no plain numbers (one for each item)"
            )
    if not arrays:
        raise InputError(f"the {what} has no columns")
    rows = np.stack(list(arrays.values()), axis=1)
    step = int(np.prod([n for n in port["shape"] if n is not None]))
    shape = [-1 if n is None else n for n in port["shape"]]
    if rows.shape[1] % step or (None not in port["shape"] and rows.shape[1] != step):
        raise InputError(f"the {what} has {rows.shape[1]} columns, {_shown(port)} numbers are expected in a row")
    if len(rows) == 0:
        raise InputError(f"the {what} has no rows")
    return {port["name"]: rows.reshape([len(rows), *shape])}


def _arrow(column: Any) -> Any:
    """A column of a pyarrow table: numbers, or nested lists of them for each item."""
    if column.null_count:
        raise InputError(f"a column has {column.null_count} missing values")
    try:
        flat = column.to_numpy()
    except Exception:  # a type that numpy does not have
        flat = np.array(column.to_pylist(), dtype=object)
    if flat.dtype != object:
        return flat
    items = column.to_pylist()
    return [np.asarray(item) for item in items]


def pack(x: Any, ports: Sequence[Mapping[str, Any]]) -> list[Packed]:
    """What the extension takes, for the inputs of a network."""
    # Neither pandas nor pyarrow is imported here: who has such a thing has imported it.
    module = type(x).__module__.split(".")[0]
    if module == "pandas" and hasattr(x, "columns"):
        if x.isna().any(axis=None):
            raise InputError("the frame has missing values")
        x = _frame({str(c): _cells(x[c].to_numpy()) for c in x.columns}, ports, "frame")
    elif module == "pyarrow" and hasattr(x, "column_names"):
        if x.num_rows == 0:
            raise InputError("the table has no rows")
        x = _frame({name: _arrow(x.column(name)) for name in x.column_names}, ports, "table")
    if isinstance(x, Mapping):
        by_name = {port["name"]: port for port in ports}
        for name in x:
            if name not in by_name:
                raise InputError(f"there is no input '{name}', only {', '.join(map(repr, by_name))}")
        missing = [name for name in by_name if name not in x]
        if missing:
            raise InputError(f"there is nothing for the input {', '.join(map(repr, missing))}")
        return [_one(name, x[name], port) for name, port in by_name.items()]
    if len(ports) != 1:
        names = ", ".join(repr(port["name"]) for port in ports)
        raise InputError(f"the network has {len(ports)} inputs: give a dictionary with {names}")
    return [_one(None, x, ports[0])]


def _cells(column: np.ndarray) -> Any:
    """A column of a frame: numbers, or an array in every cell, perhaps a nested one."""
    if column.dtype != object:
        return column
    cells = [np.asarray(cell.tolist() if isinstance(cell, np.ndarray) else cell) for cell in column]
    if all(cell.ndim == 0 for cell in cells):
        return np.asarray(cells)
    return cells


def unpack(data: bytes, counts: Sequence[int]) -> list[np.ndarray]:
    """The integers of each item."""
    flat = np.frombuffer(data, dtype="<i8").astype(np.int64, copy=False)
    return np.split(flat, np.cumsum(counts)[:-1]) if counts else []
