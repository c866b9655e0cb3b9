"""Datasets on a local Ray: a killed server, a killed client, and every item once."""

import os
import threading
import time

import numpy as np
import pytest

ray = pytest.importorskip("ray")
pytest.importorskip("ray.data")

import sirnn
import sirnn.ray
from conftest import DIGITS

#: The shipped digits, repeated. ``SIRNN_RAY_ITEMS`` sets another number.
ITEMS = int(os.environ.get("SIRNN_RAY_ITEMS", 1500))


@pytest.fixture(scope="module")
def cluster():
    os.environ.setdefault("RAY_DATA_DISABLE_PROGRESS_BARS", "1")
    ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False, object_store_memory=200 << 20)
    yield
    ray.shutdown()


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
        predicted = sirnn.ray.predict(dataset, servers, concurrency=2, batch=100, num_cpus=0.5)
        predicted = predicted.drop_columns([name])

        def kill() -> None:
            """One server and one client, in the middle."""
            time.sleep(3)
            ray.kill(servers.actors[0], no_restart=True)
            from ray.util.state import list_actors

            clients = [a for a in list_actors() if a.state == "ALIVE" and "Replica" not in a.class_name]
            for actor in clients:
                if "MapWorker" in actor.class_name:
                    os.kill(actor.pid, 9)
                    killed.append(actor.pid)
                    break

        killed: list[int] = []
        killer = threading.Thread(target=kill)
        killer.start()
        predicted.write_parquet(str(tmp_path / "out"))
        killer.join()

    result = ray.data.read_parquet(str(tmp_path / "out")).to_pandas().sort_values("id")
    assert result["id"].tolist() == list(range(ITEMS)), "each item once"
    expected = model.evaluate(images)
    assert np.array_equal(result["class"].to_numpy(), expected.classes)
    assert np.array_equal(np.stack(result["scores"].to_numpy()), expected.values)
