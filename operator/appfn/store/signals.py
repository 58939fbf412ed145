"""Waking up who waits for something to happen in this process."""

import asyncio


class Bell:
    """Wakes all who wait for the present `next_ring`, and nobody later.

    Take `next_ring`, then look whether what is awaited is there, then wait: so no ring is missed.
    """

    def __init__(self) -> None:
        self.next_ring = asyncio.Event()

    def ring(self) -> None:
        """Wake all."""
        event, self.next_ring = self.next_ring, asyncio.Event()
        event.set()


async def wait_event(event: asyncio.Event, within: float) -> bool:
    """Wait until an event is set; False when `within` seconds passed."""
    try:
        await asyncio.wait_for(event.wait(), within)
    except TimeoutError:
        return False
    return True
