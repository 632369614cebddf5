"""The Ray executor on a cluster of two nodes: nodes that die, join, lack the plugin, or are not there."""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest

import dafxhost
from dafxhost import Executor, RayExecutor, RenderError
from dafxhost.errors import (
    DafxhostError,
    EffectUnavailableError,
    ParameterNotAppliedError,
    PluginError,
    UsageError,
)
from dafxhost.execution.backends import open_executor
from dafxhost.execution.ray_actor import served_here
from dafxhost.execution.ray_batch import RayBatch, Shard
from dafxhost.execution.ray_cluster import Node, share
from dafxhost.processor import RenderSpec
from executor_backends import NODE_CORES, TestCluster, plugin_processes
from hosting import need
from lab_effects import lab_effect
from ray_effects import ray_effect
from test_executor import clips, draws, scaled

pytestmark = pytest.mark.slow
RATE = 24000
TESTS = Path(__file__).parent


@pytest.fixture(scope="module")
def address(ray_cluster: TestCluster) -> str:
    return ray_cluster.address


def soon(condition: Callable[[], Any], seconds: float = 120.0) -> Any:
    """The condition's value, once it is true."""
    end = time.monotonic() + seconds
    while not (value := condition()):
        assert time.monotonic() < end, "it did not come true"
        time.sleep(0.02)
    return value


def render_on_both(executor: RayExecutor, workers: int = 2) -> None:
    """Render until two nodes are there with so many workers in all: the first is used while the other still
    starts, and cores that another executor has just let go of are taken as Ray reports them free.
    """
    settings = np.zeros((1, 1, 2))

    def there() -> bool:
        executor.render(clips(1), settings, RATE)
        return len(executor.nodes) == 2 and sum(executor.nodes.values()) == workers

    soon(there)


# ---- both nodes work


def test_few_clips_with_many_settings_go_to_both_nodes(address: str) -> None:
    audio, settings = clips(2), draws(2, 40, 2)
    with RayExecutor(ray_effect("Where", seconds=0.02), workers=2, address=address) as executor:
        render_on_both(executor)
        wet = executor.render(audio, settings, RATE)
        assert list(executor.nodes.values()) == [1, 1] and executor.workers == 2
    assert len(np.unique(wet[..., 0])) == 2, "one node did everything"
    assert np.array_equal(wet[..., 1:], scaled(audio, settings)[..., 1:])


def test_failures_are_numbered_as_in_the_whole_batch(address: str, tmp_path: Path) -> None:
    audio, settings = clips(2), draws(2, 40, 2)
    guilty = [(0, 5), (0, 39), (1, 0), (1, 37)]
    for job in guilty:
        settings[(*job, 1)] = 1.0
    with RayExecutor(lab_effect("Raise"), workers=2, address=address, failure_dir=tmp_path) as executor:
        wet = executor.render(audio, settings, RATE, on_error="nan")
        assert [(f.row, f.column) for f in executor.failures] == guilty
        for failure in executor.failures:
            saved = np.load(failure.saved_input)
            assert np.array_equal(saved["audio"], audio[failure.row])
            assert np.array_equal(saved["setting"], settings[failure.row, failure.column])
    assert np.argwhere(np.isnan(wet[..., 0, 0])).tolist() == [list(job) for job in guilty]
    assert len(list(tmp_path.iterdir())) == len(guilty)


