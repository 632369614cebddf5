"""What the panels of the mda effects show, and which of their 0..1 ports are stepped.

The laws are facts read in Paul Kellett's sources (`getParameterDisplay` and `setParameter` of mda*.cpp, GPL
or MIT; https://github.com/mod-audio/mda-lv2 at 0b6c3a5, the state nearest to Debian's mda-lv2 1.2.10) and
checked against Debian's binaries by `tests/test_mda_displays.py`, which also found the steps' edges. What
depends on the sample rate is shown as at 44.1 kHz. Where a panel contradicts its plugin, the plugin is right:
the comments say so.
"""

from __future__ import annotations

import bisect
import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cache
from itertools import pairwise

from dafxhost.parameters import Parameter
from dafxhost.readings import Reading

Display = Reading | tuple[float, float, str]
RATE = 44100.0
# Dense near 0, where decibels and squares bend most; 0 itself apart.
_GRID = (0.0, *(10 ** (k / 10 - 4) for k in range(20)), *(k / 128 for k in range(2, 129)))

PERCENT = (0.0, 100.0, "%")
BIPOLAR = (-100.0, 100.0, "%")
GAIN = (-20.0, 20.0, "dB")


def _curve(law: Callable[[float], float], unit: str, *words: tuple[float, float, str]) -> Reading:
    """A reading by a law on 0..1, which may be undefined where a word is shown."""
    borders = [p for low, high, _ in words for p in (_below(low), _above(high)) if 0 <= p <= 1]
    inside = sorted(p for p in {*_GRID, *borders} if not any(low <= p <= high for low, high, _ in words))
    return Reading(unit, tuple((p, float(law(p))) for p in inside), words)


def _below(edge: float) -> float:
    return math.nextafter(edge, -math.inf)


def _above(edge: float) -> float:
    return math.nextafter(edge, math.inf)


def _amplitude(at_one: float) -> Reading:
    """Decibels of a gain proportional to the port, `at_one` at 1."""
    return _curve(lambda p: 20 * math.log10(at_one * p), "dB", (0, _below(1e-4), "off"))


def _settling(law: Callable[[float], float], unit: str) -> Reading:
    """Time in which a one-pole smoother of that coefficient a sample gets half way, in ms or µs."""
    scale = {"ms": 1e3, "µs": 1e6}[unit] / RATE * math.log10(0.5)
    return _curve(lambda p: scale / math.log10(1 - law(p)) if law(p) < 1 else 0.0, unit)


def _coefficient(start: float, slope: float, unit: str) -> Reading:
    """The same for a coefficient of 10 ** (start + slope * port)."""
    return _settling(lambda p: 10 ** (start + slope * p), unit)


def _low_crossover(p: float) -> float:
    f = 10 ** (p - 1.70)
    return RATE * f * (0.098 + 0.09 * f + 0.5 * f**8.2)


def _high_crossover(p: float) -> float:
    f = 10 ** (p - 1.05)
    return RATE * f * (0.015 + 0.15 * f + 0.9 * f**8.2)


def _beatbox_level(p: float) -> float:
    return 20 * math.log10(0.0001 + 4 * p * p)


def _loudness(p: float) -> float:
    return math.copysign(60 * (2 * p - 1) ** 2, p - 0.5)


def _ratio(p: float) -> float:
    """mda Dynamics: expander below 0.2, compressor to 0.58, then ratios that overshoot, as negative ones."""
    r = 2.5 * p - 0.5
    if p > 0.6:
        return -(1 + 16 * (r - 1) ** 2)
    return 0.5 + 2.5 * p if p < 0.2 else 1 / (1 - r)


def _degrade_rate(p: float) -> float:
    return RATE / int(math.exp(18 * abs(p - 0.5)))


def _spin(p: float) -> float:
    """mda RoundPan: degrees a second, still between 0.45 and 0.55."""
    return math.degrees(20 * (max(p - 0.55, 0) - max(0.45 - p, 0)))


def _delay_ratio() -> Reading:
    """mda Delay's right channel: any ratio to the left up to 200 %, above it nine fixed ones."""
    fixed = (2.0, 1.5, 1.3333, 1.2, 1.0, 0.8333, 0.75, 0.6667, 0.5)
    words = [
        (_above(0.5) if k == 9 else k / 17.9, _below((k + 1) / 17.9) if k < 17 else 1.0, f"{100 * r:.3g} %")
        for k, r in enumerate(fixed, 9)
    ]
    return Reading("%", ((0.0, 0.0), (0.5, 200.0), (1.0, 50.0)), tuple(words))


