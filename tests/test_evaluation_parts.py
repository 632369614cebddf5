"""Parts of an evaluation: levels, intervals, correlations, which parameters can be heard, what is refused."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import scipy.stats

import dafxhost
from command_line import Call
from dafxhost.data.examples import ExampleBatch
from dafxhost.data.features import normalise_peak
from dafxhost.errors import UnknownNameError, UsageError
from dafxhost.losses import MultiResolutionSTFT
from dafxhost.metrics import METRICS, Measurer, choose
from dafxhost.parameters import Parameter, Port
from dafxhost.training import identification
from dafxhost.training.evaluation import Evaluation, evaluate
from dafxhost.training.protocols import GRANT, LEVEL_MATCHED
from dafxhost.training.scoring import distances, level_renders, match_rms, score_columns
from dafxhost.training.summary import correlation, parameter_errors, resamples, rows_of
from lab_effects import lab_effect

RATE, SAMPLES = 16000, 4096
DISTANCE = MultiResolutionSTFT()


def clips(count: int, seed: int = 0) -> np.ndarray:
    """`[count, 1, T]` float32 at -12 dBFS."""
    drawn = np.random.default_rng(seed).standard_normal((count, 1, SAMPLES)).cumsum(axis=-1)
    return normalise_peak((drawn - drawn.mean(axis=-1, keepdims=True)).astype(np.float32))


@pytest.fixture
def threads() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(1) as pool:
        yield pool


def batch(dry: np.ndarray, target: np.ndarray, settings: np.ndarray) -> ExampleBatch:
    names = ["clip"] * len(dry)
    return ExampleBatch(dry, target, target, settings, np.ones(len(dry), dtype=bool), names, {})


@pytest.mark.parametrize("gain", [0.01, 0.3, 7.0])
def test_a_gain_does_not_count_where_levels_are_matched(gain: float) -> None:
    """Not even to metrics of level; unmatched, every one of these is far from perfect."""
    (render,), (target,) = clips(1), clips(1, seed=1)
    metrics = [METRICS[name] for name in ("mel", "crest", "rms", "lufs", "mfcc")]
    plain, louder = (
        level_renders(x[None], target, LEVEL_MATCHED) for x in (render, np.float32(gain) * render)
    )
    one, other = (distances(x, target, DISTANCE)[0] for x in (plain, louder))
    assert one == pytest.approx(other, rel=1e-5)
    values = [Measurer(metrics, RATE).measure(x, target)[0] for x in (plain, louder)]
    assert values[0] == pytest.approx(values[1], abs=1e-4) and values[0][2] == pytest.approx(0, abs=1e-4)
    same = match_rms(np.float32(gain) * target[None], target)
    assert distances(same, target, DISTANCE)[0] < 1e-5 < distances(gain * target[None], target, DISTANCE)[0]


def test_levels_of_silence_and_failures() -> None:
    target = clips(1)[0]
    many = np.stack([np.zeros_like(target), np.full_like(target, np.nan), target])
    for protocol in (GRANT, LEVEL_MATCHED):
        levelled = level_renders(many, target, protocol, untouched=target)
        assert not levelled[0].any() and np.isnan(levelled[1]).all()
        assert np.array_equal(levelled[3], target)  # not by a gain of nearly 1
        assert levelled[2] == pytest.approx(target, rel=1e-6)
    assert np.array_equal(match_rms(target[None], np.zeros_like(target))[0], target)


@pytest.mark.parametrize("protocol", [GRANT, LEVEL_MATCHED])
def test_the_true_setting_has_no_distance(protocol: object, threads: ThreadPoolExecutor) -> None:
    dry, settings = clips(3), np.array([[0.2, 0.1], [0.5, 0.1], [0.9, 0.1]])
    with dafxhost.Executor(lab_effect("Echo", ("feedback", "nothing")), workers=1) as executor:
        target = normalise_peak(executor.render(dry, settings, RATE))
        columns = np.stack([settings, settings[::-1]], axis=1)
        scores = score_columns(
            batch(dry, target, settings), columns, executor, DISTANCE, RATE, threads,
            untouched=True, protocol=protocol,
        )  # fmt: skip
    assert (scores[:, 0] == 0).all() and (scores[[0, 2], 1] > 0.01).all() and (scores[:, 2] > 0.01).all()


def test_a_dead_parameter_is_found_and_a_live_one_is_not(threads: ThreadPoolExecutor) -> None:
    """Echo never looks at its second parameter. A gain is dead because levels are matched."""
    dry = clips(6)
    settings = np.random.default_rng(2).uniform(0.1, 0.9, (6, 2))
    found = {}
    for name, parameters in (("Echo", ("feedback", "nothing")), ("Gain", ("gain", "trigger"))):
        settings[:, 1] = 0.1  # below Gain's trigger, also when moved by a half
        with dafxhost.Executor(lab_effect(name, parameters), workers=1) as executor:
            target = normalise_peak(executor.render(dry, settings, RATE))
            made = batch(dry, target, settings)
            shares = identification.unheard(identification.changes(made, executor, DISTANCE, RATE, threads))
            found[name] = shares.tolist(), identification.marked(executor.effect.parameters, shares)
    assert found["Echo"] == ([0.0, 1.0], ("nothing",))
    assert found["Gain"] == ([1.0, 1.0], ("gain", "trigger"))


def test_every_parameter_is_moved_by_itself_and_to_another_value() -> None:
    kinds = (
        Parameter("level", default=0.5, port=Port(0)),
        Parameter("mode", "choice", 0, 2, 0, choices=("a", "b", "c"), port=Port(1)),
        Parameter("on", "toggle", 0, 1, 0, port=Port(2)),
    )
    settings = np.array([[0.2, 0.5 / 3, 0.25], [0.8, 2.5 / 3, 0.75]])
    many = identification.moved(kinds, settings)
    assert many.shape == (2, 3, 3)
    for k, p in enumerate(kinds):
        others = [i for i in range(3) if i != k]
        assert (many[:, k][:, others] == settings[:, others]).all()
        if p.levels:
            assert (p.to_native(many[:, k, k]) != p.to_native(settings[:, k])).all()
    assert many[:, 0, 0].tolist() == pytest.approx([0.7, 0.3])


def test_failed_renders_say_nothing_about_a_parameter() -> None:
    assert identification.unheard(np.array([[np.nan, 0.0], [np.nan, 1.0]])).tolist()[1] == 0.5
    assert np.isnan(identification.unheard(np.array([[np.nan, 0.0]]))[0])
    assert np.isnan(identification.unheard(np.zeros((0, 2)))).all() and identification.terms(0) == {}


def test_correlations_are_scipys() -> None:
    rng = np.random.default_rng(4)
    true = rng.random((50, 2))
    guessed = np.stack([true[:, 0] ** 3 + 0.1 * rng.random(50), np.full(50, 0.5)], axis=1)
    kinds = [Parameter("a", default=0.5, port=Port(0)), Parameter("b", default=0.5, port=Port(1))]
    found = parameter_errors(kinds, guessed, true)
    assert found["a"]["pearson"] == pytest.approx(scipy.stats.pearsonr(guessed[:, 0], true[:, 0])[0])
    assert found["a"]["spearman"] == pytest.approx(scipy.stats.spearmanr(guessed[:, 0], true[:, 0])[0])
    assert found["b"]["pearson"] is None and found["b"]["mae"] == pytest.approx(
        float(np.abs(true[:, 1] - 0.5).mean())
    )
    assert (
        correlation(np.zeros(1), np.ones(1)) is None and parameter_errors(kinds, guessed[:0], true[:0]) == {}
    )


def test_rows_and_their_intervals() -> None:
    """Means of resampled examples, weighed or drawn; ratios below 1 are clear of it where all are."""
    scores = np.random.default_rng(5).uniform(1, 2, (40, 2)) * (0.5, 1.0)
    cosines = np.random.default_rng(6).uniform(0, 1, (40, 2))
    cosines[:10, 0] = np.nan
    table = choose(["mel", "mfcc", "crest"]).metrics
    values = {"mr-stft": scores, "mel": scores, "mfcc": cosines, "crest": np.zeros((40, 2))}
    ours, alone = rows_of(["ours", "alone"], scores, values, table, resamples(40, 500, seed=1))
    drawn = np.random.default_rng([1, 13]).integers(0, 40, (500, 40))
    assert (ours.low, ours.high) == pytest.approx(np.percentile(scores[drawn, 0].mean(axis=1), (2.5, 97.5)))
    assert ours.ratio == pytest.approx(scores[:, 0].mean() / scores[:, 1].mean()) and ours.ratio_high < 1
    assert alone.ratio_low == alone.ratio == alone.ratio_high == 1
    mel, mfcc, crest = (ours.metrics[name] for name in ("mel", "mfcc", "crest"))
    assert mel.relative == pytest.approx(ours.ratio) and mel.low == pytest.approx(ours.low)
    assert mfcc.examples == 30 and mfcc.mean == pytest.approx(np.nanmean(cosines[:, 0]))
    assert mfcc.relative == pytest.approx(cosines[10:, 0].mean() - cosines[10:, 1].mean())
    assert crest.relative is None and crest.relative_text(3) == "-"
    nothing = rows_of(["ours", "alone"], scores, {"mel": cosines * np.nan}, table, resamples(40, 9, seed=1))
    assert "mel" not in nothing[0].metrics


def test_a_wrong_name_is_said_before_any_work(tmp_path: Path) -> None:
    nowhere, source = tmp_path / "nowhere", None
    for wrong in ({"metrics": ["mse"]}, {"protocol": "grants"}, {"pairs": "abc"}):
        with pytest.raises(UnknownNameError):
            evaluate(nowhere, source, 1, **wrong)  # pyright: ignore[reportArgumentType]
    with pytest.raises(UsageError, match="search is 0"):
        evaluate(nowhere, source, 1, search=[0])  # pyright: ignore[reportArgumentType]
    with pytest.raises(UsageError, match="not the JSON of an evaluation"):
        Evaluation.from_json('{"rows": []}')


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--metrics", "mel,crests"), "unknown metric 'crests'; did you mean crest?"),
        (("--protocol", "grants"), "unknown protocol 'grants'; did you mean grant?"),
        (("--pairs", "parallels"), "unknown kind of pairs 'parallels'; did you mean parallel?"),
    ],
)
def test_a_wrong_name_as_typed(call: Call, arguments: tuple[str, ...], words: str) -> None:
    code, out, err = call("evaluate", "nothing", *arguments)
    assert code == 2 and words in err and len(err.splitlines()) == 1 and out == ""
