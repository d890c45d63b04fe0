"""The tools around the code: make targets, the lock, the list of packages, the real servers."""

import os
import re
import subprocess
import tomllib
from pathlib import Path

import pytest

from tools import servers

ROOT = Path(__file__).resolve().parent.parent
TARGETS = {"help", "setup", "demo", "test", "check", "bench"}
TOP_LEVEL = ("cloud_bridge", "devices", "edge", "rules", "simulators")


def make(*arguments: str, **variables: str) -> str:
    """What make prints, in an environment that no outer make or shell has written into."""
    inherited = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("MAKE", "MFLAGS", "SECONDS")) and name != "T"
    }
    done = subprocess.run(
        ["make", "--no-print-directory", *arguments],
        cwd=ROOT,
        env=inherited | variables,
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout


def pyproject() -> dict[str, dict[str, dict[str, list[str]]]]:
    return tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))


def lock() -> str:
    return (ROOT / "requirements.lock").read_text(encoding="utf-8")


def locked_names() -> set[str]:
    return set(re.findall(r"^([a-z0-9-]+)==", lock(), flags=re.MULTILINE))


def test_make_without_a_target_explains_every_target_in_one_line() -> None:
    explained = dict(re.findall(r"^make ([a-z-]+) +(\S.*)$", make(), flags=re.MULTILINE))
    assert explained.keys() >= TARGETS
    assert make() == make("help")


@pytest.mark.parametrize(
    ("arguments", "environment", "command"),
    [
        ((), {}, ".venv/bin/anlin demo"),
        (("SECONDS=5",), {}, '.venv/bin/anlin demo --seconds "5"'),
        ((), {"SECONDS": "7"}, '.venv/bin/anlin demo --seconds "7"'),
    ],
)
def test_demo_runs_as_long_as_asked(
    arguments: tuple[str, ...], environment: dict[str, str], command: str
) -> None:
    assert make("-n", "demo", *arguments, **environment).splitlines()[-1].strip() == command


def test_demo_from_an_interactive_shell_has_no_end() -> None:
    done = subprocess.run(
        ["bash", "-c", "SECONDS=3; make -n demo"],
        cwd=ROOT,
        env={"PATH": os.environ["PATH"]},
        capture_output=True,
        text=True,
        check=True,
    )
    assert "--seconds" not in done.stdout


def test_one_test_runs_without_the_checks() -> None:
    alone = make("-n", "test", "T=tests/test_tooling.py")
    assert "-m pytest tests/test_tooling.py" in alone
    assert "ruff" not in alone
    assert "ruff check" in make("-n", "test")


def test_continuous_integration_runs_what_people_run() -> None:
    script = ROOT / ".ci" / "run"
    assert os.access(script, os.X_OK)
    assert "make test" in script.read_text(encoding="utf-8")


def test_lock_names_no_index_host_or_path() -> None:
    assert not re.findall(
        r"://|--(?:extra-)?index-url|--find-links|--trusted-host|\bfile:/| @ |(?<!\w)/\w", lock()
    )


def test_lock_pins_every_dependency_with_hashes_of_its_files() -> None:
    project = pyproject()["project"]
    wanted = [*project["dependencies"], *project["optional-dependencies"]["dev"]]
    names = {re.split(r"[^A-Za-z0-9_.-]", line)[0].lower().replace("_", "-") for line in wanted}
    assert names - locked_names() == set()
    for entry in re.split(r"\n(?=[a-z0-9])", lock())[1:]:
        assert "--hash=sha256:" in entry, entry
    for binary in ("msgspec", "numpy", "pydantic-core"):
        entry = re.search(rf"^{binary}==(?:.*\\\n)+.*", lock(), flags=re.MULTILINE)
        assert entry is not None
        assert entry[0].count("--hash=") > 10, f"{binary}: hashes of one platform only"


def test_every_package_is_listed_and_every_listed_package_exists() -> None:
    listed = set(pyproject()["tool"]["setuptools"]["packages"])
    here = {
        ".".join(path.parent.relative_to(ROOT).parts)
        for top in TOP_LEVEL
        for path in (ROOT / top).rglob("__init__.py")
    }
    assert listed == here


def test_every_layer_is_known_to_the_import_linter() -> None:
    contract = pyproject()["tool"]["importlinter"]
    assert sorted(contract["root_packages"]) == sorted(TOP_LEVEL)


@pytest.mark.parametrize("name", sorted(servers.PACKAGES))
def test_real_servers_are_found(name: str) -> None:
    assert os.access(servers.locate(name), os.X_OK)


def test_a_recorded_server_that_has_gone_is_looked_for_again(tmp_path: Path) -> None:
    (tmp_path / "servers.json").write_text('{"strace": "/nowhere/strace"}', encoding="utf-8")
    assert servers.locate("strace", tmp_path).name == "strace"


def test_a_missing_server_is_named_with_its_remedy(tmp_path: Path) -> None:
    with pytest.raises(servers.ServerMissingError, match=r"no-such-server is missing: .*apt-get install"):
        servers.locate("no-such-server", tmp_path)
