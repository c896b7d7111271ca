"""The websocket interface for clients of Deepgram's live API."""
