"""List options take several values at once, and no argument is lost to them."""

from __future__ import annotations

import pytest
import typer
from hypothesis import given
from hypothesis import strategies as st

from buckler.cli.options import app
from buckler.cli.several import Several, spread

COMMANDS = typer.main.get_command(app).commands


@pytest.mark.parametrize(
    ("command", "given", "meant"),
    [
        ("evaluate", "MODEL --probes a b c --judge keyword", "MODEL --probes a --probes b --probes c --judge keyword"),
        ("evaluate", "MODEL --probes a --probes b", "MODEL --probes a --probes b"),
        ("evaluate", "--probes a b MODEL", "--probes a --probes b MODEL"),
        ("evaluate", "--probes a MODEL --out here", "--probes a MODEL --out here"),
        (
            "evaluate",
            "--out here --harmful a b --benign c d MODEL",
            "--out here --harmful a --harmful b --benign c --benign d MODEL",
        ),
        ("evaluate", "--harmful a b --out here MODEL", "--harmful a --harmful b --out here MODEL"),
        ("evaluate", "--probes a -- MODEL", "--probes a -- MODEL"),
        ("evaluate", "--probes=a b", "--probes=a b"),
        ("evaluate", "--probes", "--probes"),
        ("gate", "--base x --tuned y --probes a b", "--base x --tuned y --probes a --probes b"),
        ("judge-card", "--labels a b --judge keyword", "--labels a --labels b --judge keyword"),
        ("curate", "texts --apart-from a b --resume c", "texts --apart-from a --apart-from b --resume c"),
        ("crosstask", "a b --harmful c d", "a b --harmful c d"),
    ],
)
def test_each_value_comes_under_an_option_of_its_own(command, given, meant):
    assert spread(given.split(), COMMANDS[command].params) == meant.split()


@given(
    st.lists(st.sampled_from(["--probes", "--harmful", "--judge", "--out", "--help", "--nothing", "-x", "a", "b", "--probes=c"]))
)
def test_no_word_is_lost_and_what_is_spread_stays_so(words):
    params = COMMANDS["evaluate"].params
    once = spread(words, params)
    assert [word for word in once if word in ("a", "b")] == [word for word in words if word in ("a", "b")]
    assert spread(["MODEL", *once], params) == spread(spread(["MODEL", *once], params), params)


def test_every_command_with_a_list_option_and_no_list_of_arguments_takes_several():
    for name, command in COMMANDS.items():
        lists = any(one.param_type_name == "option" and one.multiple for one in command.params)
        open_end = any(one.nargs == -1 for one in command.params)
        assert isinstance(command, Several) == (lists and not open_end), name
