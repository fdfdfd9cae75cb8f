import assert from "node:assert/strict";
import { test } from "node:test";
import { client } from "./course.mjs";

test("put, get, search, list and delete", async () => {
  const user = crypto.randomUUID();
  await client.store.putItem(["users", user], "prefs", { text: "cat", n: 1 }, { ttl: 5 });
  await client.store.putItem(["users", user, "old"], "k", { text: "dog" }, { index: false });

  const item = await client.store.getItem(["users", user], "prefs", { refreshTtl: true });
  assert.deepEqual(item.value, { text: "cat", n: 1 });
  assert.ok(item.createdAt);
  const { items } = await client.store.searchItems(["users", user], { filter: { n: { $lt: 2 } } });
  assert.deepEqual(items.map((each) => each.key), ["prefs"]);
  const near = await client.store.searchItems(["users", user], { query: "cat" });
  assert.deepEqual(near.items.map((each) => each.score), [1, null]);
  const { namespaces } = await client.store.listNamespaces({ prefix: ["users", user], maxDepth: 3 });
  assert.deepEqual(namespaces, [["users", user], ["users", user, "old"]]);
  await client.store.deleteItem(["users", user], "prefs");
  assert.equal((await client.store.searchItems(["users", user])).items.length, 1);
});
