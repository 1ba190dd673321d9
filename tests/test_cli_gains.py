"""What the passes gained is shown for every program, those of stages among them."""

from jaxrt.cli.gains import gain_tables, gains

SHAPES = {"x": [8, 4], "mask": [8]}


def test_each_line_of_each_program_is_a_row() -> None:
    program = {"input_shapes": SHAPES, "passes": {"gains": ["batch norm: 2", "convolutions: 3"]}}
    plain = {"input_shapes": SHAPES, "passes": {"gains": []}}
    older = {"input_shapes": SHAPES}
    report = {
        "signatures": {
            "whole": {"programs": [program, plain, older], "stages": []},
            "cut": {"programs": [], "stages": [{"programs": [program]}]},
        }
    }
    assert gains(report) == [
        ["whole", "x[8,4] mask[8]", "batch norm: 2"],
        ["whole", "x[8,4] mask[8]", "convolutions: 3"],
        ["cut", "x[8,4] mask[8]", "batch norm: 2"],
        ["cut", "x[8,4] mask[8]", "convolutions: 3"],
    ]
    assert [t.row_count for t in gain_tables(report)] == [4]


def test_there_is_no_table_where_nothing_changed() -> None:
    assert gain_tables({"signatures": {"f": {"programs": [], "stages": []}}}) == []
