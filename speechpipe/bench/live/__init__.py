"""The blame benchmark on a running server: real processes, paced traffic, and faults inside and beside the server.

table.py       the faults, read from TOML (`faults.toml`)
active.py      the file that says which faults are active inside the server's processes
hook.py        loads the faults into the server's processes, by a `sitecustomize.py`
inside.py      faults of VAD, recognizer and store, in those processes
outside.py     faults of workers, machine and store, from outside the server
server.py      the server under test
voices.py      what is spoken: recordings with natural variation, and faults of the audio
dictation.py   one live session
traffic.py     paced uploads, live sessions and people's feedback
observer.py    what the server says: alarms and verdicts
run.py         the sequence: reference, healthy traffic, one fault after another
score.py       what of that was right
show.py        the figures as text
"""
