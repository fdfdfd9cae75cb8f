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
    const window = await Window.open("v2", { transport, list: "events" });

    await window.say("one");

    await window.sees("one", "Heard: one");
    await window.isBusy(false);
    await window.hears("custom", "tasks", "updates");
  });

  test("several questions are answered at once, each as it was asked", async () => {
    const assistant = "parallel_questions";
    const window = await Window.open("v2", { transport, assistant, list: "log" });
    await window.say("anything");
    await window.isAsked("?");

    await window.press("Answer all");

    await window.hears("left=left? yes", "right=right? yes");
    await window.isAskedNothing();
    await window.isBusy(false);
    await window.hasRuns("success", "success");
    assert.deepEqual(window.errors, []);
  });

  test("what is said meanwhile waits in the page, and has its turn", async () => {
    const window = await Window.open("v2", { transport });
    await window.saySlowly("one");

    await window.say("then two");

    await window.waits(1);
    await window.hasRuns("running");
    window.release("one");
    await window.sees("slowly one", "Heard: slowly one", "then two", "Heard: then two");
    await window.waits(0);
    await window.isBusy(false);
    await window.hasRuns("success", "success");
    assert.deepEqual(window.errors, []);
  });
}
