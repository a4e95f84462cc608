"""``pytest --nbval notebooks`` runs every cell, and compares those tagged for it: every table that is alike on all machines."""

from pathlib import Path


def pytest_configure(config):
    if config.option.nbval:
        config.option.nbval, config.option.nbval_lax, config.option.nbval_current_env = False, True, True
        config.option.nbval_sanitize_with = str(Path(__file__).parents[1] / "tests" / "nbval_sanitize.cfg")
