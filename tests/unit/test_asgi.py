"""What an open WebSocket waits with, in the place of asyncio's own."""

from __future__ import annotations

import asyncio

from trellis.asgi import _Gate, _Mail


def test_mail__comes_in_order() -> None:
    async def read() -> list[int]:
        mail = _Mail()
        assert mail.empty()
        mail.put_nowait(1)
        mail.put_nowait(2)
        assert not mail.empty()
        return [await mail.get(), await mail.get()]

    assert asyncio.run(read()) == [1, 2]


def test_mail__is_waited_for() -> None:
    async def read() -> int:
        mail = _Mail()
        reading = asyncio.create_task(mail.get())
        await asyncio.sleep(0)
        mail.put_nowait(1)
        return int(await reading)

    assert asyncio.run(read()) == 1


def test_mail__a_reader_that_left_takes_nothing_along() -> None:
    async def read() -> int:
        mail = _Mail()
        gone = asyncio.create_task(mail.get())
        await asyncio.sleep(0)
        gone.cancel()
        mail.put_nowait(1)
        await asyncio.wait({gone})
        return int(await mail.get())

    assert asyncio.run(read()) == 1


def test_gate__holds_all_until_it_opens() -> None:
    async def pass_through() -> list[bool]:
        gate = _Gate()
        await gate.wait()
        gate.clear()
        gate.clear()
        waiting = [asyncio.create_task(gate.wait()) for _ in range(2)]
        await asyncio.sleep(0)
        held = not any(each.done() for each in waiting)
        gate.set()
        await asyncio.gather(*waiting)
        await gate.wait()
        return [held, *(each.done() for each in waiting)]

    assert asyncio.run(pass_through()) == [True, True, True]
