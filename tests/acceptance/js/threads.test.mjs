import assert from "node:assert/strict";
import { test } from "node:test";
import { client, newThread } from "./course.mjs";

test("create and get", async () => {
  const thread = await client.threads.create({ metadata: { owner: "ada" } });

  assert.equal(thread.status, "idle");
  assert.deepEqual(thread.metadata, { owner: "ada" });
  assert.deepEqual(await client.threads.get(thread.thread_id), thread);
});

test("create with an id, twice", async () => {
  const threadId = crypto.randomUUID();
  await client.threads.create({ threadId });

  await assert.rejects(client.threads.create({ threadId }), /409|already exists/);
  const again = await client.threads.create({ threadId, ifExists: "do_nothing" });
  assert.equal(again.thread_id, threadId);
});

test("get an unknown one", async () => {
  await assert.rejects(client.threads.get(crypto.randomUUID()), /404|not found/);
});

test("state of a thread that waits", async () => {
  const threadId = await newThread();
  await client.runs.wait(threadId, "hitl", { input: { value: "v" } });

  const state = await client.threads.getState(threadId);

  assert.deepEqual(state.values, { value: "v", log: ["prepare"] });
  assert.deepEqual(state.next, ["ask"]);
  assert.deepEqual(state.tasks[0].interrupts[0].value, { question: "approve?", value: "v" });
});

test("state with subgraphs", async () => {
  const threadId = await newThread();
  await client.runs.wait(threadId, "nested_question", { input: { value: "v" } });

  const state = await client.threads.getState(threadId, undefined, { subgraphs: true });

  assert.deepEqual(state.tasks[0].state.next, ["ask"]);
});

test("history, whole and in parts", async () => {
  const threadId = await newThread();
  await client.runs.wait(threadId, "compiled", { input: { said: ["hi"] } });

  const history = await client.threads.getHistory(threadId);
  const rest = await client.threads.getHistory(threadId, { before: history[0].checkpoint });
  const past = await client.threads.getState(threadId, history[1].checkpoint);

  assert.deepEqual(
    history.map((state) => state.values.said),
    [["hi", "compiled"], ["hi"], []],
  );
  assert.deepEqual(rest, history.slice(1));
  assert.deepEqual(past, history[1]);
});

test("update the state, as a node and from a checkpoint", async () => {
  const threadId = await newThread();
  await client.runs.wait(threadId, "hitl", { input: { value: "v" } });
  const past = (await client.threads.getState(threadId)).parent_checkpoint;

  const made = await client.threads.updateState(threadId, { values: { log: ["by hand"] } });
  const head = await client.threads.getState(threadId);
  await client.threads.updateState(threadId, {
    values: { value: "w" },
    asNode: "prepare",
    checkpointId: past.checkpoint_id,
  });
  const forked = await client.threads.getState(threadId);

  assert.deepEqual(made.checkpoint, head.checkpoint);
  assert.deepEqual(head.values.log, ["prepare", "by hand"]);
  assert.deepEqual([forked.values, forked.next], [{ value: "w", log: [] }, ["ask"]]);
});

test("patch the metadata of the state", async () => {
  const threadId = await newThread();
  await client.runs.wait(threadId, "compiled", { input: { said: [] } });

  await client.threads.patchState(threadId, { reviewed: true });

  assert.equal((await client.threads.getState(threadId)).metadata.reviewed, true);
});

test("search by values, copy, prune", async () => {
  const metadata = { mark: crypto.randomUUID() };
  const thread = await client.threads.create({ metadata, ttl: 5 });
  const threadId = thread.thread_id;
  await client.runs.wait(threadId, "compiled", { input: { said: ["hi"] } });

  const [found] = await client.threads.search({
    metadata,
    values: { said: ["hi"] },
    select: ["status"],
    extract: { last: "values.said[-1]" },
  });
  const copy = await client.threads.copy(threadId);
  const shown = await client.threads.get(threadId, { include: ["ttl"] });
  const minimal = await client.threads.update(threadId, { metadata: {}, returnMinimal: true });

  assert.deepEqual(found, { status: "idle", extracted: { last: "compiled" } });
  assert.deepEqual(copy.values, { said: ["hi", "compiled"] });
  assert.equal(shown.ttl.ttl_minutes, 5);
  assert.equal(minimal, undefined);
  assert.equal(await client.threads.count({ metadata }), 2);
  assert.deepEqual(await client.threads.prune([threadId, copy.thread_id]), { pruned_count: 2 });
});
