"""Chains: effects one after the other, as one effect.

As text, which is also a chain's name::

    mda-multiband > mda-combo? > zam-delay@lv2{feedback=0.3}

Each link is the name of an effect (or the path of a plugin file, or a URI), then, if wanted, ``@`` and a
provider, parameters in braces that are fixed at native values and so leave the setting, and ``?`` for a
bypass toggle. The same as a TOML file, whose path stands for the chain::

    [[effect]]
    name = "mda-multiband"

    [[effect]]
    name = "mda-combo"
    bypass = true                    # a toggle "combo.bypass", off by default

    [[effect]]
    name = "zam-delay"
    provider = "lv2"
    fixed = { feedback = 0.3 }

Parameters bear their link's label before their name: "combo.drive". A label is the effect's name without its
family ("mda-"); where several links would have the same one, they are numbered in order: "delay-1.mix",
"delay-2.mix". A bypassed link lets the audio through, later by the latency that the plugin would have.

A chain is an ordinary `Effect`: one setting vector, rendered by one worker (`dafxhost.chain_processor`).
"""

from __future__ import annotations

import json
import os
import re
import tomllib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from dafxhost.effects import Effect, Provider
from dafxhost.errors import DafxhostError, UsageError
from dafxhost.parameters import Parameter, Port

NAME = "chain"
PROCESSOR = "dafxhost.chain_processor:ChainProcessor"
KEYS = {"name": str, "provider": str, "bypass": bool, "fixed": dict}
_LINK = re.compile(
    r"(?P<name>[^{}?]+?)\s*(?:@(?P<provider>[a-z][a-z0-9_-]*))?\s*(?:\{(?P<fixed>[^{}]*)\})?\s*(?P<bypass>\??)"
)


@dataclass(frozen=True)
class Link:
    """One effect of a chain.

    Attributes:
        name: as registered, or a plugin file's path, or a URI.
        provider: which host serves it; "" lets the effect choose.
        bypass: whether the setting has a toggle that takes it out.
        fixed: native values, as people give them, of parameters that the setting does not have.
        where: what messages call it.
    """

    name: str
    provider: str = ""
    bypass: bool = False
    fixed: Mapping[str, Any] = field(default_factory=dict)
    where: str = ""

    @property
    def plain(self) -> bool:
        """Whether nothing but its name is said of it."""
        return not (self.provider or self.bypass or self.fixed)


def is_chain(text: str) -> bool:
    """Whether a text that is no registered name is meant as a chain: it has ">" or braces, or ends as links
    do ("?", "@lv2"), or is the path of a TOML file.
    """
    if text.endswith(".toml"):
        return True
    if os.path.exists(text):
        return False
    match = _LINK.fullmatch(text.strip())
    return ">" in text or "{" in text or bool(match and (match["provider"] or match["bypass"]))


def canonical(name: str) -> str:
    """The name that finds a chain again from anywhere, whatever becomes of its TOML file; other names as they
    are.

    Raises:
        As `chain_effect`.
    """
    return name if _registered(name) or not is_chain(name) else chain_effect(name).name


def _registered(name: str) -> bool:
    from dafxhost.registry import registry

    return name in registry().names("effect")


def parse(text: str) -> list[Link]:
    """The links of a chain as text or in a TOML file, chains in it resolved.

    Raises:
        UsageError: an empty link, or one that cannot be read; says which. Also as `read_toml`.
    """
    return _parse(text, ())


def _parse(text: str, within: tuple[Path, ...]) -> list[Link]:
    if text.endswith(".toml") and ">" not in text:
        return _flat(read_toml(text, within), (*within, Path(text).resolve()))
    pieces = re.split(r">(?![^{]*\})", text)
    links = []
    for number, piece in enumerate(map(str.strip, pieces), 1):
        where = f"link {number} of the chain {text!r}"
        if not piece:
            raise UsageError(
                f"{where} is empty; write effects with one '>' between them, 'mda-delay > mda-combo'"
            )
        match = _LINK.fullmatch(piece)
        if match is None:
            raise UsageError(
                f"{where} cannot be read: {piece!r}; write NAME@PROVIDER{{PARAMETER=VALUE, ...}}?"
            )
        fixed = _assignments(match["fixed"] or "", where)
        links.append(Link(match["name"], match["provider"] or "", bool(match["bypass"]), fixed, where))
    return _flat(links, within)


def _assignments(text: str, where: str) -> dict[str, str]:
    """ "drive=0.7, model=2" -> {"drive": "0.7", "model": "2"}."""
    values: dict[str, str] = {}
    for pair in filter(None, map(str.strip, text.split(","))):
        name, equals, value = (part.strip() for part in pair.partition("="))
        if not (name and equals and value) or name in values:
            raise UsageError(f"{where}: {pair!r}: write fixed parameters as {{NAME=VALUE, ...}}, each once")
        values[name] = value
    return values


