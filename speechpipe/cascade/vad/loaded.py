"""The VADs of a process, each loaded once."""

import threading

from speechpipe.cascade.vad import Vad, load_component
from speechpipe.types import Component


class LoadedVads:
    """Loads VADs and keeps them. Thread-safe."""

    def __init__(self) -> None:
        self._vads: dict[object, Vad] = {}
        self._lock = threading.Lock()

    def get(self, component: Component) -> Vad:
        """Return the VAD of a component; loaded once for equal options and files.

        Raises:
            StageFailed, ImportError: it cannot be loaded.
        """
        key = (component.implementation, tuple(sorted(component.options.items())), component.files)
        with self._lock:
            if key not in self._vads:
                self._vads[key] = load_component(component)
            return self._vads[key]
