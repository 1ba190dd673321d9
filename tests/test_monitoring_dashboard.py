"""The dashboard and the alerts: every metric in them is on the page, with the labels they use."""

import json
import re
from pathlib import Path
from typing import Any

import pytest

import jaxrt
from jaxrt.serving.monitoring import families
from jaxrt.serving.monitoring.families import Kind

FOLDER = Path(jaxrt.__file__).parent / "serving" / "grafana"
DASHBOARD: dict[str, Any] = json.loads((FOLDER / "jaxrt.json").read_text(encoding="utf-8"))
ALERTS = (FOLDER / "alerts.yml").read_text(encoding="utf-8")
EXPRESSIONS = [target["expr"] for panel in DASHBOARD["panels"] for target in panel["targets"]]
ALERTED = re.findall(r"expr: (?:>-\n)?(.*(?:\n {10}\S.*)*)", ALERTS)
METRIC = re.compile(r"(?<![\w:$])(?::tensorflow:|jaxrt_)[\w:]+")
BY = re.compile(r"by \(([^)]*)\)")


def exported() -> set[str]:
    names = {f"jaxrt_process_{name}" for name in ("resident_memory_bytes", "cpu_seconds_total")}
    for family in (*families.TENSORFLOW, *families.JAXRT):
        match family.kind:
            case Kind.HISTOGRAM:
                names |= {f"{family.name}_{end}" for end in ("bucket", "sum", "count")}
            case Kind.COUNTER if family in families.JAXRT:
                names.add(family.name + "_total")
            case _:
                names.add(family.name)
    return names


def labels() -> set[str]:
    known = {label for family in families.BY_NAME.values() for label in family.labels}
    return known | {"le", "job", "worker"}


@pytest.mark.parametrize("expression", EXPRESSIONS + ALERTED)
def test_every_metric_and_label_of_a_query_is_exported(expression: str) -> None:
    found = METRIC.findall(expression)
    assert found
    assert set(found) <= exported()
    for names in BY.findall(expression):
        assert set(names.replace(" ", "").split(",")) <= labels()
    assert expression.count("(") == expression.count(")")


def test_every_metric_of_a_version_is_on_the_dashboard() -> None:
    shown = {name for expression in EXPRESSIONS for name in METRIC.findall(expression)}
    for family in families.JAXRT:
        if family is not families.MLMD:
            assert any(name.startswith(family.name) for name in shown), family.name


def test_the_dashboard_is_one_that_grafana_reads() -> None:
    assert DASHBOARD["uid"] == "jaxrt" and DASHBOARD["schemaVersion"] >= 36
    variables = {variable["name"] for variable in DASHBOARD["templating"]["list"]}
    assert variables == {"datasource", "job", "model"}
    panels = DASHBOARD["panels"]
    assert len({panel["id"] for panel in panels}) == len(panels)
    taken = {(panel["gridPos"]["x"], panel["gridPos"]["y"]) for panel in panels}
    assert len(taken) == len(panels)
    for panel in panels:
        assert panel["title"] and panel["description"]
        assert panel["gridPos"]["x"] + panel["gridPos"]["w"] <= 24
        assert panel["datasource"]["uid"] == "${datasource}"
        ids = [target["refId"] for target in panel["targets"]]
        assert len(set(ids)) == len(ids) > 0
        assert all(target["legendFormat"] for target in panel["targets"])
    used = set(re.findall(r"\$(\w+)", " ".join(EXPRESSIONS))) - {"__rate_interval", "__range"}
    assert used == {"job", "model"}
