"""The demo without its page: what a user's recordings, knobs and maps become."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import soundfile

import dafxhost
from command_line import Call, make_run
from dafxhost.data.audio_io import read_audio
from dafxhost.demo import knobs, settings_map
from dafxhost.demo.executors import Executors
from dafxhost.demo.server import DemoOptions, serve
from dafxhost.demo.sessions import Session, Sessions
from dafxhost.demo.studio import Limits, Studio
from dafxhost.effects import Effect, Provider
from dafxhost.errors import DafxhostError, PluginError, RunError, UsageError
from dafxhost.parameters import Parameter, Port
from dafxhost.style_transfer import transfer
from hosting import real_plugin
from lab_effects import lab_effect

RATE = 16000


def recording(path: Path, seconds: float = 1.0, seed: int = 1, channels: int = 1) -> Path:
    decay = np.exp(-5 * (np.arange(round(seconds * RATE)) / RATE % 0.25))[:, None]
    noise = np.random.default_rng(seed).standard_normal((len(decay), channels))
    soundfile.write(path, 0.2 * noise * decay, RATE)
    return path


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Studio, Path]]:
    """A studio whose run is of the built-in mda-combo, and a folder with two recordings."""
    folder = tmp_path_factory.mktemp("demo")
    (folder / "runs").mkdir()
    make_run(folder / "runs")
    recording(folder / "voice.wav")
    recording(folder / "wanted.wav", seed=2)
    files = folder / "files"
    files.mkdir()
    limits = Limits(megabytes=0.5, seconds=5.0)
    with Studio(files, runs_dir=folder / "runs", provider="builtin", limits=limits, workers=1) as studio:
        yield studio, folder


@pytest.fixture
def user(made: tuple[Studio, Path], request: pytest.FixtureRequest) -> Iterator[Session]:
    """A new user with both recordings and mda-combo."""
    studio, folder = made
    session = studio.sessions.get(request.node.name)
    studio.take(session, "input", folder / "voice.wav")
    studio.take(session, "reference", folder / "wanted.wav")
    session.choose(studio.effect("mda-combo"))
    yield session
    studio.sessions.drop(request.node.name)


@pytest.fixture
def studio(made: tuple[Studio, Path]) -> Studio:
    return made[0]


def test_a_match_is_what_transfer_gives(studio: Studio, user: Session, made: tuple[Studio, Path]) -> None:
    folder = made[1]
    run = studio.match(user)
    heard = studio.hear(user)
    done = transfer(
        folder / "voice.wav",
        folder / "wanted.wav",
        output=folder / "out.wav",
        run=run.path,
        provider="builtin",
    )
    assert np.array_equal(user.setting, done.setting)
    ours, rate = read_audio(heard.audio)
    theirs, _ = read_audio(folder / "out.wav")
    assert rate == RATE and ours.shape == theirs.shape == (1, RATE)
    assert np.abs(ours - theirs).max() < 1e-4  # 16 bits there, as the input has
    kept = json.loads(heard.document.read_text())
    assert kept["effect"] == "mda-combo" and list(kept["setting"].values()) == list(done.setting)
    assert heard.rows == done.table and heard.seconds == 1.0


def test_strength_reaches_the_neutral_setting(studio: Studio, user: Session) -> None:
    user.setting = user.chosen().setting(drive=0.9, model=2)
    strong, _ = read_audio(studio.hear(user).audio)
    user.strength = 0.0
    heard = studio.hear(user)
    weak, _ = read_audio(heard.audio)
    dry, _ = read_audio(user.recording("input"))
    assert dict(heard.rows)["drive"].startswith("0.5")
    assert np.abs(weak - dry).mean() < 0.3 * np.abs(strong - dry).mean()


def test_users_do_not_mix(studio: Studio, user: Session, made: tuple[Studio, Path], tmp_path: Path) -> None:
    other = studio.sessions.get("another")
    with pytest.raises(UsageError, match="drop in an input first"):
        other.choose(studio.effect("mda-overdrive"))
        studio.hear(other)
    studio.take(other, "input", recording(tmp_path / "voice.wav", 0.5, seed=3))
    mine, theirs = studio.hear(user), studio.hear(other)
    assert (mine.seconds, theirs.seconds) == (1.0, 0.5)
    assert user.chosen().name == "mda-combo" and other.chosen().name == "mda-overdrive"
    assert mine.audio.name != theirs.audio.name and mine.audio.parent != theirs.audio.parent
    studio.sessions.drop("another")
    assert not theirs.audio.parent.exists() and mine.audio.exists()


def test_renders_before_the_newest_are_deleted(tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    sessions = Sessions(tmp_path, cache, most=2)
    session = sessions.get("a")
    session.effect = lab_effect("Gain")
    first, second = session.name(".wav"), session.name(".wav")
    copy = cache / "0123" / first.name
    copy.parent.mkdir(parents=True)
    for path in (first, second, copy):
        path.write_bytes(b"x")
    sessions.replace(session, [first])
    sessions.replace(session, [second])
    assert not first.exists() and not copy.exists() and second.exists()
    sessions.get("b")
    sessions.get("a")
    sessions.get("c")  # one too many: b was idle longest
    assert len(sessions) == 2 and sessions.get("a") is session
    assert len([p for p in tmp_path.iterdir() if p.name.startswith("user-")]) == 2


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("long.wav", "lasts 6 s; this demo takes 5 s at most"),
        ("large.wav", "MB; this demo takes 0.5 MB at most"),
        ("text.wav", "cannot be read as audio"),
        ("silent.wav", "is silent"),
        ("six.wav", "has 6 channels"),
        ("short.wav", "too short"),
        ("gone.wav", "no such file"),
    ],
)
def test_what_is_not_taken(studio: Studio, user: Session, tmp_path: Path, name: str, words: str) -> None:
    recording(tmp_path / "long.wav", 6.0)
    soundfile.write(tmp_path / "large.wav", np.zeros(300_000), RATE)
    (tmp_path / "text.wav").write_text("no sound")
    soundfile.write(tmp_path / "silent.wav", np.zeros(RATE), RATE)
    soundfile.write(tmp_path / "six.wav", np.full((RATE, 6), 0.1), RATE)
    soundfile.write(tmp_path / "short.wav", np.full(100, 0.1), RATE)
    with pytest.raises(DafxhostError) as caught:
        studio.take(user, "input", tmp_path / name)
    assert str(caught.value).startswith(name) and words in str(caught.value)
    with pytest.raises(UsageError, match="drop in an input first"):
        studio.hear(user)


def test_without_a_run_the_rest_works(studio: Studio, user: Session) -> None:
    user.choose(studio.effect("mda-limiter"))
    with pytest.raises(RunError, match="dafxhost train --effect mda-limiter"):
        studio.match(user)
    tried: list[int] = []
    found = studio.refine(user, 10, lambda n, _: tried.append(n))
    assert found.score <= found.start_score and tried[-1] == found.renders <= 10
    assert np.array_equal(user.setting, found.setting)
    assert studio.hear(user).seconds == 1.0


def test_refining_with_a_run_starts_at_the_knobs(studio: Studio, user: Session) -> None:
    user.setting = start = user.chosen().setting(drive=0.6)
    found = studio.refine(user, 10)
    assert found.score <= found.start_score
    if found.score == found.start_score:
        assert np.array_equal(found.setting, start)


@pytest.mark.parametrize(
    ("processor", "words"), [("Segfault", "SIGSEGV"), ("Hang", "no answer"), ("Raise", "the lab raised this")]
)
def test_a_plugin_that_fails_is_one_sentence(tmp_path: Path, processor: str, words: str) -> None:
    with Studio(tmp_path, workers=1, deadline=2.0) as studio:
        user = studio.sessions.get("user")
        studio.take(user, "input", recording(tmp_path / "voice.wav"))
        user.choose(lab_effect(processor))
        user.setting = np.array([0.5, 1.0])
        with pytest.raises(PluginError, match="the demo goes on: try another setting") as caught:
            studio.hear(user)
        assert words in str(caught.value)
        user.setting = np.array([0.5, 0.0])
        assert studio.hear(user).seconds == 1.0


def test_executors_are_kept_and_closed() -> None:
    executors = Executors(workers=1, kept=1)
    gain, echo = lab_effect("Gain"), lab_effect("Echo")
    with executors.of(gain) as first:
        with executors.of(gain) as again:
            assert again is first
        with executors.of(echo):
            assert len(executors) == 2  # one of them at work, so none is closed
        clip = np.full((1, 1, 64), 0.5, np.float32)
        assert first.render(clip, np.array([[0.5, 0.0]]), RATE)[0, 0, 0] == 0.25
    assert len(executors) == 1
    executors.close()
    with pytest.raises(UsageError, match="ending"), executors.of(gain):
        pass


def test_knobs_give_back_what_they_show() -> None:
    log = Parameter("cut_off", minimum=20, maximum=20000, default=1000, unit="Hz", scale="log", port=Port(9))
    effect = dafxhost.effect("mda-combo", provider="builtin")
    effect = Effect("with-log", (*effect.parameters, log), Provider("lab", "x:y"))
    setting = np.random.default_rng(1).random(len(effect.parameters))
    shown = [knobs.knob(p, u) for p, u in zip(effect.parameters, setting, strict=True)]
    assert np.array_equal(knobs.turned(effect, setting, [k.value for k in shown]), setting)
    for i, (p, k) in enumerate(zip(effect.parameters, shown, strict=True)):
        values = [s.value for s in shown]
        values[i] = {"toggle": not k.value, "choice": (int(k.value) + 1) % max(1, len(k.choices))}.get(
            k.kind, k.minimum + 0.25 * (k.maximum - k.minimum)
        )
        new = knobs.turned(effect, setting, values)
        assert knobs.knob_value(p, new[i]) == pytest.approx(values[i])
        assert np.array_equal(np.delete(new, i), np.delete(setting, i))
    cut = knobs.knob(log, 0.5)
    assert (cut.minimum, cut.maximum, cut.value) == (0, 1, 0.5) and cut.note == "632.5 Hz"
    assert (
        knobs.knob(Parameter("gain", minimum=-20, maximum=20, unit="dB", default=0), 0.5).label == "gain (dB)"
    )


def test_a_map(studio: Studio, user: Session) -> None:
    steps: list[int] = []
    found = studio.draw(user, 24, lambda n, _: steps.append(n))
    assert user.map is found and steps == [16, 24]
    assert found.settings.shape == (24, 7) and found.points.shape == (24, 2) and found.left_out == 0
    assert found.points.min() == 0 and found.points.max() == 1 and 0 < found.explained <= 1
    parameter = user.chosen().parameters[1]
    html = settings_map.svg(found, parameter, 1, chosen=3)
    assert html.count("<title>drive ") == 24 and html.count('class="chosen"') == 1
    for i, point in enumerate(found.points):
        x, y = settings_map._place(point)
        assert found.nearest(*settings_map.unplace(x / 1000, y / 620)) == i
    user.choose(studio.effect("mda-overdrive"))
    assert user.map is None


def test_a_projection_keeps_a_plane() -> None:
    rng = np.random.default_rng(0)
    flat = rng.random((40, 2)) @ rng.standard_normal((2, 9))
    points, dry, explained = settings_map.project(
        np.hstack([flat, np.ones((40, 1))]), np.append(flat[7], 5.0)
    )
    assert explained == pytest.approx(1) and dry == pytest.approx(points[7])
    same, _, _ = settings_map.project(np.ones((5, 4)), np.zeros(4))
    assert np.array_equal(same, np.full((5, 2), 0.5))


class Mute:
    """An executor whose effect gives silence, and fails for every other setting."""

    def render(self, audio: np.ndarray, settings: np.ndarray, rate: int, on_error: str) -> np.ndarray:
        wet = np.zeros((1, settings.shape[1], *audio.shape[1:]), np.float32)
        wet[:, ::2] = np.nan
        return wet


def test_a_map_of_silence() -> None:
    excerpt = np.full((1, RATE), 0.1, np.float32)
    with pytest.raises(PluginError, match="only 0 of 4 settings"):
        settings_map.explore(Mute(), lab_effect("Gain"), excerpt, RATE, count=4)


def test_a_comparison(studio: Studio, user: Session) -> None:
    with pytest.raises(UsageError, match="render something first"):
        studio.compare(user)
    studio.hear(user)
    html = studio.compare(user)
    assert "voice.wav" in html and "wanted.wav" in html and html.count("data:audio/flac") == 3


def test_a_preset(studio: Studio, user: Session) -> None:
    with pytest.raises(UsageError, match="only JSON"):
        studio.preset(user, ".vstpreset")
    user.choose(real_plugin("mda-combo"))
    path = studio.preset(user, ".lv2")
    assert path.suffix == ".zip" and path.stat().st_size > 300 and path in user.made


def test_strangers_name_effects_only(tmp_path: Path) -> None:
    with Studio(tmp_path, named_only=True, provider="builtin") as studio:
        assert len(studio.effect("mda-combo > mda-overdrive").parameters) == 10
        for name in ("/usr/lib/lv2/x.lv2", "mda-combo > ../x.so", "http://x/y"):
            with pytest.raises(UsageError, match="by name only"):
                studio.effect(name)
        with pytest.raises(UsageError, match="choose an effect"):
            studio.effect(" ")


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (("demo", "--effect", "mda-comb"), 2, "did you mean mda-combo"),
        (("demo", "--max-seconds", "0"), 2, "must be above 0"),
        (("demo", "--port", "99999"), 2, "--port"),
        (("report", "nowhere", "-o", "x.html"), 1, "nowhere"),
        (("report", "nowhere", "-o", "x.pdf"), 2, "ends in .html"),
    ],
)
def test_bad_requests_are_one_sentence(call: Call, arguments: tuple[str, ...], code: int, words: str) -> None:
    done, out, err = call(*arguments)
    last = err.strip().splitlines()[-1]
    assert (done, out) == (code, "") and words in last and last.startswith("error: ")


def test_without_gradio(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(UsageError, match=r'pip install "dafxhost\[demo\]"'):
        serve(DemoOptions(), print)
