"""Effects by where they are instead of by name: the path of a plugin file, or an LV2 plugin's URI."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from dafxhost.effects import Effect
from dafxhost.errors import EffectUnavailableError, PluginError, UnknownNameError
from dafxhost_effects.hosts import lv2_info, plugin_info

_SUFFIXES = (".vst3", ".so", ".lv2")
# A plugin of a file that holds several: "Bundle.vst3#Name", or with a colon.
_NAMED = re.compile(r"(?P<path>.+?\.(?:vst3|so|lv2)/?)[#:](?P<plugin>.+)", re.DOTALL)


def is_location(text: str) -> bool:
    """Whether a text can only mean a plugin file or a URI: it has a slash or a colon, or ends as such files
    do."""
    return any(c in text for c in "/:\\") or text.endswith(_SUFFIXES) or _NAMED.fullmatch(text) is not None


def from_location(
    text: str,
    provider: str | None = None,
    *,
    timeout: float = plugin_info.TIMEOUT,
) -> Effect:
    """The effect of a .vst3 (providers "vst3", "dawdreamer"), VST2 .so ("dawdreamer"), LV2 URI or LV2 bundle
    ("lv2", "dawdreamer"). Of a file that holds several plugins, `FILE#NAME` or `FILE:NAME` is one; of an LV2
    bundle, `BUNDLE#URI`. Its name is the plugin's, the file's, or the URI's last word, in lower case.

    Args:
        timeout: seconds that a plugin may take to describe itself.

    Raises:
        EffectUnavailableError: nothing there. PluginError: it cannot be loaded, or is one of several.
        UnknownNameError: a provider that does not load such plugins, or a plugin that a file does not hold.
    """
    named = _NAMED.fullmatch(text)
    if named is None and re.match(r"[a-zA-Z][a-zA-Z0-9+.-]*:", text):
        return _lv2(text, lv2_info.find, text, provider)
    path = Path(named["path"] if named else text).expanduser()
    plugin = named["plugin"] if named else ""
    if path.suffix == ".lv2":
        return _lv2(text, lambda _: _of_bundle(path, plugin), plugin, provider)
    known = ("vst3", "dawdreamer") if path.suffix == ".vst3" else ("dawdreamer",)
    _check(text, provider, known)
    if path.suffix not in _SUFFIXES:
        raise EffectUnavailableError(
            f"{text} is no plugin file: those end in .vst3, .so or .lv2, and LV2 also goes by URI"
        )
    name = _name(plugin or path.stem)
    return plugin_info.effect(name, path.resolve(), provider or known[0], plugin_name=plugin, timeout=timeout)


def _lv2(text: str, find: Any, plugin: str, provider: str | None) -> Effect:
    _check(text, provider, ("lv2", "dawdreamer"))
    description = find(plugin)
    name = _name(re.split(r"[/:#]", description["uri"].rstrip("/"))[-1])
    effect = lv2_info.effect(name, description)
    return lv2_info.by_dawdreamer(effect, description) if provider == "dawdreamer" else effect


def _of_bundle(path: Path, plugin: str) -> dict[str, Any]:
    """The description of a bundle's plugin of that URI or name, or of its only one."""
    if not (path / "manifest.ttl").is_file():
        raise EffectUnavailableError(f"{path} is no LV2 bundle: it holds no manifest.ttl")
    found = lv2_info.describe_bundle(path.resolve())
    if not plugin and len(found) == 1:
        return found[0]
    for description in found:
        if plugin in (description["uri"], description["name"]):
            return description
    if not plugin:
        raise PluginError(
            f"{path} holds {len(found)} plugins; name one, as in {path}#{found[0]['uri']}"
            if found
            else f"{path} describes no plugin"
        )
    raise UnknownNameError(f"plugin of {path}", plugin, [d["uri"] for d in found])


def _check(text: str, provider: str | None, known: tuple[str, ...]) -> None:
    if provider is not None and provider not in known:
        raise UnknownNameError(f"provider of {text}", provider, known)


def _name(text: str) -> str:
    return re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-") or "plugin"
