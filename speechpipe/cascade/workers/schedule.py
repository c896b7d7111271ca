"""What a worker does next: segments that have ended, those that may end soon, the others in turn, then partial results.

Whoever pauses in speaking will most likely want the final result within half a second. Working off what is left
during the pause costs nobody a final: all others are in the middle of something.
"""

from collections import OrderedDict, deque

from speechpipe.cascade.workers.messages import Cancel, Feed, Finish, Open, Peek, Step


class Schedule:
    """Requests by stream, each stream's in order. One stream that is far behind cannot hold up the others."""

    def __init__(self) -> None:
        self._steps: OrderedDict[int, deque[Step]] = OrderedDict()
        self._ended: OrderedDict[int, None] = OrderedDict()
        self._pausing: OrderedDict[int, None] = OrderedDict()
        self._peeks: OrderedDict[int, Peek] = OrderedDict()

    def __bool__(self) -> bool:
        return bool(self._steps or self._peeks)

    def add(self, request: Step | Peek | Cancel) -> None:
        """Put a request where it belongs; a Cancel takes what is left of its stream away."""
        number = request.stream
        match request:
            case Peek():
                self._peeks[number] = request
                return
            case Cancel():
                for waiting in (self._steps, self._ended, self._pausing, self._peeks):
                    waiting.pop(number, None)
                return
            case Finish():
                self._peeks.pop(number, None)
                self._pausing.pop(number, None)
                self._ended[number] = None
            case Feed(pausing=True):
                self._pausing[number] = None
            case _:  # speech goes on
                self._pausing.pop(number, None)
        self._steps.setdefault(number, deque()).append(request)

    def next(self) -> Step | Peek:
        """Take the next request; there must be one."""
        for urgent in (self._ended, self._pausing):
            if urgent:
                number = next(iter(urgent))
                step = self._steps[number].popleft()
                if not self._steps[number]:
                    del self._steps[number]
                    del urgent[number]
                return step
        if not self._steps:
            return self._peeks.popitem(last=False)[1]
        number, waiting = self._steps.popitem(last=False)
        step = waiting.popleft()
        if isinstance(step, Open) and waiting:
            self._steps[number] = waiting
            self._steps.move_to_end(number, last=False)  # opening is nothing yet: its turn goes on
        elif waiting:
            self._steps[number] = waiting
        return step
