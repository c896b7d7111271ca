# People and CI call the same targets. `make demo` and `make test` do all the set-up on a fresh machine.

PYTHON ?= python3
VENV ?= .venv
JOBS ?= 4
SPEECH ?= $(or $(wildcard ../shared/data/read/*.flac),$(wildcard audio_samples/*.flac))
RECORDINGS ?= $(MANIFEST) $(wildcard var/prompts/held_out.jsonl)
RECOGNIZERS ?= default accurate multilingual fast embedded
MANIFEST ?= $(or $(wildcard ../shared/data/read/manifest.jsonl),audio_samples/manifest.jsonl)
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check

# Where this is set (many container images set it), all of the package is compiled anew by each process that starts.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: help demo test test-all coverage serve recognizers bench lint docs format samples clean

help: ## Show this help
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 12

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "speechpipe needs Python 3.11 or newer: make PYTHON=python3.11"; exit 1; }
	@$(PYTHON) -m venv $(VENV) || { rm -rf $(VENV); echo "cannot make a virtual environment; on Debian: apt-get install python3-venv"; exit 1; }

$(VENV)/.installed: pyproject.toml constraints.txt | $(BIN)/python
	$(PIP) install --quiet --constraint constraints.txt --editable .
	@touch $@

$(VENV)/.installed-dev: $(VENV)/.installed
	$(PIP) install --quiet --constraint constraints.txt --editable '.[test,lint,docs]'
	@touch $@

demo: $(VENV)/.installed ## Transcribe audio_samples/ and show what each stage did
	@bundle=default; $(BIN)/speechpipe models pull $$bundle --no-steps || { bundle=embedded; \
		echo "No source has the weights of the bundle \`default\`: this is \`embedded\`, which needs none and recognizes far less."; }; \
		$(BIN)/speechpipe transcribe audio_samples/*.flac --bundle $$bundle --stages
	@echo; echo "The command is $(BIN)/speechpipe; after 'source $(BIN)/activate' it is speechpipe. Next: make serve"

test: $(VENV)/.installed-dev ## Run the tests, JOBS files at a time (most tests wait, few compute)
	$(BIN)/python -m pytest -n $(JOBS) --dist loadfile --no-loadscope-reorder -m "not long"

test-all: test ## Run the long ones too: real rollouts, trainings, the fault benchmark
	SPEECHPIPE_TEST_PRELOADED=0 $(BIN)/python -m pytest -n 2 --dist loadscope -m long

coverage: $(VENV)/.installed-dev ## Run the tests of `make test` and hold the coverage that was reached
	SPEECHPIPE_TEST_PRELOADED=0 $(BIN)/python -m pytest -n $(JOBS) --dist loadfile --no-loadscope-reorder -m "not long" --cov --cov-report= --cov-fail-under=0
	$(BIN)/python -m tools.coverage_ratchet

serve: $(VENV)/.installed ## Serve uploads and live audio on http://127.0.0.1:8000
	$(BIN)/speechpipe serve

recognizers: $(VENV)/.installed-dev ## Measure the shipped bundles on RECORDINGS, into models/figures/
	SPEECHPIPE_MODELS_DIR=models SPEECHPIPE_WEIGHTS_DIR=$(or $(SPEECHPIPE_WEIGHTS_DIR),var/weights) \
		$(BIN)/speechpipe bench recognizer $(RECORDINGS) $(RECOGNIZERS:%=-b %) --write
	$(BIN)/python -m tools.figures

bench: $(VENV)/.installed-dev ## Measure everything in benchmarks/ (about three hours)
	@status=0; for file in vad_speed overhead server cascade_quality pocketsphinx_cli decoder_settings fuzz_files; do \
		$(BIN)/python benchmarks/$$file.py || status=1; done; \
	$(MAKE) recognizers || status=1; \
	$(BIN)/speechpipe bench capacity $(SPEECH) || status=1; \
	$(BIN)/speechpipe bench detectors || status=1; \
	$(BIN)/speechpipe bench rollout || status=1; \
	$(BIN)/speechpipe bench blame --audio $(MANIFEST) --second examples/recommender || status=1; \
	$(BIN)/python benchmarks/replay.py $(MANIFEST) || status=1; \
	$(BIN)/python benchmarks/promises.py $(MANIFEST) || status=1; \
	$(BIN)/python benchmarks/store.py || status=1; \
	for file in ctc_speed vad_fitting lm_adaptation; do $(BIN)/python benchmarks/$$file.py || status=1; done; \
	$(BIN)/python tools/voices.py var/voices zero one two three four five six seven eight nine || status=1; \
	$(BIN)/python benchmarks/new_speaker.py var/voices || status=1; \
	for file in peer_server live_faults live_soak monitor_cost store_kill review_kill rollout_load chaos; do $(BIN)/python benchmarks/$$file.py $(SPEECH) || status=1; done; \
	$(BIN)/python benchmarks/floods.py || status=1; exit $$status

lint: $(VENV)/.installed-dev ## Check style, types and documents
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/python -m tools.site

docs: $(VENV)/.installed-dev ## Build the documentation site into build/site
	$(BIN)/python -m tools.site

format: $(VENV)/.installed-dev ## Format the code
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

samples: $(VENV)/.installed ## Make audio_samples/ again (needs Debian's flite)
	$(BIN)/python audio_samples/synthesise.py

clean: ## Remove what the targets made
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .hypothesis .cache .coverage dist build var
