"""dafxhost plugins, dafxhost effects: what there is."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer.core import TyperGroup

from dafxhost_cli import completion, scanning
from dafxhost_cli.console import note, result, result_json, table
from dafxhost_cli.options import Json, ProviderOption

if TYPE_CHECKING:
    from dafxhost.effects import Effect


class _EffectsGroup(TyperGroup):
    """`effects [NAME]` is short for `effects show [NAME]`."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        if not args or (args[0] not in self.commands and args[0] != "--help"):
            args = ["show", *args]
        return super().parse_args(ctx, args)


effects_app = typer.Typer(
    cls=_EffectsGroup,
    help="List the effects, show one (effects NAME), or find plugins (effects scan).",
    rich_markup_mode=None,
)


def plugins(as_json: Json = False) -> None:
    """List what is registered, and what is broken.

    Effects, encoders and gradient estimators, with the distribution that offers each.
    """
    from dataclasses import asdict

    from dafxhost.registry import registry

    found = registry()
    rows = [_plugin_row(entry) for entry in found.entries]
    rows.sort(key=lambda row: (row["kind"], row["name"], row["distribution"]))
    names = [(row["kind"], row["name"]) for row in rows]
    for row, key in zip(rows, names, strict=True):
        if names.count(key) > 1:
            row["problem"] = "offered more than once; uninstall all but one of the distributions"
    broken = [asdict(item) for item in found.broken]
    if as_json:
        result_json({"plugins": rows, "broken": broken})
        return
    columns = ("kind", "name", "distribution", "version", "provider")
    result(table(columns, [[row[c] or "-" for c in columns] for row in rows]))
    for row in rows:
        if row["problem"]:
            result(f"problem: {row['kind']} {row['name']} of {row['distribution']}: {row['problem']}")
    for item in broken:
        result(f"broken: {item['distribution']} {item['version']} ({item['entry_point']}): {item['reason']}")


def _plugin_row(entry: Any) -> dict[str, str]:
    from dafxhost.errors import DafxhostError

    row = {
        "kind": entry.kind,
        "name": entry.spec.name,
        "distribution": entry.distribution,
        "version": entry.version,
        "provider": "",
        "summary": entry.spec.summary,
        "problem": "",
    }
    try:
        row["provider"] = entry.spec.provider_text()
    except DafxhostError as error:
        row["problem"] = str(error)
    return row


@effects_app.command("show")
def effects(
    name: Annotated[
        str | None,
        typer.Argument(
            help="Show the parameters of this effect or chain.", autocompletion=completion.effects
        ),
    ] = None,
    provider: ProviderOption = None,
    as_json: Json = False,
) -> None:
    """List the effects, or show one.

    With NAME: its parameters, ranges, defaults, provider and latency.
    """
    if name is not None:
        _show_effect(name, provider, as_json)
        return
    from dafxhost.registry import registry

    rows = [_effect_row(n, provider) for n in registry().names("effect")]
    if as_json:
        result_json(rows)
        return
    lines = [
        [
            r["name"],
            r["provider"] or "-",
            "-" if r["parameters"] is None else str(r["parameters"]),
            r["summary"],
        ]
        for r in rows
    ]
    result(table(("name", "provider", "parameters", "summary"), lines))
    for row in rows:
        if row["problem"]:
            note(f"{row['name']}: {row['problem']}")


def _effect_row(name: str, provider: str | None) -> dict[str, Any]:
    from dafxhost.errors import DafxhostError
    from dafxhost.registry import effect

    row: dict[str, Any] = {"name": name, "provider": "", "parameters": None, "summary": "", "problem": ""}
    try:
        fx = effect(name, provider)
    except DafxhostError as error:
        row["problem"] = str(error)
    else:
        row.update(provider=fx.provider.name, parameters=len(fx.parameters), summary=fx.summary)
    return row


def _show_effect(name: str, provider: str | None, as_json: bool) -> None:
    from dafxhost.registry import effect

    fx = effect(name, provider)
    latency, problem = _latency(fx)
    if as_json:
        result_json(
            {
                "name": fx.name,
                "summary": fx.summary,
                "provider": fx.provider.name,
                "identity": fx.provider.identity,
                "inputs": fx.inputs,
                "outputs": fx.outputs,
                "latency": latency,
                "problem": problem,
                "differences": _differences(fx, name),
                "parameters": [
                    {
                        **p.to_dict(),
                        "label": p.label,
                        "display": p.reading.to_dict() if p.reading else None,
                    }
                    for p in fx.parameters
                ],
            }
        )
        return
    result(f"{fx.name}: {fx.summary}" if fx.summary else fx.name)
    result(f"provider: {fx.provider.name}" + (f" ({fx.provider.identity})" if fx.provider.identity else ""))
    result(f"audio: {fx.inputs} in, {fx.outputs} out")
    result(f"latency: {'-' if latency is None else f'{latency} samples at 44100 Hz'}")
    rows = []
    for p in fx.parameters:
        if p.kind in ("choice", "toggle"):
            span, values = "", "listed below" if p.choices else "off, on"
        else:
            span = f"{p.minimum:g} to {p.maximum:g}"
            values = f"shown as {p.reading.range_text()}" if p.reading else ""
        rows.append([p.name, p.kind, span, p.unit, p.text(p.default), values])
    result("")
    result(table(("parameter", "kind", "range", "unit", "default", "values"), rows))
    for p in fx.parameters:
        if p.choices:
            result(f"\n{p.name}:")
            result("\n".join(f"  {i}  {choice}" for i, choice in enumerate(p.choices)))
    for other, names in _differences(fx, name).items():
        if names["missing"]:
            result(f"provider {other} lacks {', '.join(names['missing'])}")
        if names["more"]:
            result(f"provider {other} also has {', '.join(names['more'])}")
    if problem:
        note(f"{name}: {problem}")


def _differences(fx: Effect, name: str) -> dict[str, dict[str, list[str]]]:
    """Other providers that serve the effect here with other parameters -> which they lack or have more."""
    from dafxhost.errors import DafxhostError, UnknownNameError
    from dafxhost.registry import effect

    try:
        effect(name, "?")  # none has that name: the error says which there are
        return {}
    except UnknownNameError as error:
        known = error.known
    except DafxhostError:
        return {}
    found = {}
    ours = fx.parameter_names
    for other in known:
        try:
            theirs = ours if other == fx.provider.name else effect(name, other).parameter_names
        except DafxhostError:
            continue  # not installed
        if set(theirs) != set(ours):
            found[other] = {
                "missing": [n for n in ours if n not in theirs],
                "more": [n for n in theirs if n not in ours],
            }
    return found


def _latency(fx: Effect) -> tuple[int | None, str]:
    """Samples at 44.1 kHz by which the loaded plugin lags, or None and the reason it cannot be loaded."""
    from dafxhost.errors import DafxhostError
    from dafxhost.execution.executor import Executor

    try:
        with Executor(fx, workers=1) as executor, executor.stream(fx.default_setting(), 44100, 1) as stream:
            return int(stream.latency), ""
    except DafxhostError as error:
        return None, str(error)


effects_app.command("scan")(scanning.scan)
