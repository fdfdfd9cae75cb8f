import assert from "node:assert/strict";
import { test } from "node:test";
import { conversation } from "./conversation.mjs";
import { Window } from "./window.mjs";

conversation("v2");

test("two tabs follow one run", async () => {
  const one = await Window.open("v2");
  await one.saySlowly("one");
  const two = await Window.open("v2", { course: one.course, thread: one.threadId });

  await two.sees("slowly one", "Heard:");
  one.release("one");

  for (const tab of [one, two]) {
    await tab.sees("slowly one", "Heard: slowly one");
    await tab.isBusy(false);
    assert.deepEqual(tab.errors, []);
  }
});
