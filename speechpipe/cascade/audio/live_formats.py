"""Detection of live audio formats: containers by their first bytes, wrong raw encodings by their waveform."""

import re

import numpy as np

from speechpipe.cascade.audio.containers.frames import ID3_HEAD_BYTES, is_id3
from speechpipe.cascade.audio.g711 import G711
from speechpipe.types import Samples

MAGIC = (
    (0, b"OggS", "ogg"),
    (0, b"\x1a\x45\xdf\xa3", "matroska"),
    (0, b"fLaC", "flac"),
    (4, b"ftyp", "mp4"),
)
"""(offset, bytes, FFmpeg's name) of containers that can be decoded while they arrive. MPEG audio: `_mpeg`."""

NOT_LIVE = (
    (0, b"FORM", "AIFF"),
    (0, b"caff\x00\x01", "CAF"),
    (0, b"#!AMR", "AMR"),
    (0, b".snd\x00\x00\x00", "AU"),
    (0, b"\x30\x26\xb2\x75\x8e\x66\xcf\x11", "ASF (WMA)"),
    (0, b"FLV\x01", "FLV"),
    (0, b"RF64", "RF64"),
    (0, b"wvpk", "WavPack"),
    (0, b"NIST_1A\n", "SPHERE"),
)
"""(offset, bytes, name) of formats that are supported as uploads only."""

MAGIC_BYTES = 12
MPEG_BYTES = 4096
"""Enough for two frames of MPEG audio. One alone is no proof, as PCM can contain its eleven set bits."""

TS_SYNC, TS_PACKET = 0x47, 188
LEAST_PACKETS = 4

WITHIN = re.compile(
    rb"(?P<Ogg>OggS\x00\x02\x00{8})|(?P<FLAC>fLaC[\x00\x80]\x00\x00\x22)|(?P<wav>RIFF.{4}WAVEfmt )"
    rb"|(?P<Matroska>\x1a\x45\xdf\xa3.{1,8}\x42\x86\x81\x01)|(?P<mp4>\x00\x00[\x00\x01][\x08-\xff]ftyp[ -~]{4})"
    rb"|(?P<mp3>ID3[\x02-\x04]\x00[\x00-\x10][\x00-\x7f]{4}(?:[A-Z][A-Z0-9]{2}|\x00))",
    re.DOTALL,
)
WITHIN_BYTES = 24
"""Longest match of `WITHIN`."""

MPEG_BITRATES = {
    (1, 1): (32, 64, 96, 128, 160, 192, 224, 256, 288, 320, 352, 384, 416, 448),
    (1, 2): (32, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320, 384),
    (1, 3): (32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320),
    (2, 1): (32, 48, 56, 64, 80, 96, 112, 128, 144, 160, 176, 192, 224, 256),
    (2, 2): (8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160),
    (2, 3): (8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160),
}
"""kbit/s by (MPEG 1 or 2, layer) and index 1 to 14: ISO/IEC 11172-3 and 13818-3."""


def container(data: bytes, *, certain: bool) -> str | None:
    """Return FFmpeg's name of the live container that begins with `data`; None if there is none.

    Args:
        data: at least `MAGIC_BYTES`, or `MPEG_BYTES` if `may_be_mpeg` says so.
        certain: require two headers of MPEG audio, because another format was declared.
    """
    for offset, magic, name in MAGIC:
        if data[offset : offset + len(magic)] == magic:
            return name
    if is_id3(data[:ID3_HEAD_BYTES]):
        return "mp3"
    frame = _mpeg(data)
    if frame is None:
        return None
    name, size = frame
    if certain:
        following = _mpeg(data[size:]) if size and len(data) >= size + 8 else None
        if following is None or following[0] != name:
            return None
    return name


def may_be_mpeg(data: bytes) -> bool:
    """Whether `data` begins like MPEG audio or a transport stream, so that more bytes are needed to be certain."""
    return _mpeg(data) is not None or _packets(data) > 0


def _packets(data: bytes) -> int:
    """Return how many packets of an MPEG transport stream (ISO 13818-1, 2.4.3.2) begin `data`; 0 if it is none."""
    heads = [data[at : at + 4] for at in range(0, min(len(data), 8 * TS_PACKET), TS_PACKET)]
    heads = [head for head in heads if len(head) == 4]
    # No error is marked, and there is an adaptation field, a payload or both.
    return len(heads) if all(head[0] == TS_SYNC and not head[1] & 0x80 and head[3] & 0x30 for head in heads) else 0


def recording_in(samples: bytes) -> tuple[int, str] | None:
    """Return (offset, name) of a recording that begins within bytes declared as samples; None if there is none.

    Each pattern fixes six bytes or more, so that chance does not match in days of audio.
    """
    match = WITHIN.search(samples)
    return None if match is None else (match.start(), str(match.lastgroup))


def not_live(data: bytes) -> str | None:
    """Return the name of the upload-only format that begins with `data`; None if there is none."""
    if _packets(data) >= LEAST_PACKETS:
        return "an MPEG transport stream"
    return next((name for offset, magic, name in NOT_LIVE if data[offset : offset + len(magic)] == magic), None)


