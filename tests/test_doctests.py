"""The examples in the docstrings hold."""

import doctest
import importlib
import pkgutil

import pytest

import mpox

MODULES = sorted(module.name for module in pkgutil.walk_packages(mpox.__path__, "mpox."))


def test_the_package_has_examples():
    finder = doctest.DocTestFinder(exclude_empty=True)
    found = sum(bool(test.examples) for name in MODULES for test in finder.find(importlib.import_module(name)))
    assert found >= 5


@pytest.mark.parametrize("name", MODULES)
def test_examples(name):
    results = doctest.testmod(importlib.import_module(name), optionflags=doctest.NORMALIZE_WHITESPACE)
    assert results.failed == 0
