"""The order of steps in a worker: ended segments, segments near their endpoint, the others in turn.

A segment near its endpoint most likely needs its final result within half a second. Decoding its remaining audio first
delays no final result, because all other segments are still being spoken.
"""

from collections import OrderedDict, deque

from speechpipe.cascade.workers.messages import Feed, Finish, Open, Step


class Schedule:
    """Steps by stream, in order within a stream. Streams take turns, so that a large backlog delays no other."""

    def __init__(self) -> None:
        self._steps: OrderedDict[int, deque[Step]] = OrderedDict()
        self._ended: OrderedDict[int, None] = OrderedDict()
        self._near_endpoint: OrderedDict[int, None] = OrderedDict()

    def __bool__(self) -> bool:
        return bool(self._steps)

    def add(self, step: Step) -> None:
        """Add a step."""
        number = step.stream
        match step:
            case Finish():
                self._near_endpoint.pop(number, None)
                self._ended[number] = None
            case Feed(endpoint_near=True):
                self._near_endpoint[number] = None
            case _:  # the speech continues
                self._near_endpoint.pop(number, None)
        self._steps.setdefault(number, deque()).append(step)

    def drop(self, number: int) -> None:
        """Remove the steps of a stream."""
        for waiting in (self._steps, self._ended, self._near_endpoint):
            waiting.pop(number, None)

    def next(self) -> Step:
        """Remove and return the next step; there must be one."""
        for urgent in (self._ended, self._near_endpoint):
            if urgent:
                number = next(iter(urgent))
                step = self._steps[number].popleft()
                if not self._steps[number]:
                    del self._steps[number]
                    del urgent[number]
                return step
        number, waiting = self._steps.popitem(last=False)
        step = waiting.popleft()
        if isinstance(step, Open) and waiting:
            self._steps[number] = waiting
            self._steps.move_to_end(number, last=False)  # opening is cheap, so the stream's turn continues
        elif waiting:
            self._steps[number] = waiting
        return step
