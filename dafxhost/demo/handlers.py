"""What happens on the demo's page: each handler works on the session of the page that called it.

Every error made on purpose is one sentence in a corner of the page.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from html import escape
from typing import Any, cast

import gradio as gr

from dafxhost.demo import settings_map
from dafxhost.demo.looks import table
from dafxhost.demo.sessions import Role, Session
from dafxhost.demo.studio import Heard, Studio
from dafxhost.errors import DafxhostError, RunError
from dafxhost.presets import suffixes

HEARD = 5
"""Parts of the page that `Handlers.listen` updates."""


def plainly(work: Callable[..., Any]) -> Callable[..., Any]:
    """Errors made on purpose become one sentence on the page."""

    @functools.wraps(work)
    def safe(*args: Any, **options: Any) -> Any:
        try:
            return work(*args, **options)
        except DafxhostError as error:
            raise gr.Error(escape(sentence(error)), title="", print_exception=False) from error

    return safe


def sentence(error: DafxhostError) -> str:
    """What it says, on one line and without a full stop."""
    return " ".join(str(error).split()).rstrip(".")


def key(request: gr.Request) -> str:
    """What the server calls the page that asks."""
    return str(cast("Any", request).session_hash)


class Handlers:
    """Answers what users do. What a method returns goes to the parts that `app.py` wires it to."""

    def __init__(self, studio: Studio) -> None:
        self.studio = studio

    def listen(self, session: Session) -> list[Any]:
        """Render, and show what was rendered; without an input, the setting alone."""
        if "input" not in session.recordings:
            rows = session.chosen().table(session.setting)
            return [gr.skip(), table(rows), gr.skip(), gr.skip(), gr.skip()]
        done: Heard = self.studio.hear(session)
        return [
            str(done.audio),
            table(done.rows),
            gr.update(value=str(done.audio), interactive=True),
            gr.update(value=str(done.document), interactive=True),
            gr.update(visible=False),
        ]

    def picture(self, session: Session, colour: str | None, chosen: int | None = None) -> str:
        """The session's map, if there is one, coloured by the parameter of that name."""
        effect = session.chosen()
        if session.map is None:
            return ""
        names = effect.parameter_names
        index = names.index(colour) if colour in names else 0
        return settings_map.svg(session.map, effect.parameters[index], index, chosen)

    def _taker(self, role: Role) -> Callable[..., Any]:
        def take(path: str, request: gr.Request) -> list[Any]:
            try:
                return [gr.skip(), escape(self.studio.take(self._session(request), role, path))]
            except DafxhostError as error:
                words = escape(sentence(error))
                gr.Warning(words, title="Not taken")
                return [None, words]  # the place is free for another file

        return take

    def _forgetter(self, role: Role) -> Callable[..., Any]:
        def forget(request: gr.Request) -> str:
            self._session(request).recordings.pop(role, None)
            return ""

        return forget

    @plainly
    def choose(self, name: str, redrawn: int, request: gr.Request) -> list[Any]:
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
            table(effect.table(session.setting)),
        ]

    def _advice(self, session: Session) -> str:
        effect = session.chosen()
        words = f"{effect.name} by {effect.provider.name}"
        try:
            return f"{words}; matches by {self.studio.run(effect).path.name}"
        except RunError as error:
            why = sentence(error)
            return f"{words}. {why[:1].upper()}{why[1:]}. Its knobs, Refine and the map work without."

    @plainly
    def match_now(self, redrawn: int, request: gr.Request) -> list[Any]:
        session = self._session(request)
        run = self.studio.match(session)
        return [f"set by the controller of {run.path.name}", redrawn + 1, *self.listen(session)]

    @plainly
    def refine_now(
        self,
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

    @plainly
    def reset(self, redrawn: int, request: gr.Request) -> list[Any]:
        session = self._session(request)
        session.setting = session.chosen().default_setting()
        return [redrawn + 1, *self.listen(session)]

    @plainly
    def weaken(self, strength: float, request: gr.Request) -> list[Any]:
        session = self._session(request)
        session.strength = min(1.0, max(0.0, float(strength)))
        return self.listen(session)

    @plainly
    def draw_now(
        self,
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

    @plainly
    def paint(self, colour: str, request: gr.Request) -> str:
        return self.picture(self._session(request), colour)

    @plainly
    def point(self, colour: str, redrawn: int, request: gr.Request, event: gr.EventData) -> list[Any]:
        session = self._session(request)
        data = event._data
        if session.map is None or not isinstance(data, dict) or "x" not in data:
            return [gr.skip()] * (2 + HEARD)
        chosen = session.map.nearest(*settings_map.unplace(float(data["x"]), float(data["y"])))
        session.setting = session.map.settings[chosen].copy()
        return [self.picture(session, colour, chosen), redrawn + 1, *self.listen(session)]

    @plainly
    def preset(self, kind: str, request: gr.Request) -> Any:
        path = self.studio.preset(self._session(request), kind)
        return gr.update(value=str(path), label=f"Preset ({path.suffix})", visible=True)

    @plainly
    def compare_now(self, request: gr.Request) -> str:
        html = self.studio.compare(self._session(request))
        return f'<iframe title="Comparison" sandbox="allow-scripts" srcdoc="{escape(html)}"></iframe>'

    def leave(self, request: gr.Request) -> None:
        self.studio.sessions.drop(key(request))

    def _session(self, request: gr.Request) -> Session:
        return self.studio.sessions.get(key(request))
