"""The order of work in a worker: ended segments, segments near their endpoint, the others in turn, partial results.

A segment near its endpoint most likely needs its final result within half a second. Decoding its remaining audio first
delays no final result, because all other segments are still being spoken.
"""

from collections import OrderedDict, deque

from speechpipe.cascade.workers.messages import Cancel, Feed, Finish, Open, RequestPartial, Step


class Schedule:
    """Requests by stream, in order within a stream. Streams take turns, so that a large backlog delays no other."""

    def __init__(self) -> None:
        self._steps: OrderedDict[int, deque[Step]] = OrderedDict()
        self._ended: OrderedDict[int, None] = OrderedDict()
        self._near_endpoint: OrderedDict[int, None] = OrderedDict()
        self._partials: OrderedDict[int, RequestPartial] = OrderedDict()

    def __bool__(self) -> bool:
        return bool(self._steps or self._partials)

    def add(self, request: Step | RequestPartial | Cancel) -> None:
        """Add a request. A Cancel removes the waiting requests of its stream instead."""
        number = request.stream
        match request:
            case RequestPartial():
                self._partials[number] = request
                return
            case Cancel():
                for waiting in (self._steps, self._ended, self._near_endpoint, self._partials):
                    waiting.pop(number, None)
                return
            case Finish():
                self._partials.pop(number, None)
                self._near_endpoint.pop(number, None)
                self._ended[number] = None
            case Feed(endpoint_near=True):
                self._near_endpoint[number] = None
            case _:  # the speech continues
                self._near_endpoint.pop(number, None)
        self._steps.setdefault(number, deque()).append(request)

    def next(self) -> Step | RequestPartial:
        """Remove and return the next request; there must be one."""
        for urgent in (self._ended, self._near_endpoint):
            if urgent:
                number = next(iter(urgent))
                step = self._steps[number].popleft()
                if not self._steps[number]:
                    del self._steps[number]
                    del urgent[number]
                return step
        if not self._steps:
            return self._partials.popitem(last=False)[1]
        number, waiting = self._steps.popitem(last=False)
        step = waiting.popleft()
        if isinstance(step, Open) and waiting:
            self._steps[number] = waiting
            self._steps.move_to_end(number, last=False)  # opening is cheap, so the stream's turn continues
        elif waiting:
            self._steps[number] = waiting
        return step
