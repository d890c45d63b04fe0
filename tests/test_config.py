"""edge.config and edge.settings: section 6 of the contract. Bad files: bad_configs, in test_cli.py."""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from pydantic import BaseModel

from devices.documents import Tree, parse_yaml
from devices.faults import ConfigurationError
from edge.config import Config, examine, load

ROOT = Path(__file__).resolve().parent.parent

CONTRACT = """
site: c1
node: gw-1
data_dir: ./data                 # locked: a second gateway on it refuses to start
timezone: Asia/Shanghai
language: zh                     # zh or en
mqtt: {host: 127.0.0.1, port: 1883, protocol: "5", username: null, password_file: null,
       tls: {ca: null, cert: null, key: null}, prefix: community, embedded: false}
store: {journal_max_bytes: 2GB, commit_ms: 250}
cloud: {url: null, org: anlin, bucket: community, token_file: null, forward_activity: false}
http: {host: 127.0.0.1, port: 8080}
rules: []                        # rule files besides the shipped packs
devices: null                    # registry file: devices and the places they stand in
people: null                     # contacts, households, duty roster, escalation
"""


def written(folder: Path, text: str) -> Path:
    path = folder / "anlin.yaml"
    path.write_text(text, encoding="utf-8")
    return path


def refusal(path: Path | None, **environ: str) -> str:
    with pytest.raises(ConfigurationError) as caught:
        load(path, environ)
    return str(caught.value)


def keys(section: type[BaseModel], above: str = "") -> Iterator[tuple[str, str]]:
    """Every key that holds a value, and what it means."""
    for name, described in section.model_fields.items():
        if isinstance(described.annotation, type) and issubclass(described.annotation, BaseModel):
            yield from keys(described.annotation, f"{above}{name}.")
        else:
            assert described.description is not None
            yield f"{above}{name}", described.description


def shown(tree: Tree, path: str) -> str:
    for key in path.split("."):
        assert isinstance(tree, dict)
        tree = tree[key]
    match tree:
        case None:
            return "null"
        case []:
            return "[]"
    assert isinstance(tree, str)
    return tree


def test_the_contracts_example_is_the_defaults(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    defaults = load(None, {})
    assert load(written(tmp_path, CONTRACT), {}) == defaults
    assert (defaults.site, defaults.node, defaults.data_dir) == ("c1", "gw-1", tmp_path / "data")
    assert (defaults.store.journal_max_bytes, defaults.unregistered_max) == (2_000_000_000, 20_000)


def test_the_shipped_example_names_every_key_with_its_default(tmp_path: Path) -> None:
    text = (ROOT / "deploy/anlin.example.yaml").read_text(encoding="utf-8")
    tree = parse_yaml(text, "anlin.example.yaml")
    for key, _ in keys(Config):
        shown(tree, key)  # fails for a key that is not there
    assert load(written(tmp_path, text), {}) == load(written(tmp_path, ""), {})


def test_docs_tell_every_key_with_its_default_and_meaning() -> None:
    page = (ROOT / "docs/configuration.md").read_text(encoding="utf-8")
    example = ROOT / "deploy/anlin.example.yaml"
    tree = parse_yaml(example.read_text(encoding="utf-8"), str(example))
    for key, meaning in keys(Config):
        assert f"| `{key}` | `{shown(tree, key)}` | {meaning} |\n" in page


def test_a_file_in_the_working_directory_is_read_unless_another_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert load(None, {}).site == "c1"
    written(tmp_path, "site: here")
    assert load(None, {}).site == "here"
    other = tmp_path / "other.yaml"
    other.write_text("site: there", encoding="utf-8")
    assert load(other, {}).site == "there"


def test_the_environment_overrides_the_file_and_the_file_the_defaults(tmp_path: Path) -> None:
    path = written(tmp_path, "site: file\nmqtt: {host: file, username: gw}\ncloud: {org: file}\n")
    config = load(
        path,
        {
            "ANLIN_SITE": "env",
            "ANLIN_MQTT__HOST": "0102",
            "ANLIN_MQTT__USERNAME": "",
            "ANLIN_CLOUD__FORWARD_ACTIVITY": "true",
            "ANLIN_STORE__JOURNAL_MAX_BYTES": "1GiB",
            "ANLIN_MQTT__TLS__CA": str(path),
            "ANLIN_RULES": "a.yaml:b.yaml",
            "HOME": "/nowhere",
        },
    )
    assert (config.site, config.mqtt.host, config.mqtt.username, config.cloud.org) == (
        "env",
        "0102",
        None,
        "file",
    )
    assert config.cloud.forward_activity
    assert config.store.journal_max_bytes == 2**30
    assert config.mqtt.tls.on
    assert config.rules == (tmp_path / "a.yaml", tmp_path / "b.yaml")


@pytest.mark.parametrize(
    ("name", "value", "told"),
    [
        ("ANLIN_MQTT__HOTS", "x", "unknown variable; did you mean 'ANLIN_MQTT__HOST'?"),
        ("ANLIN_mqtt__host", "x", "unknown variable; did you mean 'ANLIN_MQTT__HOST'?"),
        ("ANLIN_MQTT", "x", "is a section; set its keys one by one, as ANLIN_MQTT__HOST"),
        ("ANLIN_HTTP__PORT", "x", "must be a whole number (is 'x')"),
        ("ANLIN_SITE", "", "is empty; give it a value or leave the key out"),
        ("ANLIN_RULES", "a.yaml: ", "must not be blank (is ' ')"),
    ],
)  # fmt: skip
def test_a_fault_in_the_environment_names_the_variable(
    tmp_path: Path, name: str, value: str, told: str
) -> None:
    path = written(tmp_path, "mqtt: {host: a}\n")
    assert refusal(path, **{name: value}) == f"environment: {name}: {told}"


def test_a_section_that_is_no_section_is_told_once_although_variables_point_into_it(tmp_path: Path) -> None:
    path = written(tmp_path, "mqtt: broker\n")
    assert refusal(path, ANLIN_MQTT__HOST="x").endswith(
        "anlin.yaml:1: mqtt: must hold keys and values (is 'broker')"
    )


def test_relative_paths_start_at_the_file_wherever_the_command_is_typed(tmp_path: Path) -> None:
    config = load(written(tmp_path, "data_dir: x\nrules: [r/a.yaml, /b.yaml]\ndevices: ../d.yaml\n"), {})
    assert config.data_dir == tmp_path / "x"
    assert config.rules == (tmp_path / "r/a.yaml", Path("/b.yaml"))
    assert config.devices == tmp_path / "../d.yaml"


def test_a_configuration_survives_the_way_to_another_process(tmp_path: Path) -> None:
    config = load(
        written(tmp_path, "rules: [a.yaml]\nstore: {journal_max_bytes: 1GB}\nmqtt: {prefix: a/b}"), {}
    )
    assert Config.model_validate_json(config.model_dump_json()) == config


def test_a_configuration_cannot_be_changed() -> None:
    config = Config()
    with pytest.raises(ValueError, match="frozen"):
        config.site = "c2"


@pytest.mark.parametrize("section", ["mqtt", "store", "cloud", "http", "log", "rules"])
def test_a_section_with_nothing_in_it_is_one_of_defaults(tmp_path: Path, section: str) -> None:
    assert load(written(tmp_path, f"{section}:\n"), {}) == load(written(tmp_path, ""), {})


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("500MB", 500_000_000),
        ("2GB", 2_000_000_000),
        ("1GiB", 2**30),
        ("64mib", 2**26),
        ("1 TB", 10**12),
        ("20000000", 20_000_000),
        ("20000kB", 20_000_000),
    ],
)
def test_sizes_are_decimal_or_binary(tmp_path: Path, text: str, size: int) -> None:
    path = written(tmp_path, f"store: {{journal_max_bytes: {text}}}")
    assert load(path, {}).store.journal_max_bytes == size