@pytest.mark.parametrize("workers", [1, 2])
def test_a_value_that_some_renders_do_not_take(make_executor: Any, workers: int, tmp_path: Path) -> None:
    """Those renders fail, wherever the batch is cut; if none takes it, it is the plugin's fault."""
    left = set(Path(tempfile.gettempdir()).glob("dafxhost-node-*/*.npz"))  # by others
    audio, settings = clips(2), np.full((2, 24, 2), 0.25)  # which is what it reads back
    settings[0, :3, 1] = settings[1, 20, 1] = 0.5
    options = {"workers": workers, "failure_dir": tmp_path, "verify": "all"}
    with make_executor(lab_effect("Deaf"), **options) as executor:
        wet = executor.render(audio, settings, RATE, on_error="nan")
        assert [(f.row, f.column) for f in executor.failures] == [(0, 0), (0, 1), (0, 2), (1, 20)]
        said = "did not take its parameter 'trigger': sent plugin value 0.5, read back 0.25"
        assert {f.reason for f in executor.failures} == {said}
        assert np.isnan(wet[:, :, 0, 0]).sum() == 4
        with pytest.raises(ParameterNotAppliedError, match="effect 'lab-deaf' did not take"):
            executor.render(audio, settings, RATE)
        settings[:, :, 1] = 0.5
        with pytest.raises(ParameterNotAppliedError, match="effect 'lab-deaf' did not take"):
            executor.render(audio, settings, RATE, on_error="nan")
        settings[:, :, 1] = 0.25  # the next batch is clean
        assert np.isfinite(executor.render(audio, settings, RATE)).all() and executor.failures == []
    assert set(Path(tempfile.gettempdir()).glob("dafxhost-node-*/*.npz")) <= left, "inputs left on a node"


def test_a_row_of_failures_hides_no_success(address: str, tmp_path: Path) -> None:
    """A node sees a part of the batch only: what it gives up is tried all the same."""
    audio, settings = clips(3), draws(3, 48, 2)
    settings[0, :16, 1] = settings[1, :1, 1] = 1.0
    expected = scaled(audio, settings)
    expected[settings[..., 1] == 1.0] = np.nan
    with RayExecutor(lab_effect("Raise"), workers=1, address=address, failure_dir=tmp_path) as executor:
        for _ in range(2):  # with the pace unknown, and known
            wet = executor.render(audio, settings, RATE, on_error="nan")
            assert [(f.row, f.column) for f in executor.failures] == [*((0, k) for k in range(16)), (1, 0)]
            assert {f.reason for f in executor.failures} == {"raised ValueError: the lab raised this"}
            assert np.array_equal(wet, expected, equal_nan=True)


def test_a_plugin_gives_the_same_bits_as_on_this_machine(address: str) -> None:
    effect = dafxhost.effect("mda-combo", provider="builtin")
    audio, settings = (
        0.3 * clips(6, 2, 12_001),
        np.random.default_rng(3).random((6, 4, len(effect.parameters))),
    )
    with Executor(effect, workers=2, seed=5, block_size=512) as executor:
        here = executor.render(audio, settings, RATE)
    with RayExecutor(effect, workers=2, seed=5, block_size=512, address=address) as executor:
        assert executor.spec(RATE, 2) == RenderSpec(RATE, 2, 512, seed=5)
        assert np.array_equal(executor.render(audio, settings, RATE), here)


def test_by_default_a_worker_for_every_core(address: str) -> None:
    with RayExecutor(lab_effect("Gain"), address=address) as executor:
        assert executor.workers == 2 * NODE_CORES
        render_on_both(executor, 2 * NODE_CORES)
        assert repr(executor) == f"RayExecutor('lab-gain' by lab, {2 * NODE_CORES} workers on 2 nodes)"


# ---- nodes that die and nodes that come


@pytest.fixture
def second(ray_cluster: TestCluster) -> Iterator[Any]:
    """A node that may be killed; there are two again afterwards."""
    import ray

    [node] = ray_cluster.cluster.worker_nodes
    assert ray.get_runtime_context().get_node_id() != node.node_id, "this process would die with it"
    yield node
    if node in ray_cluster.cluster.worker_nodes:
        ray_cluster.cluster.remove_node(node, allow_graceful=False)
    if not ray_cluster.cluster.worker_nodes:
        ray_cluster.add()


