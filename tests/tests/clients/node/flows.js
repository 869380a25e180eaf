// What a JavaScript program does with the bus, over nats.js. Knows nothing of what answers.
//
//     node flows.js URL [FLOW...]
//
// Runs the flows, those that any NATS server has to carry without a name, and prints `ok FLOW` after each. For
// `reconnect` it prints `restart` and waits for the server to come back.
"use strict";

const assert = require("node:assert/strict");
const { randomUUID } = require("node:crypto");
const { connect, createInbox, headers, Empty, ErrorCode, Events } = require("nats");

const PATIENCE = 20_000;
const url = new URL(process.argv[2].replace("nats:", "http:"));
const utf8 = new TextEncoder();
const text = (bytes) => new TextDecoder().decode(bytes);
const unique = (topic) => `${topic}.${randomUUID().slice(0, 8)}`;
const range = (count) => Array.from({ length: count }, (_, number) => number);

function open(options = {}) {
    // nats.js takes no token from an address.
    const token = url.username || undefined;
    return connect({ servers: url.host, token, timeout: PATIENCE, ...options });
}

function within(promise, what) {
    let timer;
    const late = new Promise((_, reject) => {
        timer = setTimeout(() => reject(new Error(`${what} took too long`)), PATIENCE);
    });
    return Promise.race([promise, late]).finally(() => clearTimeout(timer));
}

// A subscription whose messages are taken as many at a time as are wanted.
function listen(bus, topic) {
    const messages = [];
    let arrived = () => {};
    const callback = (error, message) => {
        assert.ifError(error);
        messages.push(message);
        arrived();
    };
    const subscription = bus.subscribe(topic, { callback });
    const enough = async (count) => {
        while (messages.length < count) await new Promise((resolve) => (arrived = resolve));
    };
    const take = async (count) => {
        await within(enough(count), `${count} messages`);
        return messages.splice(0, count);
    };
    return { take, subscription };
}

async function publishAndSubscribe() {
    const [one, other] = [await open(), await open()];
    const topic = unique("js.plain");
    const subscription = listen(other, topic);
    await other.flush();
    const sent = [utf8.encode("text"), Empty, utf8.encode('{"a": 1 }'), Uint8Array.from(range(256))];
    sent.push(utf8.encode("grün"), new Uint8Array(500_000).fill(120));
    sent.push(...range(500).map((number) => utf8.encode(`${number}`)));
    sent.forEach((payload) => one.publish(topic, payload));
    const seen = await subscription.take(sent.length);
    assert.deepEqual(seen.map((message) => Buffer.from(message.data)), sent.map((it) => Buffer.from(it)));
    await Promise.all([one.close(), other.close()]);
}

async function wildcards() {
    const bus = await open();
    const base = unique("js.wild");
    const seen = [`${base}.a.b`, `${base}.*.b`, `${base}.>`].map((pattern) => {
        const texts = [];
        bus.subscribe(pattern, { callback: (_, message) => texts.push(text(message.data)) });
        return texts;
    });
    for (const end of ["a.b", "x.b", "a", "a.b.c"]) {
        bus.publish(`${base}.${end}`, utf8.encode(end));
    }
    // What was published is delivered before the answer to a ping.
    await bus.flush();
    await bus.flush();
    assert.deepEqual(seen, [["a.b"], ["a.b", "x.b"], ["a.b", "x.b", "a", "a.b.c"]]);
    await bus.close();
}

async function queueGroups() {
    const topic = unique("js.queue");
    const members = await Promise.all(range(3).map(() => open()));
    const seen = members.map((member) => {
        const numbers = [];
        const callback = (_, message) => numbers.push(Number(text(message.data)));
        member.subscribe(topic, { queue: "workers", callback });
        return numbers;
    });
    await Promise.all(members.map((member) => member.flush()));
    const bus = await open();
    const everything = listen(bus, topic);
    range(300).forEach((number) => bus.publish(topic, utf8.encode(`${number}`)));
    await everything.take(300);
    const all = async () => {
        while (seen.flat().length < 300) await new Promise((resolve) => setTimeout(resolve, 10));
    };
    await within(all(), "the group's messages");
    assert.deepEqual(seen.flat().sort((a, b) => a - b), range(300));
    assert(seen.every((own) => own.length > 0), "each of the group has some");
    await Promise.all([bus, ...members].map((each) => each.close()));
}

async function requestAndReply() {
    const [bus, server] = [await open(), await open()];
    const topic = unique("js.double");
    const double = (_, message) => message.respond(utf8.encode(`${2 * Number(text(message.data))}`));
    server.subscribe(topic, { callback: double });
    await server.flush();
    const ask = async (number, options) => {
        const answer = await bus.request(topic, utf8.encode(`${number}`), { timeout: PATIENCE, ...options });
        return Number(text(answer.data));
    };
    const answers = await Promise.all(range(100).map((number) => ask(number)));
    assert.deepEqual(answers, range(100).map((number) => 2 * number));
    assert.equal(await ask(21, { noMux: true, reply: createInbox() }), 42);
    await Promise.all([bus.close(), server.close()]);
}

