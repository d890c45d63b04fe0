"""docs/api.md: every route stands on it with its parameters, and its examples have the shapes of the answers."""

import re
from pathlib import Path
from typing import Any

import pytest
from fastapi.routing import APIRoute
from pydantic import BaseModel

from edge.store.records import GapReason
from edge.web import board
from edge.web.application import application
from edge.web.database import Database
from edge.web.models import (
    AlarmModel,
    DeviceModel,
    ExplanationModel,
    GapModel,
    HealthModel,
    OrderModel,
    ProblemModel,
    ReadingModel,
    StepModel,
)
from edge.web.settings import WebSettings
from rules.alarms import AlarmState, Severity, Transition

ROOT = Path(__file__).parents[1]
GUIDE = (ROOT / "docs" / "api.md").read_text("utf-8")
APP, _ = application(WebSettings(data_dir="nowhere", site="c1"), Database(Path("nowhere")))
PATHS: dict[str, Any] = APP.openapi()["paths"]
ASKED = {path: one["get"] for path, one in PATHS.items()}
ROUTES = {
    *PATHS,
    str(APP.openapi_url),
    *(route.path for route in board.routes("zh").routes if isinstance(route, APIRoute)),
}
SHAPES: dict[str, type[BaseModel]] = {
    "alarm": AlarmModel,
    "device": DeviceModel,
    "explanation": ExplanationModel,
    "gap": GapModel,
    "health": HealthModel,
    "order": OrderModel,
    "problem": ProblemModel,
    "reading": ReadingModel,
    "step": StepModel,
}
EXAMPLES = [
    (name, block)
    for name, block in re.findall(r"^```(\w+)\n(.*?)^```$", GUIDE, re.MULTILINE | re.DOTALL)
    if name != "sh"
]


def chapter(path: str) -> str:
    return GUIDE.split(f"\n## GET {path}\n")[1].split("\n## ")[0]


def test_every_route_of_the_application_is_on_the_page() -> None:
    assert {f"GET {path}" for path in ROUTES if f"GET {path}" not in GUIDE} == set()
    assert {method for one in PATHS.values() for method in one} == {"get"}


def test_the_page_names_no_route_that_is_not_there() -> None:
    assert set(re.findall(r"^## GET (\S+)$", GUIDE, re.MULTILINE)) <= ROUTES


@pytest.mark.parametrize("path", ASKED)
def test_every_parameter_and_every_error_stands_in_the_chapter_of_its_route(path: str) -> None:
    told = chapter(path)
    for parameter in ASKED[path].get("parameters", ()):
        if parameter["in"] == "query":
            assert f"| `{parameter['name']}` |" in told
        if parameter["in"] == "header":
            assert parameter["name"] in told.lower()
    assert [status for status in ASKED[path]["responses"] if status != "200" and status not in told] == []


@pytest.mark.parametrize(("name", "block"), EXAMPLES, ids=[name for name, _ in EXAMPLES])
def test_an_example_has_the_shape_of_the_answer(name: str, block: str) -> None:
    SHAPES[name].model_validate_json(block)


def test_there_is_an_example_of_every_shape() -> None:
    assert {name for name, _ in EXAMPLES} == set(SHAPES)


def test_every_field_and_word_of_an_alarm_is_explained() -> None:
    table = GUIDE.split("\n## An alarm\n")[1].split("\n## ")[0]
    table = "".join(line for line in table.splitlines() if line.startswith("|"))
    words = [*AlarmModel.model_fields, *AlarmState, *Severity]
    assert [word for word in words if f"`{word}`" not in table] == []
    assert [word for word in (*Transition, *GapReason) if f"`{word}`" not in GUIDE] == []


def test_every_figure_of_metrics_is_on_the_page() -> None:
    node = (ROOT / "edge" / "metrics.py").read_text("utf-8")
    web = (ROOT / "edge" / "web" / "api.py").read_text("utf-8")
    named = [f"anlin_{name}" for name in re.findall(r'figure\(\s*"(\w+)"', node)]
    named += [f"anlin_history_{name}" for name in re.findall(r'^ +\("(\w+)", "', node, re.MULTILINE)]
    named += re.findall(r'\("(anlin_\w+)"', web)
    assert len(named) >= 20
    assert [name for name in named if f"`{name}" not in GUIDE] == []
