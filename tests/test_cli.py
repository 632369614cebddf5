"""The command line as a user meets it: words, streams, exit codes, and what it imports."""

from __future__ import annotations

import json
import os
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import soundfile

from dafxhost_cli import main as cli

DAFXHOST = [sys.executable, "-m", "dafxhost_cli.main"]


def run(
    *arguments: str | Path, cwd: Path | None = None, **environment: str
) -> subprocess.CompletedProcess[str]:
    command = [*DAFXHOST, *map(str, arguments)]
    return subprocess.run(
        command, capture_output=True, text=True, timeout=120, cwd=cwd, env={**os.environ, **environment}
    )


@dataclass
class Said:
    returncode: int
    stdout: str
    stderr: str


@pytest.fixture
def call(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Callable[..., Said]:
    """Like `run`, but in this process: a fresh interpreter for every request would take minutes in all."""

    def run_here(*arguments: str | Path) -> Said:
        monkeypatch.setattr(sys, "argv", ["dafxhost", *map(str, arguments)])
        with pytest.raises(SystemExit) as info:
            cli.main()
        words = capsys.readouterr()
        return Said(int(info.value.code or 0), words.out, words.err)

    return run_here


def one_sentence(done: subprocess.CompletedProcess[str] | Said, code: int, *words: str) -> None:
    """The command failed with this exit code and one line on stderr that has these words."""
    assert done.returncode == code, done.stderr
    assert "Traceback" not in done.stderr and done.stdout == ""
    assert len(done.stderr.splitlines()) == 1 and done.stderr.startswith("error: "), done.stderr
    for word in words:
        assert word in done.stderr


def tone(path: Path, rate: int = 44100, channels: int = 1, seconds: float = 0.5, **options) -> Path:
    t = np.arange(int(seconds * rate)) / rate
    audio = 0.4 * np.sin(2 * np.pi * 220 * t)[:, None] * np.linspace(1, 0.5, channels)
    soundfile.write(path, audio, rate, **options)
    return path


def test_help_comes_within_half_a_second_and_names_every_command() -> None:
    waited, used = [], []
    for _ in range(7):
        before, start = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
        done = run("--help")
        waited.append(time.perf_counter() - start)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        used.append(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
        assert done.returncode == 0
    for command in ("plugins", "effects", "render", "train", "transfer", "evaluate", "pretrain"):
        assert command in done.stdout
    # It runs on one core, so on a calm machine the wait is the processor time; on a busy one only the latter
    # says what the command itself costs.
    seconds = min(statistics.median(waited), statistics.median(used))
    assert seconds < 0.5, f"waited {waited}, used {used}"


@pytest.mark.parametrize("arguments", [("--help",), ("plugins", "--json"), ("effects",)])
def test_listing_imports_neither_torch_nor_a_plugin_host(arguments: tuple[str, ...]) -> None:
    code = (
        "import sys\nfrom dafxhost_cli.main import main\n"
        "try: main()\nexcept SystemExit as e: assert not e.code\n"
        "heavy = [m for m in ('torch', 'pedalboard', 'dawdreamer', 'rich') if m in sys.modules]\n"
        "sys.exit(f'imports {heavy}' if heavy else 0)"
    )
    done = subprocess.run([sys.executable, "-c", code, *arguments], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_the_console_script_is_installed() -> None:
    script = Path(sys.executable).with_name("dafxhost")
    done = subprocess.run([script, "--version"], capture_output=True, text=True)
    assert done.returncode == 0 and done.stdout.startswith("dafxhost 0.")


def test_plugins_and_effects_as_json(call: Callable[..., Said]) -> None:
    listing = json.loads(call("plugins", "--json").stdout)
    combo = next(r for r in listing["plugins"] if r["name"] == "mda-combo")
    assert combo["kind"] == "effect" and combo["distribution"] == "dafxhost" and combo["provider"]
    rows = json.loads(call("effects", "--json").stdout)
    assert next(r for r in rows if r["name"] == "mda-combo")["parameters"] == 7
    shown = json.loads(call("effects", "mda-combo", "--json").stdout)
    assert [p["name"] for p in shown["parameters"]][:2] == ["model", "drive"]
    assert shown["latency"] == 0 and shown["identity"] and shown["provider"] == combo["provider"]
    text = call("effects", "mda-combo").stdout
    for word in ("model", "choice", "drive", "hpf_freq", "latency: 0 samples", "provider: "):
        assert word in text


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (("efects",), 2, ["efects"]),
        (("effects", "mda-conbo"), 2, ["did you mean mda-combo"]),
        (("effects", "mda-combo", "--provider", "vst9"), 2, ["vst9"]),
        (("effects", "--loud"), 2, ["--loud"]),
        (("render",), 2, []),
        (("render", "x.wav", "--effect", "mda-combo"), 2, ["--output"]),
        (("render", "x.wav", "--effect", "mda-combo", "-o", "y.wav"), 1, ["x.wav", "no such file"]),
        (("render", "x.wav", "--effect", "nothing", "-o", "y.wav"), 2, ["unknown effect 'nothing'"]),
        (
            ("render", "x.wav", "--effect", "mda-combo", "--set", "drive=2", "-o", "y.wav"),
            2,
            ["drive=2", "0 to 1"],
        ),
        (
            ("render", "x.wav", "--effect", "mda-combo", "--set", "drvie=1", "-o", "y.wav"),
            2,
            ["did you mean drive"],
        ),
        (("render", "x.wav", "--effect", "mda-combo", "--set", "drive", "-o", "y.wav"), 2, ["NAME=VALUE"]),
        (("render", "x.wav", "--effect", "mda-combo", "--set", "model=tube", "-o", "y.wav"), 2, ["one of"]),
    ],
)
def test_bad_requests_are_one_sentence(
    call: Callable[..., Said],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    arguments: tuple[str, ...],
    code: int,
    words: list[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    one_sentence(call(*arguments), code, *words)
    assert not list(tmp_path.iterdir())


def test_no_arguments_shows_the_help(call: Callable[..., Said]) -> None:
    done = call()
    assert "Usage" in done.stdout + done.stderr and "Traceback" not in done.stderr


@pytest.mark.parametrize(("rate", "channels", "subtype"), [(22050, 1, "PCM_16"), (48000, 2, "FLOAT")])
def test_render_keeps_rate_channels_length_and_subtype(
    call: Callable[..., Said], tmp_path: Path, rate: int, channels: int, subtype: str
) -> None:
    source, out = tone(tmp_path / "in.wav", rate, channels, subtype=subtype), tmp_path / "out.wav"
    done = call(
        "render", source, "--effect", "mda-combo", "--set", "model=0", "--set", "drive=0.9", "-o", out
    )
    assert done.returncode == 0, done.stderr
    made, given = soundfile.info(out), soundfile.info(source)
    assert (made.samplerate, made.channels, made.frames, made.subtype) == (
        rate,
        channels,
        given.frames,
        subtype,
    )
    assert np.abs(soundfile.read(out)[0]).max() > 0.01
    assert "drive" in done.stdout and sorted(p.name for p in tmp_path.iterdir()) == ["in.wav", "out.wav"]


def test_render_in_blocks_is_the_render_in_one_piece(call: Callable[..., Said], tmp_path: Path) -> None:
    import dafxhost

    source, out = tone(tmp_path / "in.wav", 24000, 1, 7.3, subtype="FLOAT"), tmp_path / "out.wav"
    done = call("render", source, "--effect", "mda-combo", "--set", "model=3", "-o", out, "--json")
    said = json.loads(done.stdout)
    assert said["frames"] == int(7.3 * 24000) and said["output"] == str(out)
    fx = dafxhost.effect("mda-combo")
    audio = soundfile.read(source, dtype="float32")[0][None, None]
    with dafxhost.Executor(fx, workers=1) as executor:
        whole = executor.render(audio, fx.setting(model=3)[None], sample_rate=24000)
    np.testing.assert_allclose(soundfile.read(out, dtype="float32")[0], np.asarray(whole)[0, 0], atol=1e-6)


def test_render_into_another_format(call: Callable[..., Said], tmp_path: Path) -> None:
    source = tone(tmp_path / "in.ogg", 44100, 2)
    assert call("render", source, "--effect", "mda-combo", "-o", tmp_path / "out.flac").returncode == 0
    assert soundfile.info(tmp_path / "out.flac").subtype == "PCM_24"


def test_render_refuses_what_it_cannot_do(call: Callable[..., Said], tmp_path: Path) -> None:
    def render(source: Path, out: Path) -> Said:
        return call("render", source, "--effect", "mda-combo", "-o", out)

    source = tone(tmp_path / "in.wav")
    one_sentence(render(source, source), 2, "another name")
    one_sentence(render(tone(tmp_path / "six.wav", channels=6), tmp_path / "out.wav"), 2, "6 channels")
    one_sentence(render(source, tmp_path / "nowhere" / "out.wav"), 1, "no folder")
    one_sentence(render(source, tmp_path / "out.xyz"), 1, "out.xyz")
    text = tmp_path / "text.wav"
    text.write_text("this is no audio at all")
    one_sentence(render(text, tmp_path / "out.wav"), 1, "text.wav")
    soundfile.write(tmp_path / "nan.wav", np.full(1000, np.nan), 44100, subtype="FLOAT")
    one_sentence(render(tmp_path / "nan.wav", tmp_path / "out.wav"), 1, "NaN")
    assert not (tmp_path / "out.wav").exists()
    assert not [p for p in tmp_path.iterdir() if p.name.startswith(".")]


def _call(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], error: BaseException, *arguments: str
):
    """Run main() in this process with a command that raises."""

    def fail(standalone_mode: bool) -> None:
        cli._debug = "--debug" in arguments
        raise error

    monkeypatch.setattr(cli, "app", fail)
    with pytest.raises(SystemExit) as info:
        cli.main()
    return info.value.code, capsys.readouterr()


def test_an_unexpected_error_is_called_a_bug_and_its_traceback_is_kept(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    code, words = _call(monkeypatch, capsys, ValueError("two\nlines"))
    assert code == 1 and "a bug in dafxhost" in words.err and "ValueError: two lines" in words.err
    [kept] = tmp_path.iterdir()
    assert str(kept) in words.err and "Traceback" in kept.read_text() and "Traceback" not in words.err
    code, words = _call(monkeypatch, capsys, ValueError("again"), "--debug")
    assert code == 1 and "Traceback" in words.err


@pytest.mark.parametrize(
    ("error", "expected"), [(KeyboardInterrupt(), 130), (PermissionError(13, "No", "/x"), 1)]
)
def test_interrupts_and_system_errors(monkeypatch, capsys, error: BaseException, expected: int) -> None:
    code, words = _call(monkeypatch, capsys, error)
    assert code == expected and "Traceback" not in words.err and len(words.err.splitlines()) == 1


def test_a_reader_that_stops_reading_is_no_error() -> None:
    process = subprocess.Popen(
        [*DAFXHOST, "effects", "--json"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert process.stdout and process.stderr
    process.stdout.close()
    assert process.stderr.read() == ""
    process.stderr.close()
    process.wait(60)


def test_no_color_is_obeyed() -> None:
    done = run("--help", NO_COLOR="1", FORCE_COLOR="1")
    assert "\x1b" not in done.stdout + done.stderr
