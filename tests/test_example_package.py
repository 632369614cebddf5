"""Packages of somebody else: the example is built, installed, found and used; broken ones are listed.

Packages are installed into a temporary folder that only the subprocesses see; the environment stays as it is.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import sysconfig
import venv
from pathlib import Path

import numpy as np
import pytest

EXAMPLES = Path(__file__).parents[1] / "examples"
KINDS = {"effect": "example-tremolo", "encoder": "example-band-levels", "estimator": "example-regression"}


def _run(
    code_or_args: list[str], site: Path, python: str | Path = sys.executable, cwd: Path | None = None
) -> subprocess.CompletedProcess[str]:
    # Packages installed with --target are found through PYTHONPATH, as a user's own folder would be.
    path = os.pathsep.join(filter(None, [str(site), os.environ.get("PYTHONPATH")]))
    environment = {**os.environ, "PYTHONPATH": path}
    return subprocess.run(
        [str(python), *code_or_args], capture_output=True, text=True, env=environment, timeout=120, cwd=cwd
    )


def _dafxhost(site: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return _run(["-m", "dafxhost_cli.main", *arguments], site)


def _listing(site: Path) -> dict:
    done = _dafxhost(site, "plugins", "--json")
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def _build(source: Path, work: Path) -> Path:
    """A package's wheel; its source stays as it is."""
    copy = work / source.name
    shutil.copytree(source, copy, ignore=shutil.ignore_patterns("__pycache__"))
    build = [sys.executable, "-m", "build", "--no-isolation", "--wheel", "--outdir", str(work), str(copy)]
    subprocess.run(build, check=True, capture_output=True, text=True)
    [wheel] = work.glob(f"{source.name.replace('-', '_')}-*.whl")
    return wheel


