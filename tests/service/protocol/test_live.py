from __future__ import annotations

import asyncio
from typing import Any

from service.protocol.addresses import LinkAddress
from service.protocol.clients import EngineClient
from service.protocol.live import LivePublisher


def test_views_hold_the_newest_and_the_feed_holds_all(address: LinkAddress) -> Any:
    async def listen() -> Any:
        live = LivePublisher(address)
        client = EngineClient(address)
        status, feed = client.subscribe_values("status"), client.subscribe_values("feed")
        # The first messages are missed while the sockets connect, so publish until both have heard one.
        heard = [asyncio.create_task(anext(status)), asyncio.create_task(anext(feed))]
        while not all(task.done() for task in heard):
            live.send_values("status", {"n": -1})
            live.send_values("feed", {"n": -1})
            await asyncio.sleep(0.02)
        for n in range(100):
            live.send_values("status", {"n": n})
            live.send_values("feed", {"n": n})
        await asyncio.sleep(0.3)  # nobody reads meanwhile
        views, events = [], []
        while not views or views[-1] != 99:
            views.append((await anext(status))["n"])
        while not events or events[-1] != 99:
            events.append((await anext(feed))["n"])
        await status.aclose()
        await feed.aclose()
        await client.close()
        live.close()
        return views, events

    views, events = asyncio.run(asyncio.wait_for(listen(), 20))
    # asyncio's socket may hold one message that it fetched before the pause, besides the newest.
    assert len(views) <= 2
    assert [n for n in events if n >= 0] == list(range(100))
