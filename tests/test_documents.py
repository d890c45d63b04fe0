"""devices.documents: what is written is what is read."""

from contextlib import suppress
from time import process_time

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from devices import documents
from devices.documents import DEPTH_LIMIT, SIZE_LIMIT, line_of, parse_yaml
from devices.faults import ConfigurationError


def refusal(text: str) -> str:
    with pytest.raises(ConfigurationError) as caught:
        parse_yaml(text, "f.yaml")
    return str(caught.value)


@pytest.fixture(params=["with libyaml", "without libyaml"])
def either_parser(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    if request.param == "without libyaml":
        monkeypatch.setattr(documents, "_LOADER", yaml.SafeLoader)
    else:
        assert documents._LOADER is yaml.CSafeLoader  # noqa: SLF001 - the quick one must be the one in use


@pytest.mark.usefixtures("either_parser")
@pytest.mark.parametrize(
    "written",
    ["0102", "no", "on", "1e3", "2025-06-01", "12:30:00", "0x1F", ".inf", "1_000", "3.10", "=", "<<"],
)
def test_a_scalar_stays_as_written(written: str) -> None:
    assert parse_yaml(f"room: {written}", "f.yaml") == {"room": written}


@pytest.mark.usefixtures("either_parser")
@pytest.mark.parametrize(
    ("written", "read"), [("", None), ("~", None), ("null", None), ("'~'", "~"), ('""', "")]
)
def test_only_null_that_is_not_quoted_is_none(written: str, read: str | None) -> None:
    assert parse_yaml(f"a: {written}", "f.yaml") == {"a": read}


def test_an_empty_file_is_none() -> None:
    assert parse_yaml("", "f.yaml") is None
    assert parse_yaml("# nothing yet\n", "f.yaml") is None


def test_keys_and_items_know_their_lines() -> None:
    tree = parse_yaml("a: 1\nb:\n  - x\n  - {c: 2,\n     d: 3}\n", "f.yaml")
    assert isinstance(tree, dict)
    listed = tree["b"]
    assert isinstance(listed, list)
    assert [line_of(tree, "a"), line_of(tree, "b"), line_of(listed, 0), line_of(listed, 1)] == [1, 2, 3, 4]
    assert line_of(listed[1], "d") == 5
    assert [line_of(tree), line_of(listed), line_of(tree, "z"), line_of(listed, 9), line_of("x")] == [
        1, 3, None, None, None,
    ]  # fmt: skip


@pytest.mark.usefixtures("either_parser")
def test_keys_that_stand_twice_are_all_named_with_both_lines() -> None:
    told = refusal("a: 1\nb: {c: 1, c: 2}\na: 3\n")
    assert told == (
        "f.yaml:2: b.c: stands twice, first in line 2\n"
        "f.yaml:3: a: stands twice, first in line 1"
    )  # fmt: skip


@pytest.mark.usefixtures("either_parser")
@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("a: &x 1\n", "f.yaml:1: a: anchors are not read; leave it out (is '&x')"),
        ("a: *x\n", "f.yaml:1: a: aliases are not read; write it out (is '*x')"),
        ("a: !!int 5\n", "f.yaml:1: a: tags are not read; leave it out (is 'tag:yaml.org,2002:int')"),
        ("- !!python/name:os.system\n",
         "f.yaml:1: [0]: tags are not read; leave it out (is 'tag:yaml.org,2002:python/name:os.system')"),
        ("~: 1\n", "f.yaml:1: a key must be a text"),
        ("a: {[x]: 1}\n", "f.yaml:1: a: a key must be a text"),
        ("a: 1\n--- \nb: 2\n", "f.yaml:2: a second document begins; one file holds one document"),
        ("---\n---\n", "f.yaml:2: a second document begins; one file holds one document"),
    ],
)  # fmt: skip
def test_what_would_mean_something_else_than_it_seems_is_refused(text: str, told: str) -> None:
    assert refusal(text) == told


@pytest.mark.usefixtures("either_parser")
@pytest.mark.parametrize(
    ("text", "beginning"),
    [
        ("a: [1\nb: 2\n", "f.yaml:2: is no YAML: while parsing a flow sequence"),
        ("a: 1\nb:\n\t- 2\n", "f.yaml:3: is no YAML: while scanning for the next token"),
        ("a: 1\nb: \x07\n", "f.yaml:2: is no YAML: "),
        ("a: 'x\n", "f.yaml:2: is no YAML: while scanning a quoted scalar"),
    ],
)
def test_what_is_no_yaml_is_named_with_its_line(text: str, beginning: str) -> None:
    told = refusal(text)
    assert told.startswith(beginning)
    assert "\n" not in told


def test_text_that_cannot_be_encoded_is_refused() -> None:
    assert refusal("a: \ud800") == "f.yaml: is no valid Unicode text; save it as UTF-8"


@pytest.mark.usefixtures("either_parser")
def test_depth_is_bounded() -> None:
    assert parse_yaml("[" * DEPTH_LIMIT + "]" * DEPTH_LIMIT, "f.yaml") is not None
    assert f"is nested more than {DEPTH_LIMIT} deep" in refusal("[" * 5_000 + "]" * 5_000)


def test_size_is_bounded() -> None:
    assert "at most" in refusal("#" * (SIZE_LIMIT + 1))


def test_laughs_do_not_multiply() -> None:
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]" for n in range(1, 30)]
    begun = process_time()
    assert "aliases are not read" in refusal("\n".join(lines))
    assert process_time() - begun < 1


@given(st.text(max_size=200))
def test_any_text_gives_a_tree_or_a_configuration_error(text: str) -> None:
    with suppress(ConfigurationError):
        parse_yaml(text, "f.yaml")


@given(
    st.recursive(
        st.text(max_size=10),
        lambda below: st.lists(below, max_size=4) | st.dictionaries(st.text(max_size=6), below, max_size=4),
        max_leaves=20,
    )
)
def test_what_another_program_writes_with_quotes_is_read_back(tree: object) -> None:
    written = yaml.safe_dump(tree, default_style='"', allow_unicode=True)
    stripped = written.replace("!!null ", "")
    assert parse_yaml(stripped, "f.yaml") == tree