@pytest.fixture(scope="module")
def wheels(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The examples built as wheels."""
    work = tmp_path_factory.mktemp("wheels")
    return {kind: _build(EXAMPLES / f"dafxhost-example-{kind}", work) for kind in KINDS}


@pytest.fixture(scope="module")
def site(wheels: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The example effect installed into a folder of its own."""
    site = tmp_path_factory.mktemp("example") / "site"
    _install(wheels["effect"], "--target", str(site))
    return site


@pytest.fixture(scope="module")
def clean(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The interpreter of a new environment that sees this one's packages, and has none of its own."""
    folder = tmp_path_factory.mktemp("environment") / "venv"
    venv.create(folder, with_pip=False)
    python = folder / "bin" / "python"
    [own] = (folder / "lib").glob("python*/site-packages")
    here = sysconfig.get_path("purelib")
    # As a .pth line, so that the .pth files of editable installations there are read, too.
    (own / "this_environment.pth").write_text(f"import site; site.addsitedir({here!r})\n")
    return python


def _install(wheel: Path, *where: str) -> None:
    """`where` is `--target FOLDER` or `--python INTERPRETER`."""
    uv = shutil.which("uv")
    # An environment made by uv holds no pip, one made by venv no uv.
    if uv:
        command = [uv, "pip", "install", "--offline", *where]
    elif where[0] == "--python":
        command = [sys.executable, "-m", "pip", *where, "install"]
    else:
        command = [sys.executable, "-m", "pip", "install", *where]
    done = subprocess.run([*command, "--quiet", "--no-deps", str(wheel)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def _package(site: Path, name: str, module: str, code: str, point: str = "effects") -> None:
    """What an installer leaves behind of a package with one module and one entry point."""
    site.mkdir(exist_ok=True)
    (site / f"{module}.py").write_text(code)
    info = site / f"{name.replace('-', '_')}-0.1.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 0.1\n")
    (info / "entry_points.txt").write_text(f"[dafxhost]\n{point} = {module}\n")


GOOD = """
from dafxhost.registry import EffectSpec, hookimpl
@hookimpl
def dafxhost_effects():
    return [EffectSpec({name!r}, "nowhere:make", "Good.")]
"""


def test_the_wheel_holds_one_module_and_its_entry_point(site: Path) -> None:
    assert (site / "dafxhost_example_effect.py").is_file()
    [points] = site.glob("*.dist-info/entry_points.txt")
    assert "dafxhost_example_effect" in points.read_text()


def test_it_is_listed_with_its_distribution_and_version(site: Path) -> None:
    listing = _listing(site)
    [row] = [r for r in listing["plugins"] if r["name"] == "example-tremolo"]
    assert (row["kind"], row["distribution"], row["version"]) == (
        "effect",
        "dafxhost-example-effect",
        "1.2.0",
    )
    assert not listing["broken"]
    text = _dafxhost(site, "plugins").stdout
    assert [line.split()[:4] for line in text.splitlines() if "tremolo" in line] == [
        ["effect", "example-tremolo", "dafxhost-example-effect", "1.2.0"]
    ]


def test_it_is_shown_with_its_parameters(site: Path) -> None:
    done = _dafxhost(site, "effects", "example-tremolo", "--json")
    assert done.returncode == 0, done.stderr
    shown = json.loads(done.stdout)
    assert [p["name"] for p in shown["parameters"]] == ["rate", "depth", "shape"]
    assert (shown["provider"], shown["latency"], shown["problem"]) == ("example", 0, "")


def test_it_renders_through_the_executor(site: Path) -> None:
    code = """
import json, numpy as np, dafxhost
fx = dafxhost.effect("example-tremolo")
audio = np.full((1, 1, 4410), 0.5, np.float32)
with dafxhost.Executor(fx, workers=1) as executor:
    settings = np.stack([fx.setting(rate=10, depth=100, shape=s) for s in ("sine", "square")])[None]
    print(json.dumps(executor.render(audio, settings, sample_rate=44100)[0, :, 0].tolist()))
"""
    done = _run(["-c", code], site)
    assert done.returncode == 0, done.stderr
    sine, square = np.array(json.loads(done.stdout))
    phase = np.sin(2 * np.pi * 10 / 44100 * np.arange(4410))
    np.testing.assert_allclose(sine, 0.25 * (1 - phase), atol=1e-6)
    # Where the sine is next to nothing its sign is rounding; elsewhere the square wave is on or off.
    clear = np.abs(phase) > 1e-9
    np.testing.assert_allclose(square[clear], np.where(phase > 0, 0.0, 0.5)[clear], atol=1e-6)


def test_an_unknown_provider_of_it_says_what_there_is(site: Path) -> None:
    done = _dafxhost(site, "effects", "example-tremolo", "--provider", "vst3")
    assert done.returncode == 2
    assert "example" in done.stderr and "Traceback" not in done.stderr


def test_all_three_are_listed_and_pass_their_own_tests(
    wheels: dict[str, Path], clean: Path, tmp_path: Path
) -> None:
    """Installed into a clean environment; the tests run where nothing of the sources is in reach."""
    for wheel in wheels.values():
        _install(wheel, "--python", str(clean))
    done = _run(["-m", "dafxhost_cli.main", "plugins", "--json"], tmp_path, clean)
    assert done.returncode == 0, done.stderr
    listing = json.loads(done.stdout)
    rows = {(r["kind"], r["name"]): r["distribution"] for r in listing["plugins"]}
    for kind, name in KINDS.items():
        assert rows[kind, name] == f"dafxhost-example-{kind}"
        test = f"test_dafxhost_example_{kind}.py"
        shutil.copy(EXAMPLES / f"dafxhost-example-{kind}" / test, tmp_path)
    assert not listing["broken"]
    done = _run(["-m", "pytest", "-q", "-p", "no:cacheprovider", "."], tmp_path, clean, cwd=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    # 14 checks of an effect, 8 of an encoder, 7 of an estimator, and a test of each package's own.
    assert "32 passed" in done.stdout and "skipped" not in done.stdout


HOOK = "from dafxhost.registry import hookimpl\n@hookimpl\ndef dafxhost_effects():\n    return "
BROKEN = {
    "broken-import": ("import not_there_at_all", "ModuleNotFoundError: No module named 'not_there_at_all'"),
    "broken-exit": ("raise SystemExit('no licence')", "SystemExit: no licence"),
    "broken-syntax": ("def broken(:", "SyntaxError"),
    "broken-hook": (HOOK + "[1 / 0]", "dafxhost_effects raised ZeroDivisionError: division by zero"),
    "broken-type": (HOOK + "['gain']", "gave 'gain', which is no EffectSpec"),
}


def test_broken_packages_are_listed_and_stop_nothing(tmp_path: Path) -> None:
    site = tmp_path / "site"
    for name, (code, _) in BROKEN.items():
        _package(site, name, name.replace("-", "_"), code)
    _package(site, "good-thing", "good_thing", GOOD.format(name="good-gain"))
    listing = _listing(site)
    assert "good-gain" in [r["name"] for r in listing["plugins"]]
    broken = {b["distribution"]: b for b in listing["broken"]}
    assert sorted(broken) == sorted(BROKEN)
    text = _dafxhost(site, "plugins").stdout
    for name, (_, reason) in BROKEN.items():
        assert reason in broken[name]["reason"]
        assert (broken[name]["version"], broken[name]["entry_point"]) == ("0.1", "effects")
        assert f"broken: {name} 0.1 (effects): {broken[name]['reason']}\n" in text


def test_one_name_from_two_packages_names_both(tmp_path: Path) -> None:
    site = tmp_path / "site"
    _package(site, "gain-one", "gain_one", GOOD.format(name="same-gain"))
    _package(site, "gain-two", "gain_two", GOOD.format(name="same-gain"), point="other")
    done = _dafxhost(site, "effects", "same-gain")
    assert done.returncode == 1
    assert "gain-one 0.1" in done.stderr and "gain-two 0.1" in done.stderr and "Traceback" not in done.stderr
    rows = [r for r in _listing(site)["plugins"] if r["name"] == "same-gain"]
    assert [r["distribution"] for r in rows] == ["gain-one", "gain-two"] and all(r["problem"] for r in rows)


def test_one_entry_point_name_in_two_packages_keeps_both(tmp_path: Path) -> None:
    site = tmp_path / "site"
    _package(site, "first-pack", "first_pack", GOOD.format(name="first-gain"), point="effects")
    _package(site, "second-pack", "second_pack", GOOD.format(name="second-gain"), point="effects")
    listing = _listing(site)
    names = {r["name"]: r["distribution"] for r in listing["plugins"]}
    assert (names["first-gain"], names["second-gain"]) == ("first-pack", "second-pack")
    assert not listing["broken"]


def test_a_factory_that_is_not_there_is_one_sentence(tmp_path: Path) -> None:
    site = tmp_path / "site"
    _package(site, "good-thing", "good_thing", GOOD.format(name="good-gain"))
    done = _dafxhost(site, "effects", "good-gain")
    assert done.returncode == 1 and done.stdout == ""
    assert len(done.stderr.splitlines()) == 1 and "nowhere" in done.stderr
    listed = _dafxhost(site, "effects", "--json")
    assert listed.returncode == 0
    [row] = [r for r in json.loads(listed.stdout) if r["name"] == "good-gain"]
    assert "nowhere" in row["problem"] and row["parameters"] is None
