"""Sound in pages: loudness, excerpts, spectra, and the player in a real browser."""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

from dafxhost.data.loudness import as_played, k_weighting, loudness
from dafxhost.report import sound, spectra
from dafxhost.report.page import Page
from dafxhost.report.sound import Version, add_player, same_loudness, version


def sine(frequency: float, seconds: float, rate: int, level: float = 0.0) -> np.ndarray:
    """`[1, T]` at `level` dBFS (peak)."""
    time = np.arange(round(seconds * rate)) / rate
    return (10 ** (level / 20) * np.sin(2 * np.pi * frequency * time)).astype(np.float32)[None]


def test_k_weighting_is_the_standards_table() -> None:
    # ITU-R BS.1770-4, tables 1 and 2, for 48 kHz.
    shelf, high_pass = k_weighting(48000)
    assert shelf == pytest.approx(
        [1.53512485958697, -2.69169618940638, 1.19839281085285, 1, -1.69065929318241, 0.73248077421585],
        abs=1e-7,
    )
    assert high_pass == pytest.approx([1, -2, 1, 1, -1.99004745483398, 0.99007225036621], abs=1e-7)


@pytest.mark.parametrize("rate", [8000, 44100, 48000, 192000])
def test_loudness_of_the_standards_tone(rate: int) -> None:
    tone = sine(997, 2, rate)
    # The high shelf is already a little above 0 dB at 1 kHz, so other rates agree to a few hundredths.
    assert loudness(tone, rate) == pytest.approx(-3.01, abs=0.06)
    assert as_played(tone, rate) == pytest.approx(0.0, abs=0.06)  # out of both loudspeakers
    stereo = np.concatenate([sine(1000, 2, rate, -23)] * 2)
    assert loudness(stereo, rate) == pytest.approx(-23.0, abs=0.06)  # EBU Tech 3341, case 1


def test_loudness_leaves_out_what_is_soft() -> None:
    parts = [sine(1000, seconds, 16000, level) for seconds, level in ((10, -36), (60, -23), (10, -36))]
    quiet = np.concatenate([np.concatenate(parts, axis=1)] * 2)
    assert loudness(quiet, 16000) == pytest.approx(-23.0, abs=0.1)  # EBU Tech 3341, case 3
    silences = np.concatenate([np.zeros((1, 160000), np.float32), sine(1000, 4, 16000, -20)], axis=1)
    assert loudness(silences, 16000) == pytest.approx(-23.0, abs=0.3)  # mono: one channel


def test_loudness_of_nearly_nothing() -> None:
    assert loudness(np.zeros((2, 48000), np.float32), 48000) == -np.inf
    assert loudness(np.zeros((1, 1), np.float32), 48000) == -np.inf
    assert np.isfinite(loudness(sine(997, 0.05, 48000), 48000))  # shorter than a block


def test_all_versions_are_equally_loud_and_none_clips() -> None:
    rng = np.random.default_rng(1)
    spiky = 0.01 * rng.standard_normal((2, 24000)).astype(np.float32)
    spiky[:, 1000] = 0.9
    versions = [
        Version("a", sine(440, 1, 24000), 24000),
        Version("b", spiky, 24000),
        Version("c", np.zeros((1, 24000), np.float32), 24000),
    ]
    matched, before, gains = same_loudness(versions)
    loud = [as_played(v.audio, v.sample_rate) for v in matched]
    assert loud[0] == pytest.approx(loud[1], abs=0.01)
    assert before[2] == -np.inf and gains[2] == 0
    assert max(np.abs(v.audio).max() for v in matched) <= 10 ** (sound.CEILING / 20) + 1e-6
    assert max(loud[:2]) <= sound.LOUDEST + 1e-6


def test_a_long_recording_gives_its_loudest_excerpt(tmp_path: Path) -> None:
    rate = 8000
    audio = 0.01 * np.random.default_rng(2).standard_normal(60 * rate)
    audio[30 * rate : 44 * rate] *= 20
    soundfile.write(tmp_path / "long.wav", audio, rate)
    cut = version(tmp_path / "long.wav", "Input")
    assert cut.cut and cut.seconds == pytest.approx(sound.EXCERPT)
    assert 29 <= cut.start <= 30 and cut.whole == pytest.approx(60)
    other = version(tmp_path / "long.wav", "Output", start=cut.start)
    np.testing.assert_array_equal(cut.audio, other.audio)
    page = Page("x")
    add_player(page, [cut, other], label="x")
    assert "excerpts: input 0:29 to 0:44 of 1:00, output 0:29 to 0:44 of 1:00" in page.html()


@pytest.mark.parametrize(("rate", "kept"), [(8000, 8000), (48000, 48000), (192000, 48000)])
def test_rates_that_browsers_play(tmp_path: Path, rate: int, kept: int) -> None:
    soundfile.write(tmp_path / "a.wav", np.concatenate([sine(440, 0.5, rate)] * 2).T, rate)
    read = version(tmp_path / "a.wav", "Input")
    assert read.sample_rate == kept and read.audio.shape[0] == 2
    assert read.seconds == pytest.approx(0.5, abs=1e-3) and not read.cut
    back, back_rate = soundfile.read(io.BytesIO(sound.flac(read.audio, kept)), dtype="float32")
    assert back_rate == kept
    np.testing.assert_allclose(back.T, read.audio, atol=1.1 / 32768)


