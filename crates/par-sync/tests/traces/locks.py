"""Records what CPython's threading does: `python3 locks.py > locks.json`, with a fixed seed.

A scenario is a list of steps. After each step the recorder waits until every thread that was started has ended or waits; then it
writes down what can be seen. Rust replays the same steps (tests/traces.rs) and must see the same.
"""

import json
import random
import threading
import time


def settle(done):
    until = time.monotonic() + 20
    while not done():
        if time.monotonic() > until:
            raise SystemExit("a step did not settle")
        time.sleep(0.0002)


def barrier(parties, with_action, steps):
    ran = []
    made = threading.Barrier(parties, action=(lambda: ran.append(1)) if with_action else None)
    outcomes = []
    started = []
    seen = []

    def wait(number, timeout):
        try:
            outcomes[number] = made.wait(timeout)
        except threading.BrokenBarrierError:
            outcomes[number] = "broken"

    for step in steps:
        if step in ("wait", "timed"):
            outcomes.append(None)
            thread = threading.Thread(target=wait, args=(len(started), 0.02 if step == "timed" else None), daemon=True)
            started.append(thread)
            thread.start()
            if step == "timed":
                thread.join()
        elif step == "abort":
            made.abort()
        elif step == "reset":
            made.reset()
        settle(lambda: made.n_waiting + sum(not t.is_alive() for t in started) == len(started))
        seen.append([made.n_waiting, made.broken, len(ran), list(outcomes)])
    made.abort()
    return {"parties": parties, "action": with_action, "steps": steps, "seen": seen}


def condition(steps):
    made = threading.Condition(threading.Lock())
    entered = [0]
    woken = []
    started = []
    seen = []
    sleeping = 0

    def wait(number, timeout):
        with made:
            entered[0] += 1
            notified = made.wait(timeout)
            woken.append([number, notified])

    for step in steps:
        before = len(woken)
        if step in ("wait", "timed"):
            thread = threading.Thread(target=wait, args=(len(started), 0.02 if step == "timed" else None), daemon=True)
            started.append(thread)
            thread.start()
            if step == "timed":
                thread.join()
            else:
                sleeping += 1
        else:
            with made:
                made.notify(step)
            sleeping -= min(step, sleeping)

        def quiet():
            with made:
                return entered[0] == len(started) and len(woken) + sleeping == len(started)

        settle(quiet)
        seen.append(sorted(woken[before:]))
    with made:
        made.notify_all()
    return {"steps": steps, "seen": seen}


def semaphore(bounded, permits, steps):
    made = (threading.BoundedSemaphore if bounded else threading.Semaphore)(permits)
    seen = []
    for step in steps:
        if step == "acquire":
            seen.append(made.acquire(blocking=False))
        else:
            try:
                made.release(step)
                seen.append(True)
            except ValueError:
                seen.append(False)
    return {"bounded": bounded, "permits": permits, "steps": steps, "seen": seen}


def main():
    pick = random.Random(20261125)
    weights = {"wait": 12, "timed": 2, "abort": 2, "reset": 3}
    barriers = [
        barrier(
            pick.randint(1, 4),
            pick.random() < 0.5,
            pick.choices(list(weights), weights.values(), k=pick.randint(4, 14)),
        )
        for _ in range(120)
    ]
    conditions = [
        condition([pick.choice(["wait", "wait", "wait", "timed", 1, 1, 2, 3]) for _ in range(pick.randint(4, 14))])
        for _ in range(80)
    ]
    semaphores = [
        semaphore(
            bounded,
            pick.randint(0, 3),
            [pick.choice(["acquire", "acquire", 1, 1, 2]) for _ in range(pick.randint(4, 30))],
        )
        for bounded in [False, True] * 40
    ]
    print(json.dumps({"barriers": barriers, "conditions": conditions, "semaphores": semaphores}))


main()
