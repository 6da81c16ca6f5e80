"""Records what CPython's queue does: `python3 queues.py > queues.json`, with a fixed seed. Rust replays it (tests/traces.rs).

`shutdown` is newer (3.13) than the CPython that recorded this; its rules are in the model of tests/queues.rs.
"""

import json
import queue
import random


def scenario(kind, size, steps):
    made = getattr(queue, kind)(size)
    seen = []
    for step in steps:
        if step == "get":
            try:
                outcome = made.get_nowait()
            except queue.Empty:
                outcome = "empty"
        elif step == "done":
            try:
                made.task_done()
                outcome = "ok"
            except ValueError:
                outcome = "error"
        else:
            try:
                made.put_nowait(step)
                outcome = "ok"
            except queue.Full:
                outcome = "full"
        seen.append([outcome, made.qsize(), made.empty(), made.full(), made.unfinished_tasks])
    return {"kind": kind, "size": size, "steps": steps, "seen": seen}


def main():
    pick = random.Random(20261125)
    print(
        json.dumps(
            [
                scenario(
                    kind,
                    pick.randint(0, 4),
                    [pick.choice(["get", "get", "done", pick.randint(0, 9), pick.randint(0, 9)]) for _ in range(40)],
                )
                for kind in ["Queue", "LifoQueue", "PriorityQueue"] * 40
            ]
        )
    )


main()
