"""The tables of docs/benchmarks.md, as Markdown, from the results of the benchmarks."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from layouts import RIVALS

Results = Mapping[str, Mapping[str, Any]]
NOT_YET = "*Not measured yet: `python benchmarks/page.py --run`.*"
THROUGHPUTS = ("throughput", "throughput_8", "throughput_default")
COPY, NO_COPY = "executor", "executor, no copy"
# What was promised: share of the ideal by the plugin's milliseconds, and times the speed of pipes.
SHARE_LONG, SHARE_SHORT, TIMES_PIPES = 0.95, 0.80, 3.0


def rows(head: Sequence[str], body: Sequence[Sequence[str]]) -> str:
    """A Markdown table; all columns but the first to the right."""
    lines = [head, ["---", *["---:"] * (len(head) - 1)], *body]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def spread(value: Mapping[str, float | None] | None, digits: int = 2) -> str:
    """`0.93 (0.91 to 0.95)`: median and quartiles."""
    if not value or value["median"] is None:
        return "–"
    return f"{value['median']:.{digits}f} ({value['low']:.{digits}f} to {value['high']:.{digits}f})"


def middle(value: Mapping[str, float | None] | None, digits: int = 1) -> str:
    return "–" if not value or value["median"] is None else f"{value['median']:.{digits}f}"


def signed(value: float, digits: int = 2) -> str:
    """Without the sign of what is nothing when rounded."""
    return f"{round(value, digits) + 0.0:.{digits}f}"


def number(value: float | None, digits: int = 0) -> str:
    return "–" if value is None else f"{value:.{digits}f}"


def image(folder: Path, file: str, text: str) -> list[str]:
    """The plot, if it is there."""
    return [f"![{text}](plots/{file})"] if (folder / file).exists() else []


def machine(results: Results, plots: Path) -> str:
    """On what it was measured, and how calm that was."""
    found = [r["machine"] for r in results.values() if "machine" in r]
    if not found:
        return NOT_YET
    m = found[0]
    versions = ", ".join(f"{name} {version}" for name, version in m["versions"].items())
    text = [
        f"{m['cores']} cores ({m['processor']}), {m['memory_gib']} GiB, Python {m['python']}, {versions}."
    ]
    steps = results.get("run", {}).get("steps", {})
    if steps:
        each = ", ".join(f"{name} {s['others_cores']:.2f}" for name, s in steps.items())
        minutes = sum(s["minutes"] for s in steps.values())
        text.append(
            f"The run took {minutes:.0f} minutes. Cores that others used meanwhile, on average: {each}."
        )
        if any(s["others_cores"] > 0.1 * m["cores"] for s in steps.values()):
            text.append("**The machine was not calm: do not rely on these figures.**")
    return " ".join(text)


def _throughput(report: Mapping[str, Any]) -> list[str]:
    head = ["", "plugin ms", "renders/s", "share of ideal", "no copy", "as workers saw it"]
    head += [f"× {name}" for name in RIVALS]
    body, notes = [], []
    for r in report["rows"]:
        mark = "*" if r["remark"] else ""
        body.append(
            [
                r["name"] + mark,
                middle(r["plugin_ms"], 2),
                number(r["renders_per_second"][COPY]),
                spread(r["share_of_ideal"]),
                middle(r["share_of_ideal_no_copy"], 2),
                middle(r["share_seen_by_workers"], 2),
                *[middle(r["times"].get(name)) for name in RIVALS],
            ]
        )
        if r["remark"]:
            notes.append(f"\\* {r['name']}: {r['remark']}.")
        if r["reset"] != "fresh":
            notes.append(f"{r['name']}: proven reset {r['reset']!r} on all sides.")
        notes += [f"{r['name']}, {name}: {why}." for name, why in r["left_out"].items()]
    notes += [f"{name} left out: {why}" for name, why in report["missing"].items()]
    what = f"{report['clips']} clips of {report['seconds']:g} s at {report['sample_rate']} Hz"
    if report["allocator_of_rivals"] != "worker":
        notes.append("Rivals ran with glibc's default allocator settings.")
    lines = [f"**{what}, {report['settings']} setting{'s' * (report['settings'] > 1)} each**", ""]
    lines += [rows(head, body), ""]
    lines += [f"- {note}" for note in notes]
    return lines


def throughput(results: Results, plots: Path) -> str:
    reports = [results[name] for name in THROUGHPUTS if name in results]
    if not reports:
        return NOT_YET
    lines: list[str] = []
    for report in reports:
        lines += [*_throughput(report), ""]
    wrong = [
        f"{r['name']} by {layout}"
        for report in reports
        for r in report["rows"]
        for layout, same in r["identical"].items()
        if not same
    ]
    same = "Every layout gave the executor's samples, bit for bit."
    lines.append(f"**Other samples than the executor's: {', '.join(wrong)}.**" if wrong else same)
    return "\n".join([*lines, "", *image(plots, "throughput.svg", "Share of the ideal, by effect")]).rstrip()


def aims(results: Results, plots: Path) -> str:
    """What was promised, and whether it holds: computed, not written."""
    reports = [results[name] for name in ("throughput", "throughput_8") if name in results]
    if "throughput" not in results:
        return NOT_YET
    body = []
    for report in reports:
        for r in report["rows"]:
            # Of the milliseconds inside the run. Less than 0.27, or between, was promised nothing.
            ms = r["plugin_ms_in_parallel"]["median"]
            aim = SHARE_LONG if ms >= 1.8 else SHARE_SHORT if ms >= 0.27 else None
            rates = r["renders_per_second"]
            pipes = r["times"].get("pipes", {}).get("median")
            promised = report["clips"] >= 32 and report["settings"] == 1
            shares = [r[key]["median"] for key in ("share_seen_by_workers", "share_of_ideal")]
            body.append(
                [
                    r["name"],
                    str(report["settings"]),
                    number(ms, 2),
                    *["–" if aim is None else verdict(share, aim) for share in shares],
                    "–" if pipes is None else verdict(pipes, TIMES_PIPES) if promised else f"{pipes:.2f}",
                    "–" if pipes is None else f"{rates['ideal'] / rates['pipes']:.2f}",
                ]
            )
    head = [
        "",
        "settings",
        "plugin ms",
        "share, as workers saw it",
        "share of ideal",
        "× pipes",
        "ideal × pipes",
    ]
    text = rows(head, body)
    started = results["throughput"].get("startup")
    without = [r for r in results["throughput"]["rows"] if started and r["effect"] == started["effect"]]
    if started and without:
        aim = without[0]["times"]["pipes"]["median"]
        forked, spawned = (started["times"][name]["median"] for name in ("pipes", "pipes, spawn"))
        text += (
            f"\n\nWith start-up, {started['effect']}, × pipes: {verdict(forked, aim)} where they are forked, "
            f"{verdict(spawned, aim)} where they are spawned."
        )
    return text


def verdict(value: float, aim: float) -> str:
    return f"{value:.2f}, {'met' if value >= aim else '**missed**'} ({aim:.2f})"


def overhead(results: Results, plots: Path) -> str:
    cases = results.get("throughput", {}).get("overhead")
    if not cases:
        return NOT_YET
    names = [COPY, NO_COPY, *RIVALS]
    body = [
        [f"{c['clips']} clips, {c['settings']} setting{'s' * (c['settings'] > 1)}"]
        + [number(c["microseconds"].get(name), 1) for name in names]
        for c in cases
    ]
    return rows(["µs a job of 64 samples", *names], body)


def startup(results: Results, plots: Path) -> str:
    found = results.get("throughput", {}).get("startup")
    if not found:
        return NOT_YET
    names = list(found["seconds"])
    body = [
        ["seconds", *[spread(found["seconds"][name]) for name in names]],
        ["times the executor's", *[middle(found["times"][name], 2) for name in names]],
    ]
    what = f"{found['effect']}, {found['clips']} clips of {found['clip_seconds']:g} s"
    return rows([what, *names], body)


def workers(results: Results, plots: Path) -> str:
    found = results.get("scaling", {}).get("worker")
    if not found:
        return NOT_YET
    body = [
        [name, spread(c["start_seconds"]), *[number(c[f"{kind}_mib"]) for kind in ("uss", "pss", "rss")]]
        for name, c in found.items()
        if name != "facts"
    ]
    facts = found["facts"]
    torch = "**torch among them**" if facts["torch"] else "torch not among them"
    table = rows(["one worker with", "starts in s", "USS MiB", "PSS MiB", "RSS MiB"], body)
    return f"{table}\n\nA worker with a numpy effect has {facts['modules']} modules loaded, {torch}."


CURVES = {
    "batch_size.svg": "Milliseconds a render against clips in a batch",
    "settings.svg": "Milliseconds a render against settings on one clip",
    "clip_length.svg": "Milliseconds a second of audio against the length of a clip",
    "workers.svg": "Speed against the number of workers",
}


def scaling(results: Results, plots: Path) -> str:
    if not results.get("scaling", {}).get("curves"):
        return NOT_YET
    return "\n\n".join(line for file, text in CURVES.items() for line in image(plots, file, text)) or NOT_YET


def gradients(results: Results, plots: Path) -> str:
    found = results.get("gradients", {}).get("estimators")
    if not found:
        return NOT_YET
    body = [
        [name, str(by_space["renders"]), spread(by_space.get("loss")), spread(by_space.get("signal"))]
        for name, by_space in found.items()
    ]
    steps = rows(["steps of autograd", "renders a clip", "loss space", "signal space"], body)
    losses = [[name, spread(value)] for name, value in results["gradients"]["losses"].items()]
    return steps + ("\n\n" + rows(["time of ours over auraloss's", ""], losses) if losses else "")


def soak(results: Results, plots: Path) -> str:
    report = results.get("soak")
    if not report:
        return NOT_YET
    body = []
    for name, kinds in report["slopes"].items():
        cells = []
        for kind in ("anonymous", "rss", "arena", "descriptors"):
            s = kinds.get(kind)
            if s is None or s["slope"] is None:
                cells.append("–")
            else:
                grows = "" if s["flat"] else " **grows**"
                cells.append(f"{signed(s['slope'])} ± {s['error']:.2f}{grows}")
        last = kinds["anonymous"]["last"]
        body.append([name, number(last / 1024, 1), *cells])
    effects = ", ".join(f"{name} {n:,}" for name, n in report["effects"].items())
    head = ["in 1,000 renders", "MiB at the end", "anonymous KiB", "RSS KiB", "arena KiB", "descriptors"]
    text = (
        f"{report['renders']:,} renders of {report['seconds']:g} s in {report['minutes']:.1f} minutes "
        f"({effects}); {report['replaced']} workers replaced, {report['retried']} renders tried again."
    )
    return "\n\n".join([text, rows(head, body), *image(plots, "soak.svg", "Memory over the soak")])


SECTIONS: dict[str, Callable[[Results, Path], str]] = {
    "machine": machine,
    "aims": aims,
    "throughput": throughput,
    "overhead": overhead,
    "startup": startup,
    "workers": workers,
    "scaling": scaling,
    "gradients": gradients,
    "soak": soak,
}
