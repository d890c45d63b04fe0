"""What a condition that is no expression was probably meant to be: the slips of people who write rules."""

import re

_QUOTED = re.compile(r"'[^']*'|\"[^\"]*\"")
_WIDE = dict(
    zip(
        "\uff08\uff09\uff0c\uff0e\uff1c\uff1e\uff1d\uff0b\uff0d\uff0a\uff0f\uff01\u2018\u2019\u201c\u201d\u2264\u2265\u2260\u00d7\u00f7",
        ["(", ")", ",", ".", "<", ">", "=", "+", "-", "*", "/", "!", *"''''", "<=", ">=", "!=", "*", "/"],
        strict=True,
    )
)
"""What an input method makes of the signs of a condition."""
_DURATION = re.compile(r"(?<![\w.])(\d+(?:ms|s|m|h|d))(?!\w)")
_UNIT = re.compile(r"(\d)\s*(\u2103|\u00b0 ?C?|%|kWh|kW|W|V|mA|A|C)(?!\w)")
_WORDS = {"&&": "and", "||": "or"}


def slip(source: str) -> str | None:
    """What to write instead; None where nobody can tell."""
    bare = _QUOTED.sub(lambda quoted: " " * len(quoted[0]), source)
    for sign, meant in _WIDE.items():
        if sign in bare:
            return f"a full-width or special {sign}: write {meant}"
    if found := _DURATION.search(bare):
        return f"a duration stands in quotes: '{found[1]}'"
    for sign, meant in _WORDS.items():
        if sign in bare:
            return f"{sign}: write {meant}"
    if found := _UNIT.search(bare):
        return f"a number stands without its unit: leave {found[2]} out"
    if re.search(r"(?<![<>=!])=(?!=)", bare) and "(" not in bare:
        return "a single =: write =="
    return None
