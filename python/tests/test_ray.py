"""Datasets on a local Ray: a killed server, a killed client, and every item once."""

import os
import pathlib
import signal
import threading
import time

import numpy as np
import pytest

ray = pytest.importorskip("ray.data") and pytest.importorskip("ray")

import sirnn
import sirnn.ray
from conftest import DIGITS

#: The shipped digits, repeated. ``SIRNN_RAY_ITEMS`` sets another number.
ITEMS = int(os.environ.get("SIRNN_RAY_ITEMS", 1500))


@pytest.fixture(scope="module")
def cluster():
    os.environ.setdefault("RAY_DATA_DISABLE_PROGRESS_BARS", "1")
    # Workers are no less worth than what else runs here: on a busy machine they would never begin.
    os.environ.setdefault("RAY_worker_niceness", "0")
    ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False)
    yield
    ray.shutdown()


def clients() -> list[int]:
    """Processes of this test's client actors: grandchildren of this one, by way of Ray's own."""

    def parent(pid: str) -> str:
        return pathlib.Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[1]

    found = []
    for entry in pathlib.Path("/proc").iterdir():
        try:
            if (entry / "cmdline").read_bytes().startswith(b"ray::MapWorker") and parent(parent(entry.name)) == str(os.getpid()):
                found.append(int(entry.name))
        except OSError:
            continue  # it ended meanwhile
    return sorted(found)


def test_from_parquet_to_parquet(cluster, model, tmp_path):
    images = np.load(DIGITS / "inputs.npy")
    images = np.concatenate([images] * (ITEMS // len(images) + 1))[:ITEMS]
    (name,) = [port["name"] for port in model.network.inputs]
    rows = ray.data.from_numpy([images, ]).map_batches(
        lambda b: {name: b["data"], "id": np.arange(len(b["data"]))}, batch_size=None
    )
    rows.repartition(10).write_parquet(str(tmp_path / "in"))

    with sirnn.ray.serve(DIGITS, 2, num_cpus=0.1, linear="cot") as servers:
        dataset = ray.data.read_parquet(str(tmp_path / "in"))
        with pytest.raises(sirnn.InputError, match="no column 'nothing'"):
            sirnn.ray.predict(dataset, servers, columns="nothing")
        predicted = sirnn.ray.predict(dataset, servers, concurrency=2, batch=100, num_cpus=0.25)
        predicted = predicted.drop_columns([name])

        def kill() -> None:
            """One server and one client, in the middle."""
            while not clients():
                time.sleep(0.1)
            time.sleep(2)
            ray.kill(servers.actors[0], no_restart=True)
            client = clients()[0]
            os.kill(client, signal.SIGKILL)
            killed.append(client)

        killed: list[int] = []
        killer = threading.Thread(target=kill)
        killer.start()
        predicted.write_parquet(str(tmp_path / "out"))
        killer.join()
        assert killed

    result = ray.data.read_parquet(str(tmp_path / "out")).to_pandas().sort_values("id")
    assert result["id"].tolist() == list(range(ITEMS)), "each item once"
    expected = model.evaluate(images)
    assert np.array_equal(result["class"].to_numpy(), expected.classes)
    assert np.array_equal(np.stack(result["scores"].to_numpy()), expected.values)
