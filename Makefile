# Two commands do all the set-up on a machine with Python >= 3.10: make demo, make test.
PYTHON ?= python3
BIN := .venv/bin
PHOTOS := tests/data/photos
OUT := demo-output
GATED := encoder,decoder/1,decoder/16,set_image/12MP,predict/12MP

.PHONY: demo test test-peer quick lint bench bench-peers bench-gate evidence docs goldens clean

demo: .venv/installed ## segment real photographs from a click and from a box; pictures in demo-output/
	mkdir -p $(OUT)
	$(BIN)/refsam segment $(PHOTOS)/kitten.jpg --weights demo --point 590,390 --overlay $(OUT)/kitten-click.png
	$(BIN)/refsam segment $(PHOTOS)/kitten.jpg --weights demo --box 186,104,1024,572 --overlay $(OUT)/kitten-box.png
	$(BIN)/refsam segment $(PHOTOS)/hens.jpg --weights demo --point 850,390 --overlay $(OUT)/hens-click.png
	$(BIN)/refsam segment $(PHOTOS)/hens.jpg --weights demo --box 515,117,724,562 --overlay $(OUT)/hens-box.png
	@echo; echo "The pictures are in $(OUT)/. The next step: README.md, or make test."

test: .venv/tested ## everything but the long proofs
	$(BIN)/python -m pytest -q -n auto

test-peer: .venv/tested .venv/peer ## the tests that compare live with upstream's torch code (several GB of downloads)
	REFSAM_TESTS_REQUIRE=peer $(BIN)/python -m pytest -q -m peer

quick: .venv/tested ## the core tests on small models, for every save: within a minute on two cores (make test checks annotations)
	JAXTYPING_DISABLE=1 $(BIN)/python -m pytest -q -n auto -m core

lint: .venv/linted ## style, format, types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

bench: .venv/installed ## the table of goals on this machine, against the peers that are installed; rows and report in bench-output/
	$(BIN)/refsam bench --out bench-output

bench-peers: .venv/bench-peers ## install what make bench compares with (several GB of downloads)

bench-gate: .venv/installed ## fail where a ratio to the reference got worse than in benchmarks/baseline.json
	$(BIN)/refsam bench --contenders fast,reference --only $(GATED) --seconds 60 --gate benchmarks/baseline.json

evidence: .venv/tested ## fuzz with 10,000 cases a property; write the tables in docs/evidence/
	HYPOTHESIS_PROFILE=evidence $(BIN)/python -m pytest -q -m "hypothesis and not peer"
	$(BIN)/python tests/evidence.py docs/evidence

docs: .venv/installed ## make the pictures of README and docs anew, and the pages that are made from code
	$(BIN)/python docs/make_hypotheses.py
	$(BIN)/python docs/make_pictures.py

goldens: .venv/peer ## make tests/golden anew with upstream's torch code (several GB of downloads)
	$(BIN)/python tests/golden/make.py

clean:
	rm -rf .venv $(OUT) bench-output build dist .pytest_cache .hypothesis .mypy_cache .ruff_cache

.venv/installed: pyproject.toml
	$(PYTHON) -c "import sys; sys.exit(sys.version_info < (3, 10) and 'refsam needs Python 3.10 or newer: make PYTHON=python3.12')"
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --editable .
	touch $@

.venv/tested .venv/linted .venv/peer .venv/bench-peers: .venv/%: .venv/installed
	$(BIN)/python -m pip install --quiet --editable ".[$(subst tested,test,$(subst linted,lint,$*))]"
	touch $@
