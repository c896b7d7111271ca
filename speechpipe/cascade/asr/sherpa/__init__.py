"""Recognizers of sherpa-onnx (https://github.com/k2-fsa/sherpa-onnx, Apache-2.0), the extra `sherpa`.

`streaming.py` decodes while it is fed, `offline.py` at the end of a segment. The library runs ONNX models on the CPU.
On a file that it does not like it ends the process (`_Exit(-1)` in its `macros.h`), so files and hotwords are checked
before it sees them.
"""
