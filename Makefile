# Two commands for a newcomer: `make demo` and `make test`. The others are for developers.
# Needs only Python >= 3.11 and make; everything else goes into .venv.

VENV := .venv
BIN := $(VENV)/bin
PYTHON ?= $(shell for p in python3 python3.14 python3.13 python3.12 python3.11 python; do \
	if $$p -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then echo $$p; break; fi; done)
# uv is much faster than pip; it does not read pip's find-links setting by itself
UV := UV_FIND_LINKS="$(PIP_FIND_LINKS)" $(BIN)/uv pip install --quiet --python $(BIN)/python -c constraints.txt
# the tests start many processes: where Python may not keep its bytecode, it is made once, at installation
COMPILE := $(if $(PYTHONDONTWRITEBYTECODE),--compile-bytecode)
INPUTS := pyproject.toml constraints.txt src/spherometer/_version.py

.PHONY: demo test check format bench safety nightly clean
.DEFAULT_GOAL := demo

demo: $(VENV)/installed-train  ## train a grid of encoders on digits and write the report
	$(BIN)/spherometer study digits --out runs/digits
	@echo "Report: runs/digits/report.html"

test: $(VENV)/installed-dev  ## the whole suite, in two processes
	$(BIN)/python -m pytest -q -n 2 --dist worksteal

check: $(VENV)/installed-dev  ## format, lint, types
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

format: $(VENV)/installed-dev
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

bench: $(VENV)/installed-dev  ## ratios, growth, memory, threads, processes, files: dated results and a page
	$(BIN)/python benchmarks/run.py --out benchmarks/results

safety: $(VENV)/installed-dev  ## figures of malformed and malicious files, and of false alarms of compare
	$(BIN)/python reproductions/safety.py
	$(BIN)/python reproductions/null_trials.py

nightly: $(VENV)/installed-dev  ## what is too long for every day
	HYPOTHESIS_PROFILE=nightly SPHEROMETER_MALFORMED=2000 \
		$(BIN)/python -m pytest -q -m "nightly or not nightly" --timeout 3600
	$(BIN)/python reproductions/null_trials.py --trials 1000

$(BIN)/uv:
	@test -n "$(PYTHON)" || { echo "make: Python 3.11 or newer must be on the PATH. Install it, or name it with PYTHON=..." >&2; exit 2; }
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check uv

$(VENV)/installed-train: $(INPUTS) | $(BIN)/uv
	$(UV) -e '.[train]'
	@touch $@

$(VENV)/installed-dev: $(INPUTS) | $(BIN)/uv
	$(UV) $(COMPILE) -e '.[train,lightning,neuro,text,dense,hf,dev]'
	@touch $@ $(VENV)/installed-train

clean:
	rm -rf $(VENV) runs .pytest_cache .mypy_cache .ruff_cache .hypothesis
