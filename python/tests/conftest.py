"""A server in another process, as it is in use."""

import pathlib
import subprocess
import sys

import numpy as np
import pytest

DIGITS = pathlib.Path(__file__).parents[2] / "models" / "digits"

# Ring-LWE would count into a file beside the shipped model.
SERVE = """
import sys, sirnn
server = sirnn.Server(sys.argv[1], linear="cot")
print(server.address, flush=True)
server.wait()
"""


class Process:
    """A server process."""

    def __init__(self, model: pathlib.Path) -> None:
        self.process = subprocess.Popen([sys.executable, "-c", SERVE, str(model)], stdout=subprocess.PIPE, text=True)
        self.address = self.process.stdout.readline().strip()

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()


@pytest.fixture(scope="session")
def server():
    process = Process(DIGITS)
    yield process.address
    process.kill()


@pytest.fixture
def digits():
    """20 images, ``[20, 8, 8]``."""
    return np.load(DIGITS / "inputs.npy")[:20]


@pytest.fixture(scope="session")
def model():
    import sirnn

    return sirnn.Model(DIGITS)
