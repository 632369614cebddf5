"""How the demo's page looks: its theme, its style, and the controls it is made of."""

from __future__ import annotations

from html import escape
from typing import Any

import gradio as gr
from gradio.themes import Default

from dafxhost.demo import knobs
from dafxhost.parameters import Parameter

TITLE = "dafxhost"
WAVE = "#0d9488"
CSS = """
.gradio-container {max-width: 1180px !important; margin: auto !important}
.knobs .form, .knobs .block {min-width: min(240px, 100%)}
.setting table {width: 100%; border-collapse: collapse; font-size: .9rem; border: 0 !important; margin: 0}
.setting td {padding: .2rem .4rem !important; border: 0 !important;
  border-bottom: 1px solid var(--border-color-primary) !important}
.setting td + td {text-align: right; font-variant-numeric: tabular-nums}
.map svg {width: 100%; height: auto; cursor: crosshair; border: 1px solid var(--border-color-primary);
  border-radius: 6px; color: var(--body-text-color); touch-action: manipulation}
.map circle:not(.chosen) {stroke: var(--background-fill-primary); stroke-width: 1.5}
@media (max-width: 600px) {.map circle:not(.chosen) {r: 17px} .map .chosen {r: 28px}}
.map p {font-size: .85rem; margin: .4rem 0 0; color: var(--body-text-color-subdued)}
.map .scale {display: flex; gap: .5rem; align-items: center; color: var(--body-text-color)}
.map .scale i {flex: 0 1 12rem; height: .7rem; border-radius: 4px}
.compare iframe {width: 100%; height: 60rem; border: 0; border-radius: 6px; background: transparent}
footer {display: none !important}
"""
CLICK = """
element.addEventListener('click', event => {
  const picture = element.querySelector('svg');
  if (!picture || !picture.contains(event.target)) return;
  const box = picture.getBoundingClientRect();
  trigger('click', {x: (event.clientX - box.left) / box.width, y: (event.clientY - box.top) / box.height});
});
"""


def theme() -> Any:
    """Gradio's own looks with fonts of the user's machine: no font is fetched from anywhere."""
    fonts = ("system-ui", "sans-serif")
    looks = Default(primary_hue="teal", font=fonts, font_mono=("ui-monospace", "monospace"))
    return looks.set(
        # Values stand there: Gradio's own grey is too faint to read.
        block_info_text_color="*neutral_600", block_info_text_color_dark="*neutral_300",
        body_text_color_subdued="*neutral_600", body_text_color_subdued_dark="*neutral_300",
    )  # fmt: skip


def upload(label: str, role: str) -> Any:
    """A place to drop a recording into."""
    return gr.Audio(
        label=label, type="filepath", sources=["upload"], editable=False, buttons=[], elem_id=role,
        waveform_options=gr.WaveformOptions(waveform_progress_color=WAVE),
    )  # fmt: skip


def control(parameter: Parameter, setting: float) -> Any:
    """A parameter's knob at its setting on 0..1."""
    look = knobs.knob(parameter, float(setting))
    name: dict[str, Any] = {"elem_id": f"knob-{parameter.name}", "interactive": True}
    if look.kind == "toggle":
        return gr.Checkbox(look.value, label=look.label, **name)
    if look.kind == "choice":
        return gr.Dropdown(list(look.choices), value=look.value, label=look.label, **name)
    return gr.Slider(
        look.minimum, look.maximum, value=look.value, step=look.step, label=look.label,
        info=look.note or None, **name,
    )  # fmt: skip


def table(rows: list[tuple[str, str]]) -> str:
    """(name, value) rows as HTML."""
    lines = "".join(f"<tr><td>{escape(name)}</td><td>{escape(value)}</td></tr>" for name, value in rows)
    return f"<table><caption hidden>Setting as rendered</caption><tbody>{lines}</tbody></table>"
