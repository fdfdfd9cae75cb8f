// `useStream` of @langchain/react: over commands and the events of a thread (protocol v2).

import { useChannel, useStream } from "@langchain/react";
import { api, asked, Chat, said, show, useThread } from "./chat.jsx";

const transport = asked.get("transport") ?? "sse";
/** A browser can give a WebSocket no headers. */
const apiKey = transport === "sse" ? "none is asked for" : null;
const CHANNELS = ["updates", "custom", "tasks"];

function Events({ stream }) {
  const methods = useChannel(stream, CHANNELS).map((event) => event.method);
  return [...new Set(methods)].map((method) => <li key={method}>{method}</li>);
}

function V2() {
  const [threadId, onThreadId] = useThread();
  const stream = useStream({
    apiUrl: api,
    apiKey,
    transport,
    assistantId: "dialogue",
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

  const send = (text) => stream.submit(said(text));
  const answer = (decision) => stream.respond(decision, { interruptId: stream.interrupt.id });

  return <Chat {...{ stream, send, answer, useActions, Events: asked.has("listen") ? Events : undefined }} />;
}

show(V2);
