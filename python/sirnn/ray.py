"""Batches on a Ray cluster.

The two parties are two domains of trust: each has a cluster of its own, and never one for both. The client's cluster runs
:func:`predict`, the server's :func:`serve`; a list of addresses is all that the one needs of the other, however it is served.

Every block is a request with correlations of its own. Nothing is kept from one to the next but the network's description: set-up
is a part of each request, which large batches make cheap.
"""

from __future__ import annotations

import random
import time
from typing import Any, Mapping, Sequence, Union

import numpy as np

from . import Client, Model, PathLike, Server
from ._errors import BusyError, InputError, NetworkError, PeerError

#: What another server, or the same one later, may do better. A peer that is not who it should be is not among the reasons for long: all
#: attempts end with it.
TRANSIENT = (NetworkError, BusyError, PeerError)


class Replicas:
    """Servers that are actors."""

    #: Where they listen.
    addresses: list[str]

    def __init__(self, actors: Sequence[Any]) -> None:
        import ray

        self.actors = list(actors)
        self.addresses = ray.get([actor.address.remote() for actor in self.actors])

    def stop(self) -> None:
        """Ends them; running sessions have their time of grace."""
        import ray

        for done in [actor.stop.remote() for actor in self.actors]:
            try:
                ray.get(done)
            except ray.exceptions.RayActorError:
                pass  # it was gone already
        for actor in self.actors:
            ray.kill(actor)

    def __enter__(self) -> Replicas:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()


class _Replica:
    """A server in an actor."""

    def __init__(self, model: str, host: str | None, port: int, options: dict[str, Any]) -> None:
        import ray

        self.server = Server(model, f"{host or ray.util.get_node_ip_address()}:{port}", **options)

    def address(self) -> str:
        return self.server.address

    def stop(self) -> None:
        self.server.stop()


def serve(
    model: PathLike,
    replicas: int = 1,
    *,
    host: str | None = "127.0.0.1",
    port: int = 0,
    num_cpus: float = 1,
    **options: Any,
) -> Replicas:
    """Starts server actors and returns them, with their addresses.

    ``model`` is a folder that all nodes have. ``host`` is what they listen on, None for the address of their node; then ``identity`` and
    ``peer`` are needed, as for :class:`sirnn.Server`, whose ``options`` these are. With a ``port`` the k-th replica has ``port + k``, and the
    same one again when Ray starts it anew after a failure; with 0 it has another one then, and clients use the other replicas.
    """
    import ray

    Model(model)  # what is wrong with it is said here
    actor = ray.remote(_Replica).options(num_cpus=num_cpus, max_restarts=-1)
    one = [actor.remote(str(model), host, port + k if port else 0, options) for k in range(replicas)]
    return Replicas(one)


class _Predictor:
    """A client in an actor."""

    def __init__(
        self,
        servers: Sequence[str],
        columns: Mapping[str, str] | None,
        keep: bool,
        attempts: int,
        options: Mapping[str, Any],
    ) -> None:
        self.servers, self.columns, self.keep = list(servers), columns, keep
        self.attempts, self.options = attempts, dict(options)
        # So that not all begin with the same one.
        random.shuffle(self.servers)
        self.client: Client | None = None

    def _inputs(self, client: Client, batch: Mapping[str, np.ndarray]) -> dict[str, Any]:
        columns = self.columns or {port["name"]: port["name"] for port in client.network.inputs}
        missing = [column for column in columns.values() if column not in batch]
        if missing:
            names = ", ".join(map(repr, batch))
            raise InputError(f"the dataset has no column {', '.join(map(repr, missing))}, only {names}")
        return {name: batch[column] for name, column in columns.items()}

    def _predict(self, batch: Mapping[str, np.ndarray]) -> Any:
        for attempt in range(self.attempts):
            try:
                if self.client is None:
                    self.client = Client(self.servers, **self.options)
                return self.client.predict(self._inputs(self.client, batch))
            except TRANSIENT as e:
                if attempt + 1 == self.attempts:
                    raise
                # Another server first, with a new session: nothing of the failed one is used again.
                self.servers.append(self.servers.pop(0))
                self.client = None
                wait = getattr(e, "retry_after", 0.1)
                time.sleep(wait * (1 + random.random()) * 1.5**attempt)
        raise AssertionError("attempts are at least one")

    def __call__(self, batch: dict[str, np.ndarray]) -> dict[str, Any]:
        items = len(next(iter(batch.values()), ()))
        result: dict[str, Any] = dict(batch) if self.keep else {}
        if items == 0:
            return result
        predictions = self._predict(batch)
        for k, output in enumerate(predictions.outputs):
            prefix = "" if k == 0 else f"{output.name}."
            if output.classes is not None:
                result[prefix + "class"] = output.classes
                if isinstance(output.classes, np.ndarray) and output.classes.ndim == 1 and output.labels:
                    result[prefix + "label"] = np.array([output.labels[c] for c in output.classes])
            if output.values is not None:
                result[prefix + ("scores" if output.reveal == "scores" else "values")] = output.values
        return result


def predict(
    dataset: Any,
    servers: Union[Sequence[str], Replicas],
    *,
    concurrency: int = 1,
    batch: int = 64,
    columns: str | Mapping[str, str] | None = None,
    keep: bool = True,
    attempts: int = 5,
    num_cpus: float = 1,
    **options: Any,
) -> Any:
    """Predictions on a ``ray.data.Dataset``, as a ``ray.data.Dataset``; nothing runs before it is consumed.

    ``concurrency`` actors are clients, each computes blocks of ``batch`` items. ``columns`` says which column is which input: a name where there
    is one input, a dictionary from inputs to columns, by default the inputs' own names. A cell is an array of the shape of one item, integers or
    floats. The result has the columns ``class``, ``label`` and ``scores`` or ``values`` of the first output, those of others behind
    ``NAME.``, and, unless ``keep`` is False, those of the dataset.

    A block that fails is tried again on another server, ``attempts`` times in all; when an actor dies Ray starts another one, which
    computes the block anew. In the result each item is there once. ``num_cpus`` is what Ray reserves for each of the actors: reading and
    writing need some of the cluster's CPUs too, and nothing moves where the actors take all. Further ``options`` are those of :class:`sirnn.Client`.
    """
    import ray

    addresses = list(servers.addresses if isinstance(servers, Replicas) else servers)
    if not addresses or attempts < 1:
        raise InputError("there are no servers, or no attempts")
    # What is wrong with servers or columns is said here, and not by an actor.
    with Client(addresses, **options) as client:
        inputs = [port["name"] for port in client.network.inputs]
    if isinstance(columns, str):
        if len(inputs) != 1:
            raise InputError(f"the network has the inputs {', '.join(map(repr, inputs))}: a column for each is needed")
        columns = {inputs[0]: columns}
    if columns is not None and set(columns) != set(inputs):
        raise InputError(f"columns for {', '.join(columns)}, the network has the inputs {', '.join(inputs)}")
    schema = dataset.schema()
    if schema is not None:
        missing = [c for c in (columns or dict(zip(inputs, inputs))).values() if c not in schema.names]
        if missing:
            names = ", ".join(map(repr, schema.names))
            raise InputError(f"the dataset has no column {', '.join(map(repr, missing))}, only {names}")
    return dataset.map_batches(
        _Predictor,
        batch_size=batch,
        batch_format="numpy",
        compute=ray.data.ActorPoolStrategy(size=concurrency),
        num_cpus=num_cpus,
        fn_constructor_args=(addresses, columns, keep, attempts, dict(options)),
    )
