# PYTHON=... chooses the interpreter, ARGS=... is handed to pytest or to the benchmark
PYTHON ?= python

.PHONY: build test test-gpu bench lint
build:
	$(PYTHON) -m pip install -e . --no-build-isolation --no-deps
test:
	$(PYTHON) -m pytest -q -n 2 --dist loadfile $(ARGS)
test-gpu:
	$(PYTHON) -m pytest -q -m gpu $(ARGS)
bench:
	for op in node_sum prroi_pool; do $(PYTHON) bench/ops.py --op $$op $(ARGS); done
lint:
	$(PYTHON) -m ruff check .
	$(PYTHON) -m ruff format --check .
	clang-format --dry-run --Werror $$(git ls-files 'csrc/*.h' 'csrc/*.cpp' 'csrc/*.cu')
