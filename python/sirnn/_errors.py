"""Exceptions. The message is one line that says what and where."""


class Error(Exception):
    """Any error of this package."""


class InputError(Error, ValueError):
    """What the caller gave cannot be used: a model, items, a certificate, an address."""


class ClosedError(InputError):
    """A client or a server was used after it had been closed."""


class PeerError(Error):
    """The peer broke the protocol, refused, or is not who it should be."""


class NetworkError(Error, ConnectionError):
    """The network: unreachable, closed, silent, too slow, changed on the way."""


class LimitError(Error):
    """A limit of this side."""


class BusyError(Error):
    """The server has no room. ``retry_after`` is the number of seconds after which it may have some."""

    retry_after: float = 1.0


class CancelledError(Error):
    """The call was cancelled."""


class InternalError(Error, RuntimeError):
    """A bug."""
