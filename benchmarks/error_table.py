"""What every command says to bad input: runs them all, and writes docs/errors.md from what they said.

    python benchmarks/error_table.py [--write docs/errors.md]

Each line is typed in a folder of its own kind (`PLACE`), with nothing but what is listed there.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import os
import re
import shlex
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import soundfile

PLACE = """`a.wav` and `b.wav`, half a second of sound; `nan.wav`, not a finite number in it;
`text.wav`, which is text; `setting.json`, which is `{}`; `bad.toml`, which is no TOML; `empty/`; no runs."""

CASES: dict[str, Sequence[str]] = {
    "any command": ("", "--nothing", "trian", "train --nothing", "train --max-minutes", "train --seed many"),
    "effects": ("effects mda-dely", "effects mda-delay --provider vts3", "effects ./missing.vst3",
                "effects 'mda-delay > mda-dely'", "effects 'mda-delay >'", "effects scan nowhere"),
    "render": (
        "render missing.wav --effect mda-delay -o out.wav",
        "render a.wav --effect mda-dely -o out.wav",
        "render text.wav --effect mda-delay -o out.wav",
        "render nan.wav --effect mda-delay -o out.wav",
        "render a.wav --effect mda-delay -o nowhere/out.wav",
        "render a.wav --effect mda-delay -o out.mp9",
        "render a.wav --effect mda-delay -o a.wav",
        "render a.wav --effect mda-delay -o out.wav --set fedback=3",
        "render a.wav --effect mda-delay -o out.wav --set feedback",
        "render a.wav --effect mda-delay -o out.wav --set feedback=1000",
        "render a.wav --effect mda-delay -o out.wav --set feedback=much",
        "render a.wav --effect mda-delay -o out.wav --set feedback=1 --set feedback=2",
        "render a.wav",
    ),
    "train": (
        "train --effect mda-conbo", "train --data nowhere", "train --data empty", "train --device abacus",
        "train --device cuda", "train --max-minutes 0", "train --space time", "train --estimator guess",
        "train --encoder ear", "train --encoder-weights missing.safetensors", "train --workers 0",
        "train --executor cloud", "train --track tensorbord", "train --config missing.toml",
        "train --config bad.toml", "train --resume nothing", "train --resume nothing --seed 3",
    ),
    "transfer": (
        "transfer a.wav b.wav", "transfer missing.wav b.wav", "transfer a.wav b.wav --run nothing",
        "transfer a.wav b.wav --effect mda-dely", "transfer a.wav b.wav --level loud",
        "transfer a.wav b.wav --strength 2", "transfer a.wav b.wav --refine -1", "transfer a.wav",
        "transfer silence.wav b.wav", "transfer a.wav text.wav", "transfer one.wav b.wav",
    ),
    "apply, preset": (
        "apply setting.json a.wav", "apply missing.json a.wav", "apply a.wav b.wav",
        "apply setting.json a.wav -o out.wav", "preset setting.json out.vstpreset",
        "preset missing.json out.fxp",
    ),
    "evaluate": (
        "evaluate nothing", "evaluate nothing --examples 0", "evaluate nothing -o nowhere/report.md",
        "evaluate nothing --executor cloud", "evaluate nothing --metrics mel,crests",
        "evaluate nothing --protocol grants", "evaluate nothing --pairs parallels",
    ),
    "pretrain": (
        "pretrain ear --out w.safetensors", "pretrain spectrogram-vae",
        "pretrain spectrogram-vae --out w --data nowhere",
        "pretrain spectrogram-vae --out w --max-minutes 0", "pretrain mel-cae --out w --beta 2",
        "pretrain spectrogram-vae --out w --latent 0", "pretrain embedding-vae --out w --encoder ear",
        "pretrain effect-encoder --out w --data empty",
    ),
    "reconstruct": (
        "reconstruct missing.safetensors a.wav -o out.wav", "reconstruct setting.json a.wav -o out.wav",
        "reconstruct a.wav b.wav -o out.wav",
    ),
    "data": (
        "data nowhere", "data empty", "data a.wav --layout tree", "data render out --effect mda-dely",
        "data render out --effect mda-delay --data empty", "data render out --effect mda-delay --examples 0",
    ),
    "features": (
        "features nowhere", "features empty", "features text.wav", "features a.wav --only loudness",
        "features a.wav --csv nowhere/out.csv",
    ),
    "analyze": (
        "analyze nothing", "analyze missing.safetensors", "analyze log-mel --effects mda-dely",
        "analyze log-mel --data nowhere", "analyze log-mel --examples 0",
    ),
    "reports": (
        "transfer a.wav b.wav --report page.txt", "evaluate nothing --report nowhere/page.html",
        "train --report a.wav", "report nothing -o page.html",
    ),
    "demo": ("demo --effect mda-dely", "demo --max-seconds 0", "demo --port 99999999"),
    "new": ("new", "new effect", "new effect 'Bad Name'"),
    "runs": (
        "runs --folder nowhere", "runs show nothing", "runs list --sort colour", "runs compare one",
        "runs delete nothing --yes", "runs delete .. --yes",
    ),
    "doctor, completion, plugins": ("doctor now", "completion tcsh", "completion", "plugins all"),
}  # fmt: skip


@dataclass(frozen=True)
class Said:
    """What a command said: its exit code, and the last line on stderr."""

    command: str
    code: int
    words: str
    stdout: str


def make_place(folder: Path) -> None:
    """The files that `PLACE` tells of."""
    rng = np.random.default_rng(0)
    for name in ("a", "b"):
        soundfile.write(folder / f"{name}.wav", 0.1 * rng.standard_normal(22050), 44100)
    soundfile.write(folder / "nan.wav", np.full(22050, np.nan), 44100, subtype="FLOAT")
    soundfile.write(folder / "silence.wav", np.zeros(22050), 44100)
    soundfile.write(folder / "one.wav", np.full(1, 0.5), 44100)
    (folder / "text.wav").write_text("this is no audio\n")
    (folder / "setting.json").write_text("{}\n")
    (folder / "bad.toml").write_text("effect = = 3\n")
    (folder / "empty").mkdir()


def ask(command: str, folder: Path) -> Said:
    """Run a command in this process, as typed in `folder`."""
    from dafxhost_cli import main as cli

    out, err, before, arguments = io.StringIO(), io.StringIO(), os.getcwd(), sys.argv
    os.chdir(folder)
    sys.argv = ["dafxhost", *shlex.split(command)]
    code = 0
    try:
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            cli.main()
    except SystemExit as ended:
        code = int(ended.code or 0)
    finally:
        os.chdir(before)
        sys.argv = arguments
    lines = err.getvalue().strip().splitlines()
    words = lines[-1] if lines and lines[-1].startswith("error") else (lines or [""])[0]
    return Said(command, code, words.replace(str(folder), "."), out.getvalue())


def ask_all(folder: Path, cases: dict[str, Sequence[str]] | None = None) -> dict[str, list[Said]]:
    return {name: [ask(c, folder) for c in commands] for name, commands in (cases or CASES).items()}


def problems(found: dict[str, list[Said]]) -> list[str]:
    """What breaks the rules: an exit code that is not 1 or 2, no sentence, results on stdout, a bug."""
    rules = []
    for said in (one for group in found.values() for one in group):
        if said.code not in (1, 2):
            rules.append(f"{said.command!r} ended with {said.code}")
        if said.command not in ("", "new") and not said.words.startswith("error: "):
            rules.append(f"{said.command!r} said {said.words!r}")
        if said.stdout:
            rules.append(f"{said.command!r} wrote to stdout: {said.stdout[:60]!r}")
        if "this is a bug" in said.words:
            rules.append(f"{said.command!r} met a bug: {said.words}")
    return rules


def page(found: dict[str, list[Said]]) -> str:
    """docs/errors.md."""
    lines = [
        "# What is said to bad input",
        "",
        "Written by `python benchmarks/error_table.py --write docs/errors.md`, which types every command",
        "below; `tests/test_error_table.py` types some of them again. Exit codes: 2 where the request cannot",
        "be carried out as asked (usage, unknown names, values out of range), 1 where the work failed, 130",
        "after Ctrl-C. Tracebacks are shown with `--debug` only.",
        "",
        f"They were typed in a folder that holds {' '.join(PLACE.split())}",
        "",
    ]
    for group, answers in found.items():
        lines += [f"## {group}", "", "| `dafxhost ...` | exit code | what it says |", "|---|---|---|"]
        lines += [f"| {_code(one.command)} | {one.code} | {_cell(one.words)} |" for one in answers]
        lines.append("")
    return "\n".join(lines).rstrip() + "\n"


def _code(command: str) -> str:
    return f"`{command}`".replace("|", "\\|") if command else "(nothing)"


def _cell(words: str) -> str:
    # Where this machine keeps things is not for the page.
    words = words.replace(str(Path.home()), "~")
    return re.sub(r"([|<>*_])", r"\\\1", words)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--write", type=Path, help="Markdown page to write; else it goes to stdout.")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        make_place(Path(folder))
        found = ask_all(Path(folder))
    text = page(found)
    if options.write:
        options.write.write_text(text, encoding="utf-8")
    else:
        print(text)
    for problem in problems(found):
        print(f"problem: {problem}", file=sys.stderr)
    sys.exit(1 if problems(found) else 0)


if __name__ == "__main__":
    main()
