"""Transcribe a file with the official `openai` client: `python examples/upload.py FILE [URL]`.

Start a server first: `make serve`.
"""

import sys

import openai

client = openai.OpenAI(base_url=sys.argv[2] if sys.argv[2:] else "http://127.0.0.1:8000/v1", api_key="none")

with open(sys.argv[1], "rb") as file:  # noqa: PTH123 - what people write
    for event in client.audio.transcriptions.create(file=file, model="default", stream=True):
        if event.type == "transcript.text.delta":
            print(event.delta, end="", flush=True)
print()
