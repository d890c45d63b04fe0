"""edge.store.ballast: room that is kept for alarms."""

from pathlib import Path

import pytest

from edge.store.ballast import FILE, Ballast

SIZE = 1024 * 1024


def test_it_is_really_allocated_given_up_and_made_again(tmp_path: Path) -> None:
    ballast = Ballast(tmp_path, SIZE)
    assert ballast.make()
    assert ballast.make()
    found = (tmp_path / FILE).stat()
    assert found.st_size == SIZE
    assert found.st_blocks * 512 >= SIZE
    ballast.release()
    ballast.release()
    assert ballast.released
    assert not (tmp_path / FILE).exists()
    assert ballast.room()
    assert ballast.make()
    assert not ballast.released


def test_without_room_it_is_left_out_with_a_reason_and_is_waited_for_only_where_it_could_fit(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    never = Ballast(tmp_path, 2**60)
    assert not never.make()
    assert "no room for the ballast" in caplog.text
    assert not never.released
    later = Ballast(tmp_path, SIZE)
    monkeypatch.setattr(later, "free", lambda: SIZE)
    assert not later.make()
    assert later.released
    assert not later.room()
    assert list(tmp_path.iterdir()) == []


def test_a_directory_that_takes_nothing_costs_the_ballast_and_no_start(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    ballast = Ballast(tmp_path / "absent", SIZE)
    assert not ballast.make()
    assert not ballast.room()
    ballast.release()
    assert "was not made" in caplog.text