@pytest.mark.parametrize(
    "with_workers",
    [
        pytest.param(True, id="raylet and workers", marks=pytest.mark.not_slow),
        pytest.param(False, id="raylet only"),
    ],
)
def test_a_node_killed_in_the_middle(
    ray_cluster: TestCluster, second: Any, with_workers: bool, caplog: pytest.LogCaptureFixture, capfd: Any
) -> None:
    """A batch comes out complete and the same, nothing is left behind, and a node that joins is used."""
    settings = np.full((16, 12, 2), 0.04)  # sleeps 40 ms a render
    settings[:, :, 0] = draws(16, 12)
    audio = clips(16)
    caplog.set_level(logging.WARNING, "dafxhost.ray")
    with RayExecutor(lab_effect("Sleeper"), address=ray_cluster.address) as executor:
        raylet = TestCluster.raylet(second)
        name = f"({second.node_id[:8]})"
        render_on_both(executor, 2 * NODE_CORES)
        before = executor.stats
        future = executor.submit(audio, settings, RATE)
        there = soon(lambda: len(found := plugin_processes(raylet.pid)) == NODE_CORES and found)
        there += [guard for worker in there for guard in worker.children()]
        soon(lambda: executor.stats.renders - before.renders > 20)
        actors = {w.parent() for w in plugin_processes(raylet.pid)}
        assert not future.done()
        ray_cluster.kill(second, with_workers=with_workers)

        assert np.array_equal(future.result(200), scaled(audio, settings))
        spent = executor.stats - before
        assert spent.replaced == NODE_CORES and 0 < spent.retried < audio.shape[0] * settings.shape[1]
        assert [name in lost for lost in executor.lost_nodes] == [True]
        assert len(executor.nodes) == 1 and not any(name in node for node in executor.nodes)
        [said] = [r.message for r in caplog.records if r.name == "dafxhost.ray"]
        assert name in said and "was lost" in said and "renders go to others" in said
        _, alive = psutil.wait_procs([*there, *actors], 5)
        assert not alive, "orphans of the dead node"
        assert capfd.readouterr().out == "", "stdout is for results"

        ray_cluster.cluster.remove_node(second, allow_graceful=False)
        added = ray_cluster.add()
        soon(lambda: executor.render(audio, settings, RATE) is not None and len(executor.nodes) == 2)
        assert np.array_equal(executor.render(audio, settings, RATE), scaled(audio, settings))
        assert len(plugin_processes(TestCluster.raylet(added).pid)) == NODE_CORES


RAYLET = """
import subprocess, sys
node = '''
import sys, threading
import numpy as np, psutil
from dafxhost import __version__
from dafxhost.execution.ray_actor import RenderActor, packed
from lab_effects import lab_effect
actor = RenderActor(1, __version__, packed(lab_effect("Gain")), {}, [])
assert actor.start() == ""
actor.render(np.zeros((1, 1, 9), np.float32), 0, np.zeros((1, 1, 2)), 24000, "raise")
print(psutil.Process().pid, *[p.pid for p in psutil.Process().children(recursive=True)], flush=True)
actor.watch()
'''
pipes = dict(stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
child = subprocess.Popen([sys.executable, "-c", node], text=True, **pipes)
print(child.stdout.readline(), flush=True)
"""


def test_an_actor_does_not_outlive_its_raylet() -> None:
    """Ray would let it end its calls first, for ever; the cluster may be out of reach, too."""
    done = run(RAYLET)
    assert done.returncode == 0, done.stderr
    pids = [int(word) for word in done.stdout.split()]
    assert len(pids) == 3  # the actor, its plugin's worker, and that one's guard
    _, alive = psutil.wait_procs([psutil.Process(p) for p in pids if psutil.pid_exists(p)], 10)
    for process in alive:
        if "dafxhost" in " ".join(process.cmdline()):  # the number may have passed to somebody else's
            process.kill()
    assert not alive


