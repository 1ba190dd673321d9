"""Versions and models that come and go while `jaxrt serve` answers: processes, files, sockets."""

import contextlib
import os
import shutil
import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from endtoend import Server, bridges_of, run

pytest_plugins = ("endtoend_fixtures",)

FAST = ("--file_system_poll_wait_seconds=0.1", "--model_config_file_poll_wait_seconds=0.1")


def times(server: Server, model: str) -> Any:
    """What a version of `linear` multiplies by, or status and error."""
    status, found = server.predict(model, {"x": [1.0]})
    return found[0] if status == 200 else (status, found)


def states(server: Server, model: str) -> dict[int, str]:
    status, found = server.ask("GET", f"/v1/models/{model}")
    if status != 200:
        return {}
    return {int(v["version"]): v["state"] for v in found["model_version_status"]}


def until(server: Server, model: str, wanted: dict[int, str], within: float = 120) -> None:
    end = time.monotonic() + within
    while states(server, model) != wanted:
        assert time.monotonic() < end, f"{states(server, model)}\n{server.log}"
        time.sleep(0.05)


def put(version: Path, base: Path) -> Path:
    """A copy of a version, moved into its base path whole."""
    aside = base.parent / f"{base.name}.{version.name}"
    shutil.copytree(version, aside)
    base.mkdir(exist_ok=True)
    return aside.rename(base / version.name)


def compilers_of(home: Path) -> Iterator[int]:
    """Processes that compile for a server whose temporary files are below `home`."""
    for process in Path("/proc").iterdir():
        if process.name.isdigit():
            with contextlib.suppress(OSError):
                compiles = b"jaxrt.cli.precompile" in (process / "cmdline").read_bytes()
                if compiles and str(home).encode() in (process / "environ").read_bytes():
                    yield int(process.name)


def wait_for_compiler(home: Path) -> int:
    end = time.monotonic() + 60
    while time.monotonic() < end:
        for pid in compilers_of(home):
            return pid
        time.sleep(0.01)
    raise AssertionError("nothing was compiled")


@contextlib.contextmanager
def asked(server: Server, model: str) -> Iterator[list[Any]]:
    """Requests, one after the other, for as long as the block lasts; the answers."""
    answers: list[Any] = []
    ended = threading.Event()

    def ask() -> None:
        while not ended.is_set():
            answers.append(times(server, model))

    thread = threading.Thread(target=ask)
    thread.start()
    try:
        yield answers
    finally:
        ended.set()
        thread.join()


def config(*models: str) -> str:
    return f"model_config_list {{ {' '.join(models)} }}"


def entry(name: str, base: Path, more: str = "") -> str:
    return f'config {{ name: "{name}" base_path: "{base}" model_platform: "tensorflow" {more} }}'


def label(name: str, version: int) -> str:
    return f'version_labels {{ key: "{name}" value: {version} }}'


def test_versions_come_and_go_and_every_request_is_answered(linear: Path, tmp_path: Path) -> None:
    base = tmp_path / "m"
    first = put(linear / "1", base)
    with Server(f"--model_base_path={base}", "--model_name=m", *FAST, home=tmp_path) as server:
        with asked(server, "m") as answers:
            second = put(linear / "2", base)
            until(server, "m", {1: "END", 2: "AVAILABLE"})
            shutil.rmtree(first)
            put(linear / "10", base)
            until(server, "m", {1: "END", 2: "END", 10: "AVAILABLE"})
            shutil.rmtree(base / "10")
            until(server, "m", {1: "END", 2: "AVAILABLE", 10: "END"})
        assert set(answers) == {1.0, 2.0, 10.0}
        shutil.rmtree(second)
        until(server, "m", {1: "END", 2: "END", 10: "END"})
        assert times(server, "m") == (404, "Servable not found for request: Latest(m)")
        assert server.ask("GET", "/readyz") == (503, "not ready: m")
        assert server.stop() == 0