def _flat(links: Sequence[Link], within: tuple[Path, ...]) -> list[Link]:
    """Links that are chains replaced by theirs."""
    flat = []
    for link in links:
        if _registered(link.name) or not is_chain(link.name):
            flat.append(link)
            continue
        if not link.plain:
            raise UsageError(
                f"{link.where} is itself a chain ({link.name}), which takes no provider, bypass or fixed "
                "values; give them to its effects"
            )
        flat += _parse(link.name, within)
    return flat


def read_toml(path: str | Path, within: tuple[Path, ...] = ()) -> list[Link]:
    """The links in a TOML file; paths of plugin files in it count from its own folder.

    Args:
        within: files that are being read already.

    Raises:
        UsageError: it cannot be read, is no TOML, or does not describe a chain; says where.
    """
    path = Path(path)
    if path.resolve() in within:
        raise UsageError(f"{path} is a chain that contains itself")
    try:
        text = path.read_text(encoding="utf-8")
        content = tomllib.loads(text)
    except OSError as error:
        raise UsageError(f"cannot read the chain {path}: {error.strerror}") from error
    except ValueError as error:  # says the line
        raise UsageError(f"{path} is not TOML: {error}") from error
    strangers = sorted(set(content) - {"effect"})
    found = content.get("effect")
    tables = found if isinstance(found, list) and all(isinstance(t, dict) for t in found) else []
    if strangers or not tables:
        wrong = f"key {strangers[0]!r} means nothing" if strangers else "it has no [[effect]]"
        raise UsageError(f"{path} is not a chain: {wrong}; it holds one [[effect]] table for each effect")
    heads = [i for i, line in enumerate(text.splitlines(), 1) if re.match(r"\s*\[\[\s*effect\s*\]\]", line)]
    links = []
    for number, table in enumerate(tables):
        line = f", line {heads[number]}" if len(heads) == len(tables) else ""
        links.append(_link(table, f"effect {number + 1} of {path}{line}", path.parent))
    return links


def _link(table: dict[str, Any], where: str, folder: Path) -> Link:
    for key, value in table.items():
        if key not in KEYS:
            raise UsageError(f"{where}: unknown key {key!r}; there are {', '.join(KEYS)}")
        if type(value) is not KEYS[key]:
            kinds = {str: "text", bool: "true or false", dict: "a table of parameters, { drive = 0.7 }"}
            raise UsageError(f"{where}: {key} = {value!r}: {key} is {kinds[KEYS[key]]}")
    name = table.get("name", "").strip()
    if not name:
        raise UsageError(f'{where} has no name; write name = "mda-combo"')
    beside = folder / name
    if not _registered(name) and beside.exists():
        name = str(beside)
    return Link(name, table.get("provider", ""), table.get("bypass", False), table.get("fixed", {}), where)


def to_text(links: Sequence[Link]) -> str:
    """The links as text; `parse` gives them back."""
    return " > ".join(
        link.name
        + (f"@{link.provider}" if link.provider else "")
        + (f"{{{', '.join(f'{k}={v}' for k, v in link.fixed.items())}}}" if link.fixed else "")
        + ("?" if link.bypass else "")
        for link in links
    )


def to_toml(links: Sequence[Link]) -> str:
    """The links as a TOML file that `read_toml` reads."""
    blocks = []
    for link in links:
        lines = ["[[effect]]", f"name = {_quoted(link.name)}"]
        lines += [f"provider = {_quoted(link.provider)}"] if link.provider else []
        lines += ["bypass = true"] if link.bypass else []
        pairs = (
            # Numbers, text, true and false are written alike in JSON and in TOML.
            f"{_quoted(k)} = {json.dumps(v, ensure_ascii=False)}"
            for k, v in link.fixed.items()
        )
        lines += [f"fixed = {{ {', '.join(pairs)} }}"] if link.fixed else []
        blocks.append("\n".join(lines) + "\n")
    return "\n".join(blocks)


def _quoted(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)


def chain_effect(text: str, provider: str | None = None) -> Effect:
    """The chain as an effect. One link of which nothing but a provider is said is that effect itself.

    Args:
        provider: of links that name none.

    Raises:
        UsageError: the chain cannot be read. Else what `dafxhost.effect` raises of a link, naming it;
        UnknownNameError, ParameterError: a fixed parameter that the link has not, or a value it has not.
    """
    links = parse(text)
    provider = None if provider == NAME else provider
    effects = [_load(link, provider) for link in links]
    if len(links) == 1 and not (links[0].bypass or links[0].fixed):
        return effects[0]
    return chain_of(links, effects)


