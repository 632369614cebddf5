"""How long a new user waits for a first useful result, and where the time goes.

    python benchmarks/first_result.py [--minutes 8] [--input FILE --reference FILE]

Clones this repository into a temporary folder, and types there what README's first lines say: `run.py` makes
an environment and installs (from the package index, or from pip's or uv's cache where it was there before),
trains without any data, transfers. Needs about 6 GB for a while. Prints a Markdown table.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import soundfile

ROOT = Path(__file__).resolve().parents[1]


def make_recordings(folder: Path) -> tuple[Path, Path]:
    """Two recordings of our own: bursts of noise, and a darker, louder, clipped one."""
    rng = np.random.default_rng(1)
    decay = np.exp(-5 * (np.arange(5 * 44100) / 44100 % 0.25))
    dry = 0.3 * decay * rng.standard_normal(5 * 44100)
    wet = np.clip(np.convolve(dry[::-1], np.ones(8) / 4, "same"), -0.2, 0.2)
    for name, audio in (("input.wav", dry), ("reference.wav", wet)):
        soundfile.write(folder / name, audio, 44100)
    return folder / "input.wav", folder / "reference.wav"


def timed(folder: Path, *words: str) -> tuple[float, str]:
    """Seconds that a command of `run.py` takes, and what it said on stderr. Ends this program if it fails."""
    began = time.monotonic()
    done = subprocess.run([sys.executable, "run.py", *words], cwd=folder, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"run.py {' '.join(words)} failed:\n{done.stderr[-2000:]}")
    return time.monotonic() - began, done.stderr


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument(
        "--minutes", type=float, default=8.0, help="of training; the README's command takes 8"
    )
    parser.add_argument("--input", type=Path)
    parser.add_argument("--reference", type=Path)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="dafxhost-first-") as place:
        clone = Path(place) / "dafxhost"
        began = time.monotonic()
        subprocess.run(["git", "clone", "-q", str(ROOT), str(clone)], check=True)
        rows = [("clone", time.monotonic() - began)]
        made = make_recordings(clone)
        recordings = [
            str((own or other).resolve())
            for own, other in zip((given.input, given.reference), made, strict=True)
        ]
        rows.append(("environment, and `run.py effects`", timed(clone, "effects")[0]))
        rows.append(("`run.py effects` again", timed(clone, "effects")[0]))
        trained, words = timed(clone, "train", "--max-minutes", str(given.minutes))
        rows.append((f"`run.py train --max-minutes {given.minutes:g}`", trained))
        rows.append(
            (
                "`run.py transfer input.wav reference.wav`",
                timed(clone, "transfer", *recordings, "-o", "out.wav")[0],
            )
        )
        assert (clone / "out.wav").is_file()
    print("| step | seconds |\n|---|---|")
    for name, seconds in [*rows, ("all", sum(seconds for _, seconds in rows[:2] + rows[3:]))]:
        print(f"| {name} | {seconds:.1f} |")
    print("\n" + "\n".join(line for line in words.splitlines() if "MR-STFT" in line)[-300:])


if __name__ == "__main__":
    main()
