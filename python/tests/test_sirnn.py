"""The package against a server in another process."""

import os
import signal
import threading
import time

import numpy as np
import pytest

import sirnn
from conftest import DIGITS, Process


def same(a: sirnn.Predictions, b: sirnn.Predictions) -> bool:
    return np.array_equal(a.outputs[0].integers, b.outputs[0].integers) and np.array_equal(a.classes, b.classes)


def test_predictions_are_those_of_the_network(server, model, digits):
    client = sirnn.Client(server)
    assert client.network.name == model.network.name and client.network.text == model.show()
    predictions = client.predict(digits)
    assert same(predictions, model.evaluate(digits))
    labels = np.loadtxt(DIGITS / "labels.csv", dtype=int)[: len(digits)]
    assert (predictions.classes == labels).mean() > 0.8
    output = predictions.outputs[0]
    assert len(predictions) == 20 and output.reveal == "scores" and not output.per_step
    assert predictions[output.name] is output and predictions.values.shape == (20, 10)
    assert (predictions.values.argmax(axis=1) == predictions.classes).all()
    assert np.array_equal(predictions.values, output.integers / 2.0**output.scale)
    assert predictions.labels.tolist() == [str(c) for c in predictions.classes]
    assert predictions.summary["instances"] == 20 and predictions.summary["bytes_total"] > 0
    assert "20 items" in repr(predictions) and "steps" in repr(client.network)


def test_all_kinds_of_inputs(server, model, digits):
    pd, pa = pytest.importorskip("pandas"), pytest.importorskip("pyarrow")
    client = sirnn.Client(server, batch=8)
    expected = client.predict(digits)
    scale = client.network.inputs[0]["scale"]
    whole = np.rint(digits * 2.0**scale).astype(np.int16) if digits.dtype.kind == "f" else digits
    real = (whole / 2.0**scale).astype(np.float32)
    (name,) = [port["name"] for port in client.network.inputs]
    flat = whole.reshape(20, 64)
    fixed = pa.FixedSizeListArray.from_arrays(pa.array(real.reshape(-1)), 64)
    nested = pa.array([image.tolist() for image in real])
    for x in [
        whole,
        real,
        real.astype(np.float64),
        real[:, :, :],
        list(whole),
        {name: whole},
        pd.DataFrame(flat),
        pd.DataFrame({name: list(map(list, whole.tolist())), "id": range(20)}),
        pa.table({name: nested, "id": range(20)}),
        pa.table({str(i): flat[:, i] for i in range(64)}),
    ]:
        assert same(client.predict(x), expected), type(x)
    assert len(fixed) == 20
    # Strides are no matter.
    assert same(client.predict(np.asfortranarray(real)), expected)


def test_items_of_different_lengths(server, model, digits):
    client = sirnn.Client(server)
    items = [image[: 1 + i % 8] for i, image in enumerate(digits)]
    predictions = client.predict(items)
    for i, item in enumerate(items):
        alone = model.evaluate(item[np.newaxis])
        assert alone.classes[0] == predictions.classes[i]
    ragged = np.empty(20, dtype=object)
    ragged[:] = items
    assert same(client.predict(ragged), predictions)


def test_bad_inputs_say_what_and_where(server, digits):
    pd = pytest.importorskip("pandas")
    client = sirnn.Client(server)
    (name,) = [port["name"] for port in client.network.inputs]
    for x, part in [
        (digits[0], "is expected"),
        (digits[:, :, :4], "is expected"),
        (digits[:0], "no items"),
        ([], "no items"),
        (np.full((1, 9, 8), 0.5), "1 to 8"),
        (np.full((1, 8, 8), np.nan), "item 0, step 0, feature 0"),
        (np.full((1, 8, 8), 1e9), "does not fit"),
        (np.full((1, 8, 8), 2**63, dtype=np.uint64), "does not fit 64 bits"),
        (np.full((1, 8, 8), "x"), "numbers of type"),
        (np.full((1, 8, 8), 1j), "numbers of type"),
        ([digits[0], digits[1][:, :3]], "item 1"),
        ([digits[0], digits[1][:0]], "item 1: it has no steps"),
        ({"nothing": digits}, "no input 'nothing'"),
        ({}, "nothing for the input"),
        (pd.DataFrame({"a": ["x"]}), f"no column '{name}'"),
        (pd.DataFrame({"a": [1.0, None]}), "missing values"),
        (pd.DataFrame(np.zeros((2, 63))), "63 columns"),
    ]:
        with pytest.raises(sirnn.InputError, match=part):
            client.predict(x)
    client.close()
    with pytest.raises(sirnn.ClosedError, match="closed"):
        client.predict(digits)
    for option, value in [("linear", "x"), ("retry", -1.0), ("deadline", float("nan"))]:
        with pytest.raises(sirnn.InputError):
            sirnn.Client(server, **{option: value})
    with pytest.raises(sirnn.InputError, match="certificate and key are missing"):
        sirnn.Client(server, peer="00" * 32)
    with pytest.raises(ValueError):
        sirnn.Model(DIGITS / "nowhere")
    with pytest.raises(sirnn.LimitError, match="allowed"):
        sirnn.Client(server, max_bytes=1000).predict(digits)


