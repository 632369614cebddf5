"""What `dafxhost doctor` looks at. Packages are imported in processes of their own: one may hang or crash."""

from __future__ import annotations

import json
import os
import resource
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

OK, WARNING, BROKEN, ABSENT = "ok", "warning", "broken", "absent"
IMPORT_SECONDS = 120
EXTRAS = {
    "ray": ("ray", "renders on a cluster"),
    "tensorboard": ("tensorboard", "train --track tensorboard"),
    "wandb": ("wandb", "train --track wandb"),
    "trackio": ("trackio", "train --track trackio"),
    "gradio": ("demo", "the demo in a browser"),
    "matplotlib": ("plots", "plots"),
}
"""Package -> its extra, and what it is for."""


@dataclass(frozen=True)
class Check:
    """Something looked at.

    Attributes:
        area: heading. name: what. status: "ok", "warning" (works, but), "broken" (needed), "absent"
            (optional).
        detail: what was found. remedy: what to do where it is not ok.
    """

    area: str
    name: str
    status: str
    detail: str
    remedy: str = ""


def all_checks() -> Iterator[Check]:
    """Every check, as it is done."""
    for look in (python, packages, plugins, machine, work, extras, weights):
        try:
            yield from look()
        except Exception as error:  # noqa: BLE001  (a check that fails is a finding, and no reason to stop)
            words = " ".join(f"{type(error).__name__}: {error}".split())
            yield Check(look.__name__, "this check", BROKEN, words, "report it, with what this command says")


def python() -> Iterator[Check]:
    version = ".".join(map(str, sys.version_info[:3]))
    good = sys.version_info >= (3, 11)
    yield Check(
        "python",
        "version",
        OK if good else BROKEN,
        f"{version} in {sys.prefix}",
        "install Python 3.11 or newer",
    )
    import dafxhost

    where = Path(str(dafxhost.__file__)).parent
    yield Check("python", "dafxhost", OK, f"{dafxhost.__version__} in {where}")


_TORCH = """
import json, torch
why = ""
if not torch.cuda.is_available():
    try:
        torch.cuda.init()
        why = "no device"
    except Exception as error:
        why = f"{type(error).__name__}: {error}"
names = [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]
print(json.dumps({"version": torch.__version__, "built": torch.version.cuda, "devices": names, "why": why}))
"""
_IMPORT = "import importlib, json; m = importlib.import_module({name!r}); "
_VERSION = "print(json.dumps({{'version': str(getattr(m, '__version__', ''))}}))"
_NEEDED = ("torchaudio", "pedalboard", "dawdreamer", "numpy", "scipy", "soundfile", "soxr")


def _try(code: str) -> tuple[dict[str, Any], str]:
    """What a program prints as JSON, and why it did not."""
    try:
        done = subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, timeout=IMPORT_SECONDS
        )
    except subprocess.TimeoutExpired:
        return {}, f"took more than {IMPORT_SECONDS} s"
    try:
        return json.loads(done.stdout.strip().splitlines()[-1]), ""
    except (ValueError, IndexError):
        pass
    if done.returncode < 0:
        return {}, f"crashed by signal {-done.returncode}"
    lines = done.stderr.strip().splitlines()
    return {}, lines[-1] if lines else f"ended with exit code {done.returncode}"


def packages() -> Iterator[Check]:
    """torch and what plugins are hosted with."""
    codes = {"torch": _TORCH} | {name: (_IMPORT + _VERSION).format(name=name) for name in _NEEDED}
    with ThreadPoolExecutor(2) as threads:
        found = dict(zip(codes, threads.map(_try, codes.values()), strict=True))
    for name, (said, why) in found.items():
        area = "plugin hosts" if name in ("pedalboard", "dawdreamer") else "packages"
        if why:
            remedy = f"pip install --force-reinstall {name}"
            yield Check(area, name, BROKEN, f"cannot be imported: {why}", remedy)
        else:
            yield Check(area, name, OK, said["version"])
    torch, audio = found["torch"][0], found["torchaudio"][0]
    if torch:
        yield _cuda(torch)
    if torch and audio:
        same = torch["version"].split(".")[:2] == audio["version"].split(".")[:2]
        detail = f"torch {torch['version']}, torchaudio {audio['version']}"
        yield Check(
            "packages", "torch and torchaudio", OK if same else BROKEN, detail,
            "install both of one minor release: " + _pair(torch["version"]),
        )  # fmt: skip


def _pair(version: str) -> str:
    minor = ".".join(version.split(".")[:2])
    return f'pip install "torch~={minor}.0" "torchaudio~={minor}.0"'


