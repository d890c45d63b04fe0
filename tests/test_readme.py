"""What the documents tell people to type can be typed, and where they point there is something."""

import re
import shlex
import subprocess
from pathlib import Path

import pytest

from devices.documents import parse_yaml
from edge.cli import _parser
from edge.config import load
from edge.settings import Config
from rules.examples import run
from rules.files import parse

ROOT = Path(__file__).resolve().parent.parent
README = ROOT / "README.md"
README_ZH = ROOT / "README.zh.md"
DOCUMENTS = [
    README,
    README_ZH,
    ROOT / "CONTRIBUTING.md",
    ROOT / "CHANGELOG.md",
    *sorted((ROOT / "docs").rglob("*.md")),
]


def blocks(document: Path) -> list[list[str]]:
    """Commands of each shell block, without comments and prompts."""
    found = re.findall(r"^```(?:sh|console|bash)?\n(.*?)^```", document.read_text(), re.DOTALL | re.MULTILINE)
    return [
        [
            command
            for line in block.splitlines()
            if (command := line.split("  #")[0].strip().removeprefix("$ "))
        ]
        for block in found
    ]


def examples() -> list[str]:
    """Every command of ours in the documents."""
    commands = [command for document in DOCUMENTS for block in blocks(document) for command in block]
    return sorted({each for each in commands if re.match(r"(\.venv/bin/)?anlin ", each)})


def targets() -> list[str]:
    """Every target of the Makefile in the documents."""
    commands = [command for document in DOCUMENTS for block in blocks(document) for command in block]
    return sorted({each for each in commands if each.startswith("make ")})


@pytest.mark.parametrize("readme", [README, README_ZH], ids=["en", "zh"])
def test_the_readme_begins_with_the_demo_and_the_tests(readme: Path) -> None:
    text = readme.read_text()
    first = text.index("```sh")
    assert blocks(readme)[0][:2] == ["make demo", "make test"]
    for needed in ("make", "git", "python3-venv"):
        assert needed in text[:first], f"{needed} must be named above the two commands"


def test_there_are_examples() -> None:
    assert len(examples()) >= 6


@pytest.mark.parametrize("command", examples())
def test_an_example_of_the_documents_can_be_typed(command: str) -> None:
    words = shlex.split(command.split(" > ", maxsplit=1)[0])[1:]
    arguments = _parser(words).parse_args(words)
    assert callable(arguments.verb)


@pytest.mark.parametrize("command", targets())
def test_a_target_that_the_documents_name_exists(command: str) -> None:
    done = subprocess.run(
        ["make", "--question", "--dry-run", *shlex.split(command)[1:]],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert "No rule to make target" not in done.stderr, done.stderr


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_a_link_leads_somewhere(document: Path) -> None:
    text = re.sub(r"^```.*?^```", "", document.read_text(), flags=re.DOTALL | re.MULTILINE)
    for target in re.findall(r"\]\(([^)#]+)[^)]*\)", text):
        if "://" not in target:
            assert (document.parent / target).exists(), (
                f"{document.name} points to {target}, which is not there"
            )


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_a_link_into_a_page_leads_to_one_of_its_headings(document: Path) -> None:
    text = re.sub(r"^```.*?^```", "", document.read_text(), flags=re.DOTALL | re.MULTILINE)
    for target, anchor in re.findall(r"\]\(([^)#:]*)#([^)]+)\)", text):
        page = document.parent / target if target else document
        headings = re.findall(r"^#+ (.+)$", page.read_text(), re.MULTILINE)
        assert anchor in {re.sub(r"[^\w\- ]", "", each).lower().replace(" ", "-") for each in headings}


def test_the_first_rule_of_the_readme_raises_and_clears_as_it_says() -> None:
    (block,) = re.findall(r"^```yaml\n(.*?)^```", README.read_text(), re.DOTALL | re.MULTILINE)
    rules = parse([("README.md", parse_yaml(block, "README.md"))])
    assert [mismatch for rule in rules.rules for mismatch in run(rule, rules)] == []


def test_the_example_configuration_is_one(tmp_path: Path) -> None:
    example = tmp_path / "anlin.yaml"
    example.write_text((ROOT / "deploy" / "anlin.example.yaml").read_text())
    assert isinstance(load(example, {}), Config)


@pytest.mark.parametrize("document", [README, README_ZH, ROOT / "CHANGELOG.md"], ids=lambda path: path.name)
def test_as_many_stories_are_told_of_as_there_are(document: Path) -> None:
    told = re.findall(r"(\d+) (?:shipped )?(?:\[?stories|个情景)", document.read_text())
    assert set(told) == {str(len(list((ROOT / "simulators" / "scenarios").glob("*.yaml"))))}
