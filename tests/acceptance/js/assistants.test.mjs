import assert from "node:assert/strict";
import { test } from "node:test";
import { client } from "./course.mjs";

test("an assistant, its versions and its runs", async () => {
  const metadata = { mark: crypto.randomUUID() };
  const made = await client.assistants.create({
    graphId: "mirror",
    context: { name: "ada" },
    metadata,
    name: "Mine",
  });
  const id = made.assistant_id;

  const updated = await client.assistants.update(id, { context: { name: "bob" } });
  const versions = await client.assistants.getVersions(id);
  const values = await client.runs.wait(null, id, { input: { seen: {} } });
  const restored = await client.assistants.setLatest(id, 1);
  const found = await client.assistants.search({ metadata, includePagination: true });

  assert.equal(updated.version, 2);
  assert.deepEqual(
    versions.map((each) => each.context.name),
    ["bob", "ada"],
  );
  assert.equal(values.seen.name, "bob");
  assert.deepEqual(restored.config, { configurable: { name: "ada" } });
  assert.deepEqual(found, { assistants: [restored], next: null });
  assert.equal(await client.assistants.count({ metadata }), 1);

  await client.assistants.delete(id, { deleteThreads: true });
  assert.equal(await client.assistants.count({ metadata }), 0);
});

test("subgraphs and drawings", async () => {
  const [assistant] = await client.assistants.search({ graphId: "nested_question" });

  const subgraphs = await client.assistants.getSubgraphs(assistant.assistant_id, { recurse: true });
  const drawing = await client.assistants.getGraph(assistant.assistant_id, { xray: true });

  assert.deepEqual(Object.keys(subgraphs), ["child"]);
  assert.ok(drawing.nodes.some((node) => node.id === "child:ask"));
});
