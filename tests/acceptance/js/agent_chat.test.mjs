// What Agent Chat UI asks of a server, beside what useStream asks by itself.

import assert from "node:assert/strict";
import { test } from "node:test";
import { all, client, newThread } from "./course.mjs";

const stream = (threadId, input, given) =>
  all(
    client.runs.stream(threadId, "dialogue", {
      input,
      streamMode: ["values", "messages-tuple", "custom"],
      streamSubgraphs: true,
      streamResumable: true,
      onDisconnect: "continue",
      ...given,
    }),
  );

const human = (text) => ({
  messages: [{ id: crypto.randomUUID(), type: "human", content: [{ type: "text", text }] }],
  context: undefined,
});

test("is the server there", async () => {
  const headers = { "X-Api-Key": "none is asked for", "X-Auth-Scheme": "langsmith-api-key" };

  const answer = await fetch(`${process.env.TRELLIS_URL}/info`, { headers });

  assert.ok(answer.ok);
});

test("the threads of a graph, after one was used", async () => {
  const threadId = await newThread();
  await stream(threadId, human("hi"));

  const found = await client.threads.search({ metadata: { graph_id: "dialogue" }, limit: 100 });

  const mine = found.find((thread) => thread.thread_id === threadId);
  assert.equal(mine.values.messages[0].content[0].text, "hi");
});

test("an approval in the form of LangChain's middleware, with an empty input", async () => {
  const threadId = await newThread();
  await stream(threadId, human("ask now"));
  const command = { resume: { decisions: [{ type: "approve" }] } };

  const parts = await stream(threadId, {}, { command });

  assert.match(parts.at(-1).data.messages.at(-1).content, /^Decided: .*approve/);
});

test("mark as resolved: LangGraph knows no way to the end from there, and asks again", async () => {
  const threadId = await newThread();
  const asked = (await stream(threadId, human("ask now"))).at(-1).data.__interrupt__;

  const parts = await stream(threadId, {}, { command: { goto: "__end__" } });

  assert.equal(asked.length, 1);
  assert.deepEqual(parts.at(-1).data.__interrupt__, asked);
});

test("an edit: a run from the checkpoint before the message", async () => {
  const threadId = await newThread();
  await stream(threadId, human("one"));
  const history = await client.threads.getHistory(threadId, { limit: 10 });
  const seen = history.findLast((state) => state.values.messages?.length === 1);
  const { thread_id, ...checkpoint } = seen.parent_checkpoint;

  const parts = await stream(threadId, human("two"), { checkpoint });

  assert.deepEqual(
    parts.at(-1).data.messages.map((message) => message.content),
    [[{ type: "text", text: "two" }], "Heard: two"],
  );
});