def test_what_kills_two_nodes_fails_and_nothing_else(address: str, tmp_path: Path) -> None:
    settings = draws(12, 4, 2)
    settings[5, 2, 1] = 1.0
    audio = clips(12)
    effect = ray_effect("KillActor")
    with RayExecutor(effect, workers=2, address=address, failure_dir=tmp_path) as executor:
        wet = executor.render(audio, settings, RATE, on_error="nan")
        failed = {(f.row, f.column) for f in executor.failures}
        assert (5, 2) in failed and len(failed) < 24
        for failure in executor.failures:
            assert failure.reason.startswith("the nodes that rendered it were lost: ")
            assert failure.effect == "ray-killactor"
            assert failure.setting == tuple(settings[failure.row, failure.column])
        assert Path(executor.failures[0].saved_input).parent == tmp_path
        good = np.array([[(row, column) not in failed for column in range(4)] for row in range(12)])
        assert np.isnan(wet[~good]).all()
        assert np.array_equal(wet[good], scaled(audio, settings)[good])
        settings[5, 2, 1] = 0.5
        assert np.array_equal(executor.render(audio, settings, RATE), scaled(audio, settings))
        settings[5, 2, 1] = 1.0
        with pytest.raises(RenderError, match=r"of effect 'ray-killactor' failed twice.*were lost"):
            executor.render(audio, settings, RATE)


def test_a_stream_whose_node_dies(address: str) -> None:
    with RayExecutor(ray_effect("KillActor"), workers=1, address=address) as executor:
        with executor.stream([0.5, 1.0], RATE, 1) as stream:
            with pytest.raises(PluginError, match=r"'ray-killactor' broke off: node .* was lost"):
                stream.process(np.ones((1, 100), np.float32))
            with pytest.raises(UsageError, match="not open"):
                stream.process(np.ones((1, 100), np.float32))
        with executor.stream([0.5, 0.0], RATE, 1) as stream:  # by another actor
            assert stream.process(np.ones((1, 3), np.float32)).tolist() == [[0.5, 0.5, 0.5]]


# ---- nodes that cannot help


def test_another_plugin_of_that_name_is_refused_by_name_of_the_node(address: str) -> None:
    effect = dafxhost.effect("mda-combo", provider="builtin")
    other = replace(effect, provider=replace(effect.provider, identity="dafxhost 9.9"))
    with RayExecutor(other, workers=2, address=address) as executor:
        for _ in range(2):
            with pytest.raises(EffectUnavailableError) as caught:
                executor.render(clips(1), draws(1, 1, len(effect.parameters)), RATE)
            text = str(caught.value)
            assert text.count("is another one (dafxhost 0.1.0, not dafxhost 9.9)") == 2
            assert text.startswith("no node of the Ray cluster can render effect 'mda-combo': node ")
        with pytest.raises(EffectUnavailableError), executor.stream(effect.default_setting(), RATE, 1):
            pass