def _load(link: Link, provider: str | None) -> Effect:
    from dafxhost.registry import effect

    try:
        fx = effect(link.name, link.provider or provider)
        for name, value in link.fixed.items():
            fx.parameter(name).parse(value)
    except DafxhostError as error:
        # The kind of error stays, and what it carries.
        error.args = (f"{link.where or link.name}: {error}",)
        raise
    return fx


def chain_of(links: Sequence[Link], effects: Sequence[Effect]) -> Effect:
    """A chain of effects that are there already; `links` say how each takes part, and name it."""
    parameters: list[Parameter] = []
    options: list[dict[str, Any]] = []
    known = []
    labels = _labels([fx.name for fx in effects])
    for number, (link, fx, label) in enumerate(zip(links, effects, labels, strict=True), 1):
        free = [i for i, p in enumerate(fx.parameters) if p.name not in link.fixed]
        natives = {p.name: p.parse(link.fixed[p.name]) for p in fx.parameters if p.name in link.fixed}
        parameters += [replace(fx.parameters[i], name=f"{label}.{fx.parameters[i].name}") for i in free]
        if link.bypass:
            parameters.append(_bypass(label, fx))
        fixed = [
            [i, float(p.to_plugin(float(p.to_setting(natives[p.name])))), p.name]
            for i, p in enumerate(fx.parameters)
            if p.name in natives
        ]
        options.append(link_options(fx, f"link {number} ({fx.name})", free, fixed, link.bypass))
        is_file = os.path.exists(link.name) and not _registered(link.name)
        place = str(Path(link.name).resolve()) if is_file else link.name
        match = _LINK.fullmatch(place)
        if match is None or match["name"] != place or ">" in place:
            raise UsageError(
                f"{link.where or link.name}: a chain cannot name what has >, ?, {{ or }} in its path"
            )
        known.append(replace(link, name=place, fixed={k: _number(v) for k, v in natives.items()}))
    providers = [fx.provider for fx in effects]
    return Effect(
        to_text(known),
        tuple(parameters),
        Provider(
            NAME,
            PROCESSOR,
            {"links": options},
            "; ".join(f"{fx.name} by {fx.provider.name}: {fx.provider.identity}" for fx in effects),
            # `ChainProcessor.read_back` applies the tolerance of each link.
            read_back_tolerance=0.0,
            cheaper_resets=tuple(dict.fromkeys(r for p in providers for r in p.cheaper_resets)),
            parts=tuple(o["part"] for o in options),
        ),
        f"chain of {len(effects)} effects",
        effects[0].inputs,
        effects[-1].outputs,
    )


def link_options(fx: Effect, part: str, free: list[int], fixed: list[Any], bypass: bool) -> dict[str, Any]:
    """What `ChainProcessor` is told of a link, JSON-able: `part`, what messages call it; the positions of its
    `free` plugin values among all `parameters`; `fixed` [[position, plugin value, name], ...]; whether a
    `bypass` value follows; and its effect's name and provider.
    """
    p = fx.provider
    return {
        "part": part,
        "free": free,
        "fixed": fixed,
        "bypass": bypass,
        "parameters": len(fx.parameters),
        "effect": fx.name,
        "provider": p.name,
        "processor": p.processor,
        "options": dict(p.options),
        "identity": p.identity,
        "tolerance": p.read_back_tolerance,
        "resets": list(p.cheaper_resets),
    }


def relocated(chain: Effect, serve: Callable[[Effect], Effect]) -> Effect:
    """The chain with each link's plugin as this machine serves it.

    Args:
        serve: an effect (without its parameters) -> the same with the plugin that is here; may raise.
    """
    links = []
    for link in chain.provider.options["links"]:
        provider = Provider(link["provider"], link["processor"], link["options"], link["identity"])
        found = serve(Effect(link["effect"], (), provider)).provider
        links.append({**link, "options": dict(found.options)})
    return replace(chain, provider=replace(chain.provider, options={"links": links}))


def _labels(names: Sequence[str]) -> list[str]:
    """What each effect's parameters bear before their names, all different."""
    # "mda-combo" -> "combo"; a file's name has no family.
    bases = [(n.partition("-")[2] if _registered(n) else "") or n for n in names]
    made: list[str] = []
    for base in bases:
        label = base
        if bases.count(base) > 1:
            number = 1
            while (label := f"{base}-{number}") in made or label in bases:
                number += 1
        made.append(label)
    return made


def _bypass(label: str, fx: Effect) -> Parameter:
    """The toggle; a plugin may have a parameter of that name itself."""
    name = "bypass" if "bypass" not in fx.parameter_names else "chain_bypass"
    return Parameter(f"{label}.{name}", "toggle", 0, 1, 0, port=Port(0), label="Bypass")


def _number(value: float) -> str:
    """The shortest text that is read as the same number."""
    return repr(int(value)) if value == int(value) and abs(value) < 1e15 else repr(value)
