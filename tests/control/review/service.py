"""A server, a client that uploads and a person who reviews, over HTTP."""

import io
from pathlib import Path
from typing import Any

import httpx
import soundfile

from tests.conftest import Server
from tests.patience import PATIENCE_S

SAMPLE = Path(__file__).parents[3] / "audio_samples" / "digits.flac"


def wav(seconds: float = 3.0, start_s: float = 0.0) -> bytes:
    """Return some seconds of real speech."""
    sound, rate = soundfile.read(SAMPLE, dtype="float32")
    buffer = io.BytesIO()
    soundfile.write(buffer, sound[int(start_s * rate) : int((start_s + seconds) * rate)], rate, format="WAV")
    return buffer.getvalue()


class ReviewClient:
    """Whoever uploads, operates and reviews, with one key."""

    def __init__(self, server: Server, key: str = "") -> None:
        headers = {"Authorization": f"Bearer {key}"} if key else {}
        self.http = httpx.Client(base_url=server.url, timeout=PATIENCE_S, headers=headers)

    def policy(self, scope: str = "default", **changes: object) -> httpx.Response:
        wanted = {"reason": "a test", "confirm": True, "force": True, **changes}
        return self.http.put(f"/v1/automation/{scope}", json=wanted)

    def upload(self, data: bytes | None = None, **fields: str) -> httpx.Response:
        files = {"file": ("a.wav", wav() if data is None else data)}
        return self.http.post("/v1/audio/transcriptions", files=files, data={"model": "default", **fields})

    def claim(self, reviewer: str = "ann") -> dict[str, Any] | None:
        answer = self.http.post("/v1/reviews/claim", json={"reviewer": reviewer})
        assert answer.status_code in (200, 204), answer.text
        found: dict[str, Any] | None = answer.json() if answer.status_code == 200 else None
        return found

    def claimed(self, reviewer: str = "ann") -> dict[str, Any]:
        found = self.claim(reviewer)
        assert found is not None
        return found

    def act(self, held: dict[str, Any], what: str, **body: object) -> httpx.Response:
        return self.http.post(f"/v1/reviews/{held['id']}/{what}", json={"lease": held["lease"], **body})

    def submit(self, held: dict[str, Any], *texts: str) -> httpx.Response:
        """Answer every segment with a text; one for the whole audio where there is no draft."""
        pieces = held["segments"] or [{"start": 0.0, "end": held["duration"], "id": None}]
        segments = [
            {
                "start": piece["start"],
                "end": piece["end"],
                "text": text,
                "kind": "speech" if text else "no_speech",
                "of": [piece["id"]] if piece["id"] else [],
            }
            for piece, text in zip(pieces, texts or ["typed by hand"] * len(pieces), strict=True)
        ]
        return self.act(held, "submit", segments=segments, step_s=2.0)

    def overview(self) -> dict[str, Any]:
        found: dict[str, Any] = self.http.get("/v1/reviews").json()
        return found
