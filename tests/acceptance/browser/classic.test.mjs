import assert from "node:assert/strict";
import { test } from "node:test";
import { conversation } from "./conversation.mjs";
import { Course } from "./course.mjs";
import { Window } from "./window.mjs";

conversation("classic");

test("branches can be switched, and regenerated ones too", async () => {
  const window = await Window.open("classic");
  await window.say("one");
  await window.sees("one", "Heard: one");
  await window.isBusy(false);
  await window.edit(0, "two");
  await window.sees("two", "Heard: two");
  await window.isBusy(false);

  await window.press("Older");
  await window.sees("one", "Heard: one");
  await window.press("Newer");
  await window.sees("two", "Heard: two");
  await window.press("Regenerate");

  await window.page.locator("li.ai .branches", { hasText: "2/2" }).waitFor();
  await window.sees("two", "Heard: two");
  await window.hasRuns("success", "success", "success");
  assert.deepEqual(window.errors, []);
});

test("a page that keeps no run's id: leaving it cancels the run", async () => {
  const window = await Window.open("classic", { storage: "none" });
  await window.saySlowly("one");

  await window.page.close();

  await window.hasRuns("interrupted");
});

test("two tabs follow one run", async () => {
  const one = await Window.open("classic", { storage: "local" });
  await one.saySlowly("one");
  const { context, course, threadId } = one;

  const two = await Window.open("classic", { storage: "local", context, course, thread: threadId });

  await two.sees("slowly one", "Heard:");
  one.release("one");
  for (const tab of [one, two]) {
    await tab.sees("slowly one", "Heard: slowly one");
    await tab.isBusy(false);
    assert.deepEqual(tab.errors, []);
  }
  await one.hasRuns("success");
});

test("two tabs: a run that does not want to wait is refused, the other goes on", async () => {
  const one = await Window.open("classic");
  await one.saySlowly("one");
  const two = await Window.open("classic", { course: new Course(), thread: one.threadId });
  await two.sees("slowly one");

  await two.say("now or never");

  await two.isTold("409");
  one.release("one");
  await one.sees("slowly one", "Heard: slowly one");
  await one.isBusy(false);
  await one.hasRuns("success");
});

test("two tabs: what the other one says waits its turn", async () => {
  const one = await Window.open("classic");
  await one.saySlowly("one");
  const two = await Window.open("classic", { course: one.course, thread: one.threadId });
  await two.sees("slowly one");

  await two.say("two");
  await one.hasRuns("pending", "running");
  one.release("one");

  await two.sees("slowly one", "Heard: slowly one", "two", "Heard: two");
  await two.isBusy(false);
  await one.isBusy(false);
  await one.page.reload();
  await one.sees("slowly one", "Heard: slowly one", "two", "Heard: two");
  assert.deepEqual([...one.errors, ...two.errors], []);
});

test("a page hears of updates, tasks, checkpoints, events and what nodes write", async () => {
  const listen = "Checkpoint,Custom,Debug,LangChain,Task,Update";
  const window = await Window.open("classic", { listen });

  await window.say("one");

  await window.sees("one", "Heard: one");
  await window.isBusy(false);
  await window.hears("Checkpoint", "Custom", "Debug", "LangChain", "Task", "Update");
});

test("a page hears of tools: their start, what they say on the way, their end", async () => {
  const calls = JSON.stringify([{ name: "count", args: { upto: 2 }, id: "c1" }]);
  const window = await Window.open("classic", { assistant: "tooled", calls, listen: "Tool" });

  await window.say("count");

  await window.hears("on_tool_end", "on_tool_event", "on_tool_start");
  await window.isBusy(false);
  assert.deepEqual(window.errors, []);
});