def test_spectra_are_to_scale() -> None:
    rate = 32000
    tone = sine(1000, 1, rate)
    centres, level = spectra.long_term(tone, rate, 16000)
    assert level.max() == pytest.approx(0.0, abs=0.2)  # a sine at full scale
    assert centres[level.argmax()] == pytest.approx(1000, rel=0.07)
    noise = np.random.default_rng(3).standard_normal((1, 8 * rate)).astype(np.float32)
    centres, level = spectra.long_term(noise, rate, 16000)
    slope = np.polyfit(np.log2(centres[20:]), level[20:], 1)[0]
    assert slope == pytest.approx(3.01, abs=0.1)  # white noise rises by 3 dB an octave
    picture = spectra.spectrogram(tone, rate, 16000)
    assert picture.shape[0] == spectra.ROWS and picture.shape[1] <= spectra.COLUMNS
    edges = np.geomspace(spectra.LOWEST, 16000, spectra.ROWS + 1)[::-1]
    row = int(picture.mean(axis=1).argmax())
    assert edges[row + 1] <= 1000 * 1.04 and edges[row] >= 1000 / 1.04
    assert spectra.spectrogram(tone, rate, 20000)[0].max() < -100  # nothing above half the rate
    assert np.isfinite(spectra.spectrogram(tone[:, :1], rate, 16000)).all()


def test_a_png_holds_its_pixels() -> None:
    pixels = np.arange(12, dtype=np.uint8).reshape(3, 4)
    data = spectra.png(pixels, np.zeros((12, 3), np.uint8))
    assert struct.unpack(">II", data[16:24]) == (4, 3)
    start = data.index(b"IDAT")
    length = struct.unpack(">I", data[start - 4 : start])[0]
    rows = np.frombuffer(zlib.decompress(data[start + 4 : start + 4 + length]), np.uint8).reshape(3, 5)
    np.testing.assert_array_equal(rows[:, 1:], pixels)


# --- in a browser ------------------------------------------------------------------------------------

STATE = "() => { const p = dafxhostPlayers[0]; return [p.playing, p.position(), p.active]; }"
# What comes out of the player, sample by sample, while versions are switched.
RECORD = """async () => {
  const player = dafxhostPlayers[0], context = dafxhostContext();
  const tap = context.createScriptProcessor(1024, 2, 2), taken = [];
  tap.onaudioprocess = (event) => taken.push(...event.inputBuffer.getChannelData(0));
  player.master.connect(tap); tap.connect(context.destination);
  const wait = (ms) => new Promise((done) => setTimeout(done, ms));
  await wait(150);
  const from = taken.length, at = [];
  for (const i of [2, 0, 1, 2, 0]) {
    const before = player.position(0), then = context.currentTime;
    document.body.dispatchEvent(new KeyboardEvent("keydown", { key: String(i + 1), bubbles: true }));
    at.push([player.active === i, player.position(0) - before - (context.currentTime - then)]);
    await wait(90);
  }
  player.master.disconnect(tap); tap.disconnect();
  const heard = taken.slice(from);
  let quiet = 0, longest = 0, step = 0, peak = 0;
  heard.forEach((x, i) => {
    quiet = Math.abs(x) < 1e-3 ? quiet + 1 : 0;
    longest = Math.max(longest, quiet);
    peak = Math.max(peak, Math.abs(x));
    if (i) step = Math.max(step, Math.abs(x - heard[i - 1]));
  });
  return { at, seconds: heard.length / context.sampleRate, peak, step: step * context.sampleRate,
           gap: longest / context.sampleRate };
}"""