def test_both_parties_here(model, digits):
    seen = model.run(digits[:3], linear="cot", ot="softspoken")
    assert same(seen, model.evaluate(digits[:3])) and seen.summary["ot"] == "softspoken"
    cost = sirnn.plan(DIGITS, 3, linear="cot", ot="softspoken")
    # A summary counts the rounds of all batches one by one.
    rounds = cost["rounds"] * seen.summary["batches"]
    assert (cost["bytes_total"], rounds) == (seen.summary["bytes_total"], seen.summary["rounds"])
    assert sirnn.run(DIGITS, digits[:1], linear="cot").classes.shape == (1,)
    for planning in [{"goal": "x"}, {"link": "x"}, {"ot": "x"}, {"lanes": 99}, {"linear": "x"}]:
        with pytest.raises(sirnn.InputError):
            model.plan(1, **planning)


def test_identities(digits, tmp_path):
    prints = {name: sirnn.create_identity(name, tmp_path / name) for name in ["client", "server", "stranger"]}
    with sirnn.Server(DIGITS, linear="cot", identity=tmp_path / "server", peer=prints["client"]) as server:
        known = {"identity": tmp_path / "client", "peer": [prints["server"]]}
        assert len(sirnn.Client(server.address, **known).predict(digits[:1])) == 1
        assert 'result="ok"' in server.metrics() or "sirnn" in server.metrics()
        for wrong in [
            {"identity": tmp_path / "client", "peer": prints["stranger"]},
            {"identity": sirnn.Identity.load(tmp_path / "stranger"), "peer": prints["server"]},
            {},
        ]:
            with pytest.raises(sirnn.PeerError):
                sirnn.Client(server.address, **wrong)
    with pytest.raises(sirnn.InputError, match="identity"):
        sirnn.Server(DIGITS, "0.0.0.0:0")


def test_a_server_that_goes_away(digits):
    gone, here = Process(DIGITS), Process(DIGITS)
    client = sirnn.Client([gone.address, here.address], batch=4)
    gone.kill()
    assert len(client.predict(digits)) == 20
    # In the middle of a session.
    killer = threading.Thread()

    def kill(queued: int, rounds: int, total: int) -> None:
        if rounds and not killer.ident:
            here.kill()
            killer.start()

    with pytest.raises(sirnn.NetworkError):
        client.predict(np.concatenate([digits] * 50), progress=kill)
    with pytest.raises(ConnectionError):
        client.predict(digits)


def test_progress_and_interruption(server, digits):
    many = np.concatenate([digits] * 100)
    client = sirnn.Client(server, batch=8)
    seen = []
    client.predict(many[:200], progress=lambda *p: seen.append(p))
    assert seen and all(0 <= rounds <= total for queued, rounds, total in seen)
    assert len(client.predict(digits, progress=True)) == 20

    def failing(*_):
        raise LookupError("mine")

    with pytest.raises(LookupError, match="mine"):
        client.predict(many, progress=failing)

    timer = threading.Timer(0.3, os.kill, (os.getpid(), signal.SIGINT))
    timer.start()
    start = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        client.predict(many)
    assert time.monotonic() - start < 30
    assert len(client.predict(digits)) == 20, "it is of use as before"


def test_threads_run_side_by_side(server, digits, model):
    client = sirnn.Client(server)
    expected, results = model.evaluate(digits), []
    threads = [threading.Thread(target=lambda: results.append(client.predict(digits))) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(results) == 3 and all(same(r, expected) for r in results)
