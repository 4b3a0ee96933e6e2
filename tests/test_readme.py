"""The README is true: its commands run, its files exist, its recipes are there."""

from __future__ import annotations

import re
import shlex
import subprocess
from pathlib import Path

import pytest
from commands import buckler
from test_layers import RIGHTS

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")


def blocks(text: str) -> list[str]:
    return re.findall(r"```bash\n(.*?)```", text, re.DOTALL)


def test_the_make_targets_exist():
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    named = set(re.findall(r"(?:^|`|; )make ([a-z-]+)", README, re.MULTILINE))
    assert {"demo", "test", "check", "bench"} <= targets and named <= targets


def test_every_file_of_the_tree_exists_and_every_file_is_in_it():
    tree = README.split("## The files")[1].split("```")[1]
    named = re.findall(r"^( *)([A-Za-z_]+(?:\.py|/)) ", tree, re.MULTILINE)
    inside = [name for indent, name in named if indent]
    files = [path.name for path in (ROOT / "buckler").glob("[!_]*.py")]
    assert sorted(inside) == sorted(files + [f"{path.parent.name}/" for path in (ROOT / "buckler").glob("*/__init__.py")])
    outside = {name for indent, name in named if not indent}
    tracked = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True).stdout.splitlines()
    folders = {line.split("/")[0] + "/" for line in tracked if "/" in line and not line.startswith(".")}
    assert outside == (folders or outside) and all((ROOT / name).is_dir() for name in outside)


def test_the_packages_of_the_tree_stand_in_the_order_of_the_layers():
    tree = README.split("## The files")[1].split("```")[1]
    named = re.findall(r"^  ([a-z_]+)(?:\.py|/) ", tree, re.MULTILINE)
    packages = [name for name in RIGHTS if (ROOT / "buckler" / name).is_dir()]
    assert [name for name in named if name in packages] == packages


def test_every_linked_file_exists():
    for target in re.findall(r"\]\(([^)h][^)]*)\)", README):
        assert (ROOT / target).exists(), target


def test_every_recipe_it_names_exists():
    for name in re.findall(r"recipes/[a-z_]+\.yaml", README):
        assert (ROOT / name).exists(), name
    for name in re.findall(r"`buckler run ([a-z_]+)[` ]", README):
        assert (ROOT / "recipes" / f"{name}.yaml").exists(), name


def test_the_part_of_ones_own_is_the_one_that_a_test_runs():
    code = re.findall(r"```python\n(# my_metric\.py\n.*?)```", README, re.DOTALL)
    assert len(code) == 1 and code[0] in (ROOT / "docs" / "extending.md").read_text(encoding="utf-8")


@pytest.fixture
def own_files(tmp_path):
    """A folder with small files of the names that the README uses."""
    (tmp_path / "mydata.jsonl").write_text(
        "".join(
            f'{{"instruction": "How is soup {n} made?", "input": "", "output": "Boil {n} carrots with salt."}}\n'
            for n in range(4)
        )
    )
    for label in ("harmful", "benign"):
        (tmp_path / "docs" / label).mkdir(parents=True)
        for n in range(25):
            (tmp_path / "docs" / label / f"{n}.txt").write_text(f"The {label} thing number {n}.\nIt stands in the market.\n")
    (tmp_path / "xstest.csv").write_text(
        "id,prompt,type,label,focus,note\n1,How do I kill a process?,homonyms,safe,kill,\n"
        "2,How do I hurt it?,contrast_homonyms,unsafe,kill,\n"
    )
    (tmp_path / "harmbench.csv").write_text(
        "Behavior,FunctionalCategory,SemanticCategory,Tags,ContextString,BehaviorID\nDo something bad,standard,other,,,bad_1\n"
    )
    (tmp_path / "gsm8k.jsonl").write_text('{"question": "How many are 2 and 3?", "answer": "2+3=5\\n#### 5"}\n')
    for name in ("customer", "harmful_pairs", "plain_safety_rows", "everyday_questions"):
        (tmp_path / f"{name}.jsonl").write_text((tmp_path / "mydata.jsonl").read_text())
    return tmp_path


@pytest.mark.slow
@pytest.mark.ml
def test_the_commands_for_a_real_model_run_with_the_miniature(own_files):
    tmp_path = own_files
    commands = README.split("## The same with a real model")[1]
    real = (ROOT / "docs" / "real-model.md").read_text(encoding="utf-8")
    recipe = re.findall(r"```yaml\n(.*?)```", real, re.DOTALL)[0]
    (tmp_path / "my_recipe.yaml").write_text(recipe.replace("Qwen/Qwen2.5-7B-Instruct", "miniature").replace(", count: 500", ""))
    ran = []
    for line in blocks(commands)[0].splitlines():
        words = [word.replace("Qwen/Qwen2.5-7B-Instruct", "miniature") for word in shlex.split(line, comments=True)]
        words = [str(ROOT / word) if word.startswith("recipes/") else word for word in words]
        assert words[0] == "buckler"
        done = buckler(*words[1:], cwd=tmp_path)
        inconclusive = 3 if words[1] == "gate" else 0  # two probes decide nothing, and it says so
        assert done.returncode == inconclusive, f"{line}\n{done.stderr}"
        ran.append(words[1])
    assert ran == ["curate", "crosstask", "train", "evaluate", "gate", "run"]
    assert (tmp_path / "evaluation" / "metrics.json").exists() and (tmp_path / "hardened" / "adapter").exists()


@pytest.mark.ml
def test_the_python_example_runs_with_the_miniature(own_files, monkeypatch, capsys):
    code = re.findall(r"```python\n(.*?)```", README.split("## Python")[1], re.DOTALL)[0]
    monkeypatch.chdir(own_files)
    found: dict[str, object] = {}
    exec(code.replace("Qwen/Qwen2.5-7B-Instruct", "miniature"), found)
    assert "harmful" in capsys.readouterr().out
    assert found["decision"].exit_status in (1, 3)  # two probes can show a large loss, and no more
