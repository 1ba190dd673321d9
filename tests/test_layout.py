"""The house: links, packages as they are built, imports that would load a second copy."""

import ast
import os
import re
import tarfile
import tomllib
import types
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from hatchling.builders.sdist import SdistBuilder
from hatchling.builders.wheel import WheelBuilder

import jaxrt
from jaxrt import errors

ROOT = Path(__file__).resolve().parent.parent
LINKS = ("converters", "serving", "tpu")
SOURCE_FOLDERS = ("jaxrt", "converters", "serving", "tpu", "tests", "bench", "examples")
MAX_LINES = 400  # of code; a file of tests is a list of cases and may be longer


def sources(*folders: str) -> Iterator[Path]:
    """Every Python file once, by its real path."""
    for folder in folders:
        for directory, _, files in os.walk(ROOT / folder):  # os.walk does not follow links
            yield from (Path(directory) / name for name in files if name.endswith(".py"))


def imported(path: Path) -> Iterator[tuple[int, str]]:
    """(level, module) of every import statement; level counts a relative import's dots."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from ((0, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield node.level, node.module or ""


@pytest.mark.parametrize("name", LINKS)
def test_the_subpackages_are_links_to_the_top_level_folders(name: str) -> None:
    link = ROOT / "jaxrt" / name
    assert link.is_symlink(), (
        f"{link}: found {'a file' if link.is_file() else 'no link'}, want a symbolic link to "
        f"../{name}: this checkout was made without links; run "
        "`git config core.symlinks true && git checkout -- jaxrt` (on Windows in developer mode, "
        "or in WSL)"
    )
    assert os.readlink(link) == f"../{name}"
    assert link.resolve() == ROOT / name
    assert (link / "__init__.py").is_file()


def test_nothing_is_imported_by_a_bare_or_relative_name() -> None:
    found = [
        f"{path.relative_to(ROOT)}: {'.' * level}{module}"
        for path in sources(*SOURCE_FOLDERS)
        for level, module in imported(path)
        if level or module.partition(".")[0] in LINKS
    ]
    assert not found, f"import jaxrt.…, a bare name loads a second copy: {found}"


def test_files_stay_short_enough_to_read() -> None:
    long = {
        str(path.relative_to(ROOT)): lines
        for path in sources(*SOURCE_FOLDERS)
        if path.parent.name != "tests"
        and (lines := path.read_text(encoding="utf-8").count("\n")) > MAX_LINES
    }
    assert not long, f"more than {MAX_LINES} lines: cut along a noun: {long}"


def test_test_files_lie_flat_in_tests() -> None:
    assert not [path for path in (ROOT / "tests").rglob("test_*.py") if path.parent.name != "tests"]


def test_jaxrt_exports_its_version_and_nothing_else() -> None:
    names = {
        name
        for name, value in vars(jaxrt).items()
        if not name.startswith("_") and not isinstance(value, types.ModuleType)
    }
    assert names == set()
    assert re.fullmatch(r"\d+\.\d+\.\d+", jaxrt.__version__)


def test_every_error_is_drawn_in_the_tree_and_documented() -> None:
    classes = [
        value
        for value in vars(errors).values()
        if isinstance(value, type) and issubclass(value, errors.JaxrtError)
    ]
    assert len(classes) > 10
    for cls in classes:
        assert re.search(rf"\b{cls.__name__}\b", errors.__doc__ or ""), cls
        assert cls.__doc__, cls


def test_the_changelog_has_an_entry_for_this_version() -> None:
    headings = re.findall(r"^## (\S+)", (ROOT / "CHANGELOG.md").read_text(), flags=re.M)
    assert headings[0] == "Unreleased"
    assert headings[1] == jaxrt.__version__


def test_the_layers_of_the_contract_are_modules_of_the_tree() -> None:
    config = tomllib.loads((ROOT / "pyproject.toml").read_text())
    layers = config["tool"]["importlinter"]["contracts"][0]["layers"]
    listed = {name.strip() for layer in layers for name in layer.split("|")}
    there = {
        f"jaxrt.{path.stem}"
        for path in (ROOT / "jaxrt").iterdir()
        if path.stem not in ("__init__", "__main__", "__pycache__", "py")
        and (path.suffix == ".py" or path.is_dir())
    }
    assert there - listed == set(), "every module of jaxrt/ has its layer in pyproject.toml"


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("wheel")
    return Path(next(WheelBuilder(str(ROOT)).build(directory=str(directory))))


@pytest.fixture(scope="module")
def sdist(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("sdist")
    return Path(next(SdistBuilder(str(ROOT)).build(directory=str(directory))))


def members(wheel: Path) -> list[str]:
    with zipfile.ZipFile(wheel) as archive:
        return sorted(name for name in archive.namelist() if ".dist-info/" not in name)


def test_the_wheel_holds_every_module_once_under_jaxrt(wheel: Path) -> None:
    files = members(wheel)
    python = {name for name in files if name.endswith(".py")}
    wanted = {str(path.relative_to(ROOT)) for path in sources("jaxrt")} | {
        f"jaxrt/{path.relative_to(ROOT)}" for path in sources(*LINKS)
    }
    assert len(files) == len(set(files))
    assert {name.partition("/")[0] for name in files} == {"jaxrt"}
    assert python == wanted
    assert "jaxrt/serving/config.py" in python


def test_the_wheel_is_typed_and_carries_its_licence(wheel: Path) -> None:
    assert "jaxrt/py.typed" in members(wheel)
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
        metadata = next(name for name in names if name.endswith(".dist-info/METADATA"))
        text = archive.read(metadata).decode()
    assert any(name.endswith("/licenses/LICENSE") for name in names)
    base = [line for line in text.splitlines() if line.startswith("Requires-Dist:")]
    assert not [line for line in base if "tensorflow" in line and "extra ==" not in line]


def test_a_wheel_built_from_the_sdist_is_the_same(wheel: Path, sdist: Path, tmp_path: Path) -> None:
    with tarfile.open(sdist) as archive:
        archive.extractall(tmp_path, filter="data")
    (unpacked,) = tmp_path.iterdir()
    again = Path(next(WheelBuilder(str(unpacked)).build(directory=str(tmp_path / "dist"))))
    assert members(again) == members(wheel)
