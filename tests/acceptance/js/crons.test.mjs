import assert from "node:assert/strict";
import { test } from "node:test";
import { client, newThread } from "./course.mjs";

test("create, update, search, count, delete", async () => {
  const metadata = { mark: crypto.randomUUID() };

  const cron = await client.crons.create("steps", {
    schedule: "30 8 * * 1-5",
    timezone: "Europe/Berlin",
    input: {},
    metadata,
    enabled: false,
  });

  const found = await client.crons.search({ limit: 100, sortBy: "created_at" });
  assert.deepEqual(found.find((each) => each.cron_id === cron.cron_id), cron);
  const changed = await client.crons.update(cron.cron_id, { schedule: "@daily" });
  assert.equal(changed.schedule, "@daily");
  assert.equal(await client.crons.count({ metadata }), 1);
  await client.crons.delete(cron.cron_id);
  assert.equal(await client.crons.count({ metadata }), 0);
});

test("on a thread", async () => {
  const threadId = await newThread();

  const cron = await client.crons.createForThread(threadId, "steps", { schedule: "0 0 1 1 *" });

  assert.equal(cron.thread_id, threadId);
  assert.equal(await client.crons.count({ threadId }), 1);
});