def test_a_node_without_the_plugin_is_left_out(
    ray_cluster: TestCluster, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    from dafxhost_effects import mda

    need(mda.bundle("mda-combo"), "mda-lv2")
    effect = dafxhost.effect("mda-combo", provider="lv2")
    audio, settings = 0.3 * clips(4), draws(4, 6, len(effect.parameters))
    bare = ray_cluster.add(env_vars={"LV2_PATH": str(tmp_path)})
    try:
        with RayExecutor(effect, workers=3, address=ray_cluster.address) as executor:
            wet = executor.render(audio, settings, RATE)
            soon(lambda: any("is left out" in r.message for r in caplog.records))
            executor.render(audio, settings, RATE)
            assert all(bare.node_id[:8] not in node for node in executor.nodes)
        [said] = [r.message for r in caplog.records if "is left out" in r.message]
        assert bare.node_id[:8] in said and "cannot serve effect 'mda-combo' by lv2" in said
    finally:
        ray_cluster.cluster.remove_node(bare)
    with Executor(effect, workers=1) as executor:
        assert np.array_equal(executor.render(audio, settings, RATE), wet)


def test_what_serves_an_effect_on_another_machine(tmp_path: Path) -> None:
    builtin = dafxhost.effect("mda-combo", provider="builtin")
    assert served_here(builtin) == builtin
    by_hand = ray_effect("Where", identity="1", seconds=0)
    assert served_here(by_hand) == by_hand  # nobody knows it by name: it cannot be compared
    stranger = replace(by_hand, provider=replace(by_hand.provider, processor="no_such_package.at_all:Gain"))
    with pytest.raises(EffectUnavailableError, match=r"no module no_such_package.at_all"):
        served_here(stranger)
    gone = ray_effect("Where", identity="1", path=str(tmp_path / "none.vst3"))
    with pytest.raises(EffectUnavailableError, match="cannot serve effect 'ray-where' by lab"):
        served_here(gone)


def test_the_same_plugin_in_another_folder_is_found() -> None:
    from dafxhost_effects import mda

    need(mda.bundle("mda-combo"), "mda-lv2")
    effect = dafxhost.effect("mda-combo", provider="lv2")
    paths = {k: v for k, v in effect.provider.options.items() if isinstance(v, str) and os.path.isabs(v)}
    assert paths
    elsewhere = {**effect.provider.options, **{k: "/elsewhere" + v for k, v in paths.items()}}
    moved = replace(effect, provider=replace(effect.provider, options=elsewhere))
    assert served_here(moved) == effect


def test_a_cluster_without_room_is_said_within_the_patience(address: str) -> None:
    with RayExecutor(lab_effect("Gain"), address=address) as everything:
        render_on_both(everything)
        with RayExecutor(lab_effect("Gain"), workers=1, address=address, patience=1.5) as executor:
            began = time.monotonic()
            with pytest.raises(DafxhostError, match=r"within 1\.5 s: the cores of .* are held by others"):
                executor.render(clips(1), draws(1, 1, 2), RATE)
            assert 1.5 < time.monotonic() - began < 10
    with RayExecutor(lab_effect("Gain"), workers=1, address=address) as executor:  # now there is room
        assert executor.render(clips(1), draws(1, 1, 2), RATE).shape == (1, 1, 1, 2400)


def test_another_cluster_than_the_one_connected_to(address: str) -> None:
    with pytest.raises(UsageError, match=f"connected to the Ray cluster at {address}, not to 127.0.0.1:1"):
        RayExecutor(lab_effect("Gain"), address="127.0.0.1:1")


# ---- without a cluster


def run(code: str, *, path: Path | None = None, **options: Any) -> subprocess.CompletedProcess[str]:
    """A script in a fresh interpreter that finds our packages, and before them those in `path`."""
    folders = [*([path] if path else []), TESTS, *sys.path]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(map(str, folders)), "OMP_NUM_THREADS": "1"}
    environment.pop("RAY_ADDRESS", None)
    command = [sys.executable, "-c", code]
    return subprocess.run(command, capture_output=True, text=True, env=environment, timeout=200, **options)


def test_without_ray_it_says_what_to_install(tmp_path: Path) -> None:
    (tmp_path / "ray.py").write_text("raise ImportError('the lab has none')")
    done = run(
        "import sys; from dafxhost_cli.main import main\n"
        f"sys.argv = 'dafxhost train --executor ray --run-dir {tmp_path}/run'.split(); main()",
        path=tmp_path,
    )
    assert done.returncode == 2 and done.stdout == ""
    assert 'needs Ray (the lab has none); install it: pip install "dafxhost[ray]"' in done.stderr
    assert not (tmp_path / "run" / "last.safetensors").exists()


def test_nothing_imports_ray_before_it_is_asked_for() -> None:
    done = run(
        "import sys, dafxhost; dafxhost.RayExecutor, dafxhost.open_executor\n"
        "import dafxhost.execution.ray_actor\n"
        "print(*{'ray', 'torch'} & {m.partition('.')[0] for m in sys.modules})"
    )
    assert (done.returncode, done.stdout.strip()) == (0, ""), done.stderr


def test_an_address_where_nobody_answers() -> None:
    began = time.monotonic()
    done = run(
        "import dafxhost; from lab_effects import lab_effect\n"
        "try: dafxhost.RayExecutor(lab_effect('Gain'), address='127.0.0.1:1')\n"
        "except dafxhost.DafxhostError as error: print(error)"
    )
    assert done.stdout.strip() == "no Ray cluster answers at 127.0.0.1:1: Connection refused", done.stderr
    assert time.monotonic() - began < 60


