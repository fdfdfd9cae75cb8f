// `useStream` of @langchain/react: over commands and the events of a thread (protocol v2).

import { useChannel, useStream, useSubmissionQueue } from "@langchain/react";
import { api, asked, assistantId, Chat, said, show, useThread } from "./chat.jsx";

const transport = asked.get("transport") ?? "sse";
/** A browser can give a WebSocket no headers. */
const apiKey = transport === "sse" ? "none is asked for" : null;
const CHANNELS = ["updates", "custom", "tasks"];

function Events({ stream }) {
  const methods = useChannel(stream, CHANNELS).map((event) => event.method);
  return [...new Set(methods)].map((method) => <li key={method}>{method}</li>);
}

function Log({ stream }) {
  return (stream.values.log ?? []).map((line) => <li key={line}>{line}</li>);
}

const LISTS = { events: Events, log: Log };

function V2() {
  const [threadId, onThreadId] = useThread();
  const stream = useStream({
    apiUrl: api,
    apiKey,
    transport,
    assistantId,
    threadId,
    onThreadId,
  });

  /** The checkpoint before the message was there. */
  const before = async (message) => {
    const history = await stream.client.threads.getHistory(threadId, { limit: 100 });
    const has = (state) => state.values.messages?.some((each) => each.id === message.id);
    return { forkFrom: history.findLast(has).parent_checkpoint.checkpoint_id };
  };
  const useActions = (message) => ({
    edit:
      message.type === "human" &&
      (async (text) => stream.submit(said(text), await before(message))),
    regenerate: message.type === "ai" && (async () => stream.submit(null, await before(message))),
  });

  const { size: waiting } = useSubmissionQueue(stream);

  const send = (text) =>
    stream.submit(said(text), text.startsWith("then") ? { multitaskStrategy: "enqueue" } : {});
  const answer = (decision) => stream.respond(decision, { interruptId: stream.interrupt.id });
  const answerAll = () =>
    stream.respondAll(Object.fromEntries(stream.interrupts.map(({ id, value }) => [id, `${value} yes`])));

  return (
    <Chat {...{ stream, send, answer, answerAll, waiting, useActions, Events: LISTS[asked.get("list")] }} />
  );
}

show(V2);
