"""The page of the demo. Gradio is imported here, so only `server.py` imports this module, when asked to.

A handler gets the session of the page that called it and works on that alone; what it returns updates the
page. Every error made on purpose is one sentence in a corner of the page.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from html import escape
from typing import Any, cast

import gradio as gr

from dafxhost.demo import knobs as knob_looks
from dafxhost.demo import settings_map
from dafxhost.demo.sessions import Session
from dafxhost.demo.studio import Heard, Studio
from dafxhost.errors import DafxhostError, RunError
from dafxhost.presets import suffixes

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
INTRO = """# dafxhost
Drop in a recording and one that sounds as it should. **Match** sets an effect so that the first sounds like
the second; **Refine** searches on from wherever the knobs stand. Nothing leaves this machine."""


def theme() -> Any:
    """Gradio's own looks with fonts of the user's machine: no font is fetched from anywhere."""
    fonts = ("system-ui", "sans-serif")
    looks = gr.themes.Default(primary_hue="teal", font=fonts, font_mono=("ui-monospace", "monospace"))
    return looks.set(
        # Values stand there: Gradio's own grey is too faint to read.
        block_info_text_color="*neutral_600", block_info_text_color_dark="*neutral_300",
        body_text_color_subdued="*neutral_600", body_text_color_subdued_dark="*neutral_300",
    )  # fmt: skip


def build(studio: Studio, first: str) -> Any:
    """The page.

    Args:
        first: the effect that is chosen at first.
    """
    return _Page(studio, first).blocks


class _Page:
    """Lays the page out, and holds its parts for the handlers."""

    def __init__(self, studio: Studio, first: str) -> None:
        self.studio, self.first = studio, first
        with gr.Blocks(title=TITLE, analytics_enabled=False, delete_cache=(120, 1800)) as self.blocks:
            gr.Markdown(INTRO)
            self.redrawn = gr.State(0)  # counts up when the knobs are to be shown anew
            self._recordings()
            self._choice()
            with gr.Row(equal_height=False):
                with gr.Column(scale=3, min_width=320):
                    self._strength()
                    self._knobs()
                with gr.Column(scale=2, min_width=300):
                    self._result()
            self._map()
            self._comparison()
            self._wire()

    # Parts

    def _recordings(self) -> None:
        with gr.Row():
            limits = self.studio.limits
            most = f"up to {limits.seconds:g} s and {limits.megabytes:g} MB"
            self.inputs = [
                (role, _upload(f"{label}: {most}", role))
                for role, label in (("input", "Input"), ("reference", "Reference"))
            ]

    def _choice(self) -> None:
        with gr.Row(equal_height=True):
            with gr.Column(scale=3, min_width=280):
                self.effect = gr.Dropdown(
                    self.studio.names(), value=self.first, label="Effect", allow_custom_value=True,
                    info='or a chain, typed: "mda-overdrive > mda-delay"', elem_id="effect",
                )  # fmt: skip
            with gr.Column(scale=2, min_width=240):
                self.match = gr.Button("Match", variant="primary", elem_id="match")
                self.refine = gr.Button("Refine", elem_id="refine")
            with gr.Column(scale=2, min_width=240):
                self.budget = gr.Slider(
                    20, 400, value=100, step=20, label="Settings to try when refining", elem_id="budget"
                )
        self.status = gr.Markdown("", elem_id="status")

    def _strength(self) -> None:
        with gr.Row():
            self.strength = gr.Slider(
                0, 1, value=1, step=0.01, label="Strength", elem_id="strength",
                info="0: the effect's neutral setting, 1: as the knobs stand",
            )  # fmt: skip
            self.default = gr.Button("Back to the default", size="sm", min_width=120, scale=0)

    def _result(self) -> None:
        self.heard = gr.Audio(
            label="Result", interactive=False, autoplay=True, buttons=["download"], elem_id="result",
            waveform_options=gr.WaveformOptions(waveform_progress_color=WAVE),
        )  # fmt: skip
        with gr.Row():
            self.audio_file = gr.DownloadButton(
                "Audio (WAV)", size="sm", interactive=False, elem_id="save-audio"
            )
            self.json_file = gr.DownloadButton(
                "Setting (JSON)", size="sm", interactive=False, elem_id="save-json"
            )
        with gr.Row():
            self.make_preset = gr.Button(
                "Make a preset for a DAW", size="sm", visible=False, elem_id="make-preset"
            )
            self.kind = gr.Dropdown(
                [], visible=False, container=False, show_label=False, label="Kind of preset", min_width=90,
                scale=0, elem_id="preset-kind",
            )  # fmt: skip
        self.preset_file = gr.DownloadButton("Preset", size="sm", visible=False, elem_id="save-preset")
        self.table = gr.HTML("", elem_classes="setting", elem_id="setting", apply_default_css=False)

    def _map(self) -> None:
        with gr.Accordion("Map of this effect's settings", open=False, elem_id="map-part"):
            with gr.Row(equal_height=True):
                self.draw = gr.Button("Draw the map", elem_id="draw", min_width=160)
                self.count = gr.Slider(
                    50, 400, value=settings_map.COUNT, step=10, label="Settings on the map"
                )
                self.colour = gr.Dropdown([], label="Coloured by", elem_id="colour", min_width=160)
            self.map = gr.HTML("", js_on_load=CLICK, elem_id="map")

    def _comparison(self) -> None:
        with gr.Accordion("Compare at one loudness", open=False, elem_id="compare-part"):
            self.compare = gr.Button("Put input, reference and result side by side", elem_id="compare")
            self.comparison = gr.HTML("", elem_classes="compare")

    def _knobs(self) -> None:
        studio = self.studio

        @gr.render(inputs=[self.redrawn], triggers=[self.redrawn.change])
        def show(_: int, request: gr.Request) -> None:
            session = studio.sessions.get(_key(request))
            if session.effect is None:
                return
            with gr.Column(elem_classes="knobs"):
                made = [
                    _control(p, u) for p, u in zip(session.effect.parameters, session.setting, strict=True)
                ]
            if not made:
                gr.Markdown("This effect has no knob.")
                return
            noted = [i for i, c in enumerate(made) if isinstance(c, gr.Slider)]

            @plainly
            def turn(*arguments: Any) -> Any:
                *values, request = arguments
                session = studio.sessions.get(_key(request))
                effect = session.chosen()
                if len(values) != len(effect.parameters):
                    return [gr.skip()] * (5 + len(noted))  # of the effect before
                session.setting = knob_looks.turned(effect, session.setting, values)
                notes = [gr.update(info=text) if (text := _note(session, i)) else gr.skip() for i in noted]
                return [*self.listen(session), *notes]

            def turned(*values: Any) -> Any:
                return turn(*values)

            # Gradio finds the request by its annotation, so the knobs' values come as one list of arguments.
            turned.__signature__ = _signature(len(made))  # type: ignore[attr-defined]
            turned.__annotations__ = {"request": gr.Request}
            gr.on(
                [c.input for c in made], turned, made, [*self.outputs(), *[made[i] for i in noted]],
                trigger_mode="always_last", show_progress="hidden", api_visibility="private",
            )  # fmt: skip

    # What handlers return

    def outputs(self) -> list[Any]:
        """What `listen` updates."""
        return [self.heard, self.table, self.audio_file, self.json_file, self.preset_file]

    def listen(self, session: Session) -> list[Any]:
        """Render, and show what was rendered; without an input, the setting alone."""
        if "input" not in session.recordings:
            rows = session.chosen().table(session.setting)
            return [gr.skip(), _rows(rows), gr.skip(), gr.skip(), gr.skip()]
        done: Heard = self.studio.hear(session)
        return [
            str(done.audio),
            _rows(done.rows),
            gr.update(value=str(done.audio), interactive=True),
            gr.update(value=str(done.document), interactive=True),
            gr.update(visible=False),
        ]

    def picture(self, session: Session, colour: str | None, chosen: int | None = None) -> str:
        effect = session.chosen()
        if session.map is None:
            return ""
        names = effect.parameter_names
        index = names.index(colour) if colour in names else 0
        return settings_map.svg(session.map, effect.parameters[index], index, chosen)

    # What the parts do

    def _wire(self) -> None:
        hidden: dict[str, Any] = {"show_progress": "hidden", "api_visibility": "private"}
        shown: dict[str, Any] = {"show_progress": "minimal", "api_visibility": "private"}
        for role, audio in self.inputs:
            audio.upload(self._taker(role), [audio], [audio, self.status], **shown)
            audio.clear(self._forgetter(role), None, [self.status], **hidden)
        effect_parts = [
            self.status,
            self.redrawn,
            self.colour,
            self.make_preset,
            self.kind,
            self.map,
            self.table,
        ]
        self.effect.change(self._chooser(), [self.effect, self.redrawn], effect_parts, **hidden)
        self.blocks.load(self._chooser(), [self.effect, self.redrawn], effect_parts, **hidden)
        found = [self.status, self.redrawn, *self.outputs()]
        self.match.click(self._matcher(), [self.redrawn], found, **shown)
        self.refine.click(
            self._refiner(), [self.budget, self.redrawn], found, concurrency_limit=1,
            show_progress="full", show_progress_on=[self.status], api_visibility="private",
        )  # fmt: skip
        self.default.click(self._resetter(), [self.redrawn], [self.redrawn, *self.outputs()], **shown)
        self.strength.input(
            self._weakener(), [self.strength], self.outputs(), trigger_mode="always_last", **hidden
        )
        self.draw.click(
            self._drawer(), [self.count, self.colour], [self.map], concurrency_limit=1,
            show_progress="full", api_visibility="private",
        )  # fmt: skip
        self.colour.input(self._painter(), [self.colour], [self.map], **hidden)
        chosen = [self.map, self.redrawn, *self.outputs()]
        self.map.click(self._pointer(), [self.colour, self.redrawn], chosen, **hidden)
        self.make_preset.click(self._presetter(), [self.kind], [self.preset_file], **shown)
        self.compare.click(self._comparer(), None, [self.comparison], **shown)
        self.blocks.unload(self._leave())

    def _taker(self, role: Any) -> Callable[..., Any]:
        def take(path: str, request: gr.Request) -> list[Any]:
            try:
                return [gr.skip(), escape(self.studio.take(self._session(request), role, path))]
            except DafxhostError as error:
                words = escape(_sentence(error))
                gr.Warning(words, title="Not taken")
                return [None, words]  # the place is free for another file

        return take

    def _forgetter(self, role: Any) -> Callable[..., Any]:
        def forget(request: gr.Request) -> str:
            self._session(request).recordings.pop(role, None)
            return ""

        return forget

    def _chooser(self) -> Callable[..., Any]:
        @plainly
        def choose(name: str, redrawn: int, request: gr.Request) -> list[Any]:
            session = self._session(request)
            effect = self.studio.effect(name)
            session.choose(effect)
            names, kinds = effect.parameter_names, suffixes(effect)
            return [
                self._advice(session),
                redrawn + 1,
                gr.update(choices=names, value=names[0] if names else None),
                gr.update(visible=bool(kinds)),
                gr.update(choices=kinds, value=kinds[0] if kinds else None, visible=bool(kinds)),
                "",
                _rows(effect.table(session.setting)),
            ]

        return choose

    def _advice(self, session: Session) -> str:
        effect = session.chosen()
        words = f"{effect.name} by {effect.provider.name}"
        try:
            return f"{words}; matches by {self.studio.run(effect).path.name}"
        except RunError as error:
            why = _sentence(error)
            return f"{words}. {why[:1].upper()}{why[1:]}. Its knobs, Refine and the map work without."

    def _matcher(self) -> Callable[..., Any]:
        @plainly
        def match(redrawn: int, request: gr.Request) -> list[Any]:
            session = self._session(request)
            run = self.studio.match(session)
            return [f"set by the controller of {run.path.name}", redrawn + 1, *self.listen(session)]

        return match

    def _refiner(self) -> Callable[..., Any]:
        @plainly
        def refine(
            budget: float,
            redrawn: int,
            request: gr.Request,
            progress: gr.Progress = gr.Progress(),  # noqa: B008
        ) -> list[Any]:
            session = self._session(request)

            def tell(tried: int, best: float) -> None:
                score = f", best {best:.3f} of the input's distance" if math.isfinite(best) else ""
                progress((tried, int(budget)), desc=f"{tried} settings tried{score}", unit="settings")

            progress((0, int(budget)), desc="starting", unit="settings")
            found = self.studio.refine(session, int(budget), tell)
            before, after = (
                f"{x:.3f}" if math.isfinite(x) else "no sound" for x in (found.start_score, found.score)
            )
            words = f"tried {found.renders} settings: from {before} to {after} of the input's distance"
            return [words, redrawn + 1, *self.listen(session)]

        return refine

    def _resetter(self) -> Callable[..., Any]:
        @plainly
        def reset(redrawn: int, request: gr.Request) -> list[Any]:
            session = self._session(request)
            session.setting = session.chosen().default_setting()
            return [redrawn + 1, *self.listen(session)]

        return reset

    def _weakener(self) -> Callable[..., Any]:
        @plainly
        def weaken(strength: float, request: gr.Request) -> list[Any]:
            session = self._session(request)
            session.strength = min(1.0, max(0.0, float(strength)))
            return self.listen(session)

        return weaken

    def _drawer(self) -> Callable[..., Any]:
        @plainly
        def draw(
            count: float,
            colour: str,
            request: gr.Request,
            progress: gr.Progress = gr.Progress(),  # noqa: B008
        ) -> str:
            session = self._session(request)

            def tell(done: int, _: float) -> None:
                progress((done, int(count)), desc="rendering", unit="settings")

            self.studio.draw(session, int(count), tell)
            return self.picture(session, colour)

        return draw

    def _painter(self) -> Callable[..., Any]:
        @plainly
        def paint(colour: str, request: gr.Request) -> str:
            return self.picture(self._session(request), colour)

        return paint

    def _pointer(self) -> Callable[..., Any]:
        @plainly
        def point(colour: str, redrawn: int, request: gr.Request, event: gr.EventData) -> list[Any]:
            session = self._session(request)
            data = event._data
            if session.map is None or not isinstance(data, dict) or "x" not in data:
                return [gr.skip()] * (2 + len(self.outputs()))
            chosen = session.map.nearest(*settings_map.unplace(float(data["x"]), float(data["y"])))
            session.setting = session.map.settings[chosen].copy()
            return [self.picture(session, colour, chosen), redrawn + 1, *self.listen(session)]

        return point

    def _presetter(self) -> Callable[..., Any]:
        @plainly
        def preset(kind: str, request: gr.Request) -> Any:
            path = self.studio.preset(self._session(request), kind)
            return gr.update(value=str(path), label=f"Preset ({path.suffix})", visible=True)

        return preset

    def _comparer(self) -> Callable[..., Any]:
        @plainly
        def compare(request: gr.Request) -> str:
            html = self.studio.compare(self._session(request))
            return f'<iframe title="Comparison" sandbox="allow-scripts" srcdoc="{escape(html)}"></iframe>'

        return compare

    def _leave(self) -> Callable[..., Any]:
        def leave(request: gr.Request) -> None:
            self.studio.sessions.drop(_key(request))

        return leave

    def _session(self, request: gr.Request) -> Session:
        return self.studio.sessions.get(_key(request))


def _upload(label: str, role: str) -> Any:
    return gr.Audio(
        label=label, type="filepath", sources=["upload"], editable=False, buttons=[], elem_id=role,
        waveform_options=gr.WaveformOptions(waveform_progress_color=WAVE),
    )  # fmt: skip


def plainly(work: Callable[..., Any]) -> Callable[..., Any]:
    """Errors made on purpose become one sentence on the page."""

    @functools.wraps(work)
    def safe(*args: Any, **options: Any) -> Any:
        try:
            return work(*args, **options)
        except DafxhostError as error:
            raise gr.Error(escape(_sentence(error)), title="", print_exception=False) from error

    return safe


def _sentence(error: DafxhostError) -> str:
    return " ".join(str(error).split()).rstrip(".")


def _key(request: gr.Request) -> str:
    return str(cast("Any", request).session_hash)


def _control(parameter: Any, setting: float) -> Any:
    look = knob_looks.knob(parameter, float(setting))
    name: dict[str, Any] = {"elem_id": f"knob-{parameter.name}", "interactive": True}
    if look.kind == "toggle":
        return gr.Checkbox(look.value, label=look.label, **name)
    if look.kind == "choice":
        return gr.Dropdown(list(look.choices), value=look.value, label=look.label, **name)
    return gr.Slider(
        look.minimum, look.maximum, value=look.value, step=look.step, label=look.label,
        info=look.note or None, **name,
    )  # fmt: skip


def _note(session: Session, index: int) -> str:
    return knob_looks.note(session.chosen().parameters[index], float(session.setting[index]))


def _rows(rows: list[tuple[str, str]]) -> str:
    lines = "".join(f"<tr><td>{escape(name)}</td><td>{escape(value)}</td></tr>" for name, value in rows)
    return f"<table><caption hidden>Setting as rendered</caption><tbody>{lines}</tbody></table>"


def _signature(count: int) -> Any:
    """So many values and the request."""
    from inspect import Parameter, Signature

    kind = Parameter.POSITIONAL_OR_KEYWORD
    values = [Parameter(f"value{i}", kind) for i in range(count)]
    return Signature([*values, Parameter("request", kind, annotation=gr.Request)])
