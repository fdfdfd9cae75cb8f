// `useStream` of @langchain/langgraph-sdk: over threads, their history and streams of runs.

import { useState } from "react";
import { useStream } from "@langchain/langgraph-sdk/react";
import { api, asked, assistantId, Chat, said, show, useThread } from "./chat.jsx";

const STORAGES = { session: true, local: () => localStorage, none: false };

/** What else a page listens to; each makes the hook ask for one more stream mode. */
const LISTENERS = asked.get("listen")?.split(",") ?? [];

function useEvents() {
  const [events, setEvents] = useState([]);
  const note = (what) => setEvents((past) => [...new Set([...past, what])]);
  const listen = (name) => [`on${name}Event`, (data) => note(name === "Tool" ? data.event : name)];
  return [events, Object.fromEntries(LISTENERS.map(listen))];
}

function Classic() {
  const [threadId, onThreadId] = useThread();
  const [events, listeners] = useEvents();
  const stream = useStream({
    apiUrl: api,
    apiKey: "none is asked for",
    assistantId,
    threadId,
    onThreadId,
    fetchStateHistory: true,
    reconnectOnMount: STORAGES[asked.get("storage") ?? "session"],
    ...listeners,
  });

  const useActions = (message) => {
    const details = stream.getMessagesMetadata(message);
    const checkpoint = details?.firstSeenState?.parent_checkpoint;
    return {
      edit: checkpoint && message.type === "human" && ((text) => stream.submit(said(text), { checkpoint })),
      regenerate: checkpoint && message.type === "ai" && (() => stream.submit(undefined, { checkpoint })),
      branch: details?.branch,
      branches: details?.branchOptions,
      choose: stream.setBranch,
    };
  };
  const send = (text) => {
    const multitaskStrategy = text.startsWith("now or never") ? "reject" : undefined;
    const optimisticValues = (past) => ({
      ...past,
      messages: [...(past.messages ?? []), ...said(text).messages],
    });
    return stream.submit(said(text), { optimisticValues, multitaskStrategy });
  };
  const answer = (decision) => stream.submit(undefined, { command: { resume: decision } });

  return <Chat {...{ stream, send, answer, useActions, Events: () => events.map((name) => <li key={name}>{name}</li>) }} />;
}

show(Classic);
