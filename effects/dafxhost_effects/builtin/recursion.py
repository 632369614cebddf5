"""Linear recursive filters in numpy alone, without a Python loop over samples.

`scipy.signal.lfilter` would do the same, but importing `scipy.signal` took 2.4 s here, in every worker.
Instead the signal is cut into rows of L samples. A linear filter's row of outputs is a fixed matrix times the
row of inputs plus a fixed matrix times the state at the row's start, and the states at the row starts obey a
recursion of their own, which is solved by doubling (Hillis and Steele, "Data parallel algorithms", 1986). All
of it in float64: the result differs from the sample-by-sample recursion only by float64 rounding.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

ROW = 32
"""Samples a row: the matrices' work grows with it, the number of rows to chain shrinks."""

SILENCE = 1e-15
"""Input below this (-300 dBFS) counts as none, so that long pauses cost nothing."""


class Recursion:
    """The tables of one linear filter, free of state, so that several channels and renders can share them.

    Args:
        step: `(state [S], input) -> (new state [S], output)`, linear in both: one sample of the filter.
        order: S, the number of state variables.
    """

    def __init__(self, step: Callable[[np.ndarray, float], tuple[np.ndarray, float]], order: int) -> None:
        # A linear step is known from what it does to each unit vector.
        transition, state_to_out = np.empty((order, order)), np.empty(order)
        for i, unit in enumerate(np.eye(order)):
            transition[:, i], state_to_out[i] = step(unit, 0.0)
        input_to_state, direct = step(np.zeros(order), 1.0)
        self.order = order
        self._powers = np.empty((ROW + 1, order, order))  # transition ** i
        self._powers[0] = np.eye(order)
        for i in range(ROW):
            self._powers[i + 1] = transition @ self._powers[i]
        self._kicks = self._powers[:ROW] @ input_to_state  # [ROW, S]: the state i samples after an impulse
        out_of_state = state_to_out @ self._powers[:ROW]  # [ROW, S]: output after i samples of silence
        response = np.concatenate([[direct], out_of_state[:-1] @ input_to_state])
        lag = np.arange(ROW)[None, :] - np.arange(ROW)[:, None]
        toeplitz = np.where(lag >= 0, response[lag], 0.0)  # [input, output]
        self._from_input = np.concatenate([toeplitz, self._kicks[::-1]], axis=1)  # [ROW, ROW + S]
        self._from_state = np.ascontiguousarray(out_of_state.T)  # [S, ROW]

    def run(self, x: np.ndarray, state: np.ndarray, watch: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Filter `x [N]` from `state [S]`, which is changed to the state after the last sample.

        Returns:
            the output `[N]` (float64), and the first state variable just after each sample of `watch` (sorted
            indices into x).
        """
        n = len(x)
        rows = -(-n // ROW)
        padded = np.zeros((rows, ROW))
        padded.reshape(-1)[:n] = x
        both = padded @ self._from_input
        starts = self._row_starts(both[:, ROW:], state)
        y = starts @ self._from_state
        y += both[:, :ROW]
        row, into = watch // ROW, watch % ROW  # `into` + 1 samples of that row have been taken
        age = into[:, None] - np.arange(ROW)
        weights = np.where(age >= 0, self._kicks[age, 0], 0.0)
        watched = np.einsum("ij,ij->i", padded[row], weights)
        watched += np.einsum("ij,ij->i", starts[row], self._powers[into + 1, 0])
        taken = n - (rows - 1) * ROW
        state[:] = self._powers[taken] @ starts[-1] + padded[-1, :taken][::-1] @ self._kicks[:taken]
        return y.reshape(-1)[:n], watched

    def _row_starts(self, kicks: np.ndarray, state: np.ndarray) -> np.ndarray:
        """States `[R, S]` at the rows' starts, from what each row's input adds to the state, `[R, S]`."""
        starts = np.concatenate([state[None], kicks[:-1]])
        leap, reach = self._powers[ROW].T, 1
        while reach < len(starts) and np.abs(leap).max() > 1e-30:
            starts[reach:] += starts[:-reach] @ leap  # the product is complete before it is added
            leap, reach = leap @ leap, 2 * reach
        return starts


def run_with_flushes(
    recursion: Recursion, x: np.ndarray, state: np.ndarray, block: int, threshold: float
) -> np.ndarray:
    """Filter `x [N]`; every `block` samples clear the state if its first variable is below `threshold`.

    That is how the mda plug-ins keep denormal numbers away; it is heard where a sound stops and a slow filter
    still rings, so it is part of the sound. `state [S]` is changed.
    """
    n = len(x)
    ends = np.minimum(np.arange(block - 1, n + block - 1, block), n - 1)
    y, watched = recursion.run(x, state, ends)
    low = np.flatnonzero(np.abs(watched) < threshold)
    if not len(low):
        return y
    cut = int(low[0]) + 1  # in blocks: up to here y is right
    state[:] = 0.0
    quiet = ~np.logical_or.reduceat(np.abs(x) > SILENCE, np.arange(0, n, block))  # [blocks]
    while cut < len(ends):
        if quiet[cut] and not state.any():
            loud = np.flatnonzero(~quiet[cut:])
            after = cut + int(loud[0]) if len(loud) else len(ends)
            y[cut * block : after * block] = 0.0
            cut = after
            continue
        cut = _run_to_flush(recursion, x, state, block, threshold, cut, ends, watched, y)
    return y


def _run_to_flush(
    recursion: Recursion,
    x: np.ndarray,
    state: np.ndarray,
    block: int,
    threshold: float,
    cut: int,
    ends: np.ndarray,
    guess: np.ndarray,
    y: np.ndarray,
) -> int:
    """Filter from block `cut` up to and with the next flush; returns the block after it.

    `guess` are the watched values of a run without flushes: they say how far it is worth going at a time.
    """
    low = np.flatnonzero(np.abs(guess[cut:]) < threshold)
    stop = cut + int(low[0]) + 1 if len(low) else len(ends)
    begin, end = cut * block, int(ends[stop - 1]) + 1
    before = state.copy()
    part, watched = recursion.run(x[begin:end], state, ends[cut:stop] - begin)
    low = np.flatnonzero(np.abs(watched) < threshold)
    if len(low) and low[0] + 1 < stop - cut:  # an earlier flush than guessed: go only there
        stop = cut + int(low[0]) + 1
        end = int(ends[stop - 1]) + 1
        state[:] = before
        part, watched = recursion.run(x[begin:end], state, ends[cut:stop] - begin)
    y[begin:end] = part
    if abs(watched[-1]) < threshold:
        state[:] = 0.0
    return stop
