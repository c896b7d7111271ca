"""The cascade from samples to text: audio decoding, VAD, segmentation, recognition. Independent of the server."""
