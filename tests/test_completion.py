"""Shell completion, in a real bash and by the variables that shells set."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

from command_line import Call
from dafxhost_cli import completion

BASH = shutil.which("bash")


@pytest.fixture
def ask(call: Call, monkeypatch: pytest.MonkeyPatch):
    """What bash would be told for a line up to the cursor."""

    def answers(line: str) -> list[str]:
        words = line.split(" ")
        monkeypatch.setenv(completion.VARIABLE, "complete_bash")
        monkeypatch.setenv("COMP_WORDS", line)
        monkeypatch.setenv("COMP_CWORD", str(len(words) - 1))
        code, out, _ = call()
        assert code == 0
        return [name for name in out.splitlines() if name]

    return answers


def test_names_of_everything(ask, tmp_path: Path) -> None:
    for run in ("combo-1", "delay-2"):
        (tmp_path / "runs" / run).mkdir(parents=True)
        (tmp_path / "runs" / run / "config.toml").touch()
    (tmp_path / "runs/no-run").mkdir()
    assert set(ask("dafxhost tr")) == {"train", "transfer"}
    assert "mda-delay" in ask("dafxhost train --effect mda-de")
    assert "mda-delay" in ask("dafxhost effects mda-de")
    assert ask("dafxhost train --encoder log") == ["log-mel"]
    assert set(ask("dafxhost train --estimator fd")) == {"fd-forward", "fd-central"}
    assert ask("dafxhost train --track ten") == ["tensorboard"]
    assert ask("dafxhost train --track tensorboard,wa") == ["tensorboard,wandb"]
    assert ask("dafxhost train --space l") == ["loss"]
    assert "builtin" in ask("dafxhost render x --effect mda-delay --provider b")
    assert ask("dafxhost render x --effect mda-delay --provider ped") == []
    assert set(ask("dafxhost evaluate r")) == {"runs/combo-1", "runs/delay-2"}
    assert ask("dafxhost transfer a b --run runs/c") == ["runs/combo-1"]
    assert ask("dafxhost train --resume runs/d") == ["runs/delay-2"]
    assert ask("dafxhost runs show d") == ["delay-2"]
    assert ask("dafxhost completion z") == ["zsh"]
    assert "--quiet" in ask("dafxhost train --qu")


def test_the_last_link_of_a_chain_is_completed() -> None:
    assert "mda-delay > mda-combo" in completion.effects("mda-delay > mda-com")
    assert completion.effects("mda-delay>no-such") == []


def test_an_unknown_shell(call: Call) -> None:
    code, out, err = call("completion", "tcsh")
    assert code == 2 and out == "" and "Known shells: bash, fish, zsh" in err


@pytest.mark.parametrize("shell", ["zsh", "fish"])
def test_scripts_of_other_shells(shell: str, call: Call) -> None:
    code, out, _ = call("completion", shell)
    assert code == 0 and completion.VARIABLE in out and f"complete_{shell}" in out and "dafxhost" in out


@pytest.mark.skipif(BASH is None, reason="needs bash")
def test_in_a_real_bash_and_without_torch(tmp_path: Path) -> None:
    """bash sources the script and calls what it registered, as it does when Tab is pressed."""
    tool = tmp_path / "bin/dafxhost"
    tool.parent.mkdir()
    # It fails if the answer needed torch.
    code = "import sys; sys.modules['torch'] = None; from dafxhost_cli.main import main; main()"
    tool.write_text(f'#!/bin/sh\nexec "{sys.executable}" -c "{code}" "$@"\n')
    tool.chmod(0o755)
    script = """
    eval "$(dafxhost completion bash)"
    complete -p dafxhost
    COMP_WORDS=(dafxhost train --effect mda-de) COMP_CWORD=3
    "$(complete -p dafxhost | sed 's/.*-F \\([^ ]*\\) .*/\\1/')" dafxhost
    printf '%s\\n' "${COMPREPLY[@]}"
    """
    path = os.pathsep.join((str(tool.parent), os.environ["PATH"]))
    began = time.monotonic()
    done = subprocess.run(
        [str(BASH), "--norc", "-c", script], capture_output=True, text=True, env={**os.environ, "PATH": path},
        cwd=tmp_path, timeout=120,
    )  # fmt: skip
    assert done.returncode == 0 and done.stderr == "", done.stderr
    registered, *names = done.stdout.splitlines()
    assert registered.startswith("complete -o default -F _dafxhost_completion")
    assert "mda-delay" in names and all(name.startswith("mda-de") for name in names)
    assert time.monotonic() - began < 60
