"""Effects by where they are instead of by name: the path of a plugin file, or an LV2 plugin's URI."""

from __future__ import annotations

import re
from pathlib import Path

from dafxhost.effects import Effect
from dafxhost.errors import EffectUnavailableError, UnknownNameError
from dafxhost_effects.hosts import lv2_info, plugin_info


def is_location(text: str) -> bool:
    """Whether a text can only mean a plugin file or a URI: it has a slash or a colon, or ends as such files
    do."""
    return any(c in text for c in "/:\\") or text.endswith((".vst3", ".so"))


def from_location(text: str, provider: str | None = None) -> Effect:
    """The effect of a .vst3 (providers "vst3", "dawdreamer"), VST2 .so ("dawdreamer") or LV2 URI ("lv2",
    "dawdreamer"). Its name is the file's name or the URI's last word, in lower case.

    Raises:
        EffectUnavailableError: nothing there. PluginError: it cannot be loaded.
        UnknownNameError: a provider that does not load such plugins.
    """
    if re.match(r"[a-zA-Z][a-zA-Z0-9+.-]*:", text):
        _check(text, provider, ("lv2", "dawdreamer"))
        description = lv2_info.find(text)
        effect = lv2_info.effect(_name(re.split(r"[/:#]", text.rstrip("/"))[-1]), description)
        return lv2_info.by_dawdreamer(effect, description) if provider == "dawdreamer" else effect
    path = Path(text).expanduser()
    known = ("vst3", "dawdreamer") if path.suffix == ".vst3" else ("dawdreamer",)
    _check(text, provider, known)
    if path.suffix not in (".vst3", ".so"):
        raise EffectUnavailableError(
            f"{text} is no plugin file: those end in .vst3 or .so, and LV2 goes by URI"
        )
    return plugin_info.effect(_name(path.stem), path.resolve(), provider or known[0])


def _check(text: str, provider: str | None, known: tuple[str, ...]) -> None:
    if provider is not None and provider not in known:
        raise UnknownNameError(f"provider of {text}", provider, known)


def _name(text: str) -> str:
    return re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-") or "plugin"