@pytest.mark.parametrize("host", ["127.0.0.1", "127.3.2.1", "::1", "localhost"])
def test_every_loopback_host_serves_the_board(tmp_path: Path, host: str) -> None:
    assert load(written(tmp_path, f'http: {{host: "{host}"}}'), {}).http.host == host


def test_the_embedded_broker_is_spoken_to_in_its_own_version(tmp_path: Path) -> None:
    assert load(written(tmp_path, "mqtt: {embedded: true}"), {}).mqtt.spoken == "3.1.1"
    assert load(written(tmp_path, "mqtt: {protocol: 5}"), {}).mqtt.spoken == "5"
    assert load(written(tmp_path, "mqtt: {protocol: 3.1.1}"), {}).mqtt.spoken == "3.1.1"


def test_secrets_come_from_files_and_are_in_no_configuration(tmp_path: Path) -> None:
    (tmp_path / "password").write_text("s3cret word\r\n", encoding="utf-8")
    (tmp_path / "token").write_text("t0ken", encoding="utf-8")
    config = load(
        written(tmp_path, "mqtt: {username: gw, password_file: password}\ncloud: {token_file: token}"), {}
    )
    assert (config.mqtt.password(), config.cloud.token()) == ("s3cret word", "t0ken")
    assert "s3cret" not in repr(config) + config.model_dump_json()
    assert Config().mqtt.password() is None
    assert Config().cloud.token() is None


@pytest.mark.parametrize(
    "text",
    [
        "mqtt: {password: geheim}",
        "cloud: {url: 'https://u:geheim@h'}",
        "cloud: {url: 'https://h/?token=geheim'}",
    ],
)
def test_a_secret_in_the_wrong_place_is_not_repeated(tmp_path: Path, text: str) -> None:
    assert "geheim" not in refusal(written(tmp_path, text))


@pytest.mark.parametrize("content", [b"", b"\n", b"two\nlines\n", b"\xff\xfe", b"x" * 20_000])
def test_a_secret_that_is_no_line_of_text_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "token").write_bytes(content)
    assert "cloud.token_file: " in refusal(written(tmp_path, "cloud: {token_file: token}"))


def test_a_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    assert refusal(tmp_path / "a.yaml") == f"{tmp_path}/a.yaml: does not exist"
    assert refusal(tmp_path) == f"{tmp_path}: cannot be read: Is a directory"
    path = written(tmp_path, "")
    path.write_bytes("site: 三".encode("gb18030"))
    assert refusal(path) == f"{path}: is no UTF-8 text; save it as UTF-8"


def test_what_is_wrong_is_left_at_its_default_so_that_the_rest_can_be_checked(tmp_path: Path) -> None:
    config, faults = examine(written(tmp_path, "site: a b\nnode: n\nrules: [~, b]\nhttp: 5\nx: 1\n"), {})
    assert [fault.path for fault in faults] == ["site", "rules[0]", "http", "x"]
    assert (config.site, config.node, config.http.port) == ("c1", "n", 8080)


def test_the_configuration_is_imported_in_a_moment() -> None:
    """CPU time; usually it takes a fifth of that."""
    code = "import time; t = time.process_time(); import edge.config; print(time.process_time() - t)"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert float(done.stdout) < 2
