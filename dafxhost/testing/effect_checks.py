"""The conformance checks of effects. Each takes a session, returns a remark, or raises Failed or Skipped."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from dafxhost.errors import ParameterError, ParameterNotAppliedError, PluginError
from dafxhost.execution.failures import not_loaded
from dafxhost.parameters import Parameter
from dafxhost.testing.report import Failed, Skipped
from dafxhost.testing.session import (
    EffectSession,
    decibel,
    difference,
    failing,
    largest,
)

MOST_VALUES = 32  # of a discrete parameter that are tried
TOLERATED = 1e-6  # of full scale: two ways to the same samples may round differently
IMPULSE_AT = 3000  # samples; not at a block's edge
LATE = 0.001  # seconds by which an impulse through neutral filters may spread
QUIET = 10 ** (-80 / 20)


def loads(session: EffectSession) -> str:
    """A render with the default setting comes back."""
    session.render(session.clip(), session.default[None])
    with session.executor.stream(session.default, session.rate, 1) as stream:
        latency = stream.latency
    return f"{len(session.effect.parameters)} parameters, latency {latency} samples at {session.rate} Hz"


def parameters(session: EffectSession) -> str:
    """Native values survive the way through a setting and back; defaults do too."""
    effect = session.effect
    for p in effect.parameters:
        for native in (p.minimum, p.default, p.maximum):
            back = float(p.to_native(p.to_setting(native)))
            if abs(back - native) > 1e-6 * max(1.0, abs(p.maximum - p.minimum)):
                raise Failed(f"{p.name} = {native:g} becomes {back:g} on its way through a setting")
    try:
        again = effect.setting(**effect.describe(session.default))
    except ParameterError as error:
        raise Failed(f"the default setting as described cannot be set: {error}") from error
    if difference(again, session.default) > 1e-9:
        raise Failed("the default setting, described in native values and set again, is another one")
    bad = [p.name for p in effect.parameters if not _distinct(p)]
    if bad:
        raise Failed(f"two values of {', '.join(bad)} reach the plugin as one")
    return ""


def _distinct(p: Parameter) -> bool:
    values = np.arange(p.levels) + p.minimum
    return not p.levels or len(np.unique(p.to_plugin(p.to_setting(values)))) == p.levels


def ranges(session: EffectSession) -> str:
    """Every parameter at minimum, default and maximum, each value of a discrete one, all at once, at random:
    finite samples, and values that read back.
    """
    effect, rows = session.effect, [session.default]
    for i, p in enumerate(effect.parameters):
        for u in _values(p) if p.levels else (0.0, 1.0):
            rows.append(_with(session.default, i, u))
    ends = [np.full(len(effect.parameters), u) for u in (0.0, 1.0)]
    settings = np.stack([*rows, *ends, *session.settings(8)])
    out = session.render(session.clip(2), settings)
    _all_finite(out)
    return f"{len(settings)} settings"


def _with(setting: np.ndarray, index: int, value: float) -> np.ndarray:
    changed = setting.copy()
    changed[index] = value
    return changed


def _values(p: Parameter) -> np.ndarray:
    """Settings of a discrete parameter's values, evenly chosen if there are many."""
    chosen = np.unique(np.linspace(0, p.levels - 1, min(p.levels, MOST_VALUES)).round())
    return p.to_setting(p.minimum + chosen)


def _all_finite(out: np.ndarray) -> None:
    if not np.isfinite(out).all():  # the executor should have said so
        raise Failed("the output holds NaN or infinite samples")


def discrete(session: EffectSession) -> str:
    """All settings of a bin stand for one value; values that sound alike are listed, and do not fail."""
    effect = session.effect
    chosen = [(i, p) for i, p in enumerate(effect.parameters) if p.levels]
    if not chosen:
        raise Skipped("there are no discrete parameters")
    alike = []
    for i, p in chosen:
        middles, half = _values(p), 0.499 / p.levels
        rows = np.stack([_with(session.default, i, m + d) for m in middles for d in (0, -half, half)])
        reached = effect.plugin_values(rows).reshape(len(middles), 3, -1)
        if (reached[:, 1:] != reached[:, :1]).any():
            raise Failed(f"{p.name}: settings within one bin reach the plugin as different values")
        out = session.render(session.clip(2), rows[::3])
        different = len(np.unique(out.reshape(len(out), -1), axis=0))
        if different < len(out):
            alike.append(f"{different} of {len(out)} values of {p.name} differ in sound")
    return "; ".join(alike) or "all values differ in sound"


def resets(session: EffectSession) -> str:
    """A render after loud audio with other settings is the render of a worker that did nothing before."""
    audio = session.clip(2)
    dirty = 2 * session.clip(2, 0.5)
    settings = np.stack([session.default, *session.settings(3)])
    with session.open() as fresh:
        expected = session.render_by(fresh, audio, settings)
    with session.open() as used:
        for row in range(len(settings)):
            session.render_by(used, dirty, session.settings(6)[3:])
            off = difference(session.render_by(used, audio, settings[row : row + 1])[0], expected[row])
            if off:
                raise Failed(
                    f"after other audio the same render differs by up to {off:.2g}: prepare() leaves "
                    "something of the last render behind"
                )
    return ""


