"""The configuration: one YAML file, ``ANLIN_…`` variables above it, defaults below it (contract, section 6).

Every fault is found in one go and named by file, line, key and value; a configuration with a fault never
starts anything.
"""

import re
from collections.abc import Iterator, Mapping
from pathlib import Path

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from devices.documents import Tree, line_of, parse_yaml
from devices.faults import ConfigurationError, Fault, nearest
from edge.settings import (
    Cloud,
    Config,
    History,
    Http,
    Log,
    Mqtt,
    Store,
    Tls,
    read_secret,
    read_text,
    shown_path,
)

__all__ = ["Cloud", "Config", "History", "Http", "Log", "Mqtt", "Store", "Tls", "examine", "load"]

DEFAULT_FILE = Path("anlin.yaml")
"""Read from the working directory if it is there and no file is named."""

PREFIX = "ANLIN_"
ENVIRONMENT = "environment"
"""Stands for a file's name in faults of ``ANLIN_…`` variables."""


def load(path: Path | None, environ: Mapping[str, str]) -> Config:
    """Read the configuration from ``path``, else from ./anlin.yaml, else take the defaults.

    Raises `ConfigurationError` with every fault.
    """
    config, faults = examine(path, environ)
    if faults:
        raise ConfigurationError(faults)
    return config


def examine(path: Path | None, environ: Mapping[str, str]) -> tuple[Config, list[Fault]]:
    """As `load`, but with the faults beside a configuration in which what is wrong is left at its default.

    With that, the registry and the rules can be checked in the same go; it is not fit to run. Raises
    `ConfigurationError` only where the file cannot be read at all.
    """
    named = path
    if path is None and DEFAULT_FILE.is_file():
        named = DEFAULT_FILE
    file = str(named) if named is not None else "defaults"
    tree: Tree = parse_yaml(read_text(named, file), file) if named is not None else None
    if tree is not None and not isinstance(tree, dict):
        raise ConfigurationError([Fault(file, "", "must be keys and values, such as `site: c1`")])
    source = _Source(file, tree if tree is not None else {})
    source.override(environ)
    base = (named.parent if named is not None else Path()).absolute()
    config = _validated(source, base)
    source.faults.extend(source.fault(*clash) for clash in _clashes(config))
    return config, sorted(source.faults, key=lambda fault: fault.line or 0)


_Path = tuple[str | int, ...]
_Clash = tuple[_Path, str, str | None]


class _Source:
    """What a person wrote, in the file and in the environment, and what is wrong with it."""

    def __init__(self, file: str, tree: dict[str, Tree]) -> None:
        self.tree = tree
        self.faults: list[Fault] = []
        self._file = file
        self._variables: dict[_Path, str] = {}

    def override(self, environ: Mapping[str, str]) -> None:
        """Put the ``ANLIN_…`` variables over what the file says; an empty one means null."""
        known = dict(_keys(Config))
        variables = {PREFIX + "__".join(path).upper(): path for path in known}
        for name in sorted(name for name in environ if name.startswith(PREFIX)):
            path = variables.get(name)
            if path is None:
                self._refuse_variable(name, variables)
                continue
            value = environ[name]
            parent = self._section(path[:-1])
            if parent is None:
                continue  # the file has something else in the section's place, and hears of that
            if known[path]:
                parent[path[-1]] = [part for part in value.split(":") if part]
            else:
                parent[path[-1]] = value or None
            self._variables[path] = name

    def _refuse_variable(self, name: str, variables: Mapping[str, tuple[str, ...]]) -> None:
        below = next((known for known in variables if known.startswith(f"{name}__")), None)
        if below is not None:
            self.faults.append(Fault(ENVIRONMENT, name, f"is a section; set its keys one by one, as {below}"))
            return
        self.faults.append(
            Fault(ENVIRONMENT, name, "unknown variable", nearest=nearest(name.upper(), variables))
        )

    def _section(self, path: tuple[str, ...]) -> dict[str, Tree] | None:
        section = self.tree
        for key in path:
            below = section.get(key)
            if below is None:
                below = section[key] = {}
            if not isinstance(below, dict):
                return None
            section = below
        return section

    def fault(self, path: _Path, reason: str, value: str | None = None, near: str | None = None) -> Fault:
        """A fault at a key, named by where the key was set."""
        for end in range(len(path), 0, -1):
            if path[:end] in self._variables:
                return Fault(ENVIRONMENT, self._variables[path[:end]], reason, value, near)
        line: int | None = None
        at: Tree = self.tree
        for key in path:
            line = line_of(at, key) or line
            match at, key:
                case dict(), str():
                    at = at.get(key)
                case list(), int() if key < len(at):
                    at = at[key]
                case _:
                    break
        return Fault(self._file, _written(path), reason, value, near, line)

    def drop(self, path: _Path) -> None:
        """Forget what stands at a path: its default holds."""
        at: Tree = self.tree
        for key in path[:-1]:
            at = at.get(str(key)) if isinstance(at, dict) else None
            if isinstance(at, list):
                at.clear()
                return
        if isinstance(at, dict):
            at.pop(str(path[-1]), None)


