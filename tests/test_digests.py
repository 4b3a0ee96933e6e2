"""Plans take the hash of a large file from an earlier command where it has not changed; whatever reads a file hashes it."""

from __future__ import annotations

import json
import os

import pytest

from buckler.data import digests, file_digest, planned_digest

NOW = 1_700_000_000


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(digests, "LARGE", 10)
    monkeypatch.setattr(digests.time, "time", lambda: 1e11)
    return tmp_path / "cache" / "buckler" / "digests.json"


@pytest.fixture
def read(monkeypatch) -> list[str]:
    """Files whose content is read, in order, as by commands one after another."""
    names: list[str] = []
    real = digests._file_digest.__wrapped__
    monkeypatch.setattr(digests, "_file_digest", lambda path, state: (names.append(path.name), real(path, state))[1])
    return names


def test_a_large_file_is_read_for_the_first_plan_only_and_a_small_one_for_each(tmp_path, read):
    (tmp_path / "large").write_text("weights, many")
    (tmp_path / "small").write_text("config")
    found = [[planned_digest(tmp_path / name) for name in ("large", "small")] for _ in range(3)]
    assert found[0] == found[1] == found[2] and read == ["large", "small", "small", "small"]
    assert file_digest(tmp_path / "large") == found[0][0] and read[-1] == "large", "steps do not rely on it"


def test_a_file_that_was_changed_or_put_in_place_of_another_is_read_again(tmp_path, read):
    file = tmp_path / "large"
    file.write_text("weights, many")
    os.utime(file, (NOW, NOW))
    first = planned_digest(file)
    file.write_text("weights, more")
    os.utime(file, (NOW, NOW))
    assert planned_digest(file) != first, "of the same size and time of change, but written since"
    (tmp_path / "new").write_text("weights, mine")
    os.utime(tmp_path / "new", (NOW, NOW))
    (tmp_path / "new").replace(file)
    assert planned_digest(file) == file_digest(file) and read == ["large"] * 4


def test_a_file_that_was_written_a_moment_ago_is_not_remembered(tmp_path, cache, monkeypatch):
    (tmp_path / "large").write_text("weights, many")
    monkeypatch.setattr(digests.time, "time", lambda: (tmp_path / "large").stat().st_mtime + 1)
    planned_digest(tmp_path / "large")
    assert not cache.exists()


@pytest.mark.parametrize("content", ["", "[]", "{not json", json.dumps({"x": 3})])
def test_a_broken_cache_or_one_that_cannot_be_written_costs_time_only(tmp_path, cache, content, read):
    (tmp_path / "large").write_text("weights, many")
    cache.parent.mkdir(parents=True)
    cache.write_text(content)
    assert planned_digest(tmp_path / "large") == planned_digest(tmp_path / "large") and read == ["large"]
    cache.unlink()
    cache.mkdir()
    assert planned_digest(tmp_path / "large") and read == ["large", "large"]
