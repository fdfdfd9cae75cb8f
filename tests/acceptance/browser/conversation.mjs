// What a chat window must do, whichever hook it is made with.

import assert from "node:assert/strict";
import { test } from "node:test";
import { Cable, Window } from "./window.mjs";

export function conversation(name, given = {}) {
  const open = () => Window.open(name, given);

  test("send: the answer appears word by word", async () => {
    const window = await open();

    await window.saySlowly("hello there");

    await window.isBusy();
    window.release("hello there");
    await window.sees("slowly hello there", "Heard: slowly hello there");
    await window.isBusy(false);
    await window.hasRuns("success");
    await window.say("again");
    await window.sees("slowly hello there", "Heard: slowly hello there", "again", "Heard: again");
    assert.deepEqual(window.errors, []);
  });

  test("an interrupt is shown, survives a reload and is answered", async () => {
    const window = await open();

    await window.say("ask twice");
    await window.isAsked("Shall I ask twice?");
    await window.isBusy(false);
    await window.page.reload();
    await window.isAsked("Shall I ask twice?");
    await window.press("Approve");

    await window.sees("ask twice", "Heard: ask twice", "Decided: yes");
    await window.isAskedNothing();
    await window.isBusy(false);
    await window.hasRuns("success", "success");
    assert.deepEqual(window.errors, []);
  });

  test("a question that was answered is not asked again", async () => {
    const window = await open();
    await window.say("ask once");
    await window.isAsked("Shall I ask once?");
    await window.press("Approve");
    await window.sees("ask once", "Heard: ask once", "Decided: yes");
    await window.isBusy(false);
    await window.page.reload();
    await window.sees("ask once", "Heard: ask once", "Decided: yes");

    await window.saySlowly("two", "ask once", "Heard: ask once", "Decided: yes");

    await window.isAskedNothing();
    window.release("two");
    await window.sees("ask once", "Heard: ask once", "Decided: yes", "slowly two", "Heard: slowly two");
    await window.isBusy(false);
    await window.isAskedNothing();
  });

  test("reload: the page rejoins the run", async () => {
    const window = await open();
    await window.saySlowly("one");

    await window.page.reload();

    await window.sees("slowly one", "Heard:");
    await window.isBusy();
    window.release("one");
    await window.sees("slowly one", "Heard: slowly one");
    await window.isBusy(false);
    await window.hasRuns("success");
    assert.deepEqual(window.errors, []);
  });

  test("a stream that is cut off is taken up again", async (context) => {
    const cable = await Cable.lay();
    context.after(() => cable.remove());
    const window = await Window.open(name, { api: cable.url, ...given });
    await window.saySlowly("one");

    cable.cut();

    window.release("one");
    await window.sees("slowly one", "Heard: slowly one");
    await window.isBusy(false);
    await window.hasRuns("success");
    assert.deepEqual(window.errors, []);
  });

  test("reload after the end: the conversation is there", async () => {
    const window = await open();
    await window.say("one");
    await window.sees("one", "Heard: one");
    await window.isBusy(false);

    await window.page.reload();

    await window.sees("one", "Heard: one");
    await window.isBusy(false);
    assert.deepEqual(window.errors, []);
  });

  test("stop: the run is cancelled, and the conversation can go on", async () => {
    const window = await open();
    await window.saySlowly("one");

    await window.press("Stop");

    await window.isBusy(false);
    await window.hasRuns("interrupted");
    await window.say("two");
    await window.page.getByText("Heard: two").waitFor();
    await window.isBusy(false);
    assert.deepEqual(window.errors, []);
  });

  test("edit: another branch begins before the message", async () => {
    const window = await open();
    await window.say("one");
    await window.sees("one", "Heard: one");
    await window.isBusy(false);
    await window.say("two");
    await window.sees("one", "Heard: one", "two", "Heard: two");
    await window.isBusy(false);

    await window.edit(1, "three");

    await window.sees("one", "Heard: one", "three", "Heard: three");
    await window.isBusy(false);
    await window.page.reload();
    await window.sees("one", "Heard: one", "three", "Heard: three");
    assert.deepEqual(window.errors, []);
  });

  test("an error is shown, and the conversation can go on", async () => {
    const window = await open();

    await window.say("fail please");

    await window.isTold("boom");
    await window.isBusy(false);
    await window.hasRuns("error");
    await window.say("better");
    await window.page.getByText("Heard: better").waitFor();
    await window.isBusy(false);
    assert.deepEqual(window.errors, []);
  });
}
