"""dafxhost doctor: a healthy machine, and what it says of a broken one."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from command_line import Call
from dafxhost import registry as reg
from dafxhost.registry import Broken, Registry
from dafxhost_cli import checkup
from dafxhost_cli.checkup import ABSENT, BROKEN, OK, WARNING, Check


@pytest.fixture
def light(monkeypatch: pytest.MonkeyPatch) -> dict[str, tuple[dict[str, Any], str]]:
    """Answers of the packages, which would take seconds each to import; tests change them."""
    answers: dict[str, tuple[dict[str, Any], str]] = {
        name: ({"version": "2.11.0"}, "") for name in ("torch", *checkup._NEEDED)
    }
    answers["torch"][0].update(built="13.0", devices=[], why="RuntimeError: Found no NVIDIA driver")

    def fake(code: str) -> tuple[dict[str, Any], str]:
        name = "torch" if code == checkup._TORCH else code.split("'")[1]
        return answers[name]

    monkeypatch.setattr(checkup, "_try", fake)
    return answers


def named(checks: list[Check], name: str) -> Check:
    return next(check for check in checks if check.name == name)


def test_a_working_machine(light: dict, call: Call, tmp_path: Path) -> None:
    code, out, _ = call("doctor", "--json")
    said = json.loads(out)
    assert code == 0 and said["healthy"], out
    checks = {(c["area"], c["name"]): c for c in said["checks"]}
    assert {area for area, _ in checks} >= {
        "python", "packages", "plugin hosts", "plugins", "machine", "workers", "extras", "encoders", "runs",
    }  # fmt: skip
    assert checks["workers", "mda-delay by builtin"]["status"] == OK  # a real worker and a real render
    assert checks["machine", "shared memory"]["status"] == OK
    assert checks["machine", "cores"]["detail"].startswith(str(len(os.sched_getaffinity(0))))
    assert (
        checks["packages", "CUDA"]["status"] == ABSENT
        and "no NVIDIA driver" in checks["packages", "CUDA"]["detail"]
    )
    for check in said["checks"]:
        assert check["status"] in (OK, WARNING, BROKEN, ABSENT)
        assert check["status"] in (OK,) or check["remedy"], check
    code, out, _ = call("doctor")
    assert (
        code == 0 and "plugin hosts" in out.splitlines() and "-> dafxhost effects scan" in out
    ) or "scanned" in out


def test_what_is_broken_ends_with_exit_code_1(
    light: dict, call: Call, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("plugins", "work"):  # looked at above
        monkeypatch.setattr(checkup, name, lambda: iter(()))
    light["torchaudio"] = ({"version": "2.10.0"}, "")
    light["pedalboard"] = ({}, "ImportError: libasound.so.2: cannot open shared object file")
    code, out, err = call("doctor")
    assert code == 1 and "BROKEN   pedalboard: cannot be imported: ImportError: libasound.so.2" in out
    assert 'pip install "torch~=2.11.0" "torchaudio~=2.11.0"' in out
    assert err.splitlines()[-1].startswith("error: something that dafxhost needs is broken: ")


def test_imports_are_tried_in_processes_of_their_own() -> None:
    code = (checkup._IMPORT + checkup._VERSION).format(name="no_such_module")
    assert checkup._try(code) == ({}, "ModuleNotFoundError: No module named 'no_such_module'")
    assert checkup._try("import os, signal; os.kill(os.getpid(), signal.SIGSEGV)") == (
        {},
        "crashed by signal 11",
    )
    assert checkup._try('print(\'{"version": "1"}\')') == ({"version": "1"}, "")


def test_broken_packages_and_plugins_are_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    found = Registry()
    found.broken.append(Broken("effects", "bad-package", "1.0", "ImportError: no"))
    monkeypatch.setattr(reg, "registry", lambda: found)
    (tmp_path / "vst3/Text.vst3").mkdir(parents=True)
    monkeypatch.setenv("VST3_PATH", str(tmp_path / "vst3"))
    monkeypatch.setenv("LV2_PATH", str(tmp_path / "none"))
    monkeypatch.setenv("VST_PATH", str(tmp_path / "vst"))
    monkeypatch.setenv("DAFXHOST_CACHE", str(tmp_path / "cache"))
    (tmp_path / "vst").mkdir()
    plugin = tmp_path / "vst/broken.so"
    plugin.write_bytes(b"not a library")
    from dafxhost_effects import scan

    assert [one.status for one in scan.scan() if one.location == str(plugin)] == ["broken"]
    checks = list(checkup.plugins())
    assert "uninstall bad-package" in named(checks, "package bad-package").remedy
    assert named(checks, str(plugin)).status == WARNING
    folders = named(checks, "LV2 folders")
    assert folders.status == ABSENT and "not there: " in folders.detail
    assert "1 plugins" in named(checks, "VST3 folders").detail


def test_a_check_that_fails_is_a_finding(monkeypatch: pytest.MonkeyPatch) -> None:
    def failing() -> Any:
        raise RuntimeError("unforeseen")
        yield

    for name in ("python", "packages", "plugins", "work", "extras", "weights"):
        monkeypatch.setattr(checkup, name, lambda: iter(()))
    monkeypatch.setattr(checkup, "machine", failing)
    [check] = checkup.all_checks()
    assert check.status == BROKEN and check.detail == "RuntimeError: unforeseen"


def test_memory_files_that_cannot_be_made(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(name: str) -> int:
        raise OSError(38, "Function not implemented")

    monkeypatch.setattr(os, "memfd_create", refuse)
    assert checkup._memfd().status == BROKEN and "not implemented" in checkup._memfd().detail
