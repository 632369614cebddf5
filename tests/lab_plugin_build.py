"""Builds the VST3 that misbehaves (tests/lab_plugin) with Debian's dpf-source and one call of g++.

`python tests/lab_plugin_build.py FOLDER` builds it there by hand. Nothing is fetched.
"""

from __future__ import annotations

import platform
import shutil
import subprocess
import sys
from pathlib import Path

SOURCE = Path(__file__).resolve().parent / "lab_plugin"
DPF = Path("/usr/share/dpf/distrho")


def missing() -> str:
    """The Debian package without which it cannot be built, or ""."""
    if not (DPF / "DistrhoPluginMain.cpp").exists():
        return "dpf-source"
    return "" if shutil.which("g++") else "g++"


def build(folder: Path) -> Path:
    """Bundle `folder`/LabFault.vst3; takes some two seconds.

    Raises:
        RuntimeError: the compiler's words.
    """
    bundle = folder / "LabFault.vst3"
    library = bundle / "Contents" / f"{platform.machine()}-linux" / "LabFault.so"
    library.parent.mkdir(parents=True)
    command = [
        *("g++", "-O1", "-fPIC", "-shared", "-pthread", "-std=gnu++17", "-fvisibility=hidden"),
        *("-DNDEBUG", "-DDISTRHO_PLUGIN_TARGET_VST3", "-DGetPluginFactory=DpfPluginFactory"),
        *(f"-I{SOURCE}", "-isystem", str(DPF)),
        *(str(DPF / "DistrhoPluginMain.cpp"), str(SOURCE / "LabFault.cpp")),
        *("-ldl", "-o", str(library)),
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"the lab plugin does not build: {done.stderr}")
    return bundle


def configure(bundle: Path, **settings: object) -> None:
    """Write the bundle's lab.conf, see LabFault.cpp; without settings it behaves when it is loaded."""
    (bundle / "lab.conf").write_text("".join(f"{key}={value}\n" for key, value in settings.items()))


def variant(bundle: Path, folder: Path, **settings: object) -> Path:
    """A copy of the bundle in a folder of its own, configured."""
    copy = Path(shutil.copytree(bundle, folder / bundle.name))
    configure(copy, **settings)
    return copy


if __name__ == "__main__":
    print(build(Path(sys.argv[1])))
