"""What the README shows works as written."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
import torch

from command_line import make_run
from test_transfer import music

ROOT = Path(__file__).resolve().parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")


def test_the_library_in_ten_lines(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    [block] = re.findall(r"```python\n(.*?)```", README, re.S)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "runs").mkdir()
    make_run(tmp_path / "runs")
    music(tmp_path / "input.wav")
    music(tmp_path / "reference.wav", seed=5)
    audio = torch.rand(2, 1, 4410) - 0.5
    names = {"audio": audio, "settings": np.full((2, 3, 7), 0.4)}
    # The layer is used where the README makes it, while the executor is open.
    lines = block.replace(
        "\nresult =",
        "\n    knobs = torch.full((2, 7), 0.4, requires_grad=True)"
        "\n    layer(audio, knobs, sample_rate=44100).square().mean().backward()"
        "\nresult =",
    )
    exec("import torch\n" + lines, names)
    assert names["wet"].shape == (2, 3, 1, 4410)
    assert names["fx"].describe(names["fx"].setting(drive=0.7))["drive"] == pytest.approx(0.7)
    assert names["knobs"].grad.abs().sum() > 0
    assert names["result"].output.is_file()


def test_every_page_and_file_it_links_to_is_there() -> None:
    pages = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
    assert len(pages) > 3
    for page in pages:
        for link in re.findall(r"\]\(([^)#]+)", page.read_text(encoding="utf-8")):
            if "://" not in link:
                assert (page.parent / link).exists(), f"{page.name} links to {link}"