DELAY_LINE, DUB_LINE = 32766, 323766  # samples
_DELAY = _curve(lambda p: 1e3 / RATE * max(DELAY_LINE * p * p, 4), "ms")
_DUB = _curve(lambda p: 1e3 / RATE * DUB_LINE * p * p, "ms")
_SECONDS = _curve(lambda p: 10 ** (2 - 3 * p), "s")  # a cycle of several effects' oscillators
_BANDS: dict[str, Display] = {
    "l_m": _curve(_low_crossover, "Hz"),
    "m_h": _curve(_high_crossover, "Hz"),
    "l_out": GAIN,
    "m_out": GAIN,
    "h_out": GAIN,
}

DISPLAYS: dict[str, dict[str, Display]] = {
    "mda-ambience": {"size": (0, 10, "m"), "hf_damp": PERCENT, "mix": PERCENT, "output": GAIN},
    "mda-bandisto": {**_BANDS, **dict.fromkeys(("l_dist", "m_dist", "h_dist"), (0.0, 60.0, "dB"))},
    "mda-beatbox": {
        **dict.fromkeys(("hat_thr", "kik_thr", "snr_thr"), (-40.0, 0.0, "dB")),
        **dict.fromkeys(("hat_mix", "kik_mix", "snr_mix"), _curve(_beatbox_level, "dB")),
        **dict.fromkeys(("kik_trig", "snr_trig"), _curve(lambda p: RATE / 2 * 10 ** (2.2 * p - 3), "Hz")),
        "hat_rate": (40, 240, "ms"),
        "dynamics": PERCENT,
        "thru_mix": _amplitude(1),
    },
    "mda-combo": {
        "drive": BIPOLAR,  # soft clipping below 0, hard above
        "bias": BIPOLAR,
        "output": GAIN,
        "hpf_freq": PERCENT,
        "hpf_reso": PERCENT,
    },
    "mda-deess": {"thresh": (-60, 0, "dB"), "freq": (1000, 12000, "Hz"), "hf_drive": GAIN},
    "mda-degrade": {
        "headroom": (-30, 0, "dB"),
        # Below 0.5 every nth sample is kept, above it is held as well; the panel shows the rate alone.
        "rate": _curve(_degrade_rate, "Hz"),
        "post_filt": _curve(lambda p: 10 ** (2.30104 + 2 * p), "Hz"),
        "non_lin": BIPOLAR,  # odd harmonics below 0, even above; the panel leaves the sign out
        "output": GAIN,
    },
    "mda-delay": {
        "l_delay": _DELAY,
        "r_delay": _delay_ratio(),
        "feedback": (0, 99, "%"),
        "fb_tone": BIPOLAR,  # low to high
        "fx_mix": PERCENT,
        "output": _amplitude(2),
    },
    "mda-detune": {"detune": _curve(lambda p: 300 * p**3, "cents"), "mix": (0, 99, "%"), "output": GAIN},
    "mda-dither": {
        "dith_amp": (0, 4, "LSB"),
        "dc_trim": (-2, 2, "LSB"),
        # Rehearsal: quantises to 6 bits and fades the audio out.
        "zoom": _curve(lambda p: max(40 * math.log10(1 - min(p, 0.99)), -80), "dB", (0, 0.1, "off")),
    },
    "mda-dubdelay": {
        "delay": _DUB,
        "feedback": (-110, 110, "%"),  # saturating below 0, limiting above
        "fb_tone": BIPOLAR,
        "lfo_depth": PERCENT,
        "lfo_rate": _SECONDS,
        "fx_mix": PERCENT,
        "output": _amplitude(2),
    },
    "mda-dynamics": {
        "thresh": (-40, 0, "dB"),
        "ratio": _curve(_ratio, ":1", (_above(0.58), _below(0.62), "limit")),
        "output": (0, 40, "dB"),
        "attack": _coefficient(-0.002, -2, "µs"),
        "release": _coefficient(-2, -3, "ms"),
        "limiter": _curve(lambda p: 30 * p - 20, "dB", (_above(0.98), 1, "off")),  # in steps of 1 dB
        "gate_thr": _curve(lambda p: 60 * p - 60, "dB", (0, _below(0.02), "off")),
        "gate_att": _coefficient(-0.002, -3, "µs"),
        "gate_rel": _curve(lambda p: -1806 / RATE / math.log10(1 - 10 ** (-2 - 3.3 * p)), "ms"),
        "mix": PERCENT,
    },
    "mda-image": {
        "s_width": (-200, 200, "%"),
        "s_pan": BIPOLAR,  # left to right
        "m_level": (-200, 200, "%"),
        "m_pan": BIPOLAR,
        "output": GAIN,
    },
    "mda-leslie": {
        **dict.fromkeys(("lo_width", "lo_throb", "hi_width", "hi_depth", "hi_throb"), PERCENT),
        "x_over": _curve(lambda p: 10 * 10 ** (1.179 + p), "Hz"),
        "output": GAIN,
        "speed": (0, 200, "%"),
    },
    "mda-limiter": {
        "thresh": (-40, 0, "dB"),
        "output": GAIN,
        "release": _coefficient(-2, -3, "ms"),
        "attack": _coefficient(0, -2, "µs"),
    },
    "mda-loudness": {"loudness": _curve(_loudness, "dB"), "output": _curve(_loudness, "dB")},
    "mda-multiband": {
        **_BANDS,
        **dict.fromkeys(("l_comp", "m_comp", "h_comp"), (0.0, 30.0, "dB")),
        "attack": _coefficient(-0.05, -2, "µs"),  # of the middle band
        "release": _coefficient(-2, -3, "ms"),
        "stereo": (0, 200, "%"),
    },
    "mda-overdrive": {"drive": PERCENT, "muffle": PERCENT, "output": GAIN},
    "mda-repsycho": {
        "fine": (-99, 0, "cents"),
        "decay": (-50, 50, "%"),
        "thresh": (-30, 0, "dB"),
        "hold": _curve(lambda p: 1e3 / RATE * (441 + 0.5 * 22050 * p), "ms"),
        "mix": PERCENT,
    },
    "mda-rezfilter": {
        "freq": PERCENT,
        "res": PERCENT,
        "output": GAIN,
        "env_vcf": BIPOLAR,
        "attack": _coefficient(-0.01, -4, "ms"),
        "release": _coefficient(-2, -4, "ms"),
        "lfo_vcf": BIPOLAR,  # sample and hold below 0, sine above
        # The panel says 10 ** (4 port - 2); the oscillator runs at this.
        "lfo_rate": _curve(lambda p: 10 ** (3 * p - 1.5), "Hz"),
        "trigger": _curve(lambda p: 20 * math.log10(1.5 * p * p), "dB", (0, _below(0.1), "free run")),
        "max_freq": PERCENT,
    },
    "mda-ringmod": {"freq": (0, 16000, "Hz"), "fine": (0, 100, "Hz"), "feedback": PERCENT},
    "mda-roundpan": {"pan": (-180, 180, "°"), "auto": _curve(_spin, "°/s")},
    "mda-shepard": {"rate": BIPOLAR, "output": GAIN},
    "mda-splitter": {
        "freq": _curve(lambda p: 10 ** (2 + 2 * p), "Hz"),
        "level": (-40, 0, "dB"),
        "envelope": _curve(lambda p: 10 ** (1 + 2 * p), "ms"),
        "output": GAIN,
    },
    "mda-stereo": {
        "width": BIPOLAR,  # Haas below 0, comb above; the panel leaves the sign out
        "delay": _curve(lambda p: 1e3 / RATE * (20 + 2080 * p * p), "ms"),
        "balance": BIPOLAR,
        "mod": _curve(lambda p: 1e3 / RATE * 2100 * p * p, "ms", (0, 0, "off")),
        "rate": _SECONDS,
    },
    "mda-subsynth": {
        "level": PERCENT,
        "tune": _curve(lambda p: 0.0726 * RATE * 10 ** (1.5 * p - 2.5), "Hz"),
        "dry_mix": PERCENT,
        "thresh": (-60, 0, "dB"),
        "release": _coefficient(-2, -3, "ms"),
    },
    "mda-thruzero": {
        "rate": _curve(lambda p: 10 ** (2 - 3 * p), "s", (0, _below(0.01), "still")),
        "depth": (0, 2000e3 / RATE, "ms"),  # at full depth_mod; the panel shows less below it
        "mix": PERCENT,
        "feedback": BIPOLAR,
        "depth_mod": PERCENT,
    },
    "mda-tracker": {
        **dict.fromkeys(("dynamics", "mix", "glide"), PERCENT),
        "maximum": _curve(lambda p: 10 ** (1.6 + 2.2 * p), "Hz"),
        "trigger": (-60, 0, "dB"),
        "output": GAIN,
    },
    "mda-transient": {
        "attack": BIPOLAR,
        "release": BIPOLAR,
        "output": GAIN,
        "filter": (-10, 10, ""),  # low to high
        "att_hold": PERCENT,
        "rel_hold": PERCENT,
    },
}


