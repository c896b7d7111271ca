"""People beside the machine: which results they look at, what that says of all the others, and who answers.

Knows texts and confidences, no audio.
"""
