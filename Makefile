# Shortcuts; each line is a command that can be typed by itself.
.PHONY: help setup demo test style

help:
	@echo "make setup   install into .venv"
	@echo "make demo    train, merge and test on the model that comes with the project"
	@echo "make test    the tests and the linter"
	@echo "make style   format the code and repair what the linter can"

setup:
	bash scripts/setup.sh

demo:
	bash scripts/demo.sh

test:
	bash scripts/test.sh

style: setup
	.venv/bin/python -m ruff check --fix .
	.venv/bin/python -m ruff format .
