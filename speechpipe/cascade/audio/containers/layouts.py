"""Channel layouts: the position of each channel (FL, FR, FC, LFE, BL ...), as FFmpeg names them.

References: Microsoft's WAVEFORMATEXTENSIBLE (bits of the mask), RFC 9639 9.1.3 (FLAC's order).
"""

# Bit 0 to 17 of the mask, which is also the order of the channels.
_MASK = tuple("FL FR FC LFE BL BR FLC FRC BC SL SR TC TFL TFC TFR TBL TBC TBR".split())  # noqa: SIM905
_FLAC = {
    3: "FL FR FC",
    4: "FL FR BL BR",
    5: "FL FR FC BL BR",
    6: "FL FR FC LFE BL BR",
    7: "FL FR FC LFE BC SL SR",
    8: "FL FR FC LFE BL BR SL SR",
}


def layout_of_mask(mask: int, channels: int, kind: str) -> tuple[str, ...] | None:
    """Return the layout of a wav's channel mask or of FLAC's number of channels; None if unknown."""
    places = tuple(name for bit, name in enumerate(_MASK) if mask >> bit & 1)
    if len(places) == channels:
        return places
    if kind == "flac" and channels in _FLAC:
        return tuple(_FLAC[channels].split())
    return None