def test_a_new_saved_model_is_compiled_by_a_process_that_gives_way(
    models: Path, tmp_path: Path
) -> None:
    base = tmp_path / "m"
    put(models / "linear" / "1", base)
    with Server(f"--model_base_path={base}", "--model_name=m", *FAST, home=tmp_path) as server:
        with asked(server, "m") as answers:
            put(models / "linear" / "2", base)
            pid = wait_for_compiler(tmp_path)
            end = time.monotonic() + 30
            while os.sched_getscheduler(pid) != os.SCHED_IDLE and time.monotonic() < end:
                time.sleep(0.01)
            assert os.sched_getscheduler(pid) == os.SCHED_IDLE
            assert os.getpriority(os.PRIO_PROCESS, pid) == 19
            assert os.getpriority(os.PRIO_PROCESS, server.process.pid) == 0
            until(server, "m", {1: "END", 2: "AVAILABLE"})
        assert set(answers) == {1.0, 2.0}
        # A shape that nobody planned is compiled from the version that serves.
        assert server.predict("m", {"x": [[1.0, 2.0]]}) == (200, [[2.0, 4.0]])


def test_a_compile_that_is_killed_is_tried_again_and_the_old_version_serves(
    models: Path, tmp_path: Path
) -> None:
    base = tmp_path / "m"
    put(models / "linear" / "1", base)
    flags = (f"--model_base_path={base}", "--model_name=m", "--load_retry_interval_micros=200000")
    with Server(*flags, *FAST, home=tmp_path) as server:
        put(models / "linear" / "2", base)
        os.kill(wait_for_compiler(tmp_path), signal.SIGKILL)
        server.wait_for("loading failed, try 1 of 6, the next one in 0.2 s: .*ended by\n? *SIGKILL")
        assert times(server, "m") == 1.0
        until(server, "m", {1: "END", 2: "AVAILABLE"})
        assert times(server, "m") == 2.0


