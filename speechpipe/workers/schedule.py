"""What a worker does next: segments that are ending first, then a step of each in turn, partial results last."""

from collections import OrderedDict, deque

from speechpipe.workers.messages import Cancel, Finish, Open, Peek, Step


class Schedule:
    """Requests by stream, each stream's in order. One stream that is far behind cannot hold up the others."""

    def __init__(self) -> None:
        self._steps: OrderedDict[int, deque[Step]] = OrderedDict()
        self._ending: deque[int] = deque()
        self._peeks: OrderedDict[int, Peek] = OrderedDict()

    def __bool__(self) -> bool:
        return bool(self._steps or self._peeks)

    def add(self, request: Step | Peek | Cancel) -> None:
        """Put a request where it belongs; a Cancel takes what is left of its stream away."""
        number = request.stream
        if isinstance(request, Peek):
            self._peeks[number] = request
            return
        if isinstance(request, Finish | Cancel):
            self._peeks.pop(number, None)
        if isinstance(request, Cancel):
            self._steps.pop(number, None)
            if number in self._ending:
                self._ending.remove(number)
            return
        self._steps.setdefault(number, deque()).append(request)
        if isinstance(request, Finish):
            self._ending.append(number)

    def next(self) -> Step | Peek:
        """Take the next request; there must be one."""
        if self._ending:
            number = self._ending[0]
            step = self._steps[number].popleft()
            if not self._steps[number]:  # that was its Finish
                del self._steps[number]
                self._ending.popleft()
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
