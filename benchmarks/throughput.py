"""Renders a second of the executor, beside the ideal and beside other layouts, all in one run.

    python benchmarks/throughput.py                          all effects
    python benchmarks/throughput.py --effect "lab 2 ms" --layouts pipes --settings 8 --json out.json

*ideal* is the plugins' own time (prepare and process, nothing else), taken in the one worker of an executor
that has the machine to itself, over the number of cores. The layouts are those of layouts.py. They are timed
in turn, A B C A B C ..., each turn giving one ratio; medians and quartiles of the ratios are reported. Every
layout's samples are compared with the executor's: exit status 1 if they differ.
"""

from __future__ import annotations

import argparse
import functools
import sys
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
from bench_effects import LAB_MILLISECONDS, REAL, calibrated, lab, real
from layouts import RIVALS, ForbiddenError
from measure import RATE, cores, in_turn, machine, noise, random_settings, ratios, save, say, summary
from stage import Stage

from dafxhost.effects import Effect
from dafxhost.errors import DafxhostError

LAB = {f"lab {m:g} ms": m for m in LAB_MILLISECONDS}
AIM = 0.10  # by which a lab effect may miss its milliseconds
# A batch for what a job costs beside its plugin: clips of 64 samples, settings a clip.
SHORT = ((1024, 1), (128, 8))
STARTED = ("executor", "loop", "mp.Pool", "joblib", "pipes", "pipes, spawn")


def open_stages(
    names: tuple[str, ...], effect: Effect, audio: np.ndarray, settings: np.ndarray, **options: Any
) -> tuple[ExitStack, dict[str, Stage], dict[str, str]]:
    """A stage for each layout, those left out with the reason, and what closes them all.

    `allocator` is the rivals'; dafxhost's workers always have their own.
    """
    stack, stages, left_out = ExitStack(), {}, {}
    allocator = options.pop("allocator", "worker")
    try:
        for name in names:
            own = {"allocator": allocator if name in RIVALS else "worker"}
            try:
                stages[name] = Stage(name, effect, audio, settings, RATE, workers=cores(), **own, **options)
            except ForbiddenError as error:
                left_out[name] = str(error)
                continue
            stack.callback(stages[name].close)
    except BaseException:
        for stage in stages.values():
            stage.kill()
        raise
    return stack, stages, left_out


def compare(
    effect: Effect,
    clips: int,
    columns: int,
    seconds: float,
    *,
    layouts: tuple[str, ...] = RIVALS,
    turns: int = 7,
    turn_seconds: float = 0.25,
    budget: float = 30.0,
    **options: Any,
) -> dict[str, Any]:
    """One row of the table: an effect by all layouts.

    Args:
        clips, columns, seconds: the batch: clips, settings a clip, length of a clip.
        layouts: rivals to measure beside the executor.
        turns, turn_seconds: rounds, and the least time of each layout in each.
        budget: seconds after which three rounds are enough.
        options: `items` (processes of "pipes"), `allocator` of the rivals, `reset` (else the executor's).
    """
    audio = noise(clips, seconds)
    settings = random_settings(clips, columns, len(effect.parameters))
    names = ("alone", "executor", "executor, no copy", *layouts)
    # The executor may show that something cheaper than a new instance gives the same samples. Rivals could
    # not know, but are given it: what is compared is how the work is laid out, not how much of it there is.
    reset = options.setdefault("reset", proven_reset(effect, audio, settings))
    stack, stages, left_out = open_stages(names, effect, audio, settings, **options)
    with stack:
        calls = {name: functools.partial(stage.turn, turn_seconds) for name, stage in stages.items()}
        seen = in_turn(calls, turns, budget)
        renders = clips * columns
        alone = [plugin for _, plugin in seen["alone"]]
        walls = {name: [wall for wall, _ in times] for name, times in seen.items()}
        ideal = [plugin / cores() for plugin in alone]
        ours = walls["executor"]
        inside = [plugin / cores() for _, plugin in seen["executor"]]
        return {
            "effect": effect.name,
            "provider": effect.provider.name,
            "reset": reset,
            "plugin_ms": summary([1e3 * p / renders for p in alone]),
            "plugin_ms_in_parallel": summary([1e3 * p * cores() / renders for p in inside]),
            "renders_per_second": {
                "ideal": renders / summary(ideal)["median"],
                **{name: renders / summary(w)["median"] for name, w in walls.items()},
            },
            "share_of_ideal": ratios(ideal, ours),
            "share_of_ideal_no_copy": ratios(ideal, walls["executor, no copy"]),
            "share_seen_by_workers": ratios(inside, ours),
            "times": {name: ratios(walls[name], ours) for name in layouts if name in walls},
            "identical": {n: s.digest == stages["executor"].digest for n, s in stages.items()},
            "left_out": left_out,
            "turns": len(alone),
        }


