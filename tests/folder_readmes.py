"""The module tables of the folders' READMEs, made from the modules' docstrings.

python tests/folder_readmes.py            # rewrite them (part of `make format`)
python tests/folder_readmes.py --check    # exit code 1 and their names when they are stale
"""

import ast
import sys
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
FOLDERS = ("converters", "serving", "tpu", "bench")
HEAD = "| Module | What it is |\n| --- | --- |\n"


def summary(path: Path) -> str:
    """The first sentence line of a module's docstring; ValueError where there is none."""
    text = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8")))
    if not text:
        raise ValueError(f"{path}: found no docstring, want one sentence on what it gives")
    return text.partition("\n")[0].replace("|", "\\|")


def table(folder: Path) -> str:
    modules = sorted(path for path in folder.rglob("*.py") if path.name != "__init__.py")
    rows = [f"| `{path.relative_to(folder)}` | {summary(path)} |\n" for path in modules]
    return HEAD + "".join(rows) if rows else ""


def renewed(folder: Path) -> str:
    """The folder's README with its table, which ends the file, made anew."""
    text = (folder / "README.md").read_text(encoding="utf-8")
    return (text.partition(HEAD)[0].rstrip("\n") + "\n\n" + table(folder)).rstrip("\n") + "\n"


def main(arguments: Sequence[str]) -> int:
    stale = [name for name in FOLDERS if renewed(ROOT / name) != _readme(name).read_text("utf-8")]
    if arguments == ["--check"]:
        print("".join(f"{name}/README.md is stale: make format\n" for name in stale), end="")
        return 1 if stale else 0
    for name in stale:
        _readme(name).write_text(renewed(ROOT / name), encoding="utf-8")
    return 0


def _readme(name: str) -> Path:
    return ROOT / name / "README.md"


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