async function noResponders() {
    const bus = await open();
    const asked = bus.request(unique("js.nobody"), Empty, { timeout: PATIENCE });
    await assert.rejects(asked, { code: ErrorCode.NoResponders });
    await bus.close();
}

async function withHeaders() {
    const bus = await open();
    const topic = unique("js.headers");
    const subscription = listen(bus, topic);
    const sent = headers();
    sent.set("Tenant", "a");
    sent.append("Many", "one");
    sent.append("Many", "two");
    sent.set("traceparent", "of my own");
    bus.publish(topic, utf8.encode("with"), { headers: sent });
    bus.publish(topic, utf8.encode("without"));
    const [full, bare] = await subscription.take(2);
    assert.deepEqual([...full.headers], [...sent]);
    assert.deepEqual([text(full.data), text(bare.data), bare.headers], ["with", "without", undefined]);
    await bus.close();
}

async function unsubscribeWithMax() {
    const bus = await open();
    const topic = unique("js.max");
    const seen = [];
    const callback = (_, message) => seen.push(Number(text(message.data)));
    bus.subscribe(topic, { max: 3, callback });
    const everything = listen(bus, topic);
    range(10).forEach((number) => bus.publish(topic, utf8.encode(`${number}`)));
    await everything.take(10);
    assert.deepEqual(seen, [0, 1, 2]);
    everything.subscription.unsubscribe();
    await bus.flush();
    await assert.rejects(bus.request(topic, Empty, { timeout: PATIENCE }), { code: ErrorCode.NoResponders });
    await bus.close();
}

async function drain() {
    const [bus, other] = [await open(), await open()];
    const topic = unique("js.drain");
    const seen = [];
    bus.subscribe(topic, { callback: (_, message) => seen.push(Number(text(message.data))) });
    await bus.flush();
    range(200).forEach((number) => other.publish(topic, utf8.encode(`${number}`)));
    await other.flush();
    await bus.drain();
    assert(bus.isClosed());
    assert.deepEqual(seen, range(200));
    await other.close();
}

async function reconnect() {
    const bus = await open({ maxReconnectAttempts: -1, reconnectTimeWait: 50 });
    const topic = unique("js.reconnect");
    const subscription = listen(bus, topic);
    bus.publish(topic, utf8.encode("before"));
    await subscription.take(1);
    const back = (async () => {
        for await (const status of bus.status()) {
            if (status.type === Events.Reconnect) return;
        }
    })();
    console.log("restart");
    await within(back, "reconnecting");
    bus.publish(topic, utf8.encode("after"));
    const [message] = await subscription.take(1);
    assert.equal(text(message.data), "after");
    await bus.close();
}

async function refused() {
    const wrong = open({ token: "not-the-token", reconnect: false });
    await assert.rejects(wrong, { code: ErrorCode.AuthorizationViolation });
}

// Publishes a run of suites as plain JSON and follows it to its end; only a host can do that.
async function run() {
    const bus = await open();
    const run_id = randomUUID();
    const json = (message) => JSON.parse(text(message.data)).data;
    const step = { name: "say it", command: ["echo", "hello"], expected_output_regex: "^hello\n$" };
    const tests = [
        { name: "passes", steps: [step] },
        { name: "fails", steps: [{ name: "say no", command: ["false"] }] },
    ];
    const outcomes = {};
    const events = bus.subscribe("test.*.ended");
    const start = utf8.encode(JSON.stringify({ run_id, suites: [{ name: "from-javascript", tests }] }));
    bus.publish("test.run.start", start);
    const follow = async () => {
        for await (const message of events) {
            const data = json(message);
            if (data.run_id !== run_id) continue;
            if (message.subject === "test.test.ended") outcomes[data.test] = data.outcome;
            if (message.subject === "test.run.ended") return data.outcome;
        }
    };
    assert.equal(await within(follow(), "the run"), "failed");
    assert.deepEqual(outcomes, { passes: "passed", fails: "failed" });
    await bus.close();
}

const anywhere = {
    publishAndSubscribe,
    wildcards,
    queueGroups,
    requestAndReply,
    noResponders,
    withHeaders,
    unsubscribeWithMax,
    drain,
    reconnect,
    refused,
};

async function main() {
    const all = { ...anywhere, run };
    const names = process.argv.slice(3);
    for (const name of names.length > 0 ? names : Object.keys(anywhere)) {
        await all[name]();
        console.log(`ok ${name}`);
    }
}

main().catch((error) => {
    console.error(error);
    process.exit(1);
});