def _keys(section: type[BaseModel], above: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], bool]]:
    """The path of every key that holds a value, and whether that is a list."""
    for name, described in section.model_fields.items():
        if isinstance(described.annotation, type) and issubclass(described.annotation, BaseModel):
            yield from _keys(described.annotation, (*above, name))
        else:
            yield (*above, name), isinstance(described.default, tuple)


def _validated(source: _Source, base: Path) -> Config:
    try:
        return Config.model_validate(source.tree, context={"base": base})
    except ValidationError as error:
        wrong = error.errors(include_url=False)
    for found in wrong:
        reason, near = _explained(found)
        source.faults.append(source.fault(found["loc"], reason, _showable(found), near))
    for found in wrong:
        source.drop(found["loc"])
    return Config.model_validate(source.tree, context={"base": base})


def _showable(found: ErrorDetails) -> str | None:
    """The value, where it is a text that cannot hold a secret."""
    value = found["input"]
    if not isinstance(value, str) or found["type"] == "extra_forbidden":
        return None
    return None if found["loc"] == ("cloud", "url") and {"@", "?"} & set(value) else value


_REASONS = {
    "int_parsing": "must be a whole number",
    "int_type": "must be a whole number",
    "int_from_float": "must be a whole number",
    "greater_than_equal": "must be at least {ge}",
    "less_than_equal": "must be at most {le}",
    "bool_parsing": "must be true or false",
    "bool_type": "must be true or false",
    "string_type": "must be a text",
    "path_type": "must be a text",
    "string_too_long": "must have at most {max_length} characters",
    "model_type": "must hold keys and values",
    "tuple_type": "must be a list, each file behind a dash",
    "value_error": "{error}",
}
"""Pydantic's findings in our words."""


def _explained(found: ErrorDetails) -> tuple[str, str | None]:
    """What is wrong, and the key or word that was probably meant."""
    path, value, context = found["loc"], found["input"], found.get("ctx", {})
    if found["type"] == "extra_forbidden":
        known = _known(path[:-1])
        return f"unknown key; known are {', '.join(known)}", nearest(str(path[-1]), known)
    if value is None:
        return "is empty; give it a value or leave the key out", None
    if found["type"] == "literal_error":
        words = re.findall(r"'([^']+)'", context["expected"])
        return f"must be one of {', '.join(words)}", nearest(str(value), words)
    return _REASONS.get(found["type"], found["msg"]).format(**context), None


def _known(path: _Path) -> list[str]:
    """The keys of the section at a path."""
    section: type[BaseModel] = Config
    for key in path:
        annotation = section.model_fields[str(key)].annotation
        if isinstance(annotation, type) and issubclass(annotation, BaseModel):
            section = annotation
    return sorted(section.model_fields)


def _written(path: _Path) -> str:
    """A path as a person reads it: ``mqtt.tls.ca``, ``rules[0]``."""
    return "".join(f"[{key}]" if isinstance(key, int) else f".{key}" for key in path).removeprefix(".")


def _clashes(config: Config) -> Iterator[_Clash]:
    """What is right by itself and wrong together, and files that are not there."""
    yield from _broker_clashes(config.mqtt)
    tls = config.mqtt.tls
    for name, file in (("ca", tls.ca), ("cert", tls.cert), ("key", tls.key)):
        if file is not None and not file.is_file():
            yield ("mqtt", "tls", name), "does not exist", shown_path(file)
    secrets: list[tuple[_Path, Path | None]] = [
        (("mqtt", "password_file"), config.mqtt.password_file),
        (("cloud", "token_file"), config.cloud.token_file),
    ]
    for at, file in secrets:
        if file is None:
            continue
        try:
            read_secret(file)
        except ConfigurationError as error:
            yield at, error.faults[0].reason, shown_path(file)
    if config.people is not None:
        yield ("people",), "people are not supported yet; leave it out", shown_path(config.people)


def _broker_clashes(mqtt: Mqtt) -> Iterator[_Clash]:
    tls = mqtt.tls
    protected = tls.on or mqtt.username is not None or mqtt.password_file is not None
    if mqtt.embedded and mqtt.host != "127.0.0.1":
        yield (
            ("mqtt", "host"),
            "must be 127.0.0.1 with the embedded broker; or say embedded: false",
            mqtt.host,
        )
    if mqtt.embedded and protected:
        yield ("mqtt", "embedded"), "the embedded broker has neither TLS nor passwords; leave them out", None
    if mqtt.password_file is not None and mqtt.username is None:
        yield ("mqtt", "username"), "is missing; password_file needs it", None
    if (tls.cert is None) is not (tls.key is None):
        yield ("mqtt", "tls"), "cert and key go together; name both or neither", None