def test_a_copy_in_progress_is_waited_for(models: Path, tmp_path: Path) -> None:
    base = tmp_path / "m"
    put(models / "linear" / "1", base)
    with Server(f"--model_base_path={base}", "--model_name=m", *FAST, home=tmp_path) as server:
        source, copy = models / "linear" / "2", base / "2"
        files = sorted(path for path in source.rglob("*") if path.is_file())
        for number, file in enumerate(files):
            (copy / file.relative_to(source)).parent.mkdir(parents=True, exist_ok=True)
            content = file.read_bytes()
            with (copy / file.relative_to(source)).open("wb") as out:
                for part in (content[: len(content) // 2], content[len(content) // 2 :]):
                    out.write(part)
                    out.flush()
                    time.sleep(0.4 if number else 1.6)  # one pause that looks like the end
                    assert times(server, "m") == 1.0
        until(server, "m", {1: "END", 2: "AVAILABLE"})
        assert times(server, "m") == 2.0


def test_the_configuration_file_is_followed(linear: Path, tmp_path: Path) -> None:
    first, second = tmp_path / "first", tmp_path / "second"
    put(linear / "1", first)
    put(linear / "10", second)
    file = tmp_path / "models.config"
    every = "model_version_policy { all {} }"
    file.write_text(config(entry("first", first, every + label("stable", 1))))
    with Server(f"--model_config_file={file}", *FAST, home=tmp_path) as server:
        assert times(server, "first/labels/stable") == 1.0
        put(linear / "2", first)
        until(server, "first", {1: "AVAILABLE", 2: "AVAILABLE"})
        file.write_text("model_config_list {")  # half of it
        server.wait_for("Failed to read ModelServerConfig")
        two = every + label("stable", 2) + label("old", 1)
        file.write_text(config(entry("first", first, two), entry("second", second)))
        until(server, "second", {10: "AVAILABLE"})
        assert times(server, "first/labels/stable") == 2.0
        assert times(server, "first/labels/old") == 1.0
        file.write_text(config(entry("second", second), entry("first", first, label("x", 77))))
        server.wait_for("failed to ReloadConfig: Request to assign label to version 77 of model")
        assert times(server, "first/labels/old") == 1.0
        file.write_text("")  # nothing at all changes nothing
        time.sleep(0.5)
        file.write_text(config(entry("second", second)))
        until(server, "first", {1: "END", 2: "END"})
        assert times(server, "second") == 10.0
        assert server.ask("GET", "/readyz") == (200, "ok")


def test_a_server_of_no_models_gets_some_later(linear: Path, tmp_path: Path) -> None:
    file = tmp_path / "models.config"
    file.write_text("model_config_list {}")
    base = tmp_path / "m"
    put(linear / "2", base)
    with Server(f"--model_config_file={file}", *FAST, home=tmp_path) as server:
        assert times(server, "m") == (404, "Servable not found for request: Latest(m)")
        file.write_text(config(entry("m", base)))
        until(server, "m", {2: "AVAILABLE"})
        assert times(server, "m") == 2.0


def test_sigterm_during_a_load_leaves_nothing_behind(models: Path, tmp_path: Path) -> None:
    base = tmp_path / "m"
    put(models / "linear" / "1", base)
    with Server(f"--model_base_path={base}", "--model_name=m", *FAST, home=tmp_path) as server:
        put(models / "linear" / "2", base)
        wait_for_compiler(tmp_path)
        assert server.stop() == 0
        assert "Traceback" not in server.log
    end = time.monotonic() + 20
    while (list(compilers_of(tmp_path)) or list(bridges_of(tmp_path))) and time.monotonic() < end:
        time.sleep(0.05)
    assert list(compilers_of(tmp_path)) == list(bridges_of(tmp_path)) == []
    assert list((tmp_path / "tmp").iterdir()) == []


def test_a_compile_ends_with_its_server(models: Path, tmp_path: Path) -> None:
    base = tmp_path / "m"
    put(models / "linear" / "1", base)
    with Server(f"--model_base_path={base}", "--model_name=m", home=tmp_path, wait=False) as server:
        wait_for_compiler(tmp_path)
        server.process.kill()
        server.process.wait()
    end = time.monotonic() + 30
    while list(compilers_of(tmp_path)) and time.monotonic() < end:
        time.sleep(0.05)
    assert list(compilers_of(tmp_path)) == []


def test_the_start_waits_for_a_base_path_with_its_port_closed(linear: Path, tmp_path: Path) -> None:
    base = tmp_path / "m"
    with Server(
        f"--model_base_path={base}", "--model_name=m", *FAST, home=tmp_path, wait=False
    ) as server:
        server.wait_for("found no base path to list")
        assert "ready in" not in server.log
        base.mkdir()
        server.wait_for("No versions of servable m found under base path")
        assert "ready in" not in server.log
        put(linear / "2", base)
        server.port = int(server.wait_for(r"ready in .*localhost:(\d+)/")[1])
        assert times(server, "m") == 2.0


def test_a_start_that_fails_says_so_in_tensorflow_servings_words(tmp_path: Path) -> None:
    version = tmp_path / "m" / "1"
    version.mkdir(parents=True)
    (version / "saved_model.pb").write_bytes(b"no proto")
    flags = (
        f"--model_base_path={tmp_path / 'm'}", "--model_name=m", "--rest_api_port=auto",
        "--max_num_load_retries=1", "--load_retry_interval_micros=1000",
    )  # fmt: skip
    done = run("serve", *flags, home=tmp_path)
    assert done.returncode == 1
    assert "loading failed, try 1 of 2, the next one in 0.001 s" in done.stderr
    line = done.stderr.splitlines()[-1]
    assert line.startswith(
        "jaxrt: error: Failed to start server. Error: UNKNOWN: 1 servable(s) did not become "
        "available: {{name: m version: 1} due to error: INVALID_ARGUMENT: "
    )
    assert str(version) in line and line.endswith(", }, }")


def test_every_worker_follows(linear: Path, tmp_path: Path) -> None:
    base = tmp_path / "m"
    put(linear / "1", base)
    flags = (f"--model_base_path={base}", "--model_name=m", "--num-workers=2")
    with Server(*flags, *FAST, home=tmp_path, wait=False) as server:
        server.port = int(server.wait_for(r"ready in .* workers on port (\d+)")[1])
        put(linear / "2", base)
        end = time.monotonic() + 60
        # Each connection is dealt to one of them.
        while not all(times(server, "m") == 2.0 for _ in range(32)):
            assert time.monotonic() < end, server.log
        assert server.stop() == 0
