"""What the documentation shows, taken out of it and run: blocks of code, and commands on small material."""

from __future__ import annotations

import re
import shlex
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import soundfile

import dafxhost
from command_line import make_run
from dafxhost.settings import save_setting
from dafxhost_effects import zam
from hosting import need

ROOT = Path(__file__).resolve().parent.parent
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]
LANGUAGES = ("bash", "python", "text", "json", "toml")
"""`text` is what a program prints, or a formula: it is not run."""

OUTSIDE = {
    "apt-get": "needs root and the net",
    "sudo": "needs root",
    "pip": "tested by test_packaging.py and .ci/run",
    "uv": "tested by .ci/run",
    "git": "needs the net",
    "cd": "of a shell",
    "eval": "of a shell; test_completion.py asks a real one",
    "ray": "starts daemons; tests/test_executor_ray.py has a cluster of its own",
    "pytest": "tests do not run tests here; test_cli_new.py does",
    "mkdocs": "test_docs.py builds the pages",
}
TRAINING = """
samples = 16384
loss_samples = 0
fft_sizes = [128]
pool = 16
hidden = 8
supervised_batch = 8
supervised_steps = 2
end_to_end_steps = 1
epoch_steps = 1
batch = 2
validation = 4
corpus_bank = 4
alternatives = 1
directions = 1
workers = 1
"""
SMALLER = {
    "train": ["--config", "tiny.toml", "--max-minutes", "4"],
    "evaluate": ["--examples", "4"],
    "pretrain": ["--max-minutes", "0.01"],
    "analyze": ["--examples", "6", "--effects", "mda-combo,mda-overdrive", "--no-umap"],
    "data render": ["--examples", "4", "--workers", "1"],
}
"""Options added to a command, the last of which count: the same work with less of it."""
REFINE = "4"


@dataclass(frozen=True)
class Block:
    page: Path
    language: str
    text: str

    @property
    def commands(self) -> list[list[str]]:
        """The words of each command of a bash block."""
        lines = self.text.replace("\\\n", " ").splitlines()
        return [words for line in lines if (words := shlex.split(line, comments=True))]


def blocks(page: Path) -> list[Block]:
    found = re.findall(r"^```(\w*)\n(.*?)^```$", page.read_text(encoding="utf-8"), re.S | re.M)
    return [Block(page, language, text) for language, text in found]


def sandbox(folder: Path) -> None:
    """The files that the pages speak of, small."""
    rng = np.random.default_rng(5)
    (folder / "DIR").mkdir()
    names = ("input", "reference", "in", "ref", "bass", "drums", "DIR/one", "DIR/two", "DIR/three")
    for name in (*(f"{n}.wav" for n in names), "drums.flac"):
        decay = np.exp(-5 * (np.arange(48000) / 24000 % 0.25))
        tone = np.sin(2 * np.pi * rng.uniform(80, 800) * np.arange(48000) / 24000)
        soundfile.write(folder / name, 0.3 * decay * (tone + 0.3 * rng.standard_normal(48000)), 24000)
    (folder / "tiny.toml").write_text(TRAINING)
    (folder / "plugins").mkdir()
    need(zam.provider_of("zam-comp") == "vst3", "zam-plugins")
    comp = dafxhost.effect("zam-comp")
    save_setting(folder / "match.wav.json", comp, comp.setting())
    (folder / "runs").mkdir()
    make_run(folder / "runs", name="mda-combo-20261121-101500")


def prepared(words: list[str], folder: Path) -> list[str] | str:
    """A command's arguments of `dafxhost` for the sandbox, or why it is not run."""
    if words[0] in ("python", "python3") and words[1].startswith("benchmarks/"):
        return check_script(words[1:])
    if words[:2] in (["python3", "run.py"], ["python", "run.py"]):
        words = ["dafxhost", *words[2:]]
        if words[1] in ("test", "check"):
            return ".ci/run runs it"
    if ">" in words:
        words = words[: words.index(">")]
    while "=" in words[0]:  # a variable of the environment before the command
        words = words[1:]
    if words[0] in OUTSIDE:
        return OUTSIDE[words[0]]
    if words[:3] == ["python", "-m", "pytest"]:
        return OUTSIDE["pytest"]
    assert words[0] == "dafxhost", f"what is {words[0]!r}? It is no command of dafxhost, and not in OUTSIDE"
    words = [_placed(word, folder) for word in words[1:]]
    if "--refine" in words:
        words += ["--refine", REFINE]
    if words[0] == "demo":
        return "it serves until Ctrl-C; test_demo_page.py"
    if "--resume" in words or words[:2] == ["pretrain", "list"]:
        return words
    return words + SMALLER.get(" ".join(words[:2]), SMALLER.get(words[0], []))


def _placed(word: str, folder: Path) -> str:
    if re.fullmatch(r"RUN|runs/[a-z-]+-20260102-\d{6}|runs/mda-combo-20261121-101500", word):
        runs = sorted((folder / "runs").iterdir(), key=lambda run: run.stat().st_mtime)
        return str(runs[-1].relative_to(folder))
    word = re.sub(r"^~", str(folder), word)
    return re.sub(r"^\.\./shared/audio/(train|test)$", "DIR", word)


def check_script(words: list[str]) -> str:
    """A benchmark takes minutes to hours: it must be there and know the options shown."""
    text = (ROOT / words[0]).read_text(encoding="utf-8")
    for option in re.findall(r"--[a-z][a-z-]+", " ".join(words[1:])):
        assert f'"{option}"' in text, f"{words[0]} has no {option}"
    return "benchmarks take minutes to hours"
