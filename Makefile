# Two commands: "make book" and "make test". PYTHON names the interpreter that .venv is made with.
PYTHON ?= python3
.PHONY: book pdf test coverage notebooks exercises lock lint clean

book: .venv/ready  ## the study from its records, the instruments live on the phantom, and an edition of the book of each
	.venv/bin/mpox run --profile recorded
	.venv/bin/mpox run --profile quick
	.venv/bin/mpox book

pdf: book  ## the edition of real images on paper, _site/study.pdf; needs Chromium
	cd _book_src/study && ../../.venv/bin/jupyter-book build --builder singlehtml .
	mv _book_src/study/_build/singlehtml/book/intro.html _book_src/study/_build/singlehtml/all.html
	`command -v chromium chromium-browser google-chrome | head -1` --headless --no-sandbox --no-pdf-header-footer \
		--print-to-pdf=_site/study.pdf _book_src/study/_build/singlehtml/all.html

test: .venv/ready  ## all tests, the notebooks among them, a file a process
	OMP_NUM_THREADS=1 .venv/bin/pytest -n logical --maxprocesses 4 --dist loadfile --no-loadscope-reorder

coverage: .venv/ready  ## all tests, and which lines and branches of the package they reach
	.venv/bin/pytest --cov --cov-fail-under=90

notebooks: .venv/ready  ## regenerate notebooks/*.ipynb from their .py sources
	.venv/bin/mpox sync

exercises: .venv/ready  ## derive notebooks/exercises/*.ipynb, with blanks, from the chapters
	.venv/bin/mpox exercises

lint: .venv/ready  ## style, types, and the floors of the house
	.venv/bin/ruff check && .venv/bin/mypy && .venv/bin/lint-imports

lock:  ## pin anew what pyproject.toml asks for (needs uv)
	uv pip compile pyproject.toml --extra book --extra lab --extra cluster --extra onnx --extra test --generate-hashes --no-emit-index-url --no-header --no-annotate --universal --python-version 3.11 -o requirements.lock

clean:  ## remove what can be made again; .venv stays
	rm -rf _runs _book_src _site .pytest_cache .hypothesis .mypy_cache .ruff_cache .coverage* htmlcov

# The stamp is written last: without it a half-made environment is made anew; with it a changed lock is installed on top.
# --no-deps: the lock names everything, and an old pip that resolves extras anew stumbles over releases younger than the lock.
.venv/ready: requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(0 if sys.version_info >= (3, 11) else "mpox needs Python 3.11 or newer, and $(PYTHON) is %d.%d: name another with make PYTHON=python3.11" % sys.version_info[:2])'
	test -e $@ || $(PYTHON) -m venv --clear .venv
	.venv/bin/python -m pip install --disable-pip-version-check --no-deps --require-hashes -r requirements.lock
	.venv/bin/python -m pip install --disable-pip-version-check --no-deps --no-build-isolation -e .
	touch $@