OWN_CLUSTER = """
import os, signal, sys, time
import numpy as np, psutil, dafxhost
from lab_effects import lab_effect
handler = signal.getsignal(signal.SIGTERM)
with dafxhost.open_executor(lab_effect("Gain"), "ray", workers=3) as executor:
    audio, settings = np.ones((4, 1, 100), np.float32), np.full((4, 3, 2), 0.5)
    assert (executor.render(audio, settings, 24000) == 0.5).all()
    assert list(executor.nodes.values()) == [3] and signal.getsignal(signal.SIGTERM) is handler
    with dafxhost.RayExecutor(lab_effect("Gain"), workers=2) as another:
        assert (another.render(audio, settings, 24000) == 0.5).all()
    children = psutil.Process().children(recursive=True)
    print(*[p.pid for p in children], flush=True)
    if len(sys.argv) > 1:
        time.sleep(100)
_, alive = psutil.wait_procs(children, 10)
assert not alive, alive
assert "RAY_USAGE_STATS_ENABLED" not in os.environ
"""


def test_a_cluster_of_its_own_leaves_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("RAY_USAGE_STATS_ENABLED", raising=False)
    before = set(os.listdir("/dev/shm"))
    done = run(OWN_CLUSTER)
    assert done.returncode == 0, done.stderr
    assert len(done.stdout.split()) > 5 and len(done.stdout.splitlines()) == 1, "only what was printed"
    assert set(os.listdir("/dev/shm")) <= before


def test_a_killed_program_leaves_nothing() -> None:
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(TESTS), *sys.path])}
    environment.pop("RAY_ADDRESS", None)
    command = [sys.executable, "-c", OWN_CLUSTER, "stay"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) as program:
        assert program.stdout is not None
        pids = [int(word) for word in program.stdout.readline().split()]
        assert len(pids) > 5
        program.send_signal(signal.SIGKILL)
    left = [psutil.Process(pid) for pid in pids if psutil.pid_exists(pid)]
    # Ray's two agents look for their raylet for about a minute before they end.
    agents = [p for p in left if p.name().endswith("Agent")]
    _, alive = psutil.wait_procs([p for p in left if p not in agents], 30)
    for agent in agents:
        with contextlib.suppress(psutil.NoSuchProcess):
            agent.kill()
    assert len(agents) <= 2 and not alive


# ---- choosing it


def test_kinds_of_executor(address: str) -> None:
    with open_executor(lab_effect("Gain"), workers=1) as executor:
        assert type(executor) is Executor
    with dafxhost.open_executor(lab_effect("Gain"), "ray", workers=1, address=address) as executor:
        assert type(executor) is RayExecutor
    with pytest.raises(UsageError, match="executor is 'threads'; it is 'processes' or 'ray'"):
        open_executor(lab_effect("Gain"), "threads")
    with pytest.raises(UsageError, match="patience"):
        RayExecutor(lab_effect("Gain"), patience=0)
    with pytest.raises(TypeError, match="unexpected keyword argument 'worker'"):
        RayExecutor(lab_effect("Gain"), worker=2)


