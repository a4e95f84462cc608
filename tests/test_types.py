"""The package's type annotations are checked, and wrong ones are found."""

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
WRONG = {
    "ModelConfig().training.epochs": "union-attr",  # it may be None
    "wilson('a', 'b')": "arg-type",
    "def f(x: int = None): ...": "assignment",  # an optional argument says so
    "y: int = 1  # type: ignore": "unused-ignore",
}


def mypy(*arguments: str | Path) -> subprocess.CompletedProcess:
    """mypy as `make lint` runs it; its cache is the checkout's."""
    command = [sys.executable, "-m", "mypy", *map(str, arguments)]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True)


def test_the_package_is_clean():
    result = mypy()
    assert result.returncode == 0, result.stdout + result.stderr


def test_wrong_types_are_errors(tmp_path):
    imports = ["from mpox.models.config import ModelConfig", "from mpox.stats.resample import wilson"]
    (tmp_path / "wrong.py").write_text("\n".join([*imports, *WRONG]) + "\n")
    lines = [line for line in mypy(tmp_path / "wrong.py").stdout.splitlines() if ": error: " in line]
    for number, (code, error) in enumerate(WRONG.items(), start=len(imports) + 1):
        assert any(f"wrong.py:{number}: " in line and f"[{error}]" in line for line in lines), (code, lines)
