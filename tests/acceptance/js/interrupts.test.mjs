import assert from "node:assert/strict";
import { beforeEach, test } from "node:test";
import { all, client, newThread } from "./course.mjs";

let threadId;
let asked;

beforeEach(async () => {
  threadId = await newThread();
  asked = await client.runs.wait(threadId, "hitl", { input: { value: "v" } });
});

test("the question is shown, and the thread waits", async () => {
  const thread = await client.threads.get(threadId);

  assert.deepEqual(asked.__interrupt__[0].value, { question: "approve?", value: "v" });
  assert.equal(thread.status, "interrupted");
  assert.deepEqual(Object.values(thread.interrupts), [asked.__interrupt__]);
});

test("resume", async () => {
  const values = await client.runs.wait(threadId, "hitl", { command: { resume: "yes" } });

  assert.deepEqual(values, { value: "v", answer: "yes", log: ["prepare", "ask", "finish"] });
  assert.equal((await client.threads.get(threadId)).status, "idle");
});

test("resume by id, streamed", async () => {
  const resume = { [asked.__interrupt__[0].id]: { approved: true } };

  const parts = await all(
    client.runs.stream(threadId, "hitl", { command: { resume }, streamMode: "updates" }),
  );

  assert.deepEqual(parts[1].data, { ask: { answer: { approved: true }, log: ["ask"] } });
});

test("update and resume", async () => {
  const values = await client.runs.wait(threadId, "hitl", {
    command: { resume: "yes", update: { value: "new" } },
  });

  assert.equal(values.value, "new");
});

test("go back to an earlier checkpoint, and answer again", async () => {
  await client.runs.wait(threadId, "hitl", { command: { resume: "first" } });
  const history = await client.threads.getHistory(threadId);
  const start = history.find((state) => state.next[0] === "prepare");

  const again = await client.runs.wait(threadId, "hitl", {
    checkpointId: start.checkpoint.checkpoint_id,
  });
  const values = await client.runs.wait(threadId, "hitl", { command: { resume: "second" } });

  assert.deepEqual(again.log, ["prepare"]);
  assert.equal(again.__interrupt__[0].value.question, "approve?");
  assert.equal(values.answer, "second");
});

test("stop before a node, and go on", async () => {
  const other = await newThread();
  const input = { said: ["hi"] };

  const stopped = await client.runs.wait(other, "compiled", { input, interruptBefore: ["say"] });
  const values = await client.runs.wait(other, "compiled", { input: null });

  assert.deepEqual(stopped, { said: ["hi"] });
  assert.deepEqual(values, { said: ["hi", "compiled"] });
});

test("a strict answer to a question that does not wait", async () => {
  const resume = { ["0".repeat(32)]: "wrong" };

  await assert.rejects(
    client.runs.wait(threadId, "hitl", { command: { resume }, strictResume: true }),
    /UnknownInterruptError/,
  );

  assert.equal((await client.threads.get(threadId)).status, "interrupted");
});