def test_training_on_a_cluster_gives_the_same_run(
    address: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from dafxhost.data.sources import FolderSource
    from dafxhost.training import evaluation, trainer
    from dafxhost.training.config import TrainConfig
    from training_effects import shaper_effect, write_audio

    for module in (trainer, evaluation):
        monkeypatch.setattr(module, "find_effect", lambda name, provider=None: shaper_effect())
    config = TrainConfig(
        effect="test-shaper", data=str(write_audio(tmp_path / "audio")), sample_rate=16000, samples=4096,
        loss_samples=2048, encoder_options={"sample_rate": 16000}, hidden=16, depth=1, bins=8, pool=32,
        supervised_steps=10, end_to_end_steps=3, supervised_batch=8, batch=2, directions=1, alternatives=1,
        epoch_steps=2, validation=4, workers=1, corpus_share=0.0,
    )  # fmt: skip
    with pytest.raises(UsageError, match="executor must be one of processes, ray"):
        config.replace(executor="threads")
    results = []
    for kind in ("processes", "ray"):
        done = trainer.train(config.replace(executor=kind), run_dir=tmp_path / kind)
        heard = FolderSource(tmp_path / "audio", 16000)
        measured = evaluation.evaluate(tmp_path / kind, heard, 4, workers=1, executor=kind)
        results.append((done.validation, [row.mean for row in measured.rows]))
        assert TrainConfig.from_toml(tmp_path / kind / "config.toml").executor == kind
    assert results[0] == results[1]


# ---- cutting


def cut(b: int, k: int, t: int, workers: int, everybody: int, pace: float | None) -> list[Shard]:
    audio, settings = np.zeros((b, 1, t), np.float32), np.zeros((b, k, 2))
    batch = RayBatch(audio, settings, lab_effect("Gain"), RenderSpec(RATE), Path(), "nan", None)
    shards = []
    while batch.waiting:
        shards.append(batch.next_shard(workers, everybody, pace, lambda array: array))
    return shards


@pytest.mark.parametrize("pace", [None, 1e-4, 0.1, 10.0])
@pytest.mark.parametrize("b,k,workers,everybody", [(1, 1, 1, 1), (40, 4, 2, 8), (2, 200, 4, 8), (7, 5, 3, 3)])
def test_shards_cover_a_batch_once(b: int, k: int, workers: int, everybody: int, pace: float | None) -> None:
    seen = np.zeros((b, k), int)
    puts: dict[int, tuple[int, int]] = {}
    for shard in cut(b, k, 100, workers, everybody, pace):
        seen[shard.first : shard.last, shard.left : shard.right] += 1
        assert len(shard.clips) == shard.last - shard.first
        assert shard.settings.shape[:2] == (shard.last - shard.first, shard.right - shard.left)
        assert puts.setdefault(id(shard.clips), (shard.first, shard.last)) == (shard.first, shard.last)
    assert (seen == 1).all()


def test_shards_are_bounded_in_time_and_size() -> None:
    assert max(s.jobs for s in cut(64, 50, 100, 4, 8, 0.1)) <= 24  # 0.5 s of 4 workers, and a row's rounding
    assert max(s.jobs for s in cut(64, 50, 100, 4, 8, None)) == 4
    long = cut(8, 4, 4 << 20, 4, 8, 1e-6)  # 16 MiB a clip
    assert max(s.jobs for s in long) == 2
    # One object for a clip, however many shards its settings make.
    assert len({id(s.clips) for s in cut(2, 200, 100, 4, 8, 0.1)}) == 2


def test_workers_are_spread_evenly() -> None:
    nodes = [Node("a", "a", 4, 4), Node("b", "b", 4, 4), Node("c", "c", 1, 1)]
    room = {"a": 4, "b": 4, "c": 1}
    named = lambda given: {node.id: count for node, count in given}  # noqa: E731
    assert named(share(nodes, room, 2)) == {"a": 1, "b": 1}
    assert named(share(nodes, room, 6)) == {"a": 3, "b": 2, "c": 1}
    assert named(share(nodes, room, 1 << 40)) == {"a": 4, "b": 4, "c": 1}
    assert named(share(nodes, {"b": -1}, 3)) == {} and named(share(nodes, room, 0)) == {}


def test_interrupting_and_closing_from_other_threads(address: str) -> None:
    settings = np.full((8, 4, 2), 0.1)
    with RayExecutor(lab_effect("Sleeper"), workers=2, address=address) as executor:
        future = executor.submit(clips(8), settings, RATE)
        threading.Timer(0.5, executor.close).start()
        with pytest.raises(UsageError, match="closed before the render was done"):
            future.result(10)