@dataclass(frozen=True)
class Steps:
    """A stepped port: value i reaches from edge i-1 to edge i.

    Attributes:
        labels: of a choice; empty for an integer or a toggle.
        edges: port values at which the next value begins, rising.
        first, unit: of an integer.
    """

    edges: tuple[float, ...]
    labels: tuple[str, ...] = ()
    first: int | None = None
    unit: str = ""

    @property
    def values(self) -> tuple[float, ...]:
        """A port value for each: 0 and 1 at the ends, else the middle between the edges."""
        return (0.0, *((a + b) / 2 for a, b in pairwise(self.edges)), 1.0)

    def apply(self, parameter: Parameter) -> Parameter:
        """A parameter over 0..1 -> the same with its true values; its default becomes the value that it
        falls in."""
        default = parameter.default
        if parameter.port.values:
            default = parameter.port.values[int(parameter.default)]
        index = bisect.bisect_right(self.edges, default)
        port, count = replace(parameter.port, values=self.values, space="unit"), len(self.edges)
        fields = {"port": port, "display": None, "unit": self.unit, "scale": "linear"}
        if self.labels:
            fields |= {"kind": "choice", "choices": self.labels, "minimum": 0, "maximum": count}
        elif self.first is not None:
            fields |= {"kind": "integer", "minimum": self.first, "maximum": self.first + count}
        else:
            fields |= {"kind": "toggle", "minimum": 0, "maximum": 1, "port": replace(port, values=())}
        return replace(parameter, **fields, default=float(index + (self.first or 0)))


