"""What holds for all tests: how properties look for counterexamples, a disk that fails, and when the demo plays.

The demo takes its two minutes: it plays beside the other tests, and is looked at after them.
"""

import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

from tests.demo_run import Demo
from tests.node_world import FailingDisk

settings.register_profile("exploring", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.register_profile("repeatable", settings.get_profile("exploring"), derandomize=True)
settings.load_profile("repeatable")  # a run says the same twice, on a slow machine too

if (
    signal.getsignal(signal.SIGINT) is signal.SIG_IGN
):  # a job in the background: what tests start would ignore it, too
    signal.signal(signal.SIGINT, signal.default_int_handler)

MODULE = "test_demo.py"
WHOLE = "test_the_demo_raises_and_ends_everything_as_its_story_says"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    items.sort(key=lambda item: item.path.name == MODULE)


@pytest.fixture
def disk(monkeypatch: pytest.MonkeyPatch) -> FailingDisk:
    """Under every journal of the test's own process; it works until it is told otherwise."""
    return FailingDisk(monkeypatch)


@pytest.fixture(scope="session", autouse=True)
def whole_demo(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Demo | None]:
    """Begins with the first test if the one that looks at it is among them."""
    if any(item.name == WHOLE for item in request.session.items):
        folder: Path = tmp_path_factory.mktemp("demo")
        # The last thing expected comes at 98 s.
        with Demo(folder, "--seconds", "102", "--lang", "en") as demo:
            yield demo
    else:
        yield None
