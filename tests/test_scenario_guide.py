"""docs/scenarios.md: every example on it is played, and every word of the language stands on it."""

import re
from functools import cache
from importlib.resources import files
from pathlib import Path

import pytest

from devices.documents import parse_yaml
from rules.definitions import RuleSet
from rules.files import parse
from simulators.casting import WHO
from simulators.expectations import CHANGES, RESULTS, STATES
from simulators.fleet import COUNTED, MODELS
from simulators.line import LINE_FAULTS
from simulators.rehearsal import rehearse
from simulators.scenario import _KEYS, parse_scenario
from simulators.timeline import VERBS

GUIDE = (Path(__file__).parents[1] / "docs" / "scenarios.md").read_text("utf-8")
STORIES = {
    found[1]: block
    for block in re.findall(r"^```yaml\n(.*?)^```$", GUIDE, re.MULTILINE | re.DOTALL)
    if (found := re.match(r"name: (\S+)", block)) is not None
}


@cache
def rules() -> RuleSet:
    packs = sorted(files("rules").joinpath("packs").iterdir(), key=lambda entry: entry.name)
    return parse([(pack.name, parse_yaml(pack.read_text("utf-8"), pack.name)) for pack in packs])


def test_every_example_of_the_guide_is_a_whole_story() -> None:
    assert len(STORIES) == GUIDE.count("```yaml")


@pytest.mark.parametrize("name", STORIES)
def test_a_story_of_the_guide_comes_out_as_it_says(name: str) -> None:
    played = rehearse(parse_scenario(STORIES[name], f"docs/scenarios.md ({name})"), rules())
    assert [(str(case.expectation), case.why) for case in played.cases if not case.passed] == []
    assert [(alarm.rule, alarm.device) for alarm in played.unexpected] == []


@pytest.mark.parametrize(
    "word",
    sorted(
        {
            *VERBS,
            *WHO,
            *CHANGES,
            *STATES,
            *RESULTS,
            *COUNTED,
            *LINE_FAULTS,
            *_KEYS,
            "as",
            "note",
            "times",
            "apart",
        }
        | {
            name
            for model in MODELS.values()
            for happenings in model.happenings.values()
            for happening, known in happenings.items()
            for name in (happening, *known)
        }
    ),
)
def test_every_word_of_the_language_stands_in_the_guide(word: str) -> None:
    assert re.search(rf"[`{{ ]{re.escape(word)}[`:, }}]", GUIDE)
