"""Secure two-party inference for recurrent neural networks, exact in fixed point.

A server owns a trained network, a client owns time series. The client learns its predictions, the server learns nothing about the
inputs, and the weights never leave it. Secure against parties that follow the protocol and are curious (semi-honest), with 128 bits.

    >>> with sirnn.Server("models/digits") as server:             # where the weights are
    ...     print(server.address)
    >>> client = sirnn.Client("127.0.0.1:7700")                   # where the inputs are
    >>> client.predict(x).labels                                  # x: [items, 8, 8]

Inputs are, for the one input of a network,

* a numpy array ``[items, *shape]``: floats are quantised at the input's scale, integers are used as they are;
* a list of arrays ``[steps, *shape_of_a_step]`` of different lengths (lengths are public);
* a pandas frame or a pyarrow table: a column with an array in each row under the input's name, or plain numbers, a row an item.

For a network with several inputs a dictionary by name, or a frame or table with a column for each.
"""

from __future__ import annotations

import os
from typing import Any, Callable, Iterable, NamedTuple, Sequence, Union

from . import _sirnn
from ._arrays import pack
from ._errors import (
    BusyError,
    CancelledError,
    ClosedError,
    Error,
    InputError,
    InternalError,
    LimitError,
    NetworkError,
    PeerError,
)
from ._predictions import Output, Predictions

__all__ = [
    "BusyError",
    "CancelledError",
    "Client",
    "ClosedError",
    "Error",
    "Identity",
    "InputError",
    "InternalError",
    "LimitError",
    "Model",
    "Network",
    "NetworkError",
    "Output",
    "PeerError",
    "Predictions",
    "Server",
    "create_identity",
    "plan",
    "run",
]

PathLike = Union[str, "os.PathLike[str]"]


class Identity(NamedTuple):
    """A certificate (PEM, perhaps a chain) and its key."""

    certificate: PathLike
    key: PathLike

    @classmethod
    def load(cls, folder: PathLike) -> Identity:
        """``certificate.pem`` and ``key.pem`` in a folder."""
        return cls(os.path.join(folder, "certificate.pem"), os.path.join(folder, "key.pem"))


def create_identity(name: str, folder: PathLike) -> str:
    """Makes a key and a self-signed certificate for ``name``: ``certificate.pem`` and ``key.pem`` in a folder.

    Nothing there is overwritten. Returns the fingerprint, which the other party needs.
    """
    return _sirnn.create_identity(name, os.fspath(folder))


def _identity(
    identity: Identity | PathLike | None,
    peer: str | Iterable[str] | None,
    authority: PathLike | None,
    name: str | None,
) -> Any:
    if identity is None:
        if peer or authority or name:
            raise InputError("a peer is accepted by an identity: its certificate and key are missing")
        return None
    certificate, key = identity if isinstance(identity, tuple) else Identity.load(identity)
    peers = [peer] if isinstance(peer, str) else list(peer or [])
    file = None if authority is None else os.fspath(authority)
    return os.fspath(certificate), os.fspath(key), peers, file, name


class Network:
    """The public part of a model."""

    #: Its name.
    name: str
    #: Most time steps of an item; 0 if no input has a time axis.
    steps: int
    #: What a client brings: dictionaries of name, shape of an item (None is the time axis), bits, scale, unsigned.
    inputs: list[dict[str, Any]]
    #: What a client learns: the same, with ``reveal`` and ``labels``.
    outputs: list[dict[str, Any]]
    #: All of it, as the text of ``model.toml``.
    text: str

    def __init__(self, parts: Any) -> None:
        self.name, self.steps, self.inputs, self.outputs, self.text = parts

    def __repr__(self) -> str:
        def port(p: dict[str, Any]) -> str:
            return f"{p['name']} {['steps' if n is None else n for n in p['shape']]}"

        ins, outs = (", ".join(map(port, ports)) for ports in (self.inputs, self.outputs))
        return f"Network({self.name}: {ins} -> {outs})".replace("'", "")


def _plans(
    goal: str = "time",
    link: str = "lan",
    ot: str | None = None,
    fuse: bool | None = None,
    lanes: int | None = None,
    linear: str = "auto",
) -> _sirnn.Plans:
    return _sirnn.Plans(goal, link, ot, fuse, lanes, linear)


class Model:
    """A model directory: ``model.toml`` and ``weights.safetensors``.

    Options of :meth:`plan` and :meth:`run`, and of :class:`Server`: ``goal`` (``"time"``, ``"rounds"``, ``"bytes"``, ``"online"``), ``link``
    (``"loopback"``, ``"lan"``, ``"wan"``, ``"MBIT,MS"``), ``ot`` (``"iknp"``, ``"softspoken"``, ``"ferret"``), ``fuse``, ``lanes``, ``linear``
    (``"auto"``, ``"cot"``, ``"rlwe"``). Results never depend on them.
    """

    #: The public part.
    network: Network

    def __init__(self, folder: PathLike) -> None:
        self.folder = os.fspath(folder)
        self._model = _sirnn.Model(self.folder)
        self.network = Network(self._model.network())

    def show(self) -> str:
        """The description of the network, as text."""
        return self.network.text

    def evaluate(self, x: Any) -> Predictions:
        """Computes items in the clear, which is what two parties compute, bit for bit."""
        return Predictions(self._model.evaluate(pack(x, self.network.inputs)))

    def run(self, x: Any, **planning: Any) -> Predictions:
        """Computes items as two parties, both in this process, over loopback."""
        return Predictions(self._model.run(pack(x, self.network.inputs), _plans(**planning)))

    def plan(self, items: int = 1, steps: int | None = None, **planning: Any) -> dict[str, Any]:
        """What a request for ``items`` items of ``steps`` time steps will cost: exact rounds and bytes, estimated times."""
        return self._model.plan(items, steps, _plans(**planning))

    def __repr__(self) -> str:
        return f"Model({self.folder!r})"


