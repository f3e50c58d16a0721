# PYTHON=... chooses the interpreter, ARGS=... is handed to pytest or to the benchmark
PYTHON ?= python

# of `make sanitize`: random shapes per op and instruction set, and the first one's seed
ROUNDS ?= 300
SEED ?= 1
SANITIZERS = address,undefined,float-cast-overflow thread

# where the examples write
OUT ?= build/examples

.PHONY: build test test-gpu fuzz soak sanitize sanitize-short bench examples lint types
build:
	$(PYTHON) -m pip install -e . --no-build-isolation --no-deps
test:
	$(PYTHON) -m pytest -q -n 2 --dist loadfile $(ARGS)
	$(PYTHON) -m pytest -q tests/engines
test-gpu:
	$(PYTHON) -m pytest -q -m gpu $(ARGS)
# outside CI: 300 damaged inputs through the commands; 20,000 frames of tracking (tests/fuzz, tests/soak.py)
fuzz:
	$(PYTHON) -m tests.fuzz $(ARGS)
soak:
	$(PYTHON) -m tests.soak $(ARGS)
# the native code on random shapes, without Python (csrc/tests), under AddressSanitizer with UndefinedBehaviorSanitizer,
# then under ThreadSanitizer
sanitize:
	for kind in $(SANITIZERS); do folder=build/sanitize-$${kind%%,*}; \
	  cmake -S . -B $$folder -DCHASE_FAST_TESTS=on -DCHASE_FAST_SANITIZE=$$kind \
	    -DCHASE_FAST_ROUNDS=$(ROUNDS) -DCHASE_FAST_SEED=$(SEED) && \
	  cmake --build $$folder --parallel $$(nproc) && \
	  ctest --test-dir $$folder --parallel $$(nproc) --output-on-failure || exit 1; done
sanitize-short:
	$(MAKE) sanitize ROUNDS=4
bench:
	for op in mixed_op node_sum sep_conv target_filter kl_loss prroi_pool conv3x3; do $(PYTHON) bench/ops.py --op $$op $(ARGS); done
examples:
	mkdir -p $(OUT)
	for file in $(CURDIR)/examples/*.py; do echo "== $$file" && (cd $(OUT) && $(PYTHON) $$file) || exit 1; done
types:
	$(PYTHON) -m mypy chase_fast
lint:
	$(PYTHON) -m ruff check .
	$(PYTHON) -m ruff format --check .
	clang-format --dry-run --Werror $$(git ls-files 'csrc/*.h' 'csrc/*.cpp' 'csrc/*.cu')
