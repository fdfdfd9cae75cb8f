// What a chat window over protocol v2 must do besides, over either transport.

import assert from "node:assert/strict";
import { test } from "node:test";
import { conversation } from "./conversation.mjs";
import { Window } from "./window.mjs";

export function protocol(transport) {
  conversation("v2", { transport });

  test("two tabs follow one run", async () => {
    const one = await Window.open("v2", { transport });
    await one.saySlowly("one");
    const two = await Window.open("v2", { transport, course: one.course, thread: one.threadId });

    await two.sees("slowly one", "Heard:");
    one.release("one");

    for (const tab of [one, two]) {
      await tab.sees("slowly one", "Heard: slowly one");
      await tab.isBusy(false);
      assert.deepEqual(tab.errors, []);
    }
  });

  test("two tabs are asked, and one answers", async () => {
    const one = await Window.open("v2", { transport });
    await one.say("ask us");
    await one.isAsked("Shall I ask us?");
    const two = await Window.open("v2", { transport, course: one.course, thread: one.threadId });
    await two.isAsked("Shall I ask us?");

    await one.press("Approve");

    for (const tab of [one, two]) {
      await tab.sees("ask us", "Heard: ask us", "Decided: yes");
      await tab.isBusy(false);
      assert.deepEqual(tab.errors, []);
    }
  });

  test("regenerate: another answer, on a branch of its own", async () => {
    const window = await Window.open("v2", { transport });
    await window.say("one");
    await window.sees("one", "Heard: one");
    await window.isBusy(false);

    await window.press("Regenerate");

    await window.hasRuns("success", "success");
    await window.isBusy(false);
    await window.page.reload();
    await window.sees("one", "Heard: one");
    assert.deepEqual(window.errors, []);
  });

  test("a page hears of updates, tasks and what nodes write", async () => {
    const window = await Window.open("v2", { transport, listen: "yes" });

    await window.say("one");

    await window.sees("one", "Heard: one");
    await window.isBusy(false);
    await window.hears("custom", "tasks", "updates");
  });
}
