"""The interfaces for clients of OpenAI's API: uploads, and live audio by Realtime sessions."""