def proven_reset(effect: Effect, audio: np.ndarray, settings: np.ndarray) -> str:
    """The reset policy that an executor settles on for many such clips."""
    stage = Stage("alone", effect, audio[:1], settings[:1, :1], RATE, workers=1)
    try:
        return stage.policy()
    finally:
        stage.close()


def plugin_milliseconds(effect: Effect, clips: int, columns: int, seconds: float, turns: int = 5) -> float:
    """Of one render by a worker that has the machine to itself: the median of some batches."""
    audio, settings = noise(clips, seconds), random_settings(clips, columns, len(effect.parameters))
    stage = Stage("alone", effect, audio, settings, RATE, workers=1)
    try:
        times = [stage.turn(0.05)[1] for _ in range(turns)]
    finally:
        stage.close()
    return 1e3 * summary(times)["median"] / (clips * columns)


def find(name: str, clips: int, columns: int, seconds: float) -> tuple[Effect, str]:
    """The effect of that name, and a remark about it. Raises DafxhostError if it is not installed."""
    if name not in LAB:
        return real(name), ""
    wanted = LAB[name]
    effect, took = calibrated(wanted, lambda e: plugin_milliseconds(e, clips, columns, seconds))
    off = abs(took - wanted) / wanted > AIM
    return effect, f"calibrated to {took:.2f} ms, more than 10 % off {wanted:g} ms" if off else ""


def overhead(layouts: tuple[str, ...] = RIVALS, turns: int = 7) -> list[dict[str, Any]]:
    """Microseconds a job costs besides the plugin: renders of 64 samples, wall time over renders.

    With `cores()` workers side by side, so a core spends that many times as much on a job.
    """
    rows = []
    for clips, columns in SHORT:
        row = compare(
            lab(passes=0.0), clips, columns, 64 / RATE, layouts=layouts, turns=turns, items=32, budget=20.0
        )
        micro = {name: 1e6 / rate for name, rate in row["renders_per_second"].items() if name != "alone"}
        rows.append({"clips": clips, "settings": columns, "microseconds": micro, **row})
    return rows


def startup(
    effect: Effect,
    clips: int = 32,
    seconds: float = 5.0,
    turns: int = 3,
    preload: tuple[str, ...] = ("torch",),
) -> dict[str, Any]:
    """Seconds from nothing to the first batch's result, in a process that has torch loaded, as training has.

    Every turn starts each layout anew; `times` are the ratios to the executor's in the same turn.
    """
    audio = noise(clips, seconds)
    settings = random_settings(clips, 1, len(effect.parameters))

    def first(name: str) -> float:
        stage = Stage(name, effect, audio, settings, RATE, workers=cores(), preload=preload)
        stage.close()
        return stage.first

    seen = in_turn({name: functools.partial(first, name) for name in STARTED}, turns)
    return {
        "effect": effect.name,
        "clips": clips,
        "clip_seconds": seconds,
        "preload": preload,
        "seconds": {name: summary(values) for name, values in seen.items()},
        "times": {name: ratios(values, seen["executor"]) for name, values in seen.items()},
    }


