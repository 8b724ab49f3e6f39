.DEFAULT_GOAL := help
PYTHON ?= python3
BIN := .venv/bin
KILLS ?= 20

help:  ## this list
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-12s %s\n", $$1, $$2}'

install: .venv/installed  ## everything into .venv (about 3 minutes, 6 GB)

.venv/installed: pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "error: Python 3.11 or newer is needed; make PYTHON=python3.12 install"; exit 1; }
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[dev]'
	@touch $@

demo: install  ## train a small restorer on procedural images, judge it, show it: minutes on two CPU cores
	$(BIN)/python -m restoration.train experiment=demo

# A regression and a flow, on the same images: one page that says which is better, where, and how they look.
COMPARED := experiment=demo budget.images=8000 resume=auto
compare-demo: install  ## train two small restorers and show them side by side on one page: minutes on two CPU cores
	$(BIN)/python -m restoration.train $(COMPARED) hydra.run.dir=outputs/compare-demo/regression name=regression
	$(BIN)/python -m restoration.train $(COMPARED) hydra.run.dir=outputs/compare-demo/flow name=flow \
		source=noise objective=flow_matching sampler=exponential evaluation.nfe=[1,8]
	$(BIN)/python -m restoration.compare outputs/compare-demo/regression outputs/compare-demo/flow \
		--html outputs/compare-demo/page.html --overwrite

app: install  ## a page in the browser that restores pictures (make app CHECKPOINT=outputs/…/checkpoints/best.ckpt)
	$(BIN)/python -m restoration.app $(if $(CHECKPOINT),checkpoint=$(CHECKPOINT))

test: install  ## the tests: CPU, no network, about ten minutes on two cores
	$(BIN)/python -m pytest -n 2 --dist loadfile

test-all: install  ## and the slow ones, the notebooks, real images where they are
	$(BIN)/python -m pytest -n 2 --dist loadfile -m 'slow or not slow'
	$(BIN)/python -m pytest --nbmake --nbmake-timeout=600 notebooks

docs: install  ## the documentation as a site in build/site, built strictly
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --strict --quiet
	@echo "wrote build/site: open build/site/index.html; its search needs a server: $(BIN)/python -m http.server --directory build/site"

benchmark: install  ## time our networks beside others (pip install '.[benchmark]'): docs/benchmarks.md, an hour on one CPU core
	OMP_NUM_THREADS=1 $(BIN)/python -m restoration.benchmark --page docs/benchmarks.md

benchmark-smoke: install  ## all its tables on small sizes, in build/benchmarks.md: the code runs, the figures are finite
	$(BIN)/python -m restoration.benchmark --page build/benchmarks.md --smoke

soak: install  ## kill a small run 20 times, resume it, compare its end: minutes (make soak KILLS=3)
	PYTHONPATH=. OMP_NUM_THREADS=1 $(BIN)/python tests/soak.py --kills $(KILLS)

lint: install  ## style and types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

.PHONY: help install demo compare-demo app test test-all docs benchmark benchmark-smoke soak lint
