"""What a Python program does with the bus, over nats-py. Knows nothing of what answers.

    flows.py URL [FLOW...]

Runs the flows, those that any NATS server has to carry without a name, and prints `ok FLOW` after each. For
`reconnect` it prints `restart` and waits for the server to come back.
"""

import asyncio
import json
import sys
import uuid

import nats
from nats.errors import NoRespondersError, TimeoutError

URL = sys.argv[1]
PATIENCE = 20


def unique(topic):
    return f"{topic}.{uuid.uuid4().hex[:8]}"


async def connect(**options):
    return await nats.connect(URL, connect_timeout=PATIENCE, **options)


async def take(subscription, count):
    return [(await subscription.next_msg(timeout=PATIENCE)).data for _ in range(count)]


async def settled(bus):
    """Waits until the server has done all that was asked: what `flush` sends may overtake what was to go before it."""
    inbox = bus.new_inbox()
    mark = await bus.subscribe(inbox, max_msgs=1)
    await bus.publish(inbox, b"")
    await mark.next_msg(timeout=PATIENCE)


async def silent(subscription):
    try:
        message = await subscription.next_msg(timeout=0.2)
    except TimeoutError:
        return True
    raise AssertionError(f"nothing was to come, and {message} did")


async def publish_and_subscribe():
    one, other = await connect(), await connect()
    topic = unique("py.plain")
    subscription = await other.subscribe(topic)
    await settled(other)
    sent = [b"text", b"", b'{"a": 1 }', bytes(range(256)), "grün".encode(), b"x" * 500_000]
    sent += [str(number).encode() for number in range(500)]
    for payload in sent:
        await one.publish(topic, payload)
    assert await take(subscription, len(sent)) == sent
    await one.close()
    await other.close()


async def wildcards():
    bus = await connect()
    base = unique("py.wild")
    exact = await bus.subscribe(f"{base}.a.b")
    star = await bus.subscribe(f"{base}.*.b")
    tail = await bus.subscribe(f"{base}.>")
    await settled(bus)
    for end in ["a.b", "x.b", "a", "a.b.c"]:
        await bus.publish(f"{base}.{end}", end.encode())
    assert await take(exact, 1) == [b"a.b"]
    assert await take(star, 2) == [b"a.b", b"x.b"]
    assert await take(tail, 4) == [b"a.b", b"x.b", b"a", b"a.b.c"]
    for subscription in [exact, star, tail]:
        assert await silent(subscription)
    await bus.close()


async def queue_groups():
    topic = unique("py.queue")
    members = [await connect() for _ in range(3)]
    seen = [[] for _ in members]

    def noting(into):
        async def note(message):
            into.append(int(message.data))

        return note

    for member, into in zip(members, seen):
        await member.subscribe(topic, queue="workers", cb=noting(into))
        await settled(member)
    bus = await connect()
    everything = await bus.subscribe(topic)
    await settled(bus)
    for number in range(300):
        await bus.publish(topic, str(number).encode())
    await take(everything, 300)
    async with asyncio.timeout(PATIENCE):
        while sum(map(len, seen)) < 300:
            await asyncio.sleep(0.01)
    assert sorted(sum(seen, [])) == list(range(300)), "each message goes to one of the group"
    assert all(seen), f"each of the group has some: {[len(own) for own in seen]}"
    for each in [bus, *members]:
        await each.close()


async def request_and_reply():
    bus, server = await connect(), await connect()
    topic = unique("py.double")

    async def double(message):
        await message.respond(str(2 * int(message.data)).encode())

    await server.subscribe(topic, cb=double)
    await settled(server)
    asked = [bus.request(topic, str(number).encode(), timeout=PATIENCE) for number in range(100)]
    answers = [int(answer.data) for answer in await asyncio.gather(*asked)]
    assert answers == [2 * number for number in range(100)]
    answer = await bus.request(topic, b"21", timeout=PATIENCE, old_style=True)
    assert answer.data == b"42"
    await bus.close()
    await server.close()


async def no_responders():
    bus = await connect()
    try:
        await bus.request(unique("py.nobody"), b"?", timeout=PATIENCE)
        raise AssertionError("somebody answered")
    except NoRespondersError:
        pass
    await bus.close()