def _whole(count: int, scale: float) -> tuple[float, ...]:
    """Edges of int(scale * port) for `count` values."""
    return tuple(k / scale for k in range(1, count))


# int(72 * port - 36) cuts towards 0.
_TRANSPOSE = tuple((k + (36 if k > 0 else 35)) / 72 for k in range(-35, 37))

# Ports whose steps the Turtle files do not tell, or tell wrongly.
STEPS: dict[str, dict[str, Steps]] = {
    "mda-degrade": {"quant": Steps(_whole(13, 12), first=4, unit="bits")},
    "mda-detune": {
        "latency": Steps(
            _whole(5, 4.9),
            tuple(f"{n} samples ({1e3 * n / RATE:.1f} ms)" for n in (256, 512, 1024, 2048, 4096)),
        )
    },
    "mda-dither": {"word_len": Steps(_whole(9, 8.9), tuple(f"{8 + 2 * k} bits" for k in range(9)))},
    # The Turtle file has other labels at 0, 0.25, 0.5 and 0.75, of which the first two sound alike.
    "mda-image": {
        "mode": Steps(
            _whole(4, 3.9),
            (
                "SM->LR (decode from MS, inputs reversed)",
                "MS->LR (decode from MS)",
                "LR->LR (stereo adjustment)",
                "LR->MS (encode to MS)",
            ),
        )
    },
    # The Turtle file's "Slow" is 0.5, which already is fast; so is the default.
    "mda-leslie": {"mode": Steps((0.1, 0.5), ("Stop", "Slow", "Fast"))},
    "mda-loudness": {"link": Steps((_above(0.5),))},
    "mda-multiband": {"process": Steps((_above(0.0),), ("M (mid)", "S (side)"))},
    "mda-repsycho": {"tune": Steps(_whole(25, 24), first=-24, unit="semitones")},
    # The Turtle file's 0.25, 0.5 and 0.75 are each one type too low, and "Key Osc." is out of reach.
    "mda-subsynth": {"type": Steps(_whole(4, 3.5), ("Distort", "Divide", "Invert", "Key Osc."))},
    "mda-tracker": {"transpose": Steps(_TRANSPOSE, first=-36, unit="semitones")},
}


@cache
def displays(name: str) -> dict[str, Display]:
    """Parameter -> what its panel shows; empty for an effect that has no table."""
    return DISPLAYS.get(name, {})


def stepped(name: str, parameters: tuple[Parameter, ...]) -> tuple[Parameter, ...]:
    """The parameters of an mda effect, with those that are stepped made so."""
    steps = STEPS.get(name, {})
    return tuple(steps[p.name].apply(p) if p.name in steps else p for p in parameters)
