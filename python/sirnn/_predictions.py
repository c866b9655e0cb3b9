"""What a client learned."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any, Iterator, Sequence, Union

import numpy as np

from ._arrays import unpack

#: One array for all items, or one for each where their lengths differ.
Arrays = Union[np.ndarray, "list[np.ndarray]"]


@dataclass(frozen=True)
class Output:
    """What was learned of one output of the network."""

    #: Its name.
    name: str
    #: What is revealed of it: ``"values"``, ``"scores"`` (and the class) or ``"class"``.
    reveal: str
    #: Names of the classes, if they have any.
    labels: list[str]
    #: Whether the first axis of an item is time.
    per_step: bool
    #: Values are integers times ``2**-scale``.
    scale: int
    #: ``[items, *shape]``, or a list of ``shape`` arrays where items have different lengths; None if the class alone is revealed.
    integers: Arrays | None = field(repr=False)
    #: ``[items]``, or ``[items, ..]`` with one class for each row of values; a list where items have different lengths; None if values
    #: alone are revealed.
    classes: Arrays | None = field(repr=False)

    @property
    def values(self) -> Arrays | None:
        """Scores or values as real numbers, in the shape of :attr:`integers`."""
        if self.integers is None:
            return None
        factor = 2.0**-self.scale
        if isinstance(self.integers, list):
            return [item * factor for item in self.integers]
        return self.integers * factor


def _shaped(items: list[np.ndarray], shape: Sequence[int], timed: bool) -> Arrays:
    """Items in their shape; of a time series each has as many steps as it has."""
    rest = tuple(shape[1:]) if timed else tuple(shape)
    own = [item.reshape((-1, *rest) if timed else rest) for item in items]
    return np.stack(own) if len({item.shape for item in own}) == 1 else own


class Predictions:
    """What a client learned of its items, and what that cost."""

    #: The outputs of the network, in its order.
    outputs: list[Output]
    #: Rounds, bytes, seconds, correlations, as ``sirnn infer --json`` reports them; None if computed in the clear.
    summary: dict[str, Any] | None

    def __init__(self, raw: tuple[list[dict[str, Any]], str | None]) -> None:
        outputs, summary = raw
        self.summary = None if summary is None else json.loads(summary)
        self.outputs = []
        self._items = 0
        for o in outputs:
            shape, timed = o["shape"], o["per_step"]
            integers = classes = None
            if "integers" in o:
                items = unpack(*o["integers"])
                self._items = len(items)
                integers = _shaped(items, shape, timed)
            if "classes" in o:
                items = unpack(*o["classes"])
                self._items = len(items)
                classes = _shaped(items, shape[:-1], timed and len(shape) > 1)
            self.outputs.append(Output(o["name"], o["reveal"], o["labels"], timed, o["scale"], integers, classes))

    def __len__(self) -> int:
        return self._items

    def __iter__(self) -> Iterator[Output]:
        return iter(self.outputs)

    def __getitem__(self, name: str) -> Output:
        """The output of this name."""
        for output in self.outputs:
            if output.name == name:
                return output
        raise KeyError(name)

    @property
    def classes(self) -> np.ndarray | None:
        """``[items]``: the class of each item, of the first output that has classes; None if that has not one for each item."""
        output = next((o for o in self.outputs if o.classes is not None), None)
        if output is None or not isinstance(output.classes, np.ndarray) or output.classes.ndim != 1:
            return None
        return output.classes

    @property
    def labels(self) -> np.ndarray | None:
        """``[items]``: the names of :attr:`classes`; numbers as text, if they have no names."""
        classes = self.classes
        if classes is None:
            return None
        names = next(o for o in self.outputs if o.classes is not None).labels
        return np.array([names[c] if c < len(names) else str(c) for c in classes])

    @property
    def values(self) -> Arrays | None:
        """Scores or values of the first output, as real numbers."""
        return self.outputs[0].values

    def __repr__(self) -> str:
        return f"Predictions({len(self)} items: {', '.join(f'{o.name} ({o.reveal})' for o in self.outputs)})"
