import assert from "node:assert/strict";
import { test } from "node:test";
import { all, client, Course, names, newThread } from "./course.mjs";

const ALL = ["one", "two", "three"];

test("create, get, join, list", async () => {
  const threadId = await newThread();
  const course = new Course();

  const run = await client.runs.create(threadId, "steps", { input: course.input("one") });

  assert.equal(run.status, "pending");
  assert.equal((await client.threads.get(threadId)).status, "busy");
  course.open("one");
  assert.deepEqual((await client.runs.join(threadId, run.run_id)).log, ALL);
  assert.equal((await client.runs.get(threadId, run.run_id)).status, "success");
  const listed = await client.runs.list(threadId, { limit: 5, status: "success" });
  assert.deepEqual(listed.map((each) => each.run_id), [run.run_id]);
});

test("wait, on a thread and stateless", async () => {
  const input = { said: ["hi"] };

  assert.deepEqual(await client.runs.wait(await newThread(), "compiled", { input }), {
    said: ["hi", "compiled"],
  });
  assert.deepEqual(await client.runs.wait(null, "compiled", { input }), {
    said: ["hi", "compiled"],
  });
});

test("wait for one that fails", async () => {
  await assert.rejects(client.runs.wait(null, "failing", { input: {} }), /boom/);
});

test("stream values, updates, messages and custom events", async () => {
  const input = { messages: [{ role: "user", content: "hi" }] };
  const stream = (graph, streamMode) =>
    all(client.runs.stream(null, graph, { input, streamMode }));

  const updates = await stream("chat", ["values", "updates"]);
  const tuples = await stream("chat", "messages-tuple");
  const partial = await stream("chat", "messages");
  const custom = await stream("chatter", "custom");

  assert.deepEqual(names(updates), ["metadata", "values", "updates", "values", "updates", "values"]);
  const words = tuples.slice(1).map((part) => part.data[0].content);
  assert.equal(words.join(""), "hello thereyours, the graph");
  assert.equal(partial.filter((part) => part.event === "messages/partial").at(-1).data[0].content, "hello there");
  assert.deepEqual(custom[1].data, { progress: 1 });
});

test("stream subgraphs", async () => {
  const input = { messages: [{ role: "user", content: "hi" }] };

  const parts = await all(
    client.runs.stream(null, "nested_chat", { input, streamMode: "updates", streamSubgraphs: true }),
  );

  assert.match(parts[1].event, /^updates\|child:/);
  assert.equal(parts.at(-1).event, "updates");
});

test("stream tells which run was created", async () => {
  const threadId = await newThread();
  let created;

  const parts = await all(
    client.runs.stream(threadId, "compiled", {
      input: { said: [] },
      onRunCreated: (run) => (created = run),
    }),
  );

  assert.deepEqual(created, { run_id: parts[0].data.run_id, thread_id: threadId });
});

test("stream ends with the error of a run that fails", async () => {
  const parts = await all(client.runs.stream(null, "failing", { input: {} }));

  assert.equal(parts.at(-1).event, "error");
  assert.deepEqual(parts.at(-1).data, { error: "ValueError", message: "boom" });
});

test("join a stream: replay, then live", async () => {
  const threadId = await newThread();
  const course = new Course();
  const run = await client.runs.create(threadId, "steps", {
    input: course.input("two"),
    streamMode: ["updates"],
    streamResumable: true,
  });
  await course.waitUntilNotes(">two");

  const parts = [];
  for await (const part of client.runs.joinStream(threadId, run.run_id, { lastEventId: "-1" })) {
    parts.push(part);
    if (part.event === "updates") course.open("two");
  }
  const rest = await all(
    client.runs.joinStream(threadId, run.run_id, { lastEventId: parts[1].id }),
  );

  assert.deepEqual(names(parts), ["metadata", "updates", "updates", "updates"]);
  assert.deepEqual(rest, parts.slice(2));
});

test("join the stream of a stateless run", async () => {
  const course = new Course();
  const run = await client.runs.create(null, "steps", {
    input: course.input("three"),
    streamMode: "updates",
    streamResumable: true,
  });
  await course.waitUntilNotes(">three");

  const parts = [];
  for await (const part of client.runs.joinStream(null, run.run_id, { lastEventId: "-1" })) {
    parts.push(part);
    if (part.event === "metadata") course.open("three");
  }

  assert.deepEqual(names(parts), ["metadata", "updates", "updates", "updates"]);
});

test("batch, config, context, metadata", async () => {
  const runs = await client.runs.createBatch([
    { assistantId: "compiled", input: { said: [] } },
    { assistantId: "compiled", input: { said: [] } },
  ]);
  const { seen } = await client.runs.wait(null, "mirror", {
    input: {},
    context: { name: "ada" },
    config: { tags: ["t"], recursion_limit: 9 },
    metadata: { trip: 7 },
  });

  assert.equal(new Set(runs.map((run) => run.thread_id)).size, 2);
  assert.equal(seen.name, "ada");
  assert.equal(seen.recursion_limit, 9);
  assert.equal(seen.metadata.trip, 7);
});

test("an unknown graph is told which there are", async () => {
  await assert.rejects(
    client.runs.create(await newThread(), "no_such_graph", { input: {} }),
    /422[^]*registered graphs: compiled/,
  );
});