def _model(model: Model | PathLike) -> Model:
    return model if isinstance(model, Model) else Model(model)


def run(model: Model | PathLike, x: Any, **planning: Any) -> Predictions:
    """Both parties in this process: see :meth:`Model.run`."""
    return _model(model).run(x, **planning)


def plan(model: Model | PathLike, items: int = 1, steps: int | None = None, **planning: Any) -> dict[str, Any]:
    """What a request will cost: see :meth:`Model.plan`."""
    return _model(model).plan(items, steps, **planning)


class _Bar:
    """A bar of tqdm over the online rounds, if tqdm is there."""

    def __init__(self) -> None:
        try:
            from tqdm.auto import tqdm
        except ImportError:
            self._bar = None
        else:
            self._bar = tqdm(unit=" rounds", desc="waiting")

    def __call__(self, queued: int, rounds: int, total: int) -> None:
        if self._bar is None:
            return
        if queued:
            self._bar.set_description(f"place {queued} in the queue")
            return
        self._bar.set_description("online")
        self._bar.total = total
        self._bar.update(rounds - self._bar.n)

    def close(self) -> None:
        if self._bar is not None:
            self._bar.close()


class Client:
    """Has a server compute predictions on inputs that it never sees.

    ``address`` is ``"HOST:PORT"``, or a list of servers of the same model: when one is not there, busy, or refuses before a session starts, the
    next is asked. Off this machine both sides need an identity: ``identity`` is an :class:`Identity` or a folder with ``certificate.pem`` and
    ``key.pem``, ``peer`` the fingerprint (or several) of the server's certificate, or ``authority`` a file of authorities (and ``name`` the name
    that the certificate has to have). ``expect`` is a folder with the one description that is accepted.

    Every call is a request of its own; a client may be used by several threads. Ctrl-C ends a call.
    """

    #: The network, as far as it is public.
    network: Network

    def __init__(
        self,
        address: str | Sequence[str],
        *,
        identity: Identity | PathLike | None = None,
        peer: str | Iterable[str] | None = None,
        authority: PathLike | None = None,
        name: str | None = None,
        insecure_plaintext: bool = False,
        expect: PathLike | None = None,
        batch: int | None = None,
        linear: str = "auto",
        retry: float = 0.0,
        max_bytes: int | None = None,
        max_memory: int | None = None,
        deadline: float | None = None,
        min_rate: int | None = None,
    ) -> None:
        self.addresses = [address] if isinstance(address, str) else list(address)
        self._client: _sirnn.Client | None = _sirnn.Client(
            self.addresses,
            _identity(identity, peer, authority, name),
            insecure_plaintext,
            (max_bytes, max_memory, deadline, min_rate),
            None if expect is None else os.fspath(expect),
            batch,
            linear,
            retry,
        )
        self.network = Network(self._client.network())

    def predict(
        self, x: Any, *, progress: bool | Callable[[int, int, int], object] = False
    ) -> Predictions:
        """Has items computed: see the module for what ``x`` may be.

        ``progress`` is True for a bar (with tqdm), or a function of place in the queue (0 when it computes), rounds done, rounds in all.
        """
        if self._client is None:
            raise ClosedError("the client is closed")
        arrays = pack(x, self.network.inputs)
        bar = _Bar() if progress is True else None
        try:
            return Predictions(self._client.predict(arrays, bar or progress or None))
        finally:
            if bar is not None:
                bar.close()

    def close(self) -> None:
        """Ends its use. There is nothing to wait for."""
        self._client = None

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"Client({self.network.name!r} at {', '.join(self.addresses)})"


class Server:
    """Serves a model in threads of its own; a context manager.

    ``model`` is a :class:`Model` or its folder. ``identity``, ``peer``, ``authority`` and ``name`` are as for :class:`Client`, and about the
    clients. ``grace`` is for how long running sessions go on after :meth:`stop`. Other options are those of :class:`Model`.
    """

    #: Where it listens.
    address: str

    def __init__(
        self,
        model: Model | PathLike,
        listen: str = "127.0.0.1:0",
        *,
        identity: Identity | PathLike | None = None,
        peer: str | Iterable[str] | None = None,
        authority: PathLike | None = None,
        name: str | None = None,
        insecure_plaintext: bool = False,
        max_items: int | None = None,
        max_batch: int | None = None,
        max_sessions: int | None = None,
        queue: int | None = None,
        grace: float = 30.0,
        max_bytes: int | None = None,
        max_memory: int | None = None,
        deadline: float | None = None,
        min_rate: int | None = None,
        **planning: Any,
    ) -> None:
        self.model = _model(model)
        self._server = _sirnn.Server(
            self.model._model,
            listen,
            _identity(identity, peer, authority, name),
            insecure_plaintext,
            (max_bytes, max_memory, deadline, min_rate),
            _plans(**planning),
            (max_items, max_batch, max_sessions, queue),
            grace,
        )
        self.address = self._server.address()

    @property
    def load(self) -> tuple[int, int]:
        """Running sessions, and requests that wait."""
        return self._server.load()

    def metrics(self) -> str:
        """What happened so far, in the text format of Prometheus."""
        return self._server.metrics()

    def wait(self) -> None:
        """Waits until it was stopped and all is over. Ctrl-C ends the waiting, not the server."""
        self._server.wait()

    def stop(self) -> None:
        """Accepts nothing more, lets running sessions go on for the time of grace, and returns when all is over."""
        self._server.stop()
        self._server.wait()

    def __enter__(self) -> Server:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def __repr__(self) -> str:
        return f"Server({self.model.folder!r} at {self.address})"