async def headers():
    bus = await connect()
    topic = unique("py.headers")
    subscription = await bus.subscribe(topic)
    sent = {"Tenant": "a", "X-Empty": "", "traceparent": "of my own"}
    await bus.publish(topic, b"with", headers=sent)
    await bus.publish(topic, b"without")
    message = await subscription.next_msg(timeout=PATIENCE)
    assert (message.data, message.headers) == (b"with", sent), message
    message = await subscription.next_msg(timeout=PATIENCE)
    assert (message.data, message.headers) == (b"without", None), message
    await bus.close()


async def unsubscribe_with_max():
    bus = await connect()
    topic = unique("py.max")
    seen = []

    async def note(message):
        seen.append(int(message.data))

    limited = await bus.subscribe(topic, cb=note)
    await limited.unsubscribe(limit=3)
    everything = await bus.subscribe(topic)
    for number in range(10):
        await bus.publish(topic, str(number).encode())
    await take(everything, 10)
    assert seen == [0, 1, 2], seen
    await everything.unsubscribe()
    await settled(bus)
    try:
        await bus.request(topic, b"?", timeout=PATIENCE)
        raise AssertionError("somebody still subscribes")
    except NoRespondersError:
        pass
    await bus.close()


async def drain():
    bus, other = await connect(), await connect()
    topic = unique("py.drain")
    seen = []

    async def note(message):
        seen.append(int(message.data))

    await bus.subscribe(topic, cb=note)
    await settled(bus)
    for number in range(200):
        await other.publish(topic, str(number).encode())
    await settled(other)
    await bus.drain()
    assert bus.is_closed
    assert seen == list(range(200)), f"{len(seen)} came before the end"
    await other.close()


async def reconnect():
    back = asyncio.Event()

    async def reconnected():
        back.set()

    bus = await connect(
        reconnected_cb=reconnected, max_reconnect_attempts=-1, reconnect_time_wait=0.05
    )
    topic = unique("py.reconnect")
    subscription = await bus.subscribe(topic)
    await bus.publish(topic, b"before")
    assert await take(subscription, 1) == [b"before"]
    print("restart", flush=True)
    await asyncio.wait_for(back.wait(), PATIENCE)
    await bus.publish(topic, b"after")
    assert await take(subscription, 1) == [b"after"]
    await bus.close()


async def refused():
    scheme, _, rest = URL.rpartition("//")
    wrong = f"{scheme}//not-the-token@{rest.rpartition('@')[2]}"
    errors = []

    async def note(error):
        errors.append(str(error))

    try:
        await nats.connect(wrong, allow_reconnect=False, error_cb=note)
        raise AssertionError("a wrong token lets nobody in")
    except nats.errors.Error as error:
        errors.append(str(error))
    assert any("authorization violation" in error.lower() for error in errors), errors


async def run():
    """Publishes a run of suites as plain JSON and follows it to its end; only a host can do that."""
    bus = await connect()
    run_id = str(uuid.uuid4())
    events = await bus.subscribe("test.>")
    suite = {
        "name": "from-python",
        "tests": [
            {
                "name": "passes",
                "steps": [
                    {
                        "name": "say it",
                        "command": ["echo", "hello"],
                        "expected_output_regex": "^hello\n$",
                    }
                ],
            },
            {"name": "fails", "steps": [{"name": "say no", "command": ["false"]}]},
        ],
    }
    start = {"run_id": run_id, "suites": [suite]}
    await bus.publish("test.run.start", json.dumps(start).encode())
    outcomes = {}
    while True:
        message = await events.next_msg(timeout=PATIENCE)
        data = json.loads(message.data)["data"] if message.subject != "test.run.start" else {}
        if data.get("run_id") != run_id:
            continue
        if message.subject == "test.test.ended":
            outcomes[data["test"]] = data["outcome"]
        if message.subject == "test.run.ended":
            break
    assert outcomes == {"passes": "passed", "fails": "failed"}, outcomes
    assert data["outcome"] == "failed", data
    answer = await bus.request("test.run.start", json.dumps(start).encode(), timeout=PATIENCE)
    assert json.loads(answer.data)["data"]["outcome"] == "failed", answer.data
    await bus.close()


ANYWHERE = [
    publish_and_subscribe,
    wildcards,
    queue_groups,
    request_and_reply,
    no_responders,
    headers,
    unsubscribe_with_max,
    drain,
    reconnect,
    refused,
]


async def main():
    chosen = [globals()[name] for name in sys.argv[2:]] or ANYWHERE
    for flow in chosen:
        await asyncio.wait_for(flow(), 3 * PATIENCE)
        print(f"ok {flow.__name__}", flush=True)


asyncio.run(main())
