"""Jobs that wait for a worker: first come first served within a session, round robin between sessions."""

from collections import OrderedDict, deque

from speechpipe.cascade.workers.job import Job


class FairQueue:
    """Waiting jobs by session. Not thread-safe: call with the pool's lock held. A long upload cannot starve others."""

    def __init__(self) -> None:
        self._sessions: OrderedDict[str, deque[Job]] = OrderedDict()

    def __len__(self) -> int:
        return sum(len(jobs) for jobs in self._sessions.values())

    @property
    def audio_s(self) -> float:
        """Seconds of waiting audio."""
        return sum(job.audio_s for jobs in self._sessions.values() for job in jobs)

    def push(self, job: Job) -> None:
        """Add a job behind those of its session."""
        self._sessions.setdefault(job.session, deque()).append(job)

    def push_front(self, job: Job) -> None:
        """Add a job that lost its worker before all others, because it has waited already."""
        self._sessions.setdefault(job.session, deque()).appendleft(job)
        self._sessions.move_to_end(job.session, last=False)

    def pop(self) -> Job | None:
        """Remove and return the first job of the session whose turn it is; None if the queue is empty."""
        if not self._sessions:
            return None
        session, jobs = self._sessions.popitem(last=False)
        job = jobs.popleft()
        if jobs:
            self._sessions[session] = jobs  # the session's next turn is last
        return job

    def pop_with(self, first: Job, most_s: float) -> list[Job]:
        """Remove and return further jobs to decode together with `first`, so that all are at most `most_s` seconds.

        Only ended segments of the same recognizer: those of its session first, then of the others in their turn.
        """
        left_s = most_s - first.audio_s
        sessions = sorted(self._sessions, key=lambda session: session != first.session)  # stable: turns are kept
        found: list[Job] = []
        for session in sessions:
            for job in self._sessions[session]:
                if not job.finished or job.alone or job.spec.key != first.spec.key or job.audio_s > left_s:
                    break  # the order within a session is kept
                left_s -= job.audio_s
                found.append(job)
        for job in found:
            self.remove(job)
        return found

    def remove(self, job: Job) -> bool:
        """Remove a job; return whether it was waiting."""
        jobs = self._sessions.get(job.session)
        if jobs is None or job not in jobs:
            return False
        jobs.remove(job)
        if not jobs:
            del self._sessions[job.session]
        return True

    def drain(self) -> list[Job]:
        """Remove and return all jobs."""
        jobs = [job for waiting in self._sessions.values() for job in waiting]
        self._sessions.clear()
        return jobs
