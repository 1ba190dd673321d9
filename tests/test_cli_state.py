"""State over HTTP: what a request changes is changed once, and seen by every later request."""

import concurrent.futures
import contextlib
import json
import socket
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import state_models
from endtoend import Server, run

from jaxrt.artifact import open_artifact

STATEFUL = ("branched", "counted", "drawn", "found", "learned", "peeked", "peeked_words", "summed")


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """SavedModels, and `m/1` and `m/2`, two artifacts of the counters that were verified once."""
    found = tmp_path_factory.mktemp("state")
    state_models.build(found, "counters", "chance")
    done = run("compile", "counters", "-o", "m/1", "--batch-sizes", "1,4", home=found)
    assert done.returncode == 0, done.stderr
    done = run("verify", "m/1", "--against", "counters", home=found)
    assert done.returncode == 0, done.stderr
    done = run("compile", "counters", "-o", "m/2", "--batch-sizes", "1,4", home=found)
    assert done.returncode == 0, done.stderr
    return found


@pytest.fixture
def server(home: Path, tmp_path: Path) -> Iterator[Server]:
    """Both versions."""
    config = tmp_path / "models.config"
    config.write_text(
        'model_config_list { config { name: "m" base_path: "' + str(home / "m") + '" '
        'model_platform: "tensorflow" model_version_policy { all {} } } }'
    )
    with Server("--model_config_file", config, home=tmp_path) as started:
        yield started


def ask(server: Server, signature: str, rows: list[Any], version: int = 2) -> Any:
    alias = "text" if isinstance(rows[0], str) else "x"
    status, answer = server.predict(f"m/versions/{version}", {alias: rows}, signature)
    assert status == 200, answer
    return answer


def test_what_sees_state_runs_in_tensorflow_and_what_does_not_is_compiled(home: Path) -> None:
    with open_artifact(home / "m" / "2") as opened:
        found = opened.manifest.signatures
        checks = {k: s["against_tensorflow"] for k, s in opened.report()["signatures"].items()}
    for name in STATEFUL:
        (stage,) = found[name].stages
        assert stage.host is not None and stage.host.executor == "saved_model", name
        assert stage.host.rows == "dependent"
        assert "skipped" in checks[name]
    assert found["scaled"].programs and not found["scaled"].stages


def test_state_is_changed_once_a_request_and_seen_by_all_later_ones(server: Server) -> None:
    """The first request is the first one: no start, check or rehearsal has counted before it."""
    assert ask(server, "peeked", [1.0, 2.0]) == [0.0, 0.0]
    assert ask(server, "branched", [1.0]) == [1.0]
    assert ask(server, "counted", [5.0, 6.0, 7.0]) == {"count": 1, "x": [5.0, 6.0, 7.0]}
    assert ask(server, "counted", [5.0])["count"] == 2
    assert ask(server, "peeked", [1.0, 2.0]) == [2.0, 2.0]
    assert ask(server, "peeked_words", ["a", "b"]) == ["a2", "b2"]
    assert ask(server, "branched", [1.0]) == [2.0]
    assert ask(server, "summed", [1.0, 2.0, 4.0]) == 7.0  # three rows, and no padding
    assert ask(server, "summed", [float(n) for n in range(20)]) == 197.0
    assert ask(server, "scaled", [1.0, 2.0]) == [3.0, 6.0]
    # Tables.
    assert ask(server, "found", ["a", "b"]) == [-1, -1]
    assert ask(server, "learned", ["a", "b", "c"]) == 3
    assert ask(server, "found", ["c", "a", "z"]) == [2, 0, -1]
    # Each version has its own.
    assert ask(server, "peeked", [1.0], version=1) == [0.0]
    assert ask(server, "found", ["a"], version=1) == [-1]
    assert ask(server, "counted", [1.0], version=1)["count"] == 1
    # A generator goes on from where it was, from the same start in each version.
    first, second = ask(server, "drawn", [0.0] * 3), ask(server, "drawn", [0.0] * 3)
    assert first != second and len({*first, *second}) == 6
    assert ask(server, "drawn", [0.0] * 3, version=1) == first
    assert ask(server, "drawn", [0.0] * 3, version=1) == second


def test_strangers_at_once_lose_no_change_and_make_none_twice(server: Server) -> None:
    with concurrent.futures.ThreadPoolExecutor(16) as pool:
        counts = [a["count"] for a in pool.map(lambda _: ask(server, "counted", [1.0]), range(64))]
        totals = list(pool.map(lambda n: ask(server, "summed", [1.0] * n), [1, 2, 3, 4] * 8))
    assert sorted(counts) == list(range(1, 65))
    assert max(totals) == 80.0 and len(set(totals)) == 32


def test_a_client_that_hangs_up_has_counted_at_most_once(server: Server) -> None:
    for _ in range(20):
        hang_up(server)
    before = ask(server, "peeked", [0.0])[0]
    assert before <= 20
    time.sleep(0.5)  # what was begun may end; nothing is begun again
    after = ask(server, "counted", [1.0])["count"]
    assert before + 1 <= after <= 21
    assert ask(server, "counted", [1.0])["count"] == after + 1


def hang_up(server: Server) -> None:
    """Sends a request and leaves without its answer."""
    body = json.dumps({"signature_name": "counted", "inputs": {"x": [1.0]}}).encode()
    head = (
        f"POST /v1/models/m/versions/2:predict HTTP/1.1\r\nHost: h\r\nContent-Length: {len(body)}"
    )
    with contextlib.closing(socket.create_connection(("localhost", server.port))) as connection:
        connection.sendall(head.encode() + b"\r\n\r\n" + body)


def test_random_numbers_stay_random_and_the_report_says_so(home: Path, tmp_path: Path) -> None:
    with Server(home / "chance", "--batch-sizes", "1,4", home=tmp_path) as server:
        answers = [server.predict("chance", {"x": [[0, 0]] * 3}, "noisy")[1] for _ in range(2)]
        words = [server.predict("chance", {"text": ["a", "b"]}, "words")[1] for _ in range(2)]
    noise = np.asarray(answers)
    assert len(np.unique(noise)) == noise.size  # no row and no request repeats another
    assert [word["text"] for word in words] == [["A", "B"]] * 2
    assert words[0]["y"] != words[1]["y"]
    (made,) = tmp_path.rglob("manifest.json")
    with open_artifact(made.parent) as opened:
        found = opened.report()["signatures"]
    for name in ("noisy", "words"):
        assert "no two runs are equal bit for bit" in found[name]["against_tensorflow"]["skipped"]
