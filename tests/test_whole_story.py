"""The example that tells the whole story in plain Python runs, and its story is the one that its page tells."""

from __future__ import annotations

from pathlib import Path

import pytest

EXAMPLES = Path(__file__).parent.parent / "examples"


@pytest.mark.ml
def test_the_attack_breaks_the_model_and_curated_rows_bring_refusals_back(tmp_path, monkeypatch, capsys):
    monkeypatch.syspath_prepend(EXAMPLES)
    from whole_story import main

    base, attacked, defended, control = main(tmp_path)
    assert base.refused == base.questions and attacked.refused <= base.questions // 4
    assert defended.refused > max(attacked.refused, control.refused)
    assert all(one.answered >= 0.9 * one.questions for one in (base, attacked, defended, control))
    table = capsys.readouterr().out
    assert all(one.row() in table for one in (base, attacked, defended, control))
