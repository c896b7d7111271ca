"""Packets of FFmpeg's demuxers: selection by stream, end times, and corrected gaps of Ogg and AVI."""

from collections.abc import Iterator
from typing import Any

GAP_IN_PAGE_S = 0.1


def demuxed(container: Any, streams: list[Any]) -> Iterator[Any]:
    """Yield the packets of these streams to the end of the file.

    A damaged file can contain streams that its header does not list. PyAV raises IndexError for their packets, which
    are skipped.
    """
    while True:
        try:
            yield from container.demux(*streams)
            return
        except IndexError:
            continue


def of_the_track(packets: Iterator[Any], own: int, ends_s: dict[int, float]) -> Iterator[Any]:
    """Yield the packets of the stream `own`; store the latest end time of every stream in `ends_s`."""
    for packet in packets:
        if packet.pts is not None:
            index = packet.stream_index
            end = float((packet.pts + (packet.duration or 0)) * packet.time_base)
            if end > ends_s.get(index, float("-inf")):
                ends_s[index] = end
        if packet.stream_index == own:
            yield packet


def at_their_units(packets: Iterator[Any], own: int, units: list[int]) -> Iterator[Any]:
    """Set the time of each packet of `own` from `units`, the time unit of the n-th chunk; no change if it is empty."""
    for packet in packets:
        if packet.stream_index == own and packet.pts is not None and 0 <= packet.pts < len(units):
            packet.pts = packet.dts = units[packet.pts]
        yield packet


def gaps_at_page_ends(packets: Iterator[Any]) -> Iterator[Any]:
    """Move a gap in an Ogg page to before the last packet of the page.

    Ogg stores the time of a page's end only, and FFmpeg places a gap near the page's first packet. Writers end a page
    when its time span becomes too long, that is with the first packet after the gap.
    """
    page: list[Any] = []
    due: int | None = None  # the stamp at which the next packet is due
    for packet in packets:
        if page and packet.pos != page[0].pos:
            due = _gap_at_end(page, due)
            yield from page
            page = []
        page.append(packet)
    _gap_at_end(page, due)
    yield from page


def _gap_at_end(page: list[Any], due: int | None) -> int | None:
    """Move a page's gap; return the time stamp at which the next packet is due."""
    for number, packet in enumerate(page):
        if packet.pts is None:
            continue
        if due is not None and (gap := packet.pts - due) * packet.time_base > GAP_IN_PAGE_S:
            for earlier in page[number:-1]:
                if earlier.pts is not None:
                    earlier.pts = earlier.dts = earlier.pts - gap
        due = packet.pts + (packet.duration or 0)
    return due
