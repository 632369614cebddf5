"""The pages of Ogg files, as far as exact seeking needs them (RFC 3533, section 6)."""

from __future__ import annotations

import struct
from pathlib import Path

_LARGEST_PAGE = 27 + 255 + 255 * 255
_NO_PACKET_ENDS = (1 << 64) - 1


def last_page_start(path: Path) -> int:
    """The frame at which the last page begins: the position that the page before it states.

    Only pages in which a packet ends count. 0 where there are fewer than two such in the file's end.
    """
    try:
        with path.open("rb") as file:
            file.seek(0, 2)
            file.seek(max(0, file.tell() - 4 * _LARGEST_PAGE))
            data = file.read()
    except OSError:
        return 0
    positions: list[int] = []
    at = data.find(b"OggS")
    while at >= 0 and at + 27 <= len(data):
        version, _, granule = struct.unpack_from("<BBQ", data, at + 4)
        if version == 0 and granule != _NO_PACKET_ENDS:
            positions.append(granule)
        at = data.find(b"OggS", at + 4)
    return positions[-2] if len(positions) > 1 else 0
