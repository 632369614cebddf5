"""Changes of clips: what each does, that its seed decides it, that plugin hosts stay out of this process."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest

from dafxhost.data.features import peak_of
from dafxhost.data.sources import AudioSource
from dafxhost.data.stretching import StretchedSource
from dafxhost.errors import UnknownNameError, UsageError
from dafxhost.execution.executor import Executor
from dafxhost.registry import effect
from dafxhost.training.augmentation import (
    CHANGES,
    AugmentedSource,
    Equaliser,
    Gain,
    Mixing,
    Polarity,
    Speed,
    Tilt,
    filtered,
    resampled,
    tilted,
)
from dafxhost.training.config import CHANGES as NAMES_IN_CONFIG
from test_examples_protocol import RATE, Source, T


class Tones(AudioSource):
    """A tone of 1 kHz for as long as is asked, at one of two levels."""

    names, total_seconds, description = ["tones"], 1.0, "tones"

    def draw(self, rng: np.random.Generator, samples: int, sample_rate: int) -> tuple[np.ndarray, str]:
        level = (0.2, 0.4)[int(rng.integers(2))]
        wave = level * np.sin(2 * np.pi * 1000 * np.arange(samples) / sample_rate)
        return wave[None].astype(np.float32), f"tone {level}"


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def pitch(audio: np.ndarray, sample_rate: int) -> float:
    """Hz of the strongest component of `[T]`, by a parabola through its neighbours."""
    spectrum = np.log(np.abs(np.fft.rfft(audio * np.hanning(len(audio)))) + 1e-12)
    i = int(spectrum[1:-1].argmax()) + 1
    a, b, c = spectrum[i - 1 : i + 2]
    return (i + 0.5 * (a - c) / (a - 2 * b + c)) * sample_rate / len(audio)


@pytest.mark.parametrize("name", CHANGES)
def test_a_change_is_decided_by_its_seed_and_keeps_length_and_type(name: str) -> None:
    source = CHANGES[name](Source())
    first = [source.draw(rng(i), T, RATE)[0] for i in range(6)]
    again = [CHANGES[name](Source()).draw(rng(i), T, RATE)[0] for i in range(6)]
    for a, b in zip(first, again, strict=True):
        assert a.shape == (1, T) and a.dtype == np.float32 and np.isfinite(a).all()
        np.testing.assert_array_equal(a, b)
    plain = [Source().draw(rng(i), T, RATE)[0] for i in range(6)]
    assert any(not np.array_equal(a, b) for a, b in zip(first, plain, strict=True))


def test_names_in_the_config_are_the_changes() -> None:
    assert set(NAMES_IN_CONFIG) == set(CHANGES)
    with pytest.raises(UnknownNameError, match="tilt"):
        AugmentedSource(Source(), "speed, tlit")
    with pytest.raises(UsageError, match="probability"):
        Gain(Source(), probability=1.5)


def test_speed_moves_pitch_by_its_octaves() -> None:
    source = Speed(Tones(), probability=1.0, octaves=0.5)
    moved = np.log2([pitch(source.draw(rng(i), T, RATE)[0][0], RATE) / 1000 for i in range(40)])
    assert np.abs(moved).max() < 0.502 and moved.min() < -0.3 and moved.max() > 0.3
    audio = Source().draw(rng(), T, RATE)[0][0]
    wanted = np.interp(np.arange(9000) * 1.37, np.arange(T), audio)
    np.testing.assert_allclose(resampled(audio, 1.37, 9000), wanted, atol=1e-6)


def test_gain_polarity_and_mixing() -> None:
    clip = Tones().draw(rng(3), T, RATE)[0]
    np.testing.assert_array_equal(Polarity(Tones(), 1.0).draw(rng(3), T, RATE)[0], -clip)
    levels = [peak_of(Gain(Tones(), 1.0, -6, 0).draw(rng(i), T, RATE)[0]) for i in range(40)]
    assert min(levels) > 0.19 / 2 and max(levels) <= 0.4
    mixed, name = Mixing(Source(), 1.0, quietest=-20.0).draw(rng(1), T, RATE)
    state = rng(1)
    first = Source().draw(state, T, RATE)[0]
    state.random()
    second = Source().draw(state, T, RATE)[0]
    rest = mixed - first / peak_of(first)
    scale = float((rest * second).sum() / np.square(second).sum())
    np.testing.assert_allclose(rest, scale * second, atol=1e-5)
    assert 0.1 <= scale * peak_of(second) <= 1.0 and " + " in name


def test_the_tilt_turns_about_1_khz() -> None:
    impulse = np.zeros((1, 4096), np.float32)
    impulse[0, 0] = 1
    response = 20 * np.log10(np.abs(np.fft.rfft(tilted(impulse, 6.0, 48000)[0])))
    frequency = np.fft.rfftfreq(4096, 1 / 48000)
    at = {f: response[np.abs(frequency - f).argmin()] for f in (30, 1000, 20000)}
    assert at[30] == pytest.approx(-6, abs=0.1) and at[20000] == pytest.approx(6, abs=0.2)
    assert at[1000] == pytest.approx(0, abs=0.1)
    both = [Tilt(Source(), 1.0).draw(rng(i), T, RATE)[0] for i in range(2)]
    assert not np.allclose(*both)


def test_the_equaliser_is_a_filter_without_phase() -> None:
    bins = 16384 // 2 + 1
    audio = Source().draw(rng(), 40000, RATE)[0]
    np.testing.assert_allclose(filtered(audio, np.ones(bins)), audio, atol=1e-6)
    gain = 10 ** (6 * np.sin(np.log(20 + np.arange(bins))) / 20)
    got = filtered(audio, gain)
    full = np.interp(np.fft.rfftfreq(80000), np.linspace(0, 0.5, bins), gain)
    wanted = np.fft.irfft(np.fft.rfft(np.pad(audio[0], 20000)) * full)[20000:60000]
    error = np.square(got[0] - wanted).mean() / np.square(wanted).mean()
    assert 10 * np.log10(error) < -30
    assert not np.allclose(Equaliser(Source(), 1.0).draw(rng(), T, RATE)[0], Source().draw(rng(), T, RATE)[0])


def test_changes_can_be_nested_and_a_silent_result_falls_back() -> None:
    nest = Polarity(Tilt(Mixing(Speed(Source()), 1.0), 1.0), 1.0)
    assert nest.draw(rng(), T, RATE)[0].shape == (1, T)

    class Mute(AugmentedSource):
        def __init__(self) -> None:
            super().__init__(Source(), ())
            self._changed = Gain(Source(), 1.0, -120, -100)

    clip, _ = Mute().draw(rng(), T, RATE)
    assert peak_of(clip) > 0.1


# --- pitch and tempo --------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def stretcher() -> Executor:
    with Executor(effect("pedalboard:time_stretch"), workers=1) as executor:
        yield executor  # type: ignore[misc]


def ticks(samples: int, every: int) -> np.ndarray:
    """A tone of 1 kHz that swells every so many samples."""
    time = np.arange(samples)
    swell = 0.1 + 0.9 * np.exp(-(time % every) / (every / 6))
    return (0.3 * swell * np.sin(2 * np.pi * 1000 * time / RATE)).astype(np.float32)[None, None]


def beat(audio: np.ndarray) -> float:
    """Samples between swells, by the autocorrelation of the envelope."""
    envelope = np.convolve(np.abs(audio), np.ones(200) / 200, "same")[::20]
    envelope -= envelope.mean()
    spectrum = np.fft.rfft(envelope, 4 * len(envelope))
    correlation = np.fft.irfft(np.abs(spectrum) ** 2)[: len(envelope) // 2]
    low = 60
    return 20 * (low + float(correlation[low:].argmax()))


@pytest.mark.parametrize(("tempo", "semitones"), [(1.25, 0.0), (0.8, 0.0), (1.0, 3.0), (0.9, -2.0)])
def test_tempo_and_pitch_move_by_themselves(stretcher: Executor, tempo: float, semitones: float) -> None:
    audio = ticks(3 * RATE, 6000)
    setting = stretcher.effect.setting(tempo=tempo, semitones=semitones)
    wet = stretcher.render(audio, setting[None], RATE)
    heard = wet[0, 0, : int(min(1.0, 1 / tempo) * 3 * RATE) - 4000]
    assert pitch(heard, RATE) == pytest.approx(1000 * 2 ** (semitones / 12), rel=0.005)
    assert beat(heard) == pytest.approx(6000 / tempo, rel=0.02)
    np.testing.assert_array_equal(wet, stretcher.render(audio, setting[None], RATE))
    end = int(3 * RATE / tempo) + 4000
    assert not wet[0, 0, end:].any()


def test_a_bank_of_stretched_pieces(stretcher: Executor) -> None:
    del stretcher
    source = StretchedSource(Source(), RATE, bank=3, seconds=1.0, share=1.0, workers=1)
    drawn = [source.draw(rng(i), 12000, RATE) for i in range(12)]
    again = StretchedSource(Source(), RATE, bank=3, seconds=1.0, share=1.0, workers=1)
    for i, (clip, name) in enumerate(drawn):
        assert clip.shape == (1, 12000) and clip.dtype == np.float32 and "tempo" in name
        np.testing.assert_array_equal(clip, again.draw(rng(i), 12000, RATE)[0])
    assert len({name for _, name in drawn}) == 3
    assert source.draw(rng(), 40000, RATE)[0].shape == (1, 40000)  # longer than a piece: repeated
    half = StretchedSource(Source(), RATE, bank=1, share=0.0, workers=1)
    np.testing.assert_array_equal(half.draw(rng(), T, RATE)[0].shape, (1, T))
    assert not half._pieces  # nothing was needed
    with pytest.raises(UsageError, match="24000 Hz"):
        source.draw(rng(), 1000, 8000)
    with pytest.raises(UsageError, match="factor"):
        StretchedSource(Source(), RATE, tempo=3.0)


def test_no_plugin_host_comes_into_this_process() -> None:
    code = (
        "import sys; from dafxhost.data.stretching import StretchedSource; "
        "from dafxhost.registry import effect; effect('pedalboard:time_stretch'); "
        "print('pedalboard' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
