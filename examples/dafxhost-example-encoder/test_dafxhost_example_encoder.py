"""The band levels keep what dafxhost asks of an encoder, and tell low tones from high ones."""

import torch

import dafxhost
from dafxhost.testing import conformance

test_conformance = conformance("example-band-levels", kind="encoder")  # one test item a check


def test_a_tone_is_loudest_in_its_octave() -> None:
    encoder = dafxhost.encoder("example-band-levels").eval()
    time = torch.arange(24_000) / 24_000
    for hertz, band in ((60, 0), (1000, 4), (10_000, 7)):
        levels = encoder(torch.sin(2 * torch.pi * hertz * time)[None, None], 24_000)[0, :8]
        assert int(levels.argmax()) == band
