"""What the layout promises: imports point one way, importing is light, names that are offered exist."""

from __future__ import annotations

import ast
import os
import runpy
import subprocess
import sys
from pathlib import Path

import pytest

import dafxhost

ROOT = Path(__file__).resolve().parent.parent
OURS = {"dafxhost", "dafxhost_effects", "dafxhost_encoders", "dafxhost_cli"}
ALLOWED = {
    "dafxhost": set(),
    "effects/dafxhost_effects": {"dafxhost"},
    "encoders/dafxhost_encoders": {"dafxhost"},
    "cli/dafxhost_cli": {"dafxhost", "dafxhost_effects", "dafxhost_encoders"},
}
HOSTS = {"pedalboard", "dawdreamer"}
HEAVY = HOSTS | {"torch", "torchaudio", "scipy", "rdflib", "auraloss", "soundfile"}


def imports(path: Path) -> set[str]:
    """Top-level packages that a module imports, wherever in the file."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            found.add(node.module.partition(".")[0])
    return found


def after(statement: str) -> set[str]:
    """Top-level modules loaded by a statement in a fresh interpreter."""
    code = f"import sys; {statement}; print(*{{m.partition('.')[0] for m in sys.modules}})"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return set(done.stdout.split())


@pytest.mark.parametrize("folder", ALLOWED)
def test_imports_point_one_way(folder: str) -> None:
    modules = list((ROOT / folder).rglob("*.py"))
    assert modules
    for module in modules:
        strangers = (imports(module) & OURS) - ALLOWED[folder] - {Path(folder).name}
        assert not strangers, f"{module.relative_to(ROOT)} imports {strangers}"


def test_the_core_imports_no_plugin_host() -> None:
    for module in (ROOT / "dafxhost").rglob("*.py"):
        assert not imports(module) & HOSTS, module


@pytest.mark.parametrize(
    "statement",
    [
        "import dafxhost",
        "import dafxhost; dafxhost.Executor",
        "import dafxhost; dafxhost.effect('mda-combo')",
        "from dafxhost.registry import registry; registry().names('encoder')",
        "import dafxhost.execution.worker",
        "import dafxhost_cli.main",
    ],
)
def test_light_imports_stay_light(statement: str) -> None:
    assert not after(statement) & HEAVY


def test_everything_offered_exists() -> None:
    for name in dafxhost.__all__:
        assert getattr(dafxhost, name) is not None
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        dafxhost.nothing  # noqa: B018


def test_versions_agree() -> None:
    import tomllib

    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert project["version"] == dafxhost.__version__


def test_run_py_lets_tests_keep_bytecode_but_not_beside_the_sources(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    monkeypatch.delenv("PYTHONPYCACHEPREFIX", raising=False)
    monkeypatch.delenv("PYTHONDONTWRITEBYTECODE", raising=False)
    run = runpy.run_path(str(ROOT / "run.py"))
    assert run["test_environment"]() == dict(os.environ), "what is set stays as it is"
    monkeypatch.setenv("PYTHONDONTWRITEBYTECODE", "1")
    monkeypatch.delenv("OMP_NUM_THREADS")
    found = run["test_environment"]()
    assert "PYTHONDONTWRITEBYTECODE" not in found and found["OMP_NUM_THREADS"] == "1"
    assert Path(found["PYTHONPYCACHEPREFIX"]).parent == ROOT / ".venv"


def test_run_py_explains_itself() -> None:
    done = subprocess.run([sys.executable, ROOT / "run.py", "--help"], capture_output=True, text=True)
    assert done.returncode == 0
    assert "run.py train" in done.stdout
    assert subprocess.run([sys.executable, ROOT / "run.py"], capture_output=True).returncode == 2
