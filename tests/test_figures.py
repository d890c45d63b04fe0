"""docs/figures.md and docs/contract.md: what the shipped rules name as their source stands there."""

import itertools
import re
from pathlib import Path

import pytest

from edge.checking import load_rules
from edge.settings import Config
from rules.definitions import Rule
from tools.packs import CONTRACT_SECTION, SECTION

ROOT = Path(__file__).parents[1]
FIGURES = (ROOT / "docs" / "figures.md").read_text("utf-8")
SECTIONS = set(re.findall(r"^## (\w+)$", FIGURES, re.MULTILINE))
CONTRACT = set(re.findall(r"^## (\d)$", (ROOT / "docs" / "contract.md").read_text("utf-8"), re.MULTILINE))
RULES = load_rules(Config()).rules
NAMED = re.compile(r"docs/figures\.md,((?:\s(?:[A-G]\d?|0\.\d+),?)+)")
PACKS = {path.name: path.read_text("utf-8") for path in sorted((ROOT / "rules" / "packs").glob("*.yaml"))}


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.id)
def test_the_source_of_a_shipped_rule_can_be_looked_up(rule: Rule) -> None:
    named = SECTION.findall(rule.source)
    promised = CONTRACT_SECTION.findall(rule.source)
    assert named or promised
    assert {section for section in named if not section.startswith("0.")} <= SECTIONS
    assert all(f"| {point} |" in FIGURES for point in named if point.startswith("0."))
    assert set(promised) <= CONTRACT


@pytest.mark.parametrize("pack", PACKS)
def test_whatever_looks_like_a_section_in_a_pack_is_one(pack: str) -> None:
    comments = "\n".join(re.findall(r"#.*|source: >-\n(?: {6}.*\n)+", PACKS[pack]))
    assert set(re.findall(r"(?<![\w.+])[A-G][1-9](?!\w)", comments)) <= SECTIONS


def test_a_number_in_a_source_is_no_section() -> None:
    assert SECTION.findall("A score of 0.6 is ours") == []
    assert SECTION.findall("C2, G (ten hours, 0.8), a slope (0.10)") == ["C2", "G", "0.8", "0.10"]


@pytest.mark.parametrize("place", ["*.py", "scenarios/*.yaml"])
def test_a_figure_that_a_simulator_rests_on_can_be_looked_up(place: str) -> None:
    texts = [path.read_text("utf-8") for path in sorted((ROOT / "simulators").glob(place))]
    named = [re.findall(r"\w+(?:\.\d+)?", found) for text in texts for found in NAMED.findall(text)]
    assert named
    for section in itertools.chain.from_iterable(named):
        assert section in SECTIONS or f"| {section} |" in FIGURES


def test_every_page_that_the_figures_cite_is_listed() -> None:
    body, _, sources = FIGURES.partition("\n## Sources\n")
    listed = set(re.findall(r"^- \[(\d+)\] \S", sources, re.MULTILINE))
    cited = set(re.findall(r"\[(\d+)\]", body))
    assert cited == listed


def test_every_section_of_the_contract_is_told() -> None:
    assert {"1", "2", "3", "4", "5", "6", "7", "8", "9"} == CONTRACT


def test_no_text_names_a_file_that_is_not_in_the_repository() -> None:
    told = [
        *(ROOT / "docs").rglob("*.md"),
        *(ROOT / "rules").rglob("*.py"),
        *(ROOT / "devices").rglob("*.py"),
    ]
    assert [path.name for path in told if "domain.md" in path.read_text("utf-8")] == []
    assert [name for name, text in PACKS.items() if "domain.md" in text] == []