def _cuda(torch: dict[str, Any]) -> Check:
    if torch["devices"] and not torch["why"]:
        return Check("packages", "CUDA", OK, f"{torch['built']}: {', '.join(torch['devices'])}")
    if not torch["built"]:
        return Check(
            "packages", "CUDA", ABSENT, "this torch was built without it; networks run on the CPU",
            "for a GPU, install torch as pytorch.org says for your CUDA",
        )  # fmt: skip
    why = " ".join(torch["why"].split())[:160]
    remedy = (
        "check the driver with nvidia-smi" if shutil.which("nvidia-smi") else "no NVIDIA driver found here"
    )
    return Check("packages", "CUDA", ABSENT, f"not usable ({why}); networks run on the CPU", remedy)


def plugins() -> Iterator[Check]:
    """Folders searched, packages and plugins that are broken, what serves the effects."""
    from dafxhost.registry import registry
    from dafxhost_effects.hosts import lv2_info, plugin_info
    from dafxhost_effects.scan import candidates, remembered, vst2_folders

    kinds = {"VST3": plugin_info.folders(), "LV2": lv2_info.folders(), "VST2": vst2_folders()}
    everything = candidates()
    for kind, folders in kinds.items():
        there = [str(folder) for folder in folders if folder.is_dir()]
        count = sum(candidate.format == kind for candidate in everything)
        detail = f"{count} plugins in {', '.join(there) or 'no folder'}"
        missing = [str(folder) for folder in folders if not folder.is_dir()]
        detail += f"; not there: {', '.join(missing)}" if missing else ""
        remedy = f"install some, or set {kind if kind != 'VST2' else 'VST'}_PATH"
        yield Check("plugins", f"{kind} folders", OK if count else ABSENT, detail, remedy)
    known = remembered()
    broken = [one for one in known if one.status == "broken"]
    yield Check(
        "plugins", "scanned", OK if known else ABSENT,
        f"{len(known)} of {len(everything)} plugins are known from scans, {len(broken)} broken",
        "dafxhost effects scan",
    )  # fmt: skip
    for one in broken:
        reason = " ".join(one.reason.split())[:200]
        remedy = "reinstall it; dafxhost effects scan --fresh tries it again"
        yield Check("plugins", one.location, WARNING, f"broken: {reason}", remedy)
    for item in registry().broken:
        yield Check(
            "plugins", f"package {item.distribution}", WARNING, f"broken: {item.reason}",
            f"update or uninstall {item.distribution}",
        )  # fmt: skip


def machine() -> Iterator[Check]:
    """Cores, memory, limits."""
    allowed, there = len(os.sched_getaffinity(0)), os.cpu_count() or 1
    quota = _quota()
    cores = min(allowed, quota) if quota else allowed
    detail = f"{allowed} of {there} may be used" + (f", for {quota:g} cores' time" if quota else "")
    yield Check(
        "machine", "cores", OK if cores >= 2 else WARNING, detail,
        "training on one core takes twice as long; give the container more, or --max-minutes more",
    )  # fmt: skip
    yield _available_memory()
    yield _memfd()
    yield _shm()
    yield _limit("open files", resource.RLIMIT_NOFILE, 256, "ulimit -n 4096")
    yield _limit("processes", resource.RLIMIT_NPROC, 100, "ulimit -u 4096")
    free = shutil.disk_usage(".").free
    yield Check(
        "machine", "disk", OK if free > 1e9 else WARNING, f"{free / 1e9:.1f} GB free here",
        "a run takes some 10 to 100 MB; free space, or work elsewhere",
    )  # fmt: skip
    ffmpeg = shutil.which("ffmpeg")
    yield Check("machine", "ffmpeg", OK if ffmpeg else ABSENT, ffmpeg or "not found", "apt install ffmpeg")


def _quota() -> float | None:
    """Cores' worth of time that a container may use, where that is limited (cgroup v2)."""
    try:
        quota, period = Path("/sys/fs/cgroup/cpu.max").read_text(encoding="utf-8").split()
        return None if quota == "max" else int(quota) / int(period)
    except (OSError, ValueError):
        return None


def _available_memory() -> Check:
    try:
        text = Path("/proc/meminfo").read_text(encoding="utf-8")
        values = {
            line.split(":")[0]: int(line.split()[1]) * 1024 for line in text.splitlines() if " kB" in line
        }
        free, total = values["MemAvailable"], values["MemTotal"]
    except (OSError, ValueError, KeyError):
        return Check("machine", "memory", WARNING, "not known: /proc/meminfo cannot be read")
    return Check(
        "machine", "memory", OK if free > 2e9 else WARNING, f"{free / 1e9:.1f} of {total / 1e9:.1f} GB free",
        "training takes about 2 GB: close other programs, or train with a smaller pool and batch",
    )  # fmt: skip