@pytest.fixture(scope="module")
def listening(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two players. Of the first, all versions are a 330 Hz tone, which has to go on through every switch."""
    page = Page("Listening")
    tone = 0.5 * sine(330, 6, 24000)
    versions = [
        Version("Input", tone, 24000, 1, "a.wav"),
        Version("Reference", 0.1 * np.repeat(sine(330, 4, 8000), 2, axis=0), 8000, 2, "<b>.wav"),
        Version("Output", np.tanh(3 * tone), 24000, 3, "c.wav"),
    ]
    add_player(page, versions, label="First", key="first")
    add_player(page, versions[:2], label="Second", key="second")
    return page.write(tmp_path_factory.mktemp("player") / "out.html")


def until(page: Any, condition: str) -> None:
    """Wait for it. (The page's policy forbids the eval that playwright's own waiting needs.)"""
    for _ in range(400):
        if page.evaluate(condition):
            return
        page.wait_for_timeout(50)
    pytest.fail(f"not within 20 s: {condition}")


def test_it_plays_and_switches_without_a_gap(page: Any, listening: Path) -> None:
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    page.goto(listening.as_uri())
    assert page.locator("audio:visible").count() == 0
    assert page.evaluate(STATE) == [False, 0, 0]
    page.keyboard.press("Space")
    until(page, "dafxhostPlayers[0].playing && dafxhostPlayers[0].position() > 0.2")
    # A busy machine may leave the sound card's buffer empty; a switch that clicks does so every time.
    for _ in range(6):
        heard = page.evaluate(RECORD)
        assert all(chosen for chosen, _ in heard["at"])
        assert max(abs(moved) for _, moved in heard["at"]) < 1e-6  # the same moment of the music
        assert heard["seconds"] > 0.3 and heard["peak"] > 0.02
        # The tone is never interrupted (it crosses zero in no time), and no switch clicks: nothing is steeper
        # than the steepest tone itself (2 pi f times its peak, and the distorted one's edges).
        steepest = 1.5 * 2 * np.pi * 330 * 2 * heard["peak"]
        if heard["gap"] < 0.002 and heard["step"] < steepest:
            break
    assert heard["gap"] < 0.002
    assert heard["step"] < steepest
    assert page.evaluate(STATE)[0] is True
    page.keyboard.press("Space")
    stopped = page.evaluate(STATE)
    assert stopped[0] is False
    page.wait_for_timeout(60)
    assert page.evaluate(STATE) == stopped
    assert [url for url in asked if not url.startswith(("file:", "data:"))] == []


def test_everything_by_keyboard(page: Any, listening: Path) -> None:
    page.goto(listening.as_uri())
    pressed: Callable[[], list[str]] = lambda: [  # noqa: E731
        b.get_attribute("aria-pressed") for b in page.locator("#first .choose").all()
    ]
    assert pressed() == ["true", "false", "false"]
    page.keyboard.press("3")
    assert pressed() == ["false", "false", "true"]
    page.keyboard.press("ArrowRight")
    assert page.evaluate(STATE)[1:] == [2, 2]
    page.keyboard.press("ArrowLeft")
    page.keyboard.press("ArrowLeft")
    assert page.evaluate(STATE)[1] == pytest.approx(4, abs=0.01)  # round the end
    # By tab: play, position, loudness, versions; and the focus can be seen.
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.className") == "play"
    assert page.evaluate("getComputedStyle(document.activeElement).outlineStyle") == "solid"
    assert page.locator("#first .play").get_attribute("aria-label") == "Play"
    page.keyboard.press("Enter")
    until(page, "dafxhostPlayers[0].playing")
    assert page.locator("#first .play").get_attribute("aria-label") == "Pause"
    for _ in range(3):
        page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.className") == "choose"
    page.keyboard.press("Space")  # not pressed yet: it is chosen, and goes on playing
    assert pressed() == ["true", "false", "false"] and page.evaluate(STATE)[0] is True
    page.keyboard.press("ArrowDown")
    assert pressed() == ["false", "true", "false"]
    assert "Reference" in page.evaluate("document.activeElement.innerText")
    page.keyboard.press("Space")  # pressed already: stops
    assert page.evaluate(STATE)[0] is False


def test_by_mouse_and_one_at_a_time(page: Any, listening: Path) -> None:
    page.goto(listening.as_uri())
    wave = page.locator("#first .wave").nth(2)
    box = wave.bounding_box()
    wave.click(position={"x": box["width"] / 2, "y": 10})
    assert page.evaluate(STATE) == [False, pytest.approx(3, abs=0.05), 2]
    page.locator("#first .play").click()
    until(page, "dafxhostPlayers[0].playing")
    page.locator("#first .matched input").uncheck()
    until(page, "dafxhostPlayers[0].versions[2].gain.gain.value > 1.5")  # its own level, which is higher
    page.locator("#second .play").click()
    until(page, "dafxhostPlayers[1].playing")
    assert page.evaluate(STATE)[0] is False
    heads = page.evaluate("[...document.querySelectorAll('#first .head')].map(h => h.style.left)")
    assert len(heads) == 3 and heads[0] == heads[2] != "0%"


def test_without_scripts_the_browsers_players_are_there(chromium: Any, listening: Path) -> None:
    context = chromium.new_context(java_script_enabled=False)
    opened = context.new_page()
    opened.goto(listening.as_uri())
    assert opened.locator("audio").count() == 5
    assert all(a.is_visible() for a in opened.locator("audio").all())
    assert not opened.locator("#first .play").is_visible()
    context.close()


def test_sound_that_cannot_be_decoded_is_said(page: Any, tmp_path: Path, listening: Path) -> None:
    broken = tmp_path / "broken.html"
    broken.write_text(listening.read_text(encoding="utf-8").replace("base64,ZkxhQ", "base64,AAAAA"), "utf-8")
    page.goto(broken.as_uri())
    page.keyboard.press("Space")
    page.wait_for_selector("#first .trouble:visible")
    assert page.locator("#first audio:visible").count() == 3
