"""Builds VST3s that hold several plugins or buses (tests/lab_pair), with Debian's dpf-source.

Nothing is fetched.
"""

from __future__ import annotations

import platform
import subprocess
from pathlib import Path

from lab_plugin_build import DPF, missing

__all__ = ["missing", "pair", "side_chain"]
SOURCE = Path(__file__).resolve().parent / "lab_pair"


def _run(*words: str) -> None:
    common = ["g++", "-O1", "-fPIC", "-shared", "-std=gnu++17", "-fvisibility=hidden", "-DNDEBUG"]
    done = subprocess.run([*common, *words, "-ldl"], capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"the lab plugin does not build: {done.stderr}")


def _part(target: Path, name: str, number: int, inputs: int, outputs: int) -> None:
    macros = {"NAME": f'"{name}"', "ID": number, "INPUTS": inputs, "OUTPUTS": outputs}
    _run(
        "-DDISTRHO_PLUGIN_TARGET_VST3",
        *(f"-DPART_{key}={value}" for key, value in macros.items()),
        *(f"-I{SOURCE}", "-isystem", str(DPF)),
        *(str(DPF / "DistrhoPluginMain.cpp"), str(SOURCE / "Part.cpp"), "-o", str(target)),
    )


def _bundle(folder: Path, name: str) -> tuple[Path, Path]:
    inside = folder / f"{name}.vst3" / "Contents" / f"{platform.machine()}-linux"
    inside.mkdir(parents=True)
    return folder / f"{name}.vst3", inside


def pair(folder: Path) -> Path:
    """`folder`/Pair.vst3 with "Lab A", stereo, and "Lab B", mono."""
    bundle, inside = _bundle(folder, "Pair")
    _part(inside / "a.part", "Lab A", 0x644C6141, 2, 2)
    _part(inside / "b.part", "Lab B", 0x644C6142, 1, 1)
    _run("-isystem", str(DPF / "src"), str(SOURCE / "Pair.cpp"), "-o", str(inside / "Pair.so"))
    return bundle


def side_chain(folder: Path) -> Path:
    """`folder`/Side.vst3: a stereo gain with a second input bus of one channel."""
    bundle, inside = _bundle(folder, "Side")
    _part(inside / "Side.so", "Lab Side", 0x644C6153, 3, 2)
    return bundle
