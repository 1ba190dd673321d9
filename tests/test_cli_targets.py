"""`jaxrt targets` as a user calls it."""

from click.testing import CliRunner

from jaxrt.cli.main import main


def test_all_chips_are_listed() -> None:
    found = CliRunner().invoke(main, ["targets"], env={"COLUMNS": "200"})
    assert found.exit_code == 0
    for name in ("v4", "v5e", "v5p", "v6e", "tpu7x", "t4", "a100", "l4", "h100", "h200", "b200"):
        assert any(name in line.split() for line in found.output.splitlines()), found.output


def test_a_name_is_explained() -> None:
    found = CliRunner().invoke(main, ["targets", "v5p-8"], env={"COLUMNS": "200"})
    assert found.exit_code == 0
    assert "v5p:2x2x1" in found.output and "4 × TPU v5p" in found.output


def test_an_unknown_name_is_one_line() -> None:
    found = CliRunner().invoke(main, ["targets", "v9"])
    assert found.exit_code == 2
    assert "target 'v9'" in found.output and "Traceback" not in found.output
