"""The page of the demo: what is on it, and which handler answers what.

Gradio is imported here, so only `server.py` imports this module, when it is asked to.
"""

from __future__ import annotations

from typing import Any

import gradio as gr

from dafxhost.demo import knobs, settings_map
from dafxhost.demo.handlers import HEARD, Handlers, key, plainly
from dafxhost.demo.looks import CLICK, TITLE, WAVE, control, upload
from dafxhost.demo.sessions import Role
from dafxhost.demo.studio import Studio

INTRO = """# dafxhost
Drop in a recording and one that sounds as it should. **Match** sets an effect so that the first sounds like
the second; **Refine** searches on from wherever the knobs stand. Nothing leaves this machine."""


def build(studio: Studio, first: str) -> Any:
    """The page.

    Args:
        first: the effect that is chosen at first.
    """
    return _Page(studio, first).blocks


class _Page(Handlers):
    """Lays the page out, and wires its parts to the handlers."""

    def __init__(self, studio: Studio, first: str) -> None:
        super().__init__(studio)
        self.first = first
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
            self.inputs: dict[Role, Any] = {
                "input": upload(f"Input: {most}", "input"),
                "reference": upload(f"Reference: {most}", "reference"),
            }

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
            session = studio.sessions.get(key(request))
            if session.effect is None:
                return
            with gr.Column(elem_classes="knobs"):
                made = [
                    control(p, u) for p, u in zip(session.effect.parameters, session.setting, strict=True)
                ]
            if not made:
                gr.Markdown("This effect has no knob.")
                return
            noted = [i for i, c in enumerate(made) if isinstance(c, gr.Slider)]

            @plainly
            def turn(*arguments: Any) -> Any:
                *values, request = arguments
                session = studio.sessions.get(key(request))
                effect = session.chosen()
                if len(values) != len(effect.parameters):
                    return [gr.skip()] * (HEARD + len(noted))  # of the effect before
                session.setting = knobs.turned(effect, session.setting, values)
                words = [knobs.note(effect.parameters[i], float(session.setting[i])) for i in noted]
                notes = [gr.update(info=text) if text else gr.skip() for text in words]
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

    def outputs(self) -> list[Any]:
        """What `listen` updates."""
        return [self.heard, self.table, self.audio_file, self.json_file, self.preset_file]

    def _wire(self) -> None:
        hidden: dict[str, Any] = {"show_progress": "hidden", "api_visibility": "private"}
        shown: dict[str, Any] = {"show_progress": "minimal", "api_visibility": "private"}
        for role, audio in self.inputs.items():
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
        self.effect.change(self.choose, [self.effect, self.redrawn], effect_parts, **hidden)
        self.blocks.load(self.choose, [self.effect, self.redrawn], effect_parts, **hidden)
        found = [self.status, self.redrawn, *self.outputs()]
        self.match.click(self.match_now, [self.redrawn], found, **shown)
        self.refine.click(
            self.refine_now, [self.budget, self.redrawn], found, concurrency_limit=1,
            show_progress="full", show_progress_on=[self.status], api_visibility="private",
        )  # fmt: skip
        self.default.click(self.reset, [self.redrawn], [self.redrawn, *self.outputs()], **shown)
        self.strength.input(
            self.weaken, [self.strength], self.outputs(), trigger_mode="always_last", **hidden
        )
        self.draw.click(
            self.draw_now, [self.count, self.colour], [self.map], concurrency_limit=1,
            show_progress="full", api_visibility="private",
        )  # fmt: skip
        self.colour.input(self.paint, [self.colour], [self.map], **hidden)
        chosen = [self.map, self.redrawn, *self.outputs()]
        self.map.click(self.point, [self.colour, self.redrawn], chosen, **hidden)
        self.make_preset.click(self.preset, [self.kind], [self.preset_file], **shown)
        self.compare.click(self.compare_now, None, [self.comparison], **shown)
        self.blocks.unload(self.leave)


def _signature(count: int) -> Any:
    """So many values and the request."""
    from inspect import Parameter, Signature

    kind = Parameter.POSITIONAL_OR_KEYWORD
    values = [Parameter(f"value{i}", kind) for i in range(count)]
    return Signature([*values, Parameter("request", kind, annotation=gr.Request)])