def _memfd() -> Check:
    """Audio crosses to the workers in an anonymous memory file."""
    size = 64 << 20
    try:
        handle = os.memfd_create("dafxhost-doctor")
        try:
            os.truncate(handle, size)
            os.pwrite(handle, b"\0", size - 1)
        finally:
            os.close(handle)
    except (OSError, AttributeError) as error:
        remedy = "renders need it: Linux 3.17 or newer, and enough memory for the container"
        return Check("machine", "shared memory", BROKEN, f"memfd_create: {error}", remedy)
    return Check("machine", "shared memory", OK, "anonymous memory files of 64 MB work")


def _shm() -> Check:
    try:
        facts = os.statvfs("/dev/shm")
    except OSError as error:
        return Check("machine", "/dev/shm", ABSENT, str(error), "only Ray needs it")
    size = facts.f_frsize * facts.f_blocks
    return Check(
        "machine", "/dev/shm", OK if size > 5e8 else WARNING, f"{size / 1e9:.2f} GB",
        "only Ray needs it; in a container: docker run --shm-size=2g",
    )  # fmt: skip


def _limit(name: str, which: int, least: int, remedy: str) -> Check:
    soft, hard = resource.getrlimit(which)
    text = ["no limit" if x == resource.RLIM_INFINITY else str(x) for x in (soft, hard)]
    good = soft == resource.RLIM_INFINITY or soft >= least
    return Check("machine", name, OK if good else WARNING, f"{text[0]}, at most {text[1]}", remedy)


def work() -> Iterator[Check]:
    """A worker starts, and renders a real effect by each provider of it."""
    from dafxhost.errors import DafxhostError, UnknownNameError
    from dafxhost.registry import effect

    try:
        effect("mda-delay", "?")
        known: list[str] = []
    except UnknownNameError as error:
        known = list(error.known)
    for provider in known:
        name = f"mda-delay by {provider}"
        try:
            yield _render(name, provider)
        except DafxhostError as error:
            needed = provider == "builtin"
            remedy = "report it" if needed else "only this provider is missing; effects use the next one"
            yield Check("workers", name, BROKEN if needed else ABSENT, str(error), remedy)


def _render(name: str, provider: str) -> Check:
    import numpy as np

    from dafxhost.execution.executor import Executor
    from dafxhost.registry import effect

    fx = effect("mda-delay", provider)
    audio = 0.1 * np.random.default_rng(0).standard_normal((1, 1, 44100)).astype(np.float32)
    began = time.monotonic()
    with Executor(fx, workers=1) as executor:
        wet = executor.render(audio, fx.default_setting()[None, None], 44100)
    seconds = time.monotonic() - began
    if not np.isfinite(wet).all() or np.array_equal(wet[0, 0, 0], audio[0, 0]):
        remedy = "dafxhost effects scan --verify tells more"
        return Check("workers", name, BROKEN, "renders what cannot be right", remedy)
    return Check("workers", name, OK, f"a worker started and rendered 1 s of audio in {seconds:.2f} s")


def extras() -> Iterator[Check]:
    """Optional packages; found without importing them."""
    import importlib.metadata
    import importlib.util

    for package, (extra, what) in EXTRAS.items():
        if importlib.util.find_spec(package) is None:
            yield Check(
                "extras", package, ABSENT, f"not installed ({what})", f'pip install "dafxhost[{extra}]"'
            )
        else:
            yield Check("extras", package, OK, f"{importlib.metadata.version(package)} ({what})")


def weights() -> Iterator[Check]:
    """Encoders, and the weights files that runs here were made with."""
    from dafxhost.registry import registry
    from dafxhost.run_folders import list_runs

    yield Check("encoders", "registered", OK, ", ".join(registry().names("encoder")))
    found = list_runs("runs") if Path("runs").is_dir() else []
    for run in found:
        file = run.config.get("encoder_weights")
        if file and not Path(file).exists() and "best" not in run.checkpoints:
            remedy = f"put the file back; dafxhost train --resume {run.path} needs it"
            yield Check("encoders", run.name, WARNING, f"its weights {file} are not there", remedy)
    broken = [run for run in found if run.problem and run.problem != "no controller yet"]
    yield Check("runs", "in ./runs", OK, f"{len(found)} runs, {len(broken)} damaged")
    for run in broken:
        remedy = f"dafxhost runs delete {run.name}"
        yield Check("runs", run.name, WARNING, run.problem, remedy)
