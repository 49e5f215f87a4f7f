# The two commands: `make run` and `make test`. Both set up what they need.
PYTHON ?= python3
CXR = .venv/bin/cxr
READY = .venv/.ready

.PHONY: run test setup check chaos docs fuzz bench licences sbom clean

run: setup
	@exec $(CXR) up $(if $(IMAGES),--images "$(IMAGES)",--demo)

test: setup
	@.venv/bin/python -m pytest -n 3 --dist loadfile --no-loadscope-reorder -m "not long" $(PYTEST)

setup: $(READY)

$(READY): requirements.lock pyproject.toml bootstrap
	@./bootstrap $(PYTHON)
	@touch $(READY)

check: setup
	@./check

chaos: setup
	@.venv/bin/python -m tests.chaos $(if $(TIER),--tier $(TIER)) $(if $(FAULT),--fault $(FAULT)) $(if $(N),--times $(N)) $(if $(SEED),--seed $(SEED)) $(if $(ALSO),--also $(ALSO))

docs: setup
	@.venv/bin/python -m worker.catalogue > docs/rejections.md

fuzz: setup
	@.venv/bin/python -m fuzzing $(if $(IMAGES),--images $(IMAGES)) $(if $(DICOMS),--dicoms $(DICOMS)) \
		$(if $(ZIPS),--zips $(ZIPS)) $(if $(SEED),--seed $(SEED))

bench: setup
	@.venv/bin/python -m benchmarks

licences: setup
	@.venv/bin/python -m supply.licences

sbom: setup
	@.venv/bin/python -W ignore -m cyclonedx_py requirements $(or $(LOCK),requirements-cpu.lock) \
		--pyproject pyproject.toml --output-reproducible --output-format JSON --output-file sbom.cdx.json

clean:
	rm -rf .venv
