// `useStream` of @langchain/react: over commands and the events of a thread (protocol v2).

import { useMessageMetadata, useStream } from "@langchain/react";
import { api, Chat, said, show, useThread } from "./chat.jsx";

function V2() {
  const [threadId, onThreadId] = useThread();
  const stream = useStream({
    apiUrl: api,
    apiKey: "none is asked for",
    assistantId: "dialogue",
    threadId,
    onThreadId,
  });

  const useActions = (message) => {
    const forkFrom = useMessageMetadata(stream, message.id)?.parentCheckpointId;
    return {
      edit: forkFrom && message.type === "human" && ((text) => stream.submit(said(text), { forkFrom })),
      regenerate: forkFrom && message.type === "ai" && (() => stream.submit(null, { forkFrom })),
    };
  };

  return <Chat {...{ stream, send: (text) => stream.submit(said(text)), answer: stream.respond, useActions }} />;
}

show(V2);