def _mpeg(data: bytes) -> tuple[str, int] | None:
    """Return (FFmpeg's name, length in bytes) of the MPEG audio or ADTS frame at the beginning; None if none."""
    if len(data) < 7 or data[0] != 0xFF or data[1] & 0xE0 != 0xE0:
        return None
    version, layer = data[1] >> 3 & 3, data[1] >> 1 & 3
    if layer == 0:  # ADTS: layer is always 0, the sync word has one more bit
        size = (data[3] & 3) << 11 | data[4] << 3 | data[5] >> 5
        return ("aac", size) if data[1] & 0xF0 == 0xF0 and data[2] >> 2 & 15 < 13 and size > 7 else None
    bitrate, rate = data[2] >> 4, data[2] >> 2 & 3
    if version == 1 or bitrate in (0, 15) or rate == 3:
        return None
    layer = 4 - layer
    kbits = MPEG_BITRATES[1 if version == 3 else 2, layer][bitrate - 1]
    hertz = (44_100, 48_000, 32_000)[rate] >> {3: 0, 2: 1, 0: 2}[version]
    padding = data[2] >> 1 & 1
    if layer == 1:
        return "mp3", (12_000 * kbits // hertz + padding) * 4
    samples = 72 if layer == 3 and version != 3 else 144
    return "mp3", samples * 1000 * kbits // hertz + padding


# ---- raw encodings, by their waveform ----

JUDGED_S = 1.0
"""Seconds of audio that are compared at once."""

AUDIBLE = 0.003
"""RMS, -50 dBFS: quieter audio is not compared."""

LOUD = 0.45
"""RMS, -7 dBFS: recordings are hardly ever louder, but 8-bit samples read as 16 bits are."""

LEAST_SAMPLES = 2000
SAMPLE_BYTES = {"linear16": 2}

CLEARLY = 0.1
WHITE, SMOOTH = 0.35, 0.7
"""Correlation of neighbouring samples: near 0 for noise, above 0.7 for speech at 8 to 48 kHz."""


def mistaken(data: bytes, encoding: str, channels: int = 1) -> str | None:
    """Return the encoding that raw audio declared as `encoding` seems to have instead; None if it may be right.

    Bytes decoded with the wrong encoding are noise. An encoding is returned only if the declared one gives loud noise,
    and the other gives a signal as smooth as speech. Real noise is noise in every encoding.
    """
    data = data[: len(data) // 24 * 24]
    if len(data) < LEAST_SAMPLES * SAMPLE_BYTES.get(encoding, 1):
        return None
    readings = _readings(data)
    announced = readings.pop(encoding)
    level, smooth = _rms(announced), _smoothness(announced, channels)
    if level < AUDIBLE:
        return None
    if smooth > WHITE:
        # Two 8-bit samples read as one of 16 bits keep the sign of one: the result is loud and not white.
        telephone = ("mulaw", "alaw") if encoding == "linear16" and level > LOUD else ()
        readings = {name: readings[name] for name in telephone if _rms(readings[name]) < level / 2}
    found = {name: _smoothness(samples, channels) for name, samples in readings.items() if _plausible(samples)}
    best = max(found, key=lambda name: found[name], default=None)
    return best if best is not None and found[best] > max(SMOOTH, smooth + CLEARLY) else None


def _readings(data: bytes) -> dict[str, Samples]:
    codes = np.frombuffer(data, np.uint8)
    of_three = codes.reshape(-1, 3)
    int24 = (of_three[:, 2].astype(np.int8).astype(np.int32) << 16) | (of_three[:, 1].astype(np.int32) << 8)
    return {
        "linear16": np.frombuffer(data, "<i2").astype(np.float32) / 2**15,
        "mulaw": G711["mulaw"][codes],
        "alaw": G711["alaw"][codes],
        "16-bit big-endian": np.frombuffer(data, ">i2").astype(np.float32) / 2**15,
        "24-bit integers": int24.astype(np.float32) / 2**23,
        "32-bit integers": (np.frombuffer(data, "<i4").astype(np.float64) / 2**31).astype(np.float32),
        "32-bit floats": np.nan_to_num(np.frombuffer(data, "<f4"), nan=1e9, posinf=1e9, neginf=-1e9),
        "8-bit unsigned": codes.astype(np.float32) / 128 - 1,
    }


def _plausible(samples: Samples) -> bool:
    return bool(AUDIBLE < _rms(samples) < 1.0 and np.abs(samples).max() <= 1.5)


def _rms(samples: Samples) -> float:
    return float(np.sqrt(np.mean(np.square(samples, dtype=np.float64))))


def _smoothness(samples: Samples, lag: int) -> float:
    centred = samples.astype(np.float64) - float(samples.mean())
    power = float(np.dot(centred, centred))
    return float(np.dot(centred[lag:], centred[:-lag])) / power if power > 0 else 0.0
