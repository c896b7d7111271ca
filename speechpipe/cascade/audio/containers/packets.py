"""Packets as FFmpeg's demuxers give them: whose they are, how far their stamps go, and Ogg's gaps put right."""

from collections.abc import Iterator
from typing import Any

GAP_IN_PAGE_S = 0.1


def demuxed(container: Any, streams: list[Any]) -> Iterator[Any]:
    """Yield the packets of these streams to the end of the file.

    A damaged file may bring streams that it did not announce; PyAV raises IndexError at each of their packets, which
    are passed.
    """
    while True:
        try:
            yield from container.demux(*streams)
            return
        except IndexError:
            continue


def of_the_track(packets: Iterator[Any], own: int, ends_s: dict[int, float]) -> Iterator[Any]:
    """Yield the packets of the stream `own`; note in `ends_s` how far the stamps of every stream go."""
    for packet in packets:
        if packet.pts is not None:
            index = packet.stream_index
            end = float((packet.pts + (packet.duration or 0)) * packet.time_base)
            if end > ends_s.get(index, float("-inf")):
                ends_s[index] = end
        if packet.stream_index == own:
            yield packet


def at_their_units(packets: Iterator[Any], own: int, units: list[int]) -> Iterator[Any]:
    """Put each packet of `own` where its chunk stands: `units` has the place of the n-th; empty leaves all as it is."""
    for packet in packets:
        if packet.stream_index == own and packet.pts is not None and 0 <= packet.pts < len(units):
            packet.pts = packet.dts = units[packet.pts]
        yield packet


def gaps_at_page_ends(packets: Iterator[Any]) -> Iterator[Any]:
    """Put a gap in Ogg before the last packet of its page.

    Ogg stamps pages by their end, so where in a page a gap lies is not said, and FFmpeg puts it near the page's first
    packet. Writers end a page when the time in it becomes too long, that is with the first packet behind the gap.
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
    """Move a page's gap; return the stamp at which the next packet is due."""
    for number, packet in enumerate(page):
        if packet.pts is None:
            continue
        if due is not None and (gap := packet.pts - due) * packet.time_base > GAP_IN_PAGE_S:
            for earlier in page[number:-1]:
                if earlier.pts is not None:
                    earlier.pts = earlier.dts = earlier.pts - gap
        due = packet.pts + (packet.duration or 0)
    return due
