"""The build command, which runs in a container beside the agent's, as the agent sees it: let it begin, see it end.

Two FIFOs in the shared volume; whoever comes first makes them. Both sides open `build-start` for reading and writing,
so that neither waits for the other to come and what is written stays until it is read. `build-end` is held open for
writing by the first process of the build's container: when that has ended, however it ended, the kernel says so here.
"""

import os
import select
from types import TracebackType
from typing import Self

from appfn.agent.layout import Layout
from appfn.agent.start_signal import make_fifo

RUN = b"run\n"
NO = b"no\n"
_ANY_USER = 0o666
"""The image of the build command may run as any user. All it could do here is to hurt its own build."""
_CHUNK = 65_536


class Command:
    """A context: left without `start`, it tells the other container to end without running anything."""

    def __init__(self, layout: Layout) -> None:
        self._layout = layout
        self._started = False
        make_fifo(layout.build_start, mode=_ANY_USER)
        make_fifo(layout.build_end, mode=_ANY_USER)
        # Open from the beginning: the kernel tells a reader of the end of writers it has seen.
        self._end = os.open(layout.build_end, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        self._start = os.open(layout.build_start, os.O_RDWR | os.O_CLOEXEC)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if not self._started:
            # The mark first: who opens the FIFO after we have closed it finds the mark, who did before finds the word.
            self._layout.no_build.touch()
            os.write(self._start, NO)
        os.close(self._start)
        os.close(self._end)

    def start(self) -> None:
        """Let the command begin."""
        self._started = True
        os.write(self._start, RUN)

    def wait(self) -> None:
        """Return when the first process of the command's container has ended.

        Without a writer there has ever been one, poll(2) of a FIFO reports nothing: to begin with, this waits for the
        container. Bytes in the FIFO are a user's, and mean nothing.
        """
        poll = select.poll()
        poll.register(self._end, select.POLLIN)
        while True:
            events = poll.poll()[0][1]
            if events & select.POLLIN:
                os.read(self._end, _CHUNK)
            elif events & select.POLLHUP:
                return