def run(options: argparse.Namespace) -> dict[str, Any]:
    report: dict[str, Any] = {
        "machine": machine(),
        "clips": options.batch,
        "settings": options.settings,
        "seconds": options.seconds,
        "sample_rate": RATE,
        "allocator_of_rivals": options.allocator,
        "rows": [],
        "missing": {},
    }
    for name in options.effect or [*REAL, *LAB]:
        say(f"throughput: {name}, {options.settings} settings a clip")
        try:
            effect, remark = find(name, options.batch, options.settings, options.seconds)
        except DafxhostError as error:
            report["missing"][name] = str(error)
            say(f"  left out: {error}")
            continue
        row = compare(
            effect,
            options.batch,
            options.settings,
            options.seconds,
            layouts=tuple(options.layouts),
            turns=options.turns,
            turn_seconds=options.turn_seconds,
            allocator=options.allocator,
        )
        if name in LAB and not remark and abs(row["plugin_ms"]["median"] / LAB[name] - 1) > AIM:
            remark = (
                f"drifted to {row['plugin_ms']['median']:.2f} ms, more than 10 % off, while it was measured"
            )
        report["rows"].append({"name": name, "remark": remark, **row})
    if options.overhead:
        say("throughput: overhead per job")
        report["overhead"] = overhead(tuple(options.layouts), options.turns)
    if options.startup:
        say("throughput: start-up")
        report["startup"] = startup(_startup_effect())
    return report


def _startup_effect() -> Effect:
    """The effect the project is measured by, or ours where it is not installed."""
    try:
        return real("mda-combo (LV2)")
    except DafxhostError:
        return lab(passes=18.0)


def table(report: dict[str, Any]) -> str:
    """For the terminal; the page has its own."""
    m = report["machine"]
    lines = [
        f"{report['clips']} clips of {report['seconds']:g} s, {report['settings']} settings each; "
        f"{m['cores']} cores ({m['processor']}), {m['busy_cores_before']:.2f} of them busy before. "
        "Renders per second:",
        f"{'':24}{'ms':>7}{'ideal':>9}{'executor':>9}{'share':>7}{'no copy':>8}"
        + "".join(f"{name:>9}" for name in RIVALS),
    ]
    for r in report["rows"]:
        rates = r["renders_per_second"]
        lines.append(
            f"{r['name']:24}{r['plugin_ms']['median']:7.2f}{rates['ideal']:9.0f}{rates['executor']:9.0f}"
            f"{r['share_of_ideal']['median']:7.3f}{r['share_of_ideal_no_copy']['median']:8.3f}"
            + "".join(f"{rates[n]:9.0f}" if n in rates else f"{'-':>9}" for n in RIVALS)
            + (f"  ({r['remark']})" if r["remark"] else "")
        )
    for r in report.get("overhead", []):
        micro = r["microseconds"]
        lines.append(
            f"microseconds a job of 64 samples, {r['clips']} x {r['settings']}: "
            + ", ".join(f"{name} {us:.1f}" for name, us in micro.items())
        )
    if "startup" in report:
        seconds = report["startup"]["seconds"]
        lines.append(
            "seconds to the first batch, torch loaded: "
            + ", ".join(f"{name} {s['median']:.2f}" for name, s in seconds.items())
        )
    return "\n".join(lines)


def differing(report: dict[str, Any]) -> list[str]:
    """Layouts whose samples are not the executor's."""
    return [
        f"{r.get('name', 'overhead')}: {layout}"
        for r in [*report["rows"], *report.get("overhead", [])]
        for layout, same in r["identical"].items()
        if not same
    ]


def arguments(given: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Renders per second beside the ideal and other layouts.")
    parser.add_argument("--effect", action="append", choices=[*REAL, *LAB], help="by default all")
    parser.add_argument("--layouts", nargs="*", default=list(RIVALS), choices=RIVALS, help="rivals")
    parser.add_argument("--batch", type=int, default=32, help="clips")
    parser.add_argument("--seconds", type=float, default=5.0, help="length of a clip")
    parser.add_argument("--settings", type=int, default=1, help="settings for each clip")
    parser.add_argument("--turns", type=int, default=7, help="rounds")
    parser.add_argument("--turn-seconds", type=float, default=0.25, help="least time of a layout in a round")
    parser.add_argument("--allocator", choices=["worker", "default"], default="worker", help="of the rivals")
    parser.add_argument("--overhead", action="store_true", help="measure what a job costs, too")
    parser.add_argument("--startup", action="store_true", help="measure start-up, too")
    parser.add_argument("--json", type=Path, help="write the results there")
    return parser.parse_args(given)


def main(given: list[str] | None = None) -> int:
    options = arguments(given)
    report = run(options)
    print(table(report))
    if options.json:
        save(options.json, report)
    wrong = differing(report)
    for text in wrong:
        print(f"throughput.py: other samples than the executor's: {text}", file=sys.stderr)
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
