"""Where effects leave audio alone: native values by parameter name, whatever the other parameters are.

Found by rendering (tests/test_settings.py does it again): with the effects of `EXACT`, output and input
differ by less than -120 dB of the input. Those of `NEAR` come as near as their parameters let them; what is
left is said beside each. Not here: generators, vocoders, and what changes everything that it hears (ring
modulator, rotary speaker, amplifier with tone stacks): they have no such values.
"""

from __future__ import annotations

from typing import Any

from dafxhost.effects import Effect

_MIX = {"mix": 0}
_FLAT = {"gain_db": 0}
_COMPRESSOR = {"ratio": 1, "makeup": 0}
_GATE = {"threshold": -60, "sidechain": False, "makeup": 0, "max_gate_close": 0}
_BANDS = {f"zamcomp_{i}_on": False for i in (1, 2, 3)} | {f"listen_{i}": False for i in (1, 2, 3)}
_MULTI = _BANDS | {f"makeup_{i}": 0 for i in (1, 2, 3)} | {"master_trim": 0}

EXACT: dict[str, dict[str, Any]] = {
    "mda-ambience": {"mix": 0, "output": 0.5},
    "mda-deess": {"thresh": 1, "hf_drive": 0.5},  # of the two channels' mean
    "mda-delay": {"fx_mix": 0, "output": 0.5},
    "mda-detune": {"mix": 0, "output": 0.5},
    "mda-dither": {"word_len": 8, "dither": 0, "dc_trim": 0.5, "zoom": 0},
    "mda-dubdelay": {"fx_mix": 0, "output": 0.5},
    "mda-dynamics": {"mix": 0, "output": 0, "limiter": 1, "gate_thr": 0},
    "mda-image": {"mode": 2, "s_width": 0.75, "s_pan": 0.5, "m_level": 0.75, "m_pan": 0.5, "output": 0.5},
    "mda-limiter": {"thresh": 1, "output": 0.5},
    "mda-overdrive": {"drive": 0, "muffle": 0, "output": 0.5},
    "mda-repsycho": _MIX,
    "mda-stereo": {"width": 0.5, "delay": 0, "balance": 0.5, "mod": 0},  # of the two channels' mean
    "mda-subsynth": {"level": 0, "dry_mix": 1},
    "mda-thruzero": {"mix": 0, "depth": 0, "feedback": 0.5},
    "mda-tracker": {"mix": 0, "dynamics": 1, "output": 0.5},
    "mda-transient": {"attack": 0.5, "release": 0.5, "output": 0.5, "filter": 1},
    "pedalboard-bitcrush": {"bit_depth": 32},
    "pedalboard-chorus": _MIX,
    "pedalboard-clipping": {"threshold_db": 0},
    "pedalboard-compressor": {"ratio": 1},
    "pedalboard-delay": _MIX,
    "pedalboard-gain": _FLAT,
    "pedalboard-high-shelf": _FLAT,
    "pedalboard-low-shelf": _FLAT,
    "pedalboard-noise-gate": {"ratio": 1},
    "pedalboard-peak": _FLAT,
    "pedalboard-phaser": _MIX,
    "pedalboard-pitch-shift": {"semitones": 0},
    "pedalboard-reverb": {"wet_level": 0, "dry_level": 0.5, "freeze_mode": False},
    "zam-comp": _COMPRESSOR,
    "zam-comp-x2": _COMPRESSOR,
    "zam-delay": {"dry_wet": 0, "output_gain": 0},
    "zam-dynamic-eq": {"max_boost_cut": 0},
    "zam-eq2": dict.fromkeys(("boost_cut_1", "boost_cut_2", "boost_cut_l", "boost_cut_h", "master_gain"), 0),
    "zam-gate": _GATE,
    "zam-gate-x2": _GATE,
    "zam-head-x2": {"width": 0},
    "zam-maxim-x2": {"threshold": 0, "output_ceiling": 0},
    "zam-multi-comp": _MULTI,
    "zam-multi-comp-x2": _MULTI,
    "zam-verb": {"wet_dry": 0, "master_level": 0},
}
NEAR: dict[str, dict[str, Any]] = {
    # Its softest model still bends what is loud: -24 dB for noise that peaks at full scale.
    "mda-combo": {"model": 0, "drive": 0.5, "bias": 0.5, "output": 0.5, "stereo": True, "hpf_freq": 0},
    # A rounded minimum: -64 dB.
    "mda-loudness": {"loudness": 0.53, "output": 0.5, "link": 0},
    # The bands' filters stay: -20 to -36 dB.
    "mda-bandisto": dict.fromkeys(("l_dist", "m_dist", "h_dist"), 0)
    | {"listen": 3, "mode": 1, "l_out": 0.5, "m_out": 0.5, "h_out": 0.5},
    "mda-multiband": dict.fromkeys(("l_comp", "m_comp", "h_comp"), 0)
    | {"listen": 3, "l_out": 0.5, "m_out": 0.5, "h_out": 0.5, "stereo": 0.5, "process": 0},
    # Half a decibel less of the highest frequencies: -31 dB, of the two channels' mean.
    "mda-rezfilter": dict.fromkeys(("env_vcf", "lfo_vcf", "output"), 0.5)
    | {"freq": 1, "res": 0, "max_freq": 1},
    "mda-roundpan": {"pan": 0.5, "auto": 0.5},  # 3 dB softer
    "pedalboard-distortion": {"drive_db": 0},  # a hyperbolic tangent: -27 dB
    "pedalboard-highpass": {"cutoff_frequency_hz": 20},  # -28 dB
    "pedalboard-ladder": {"mode": "LPF12", "cutoff_hz": 20000, "resonance": 0, "drive": 1},  # 3 dB softer
    "pedalboard-limiter": {"threshold_db": 0},  # 2 dB louder
    "pedalboard-lowpass": {"cutoff_frequency_hz": 20000},  # -9 dB
}


def values(effect: Effect) -> dict[str, Any] | None:
    """Native values by name, whichever host serves the effect; None where there are none."""
    if effect.name == "zam-geq31":  # 31 bands and a master gain
        return {p.name: 0 for p in effect.parameters}
    return EXACT.get(effect.name) or NEAR.get(effect.name)