def determinism(session: EffectSession) -> str:
    """The same batch gives the same samples: twice, backwards, with one worker and with two."""
    audio = session.clip(2)
    settings = np.stack([session.default, *session.settings(7)])
    with session.open() as one:
        expected = session.render_by(one, audio, settings)
        runs = {"a second time": session.render_by(one, audio, settings)}
        runs["in reverse order"] = session.render_by(one, audio, settings[::-1])[::-1]
    with session.open(2) as two:
        runs["with two workers"] = session.render_by(two, audio, settings)
    for how, out in runs.items():
        off = difference(out, expected)
        if off:
            raise Failed(f"rendered {how}, the samples differ by up to {off:.2g}")
    found = session.executor.unrepeatable
    if found is not None:
        raise Failed(f"a render made twice gave other samples: {found}")
    return ""


def latency(session: EffectSession) -> str:
    """With the reported latency taken out, an impulse comes out where it went in."""
    audio = np.zeros((1, 1, IMPULSE_AT + session.rate // 2), np.float32)
    silent = audio.copy()
    audio[..., IMPULSE_AT] = 0.5
    setting = session.default if session.neutral is None else session.neutral
    with session.executor.stream(setting, session.rate, 1) as stream:
        reported = stream.latency
    response = session.render(audio, setting[None])[0, 0] - session.render(silent, setting[None])[0, 0]
    if not largest(response) > QUIET:
        text = f"an impulse does not come through ({decibel(largest(response))})"
        if session.neutral is not None:
            raise Failed(f"{text}, though the setting was called neutral")
        raise Skipped(f"{text}; name a setting that passes it on as neutral=")
    peak = int(np.abs(response).argmax()) - IMPULSE_AT
    said = f"latency {reported} samples reported, an impulse comes out {abs(peak)} samples"
    if peak < -1:
        raise Failed(f"{said} too early after compensation: it is less than reported")
    if peak <= LATE * session.rate:
        return f"{reported} samples reported; an impulse lines up" + (f" within {peak}" if peak > 0 else "")
    if session.neutral is not None:
        raise Failed(f"{said} late after compensation: it is more than reported")
    raise Skipped(f"{said} late, which may be the effect; name a setting without delay as neutral=")


def silence(session: EffectSession) -> str:
    """Silence in: silence out, or something that dies away; and so does the tail of a burst."""
    samples = 8 * session.rate
    audio = np.zeros((2, 1, samples), np.float32)
    burst = session.clip(1, 0.2)[0]
    audio[1, :, : burst.shape[1]] = burst
    with failing():
        alone, tail = session.executor.render(audio, np.stack([session.default] * 2)[:, None], session.rate)[
            :, 0
        ]
    early, late = largest(alone[:, : session.rate]), largest(alone[:, -session.rate :])
    if late > max(QUIET, 0.5 * early):
        raise Failed(f"with silence at its input it goes on sounding at {decibel(late)}")
    early, late = largest(tail[:, : 2 * session.rate]), largest(tail[:, -session.rate :])
    if late > max(QUIET, 0.5 * early):
        raise Failed(f"eight seconds after a burst it goes on sounding at {decibel(late)}")
    return "silent" if not largest(alone) else f"at most {decibel(largest(alone))}"


def rates(session: EffectSession) -> str:
    """Every sample rate is rendered, or refused with a reason."""
    refused: dict[int, str] = {}
    settings = np.stack([session.default, *session.settings(1)])
    for rate in session.rates:
        try:
            _all_finite(session.render(session.clip(2, 0.1, rate), settings, rate))
        except PluginError as error:
            # A processor refuses in its constructor, by PluginError; anything else befell it.
            refusal = not_loaded(session.effect, "PluginError")
            if isinstance(error, ParameterNotAppliedError) or not str(error).startswith(refusal):
                raise Failed(f"at {rate} Hz, neither rendered nor refused by PluginError: {error}") from error
            refused[rate] = str(error).removeprefix(refusal).removeprefix(": ")
        except Failed as error:
            raise Failed(f"at {rate} Hz {error}") from error
    if len(refused) == len(session.rates):
        raise Failed(f"it takes none of the rates: {refused[session.rates[0]]}")
    listed = ", ".join(f"{r} Hz" for r in refused)
    return f"refuses {listed}: {next(iter(refused.values()))}" if refused else f"{len(session.rates)} rates"


def channels(session: EffectSession) -> str:
    """Mono and stereo render; stereo of two equal channels says the same as mono."""
    settings = np.stack([session.default, *session.settings(3)])
    stereo = session.render(session.clip(2), settings)
    mono = session.clip(1)
    one = session.render(mono, settings)
    if stereo.shape[1] != 2 or one.shape[1] != 1:  # the executor should have seen to that
        raise Failed(f"mono comes back with {one.shape[1]} channels and stereo with {stereo.shape[1]}")
    both = session.render(np.repeat(mono, 2, axis=1), settings)
    off = difference(both.mean(axis=1, keepdims=True, dtype=np.float64), one)
    if off > TOLERATED * max(1.0, largest(one)):
        return f"a mono clip is not the mean of the same clip in stereo (off by up to {off:.2g})"
    return ""


def lengths(session: EffectSession) -> str:
    """Clips of one sample up to the longest render."""
    block = session.executor.block_size
    longest = round(session.longest * session.rate)
    for samples in (1, 2, 63, block - 1, block, block + 1, longest):
        audio = session.clip(1, samples / session.rate)
        try:
            out = session.render(audio, session.default[None])
        except Failed as error:
            raise Failed(f"a clip of {samples} samples: {error}") from error
        if out.shape[-1] != samples:
            raise Failed(f"a clip of {samples} samples comes back with {out.shape[-1]}")
        _all_finite(out)
    return f"1 to {longest} samples"


def denormals(session: EffectSession) -> str:
    """Denormal samples, and a tail that fades into them, give finite samples."""
    samples = round(max(0.1, session.seconds) * session.rate)
    audio = np.empty((2, 2, samples), np.float32)
    rng = np.random.default_rng(0)
    audio[0] = rng.uniform(-1e-39, 1e-39, (2, samples))
    audio[1] = np.sin(0.05 * np.arange(samples)) * np.logspace(-1, -44, samples)
    settings = np.stack([session.default, *session.settings(2)])
    with failing():
        out = session.executor.render(audio, np.stack([settings] * 2), session.rate)
    _all_finite(out)
    return ""


def streaming(session: EffectSession) -> str:
    """A stream fed block by block gives the samples of the whole; in odd pieces it should, too."""
    block = session.executor.block_size
    audio = session.clip(2, max(session.seconds, 3.3 * block / session.rate))
    setting = session.settings(1)[0]
    whole = session.render(audio, setting[None])[0]
    off = difference(_in_pieces(session, audio[0], setting, [block, 2 * block]), whole)
    if off:
        raise Failed(f"fed in whole blocks, a stream differs from one render by up to {off:.2g}")
    off = difference(_in_pieces(session, audio[0], setting, [100, 1, 777, 3 * block + 5]), whole)
    if off > TOLERATED * max(1.0, largest(whole)):
        return f"depends on where blocks begin: in odd pieces it differs by up to {off:.2g}"
    return ""


def _in_pieces(
    session: EffectSession, audio: np.ndarray, setting: np.ndarray, sizes: list[int]
) -> np.ndarray:
    """`[C, T]` through a stream in pieces of these sizes, the last one again and again."""
    pieces, begin = [], 0
    with session.executor.stream(setting, session.rate, audio.shape[0]) as stream:
        while begin < audio.shape[1]:
            size = sizes.pop(0) if len(sizes) > 1 else sizes[0]
            pieces.append(stream.process(audio[:, begin : begin + size]))
            begin += size
        pieces.append(stream.finish())
    return np.concatenate(pieces, axis=1)


def live_parameters(session: EffectSession) -> str:
    """Which parameters never change a sample: they are listed, and do not fail."""
    effect = session.effect
    if not effect.parameters:
        raise Skipped("there are no parameters")
    unheard = list(range(len(effect.parameters)))
    # Many parameters matter only where others let them (a mix at 0, a filter that is off), or only later (a
    # delay); what was not heard is tried again, longer and among other settings.
    short, long = (session.clip(2, max(seconds, session.seconds)) for seconds in (1.0, 4.0))
    others = session.settings(8)
    for audio, around in [
        (short, session.default),
        *((short, o) for o in others[:3]),
        *((long, o) for o in others),
    ]:
        moved = {i: _positions(effect.parameters[i]) for i in unheard}
        rows = [_with(around, i, u) for i in unheard for u in moved[i]]
        out = iter(session.render(audio, np.stack(rows)))
        for i in list(unheard):
            renders = [next(out) for _ in moved[i]]
            if any(difference(renders[0], other) for other in renders[1:]):
                unheard.remove(i)
        if not unheard:
            return "all are heard"
    names = ", ".join(effect.parameters[i].name for i in unheard)
    return f"no effect was heard of {names}"


def _positions(p: Parameter) -> list[float]:
    return list(_values(p)) if p.levels else [0.0, 0.4, 1.0]


CHECKS: dict[str, Callable[[EffectSession], str]] = {
    "loads": loads,
    "parameters": parameters,
    "ranges": ranges,
    "discrete": discrete,
    "resets": resets,
    "determinism": determinism,
    "latency": latency,
    "silence": silence,
    "sample-rates": rates,
    "channels": channels,
    "lengths": lengths,
    "denormals": denormals,
    "streaming": streaming,
    "live-parameters": live_parameters,
}
"""In the order in which they run; the first decides whether the others do."""
