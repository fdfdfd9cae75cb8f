// A chat window. What it shows and does comes from one of the hooks, in classic.jsx and v2.jsx.

import { StrictMode, useState } from "react";
import { createRoot } from "react-dom/client";

export const asked = new URLSearchParams(location.search);

export const api = asked.get("api");

/** What the human says, as input of the graph `dialogue`. */
export const said = (text) => ({
  messages: [{ type: "human", content: text }],
  folder: asked.get("folder"),
  ...(asked.has("calls") ? { calls: JSON.parse(asked.get("calls")) } : {}),
});

/** Whom the human talks to. */
export const assistantId = asked.get("assistant") ?? "dialogue";

/** The thread in the address, which survives a reload. */
export function useThread() {
  const [threadId, setThreadId] = useState(asked.get("thread"));
  const keep = (id) => {
    setThreadId(id);
    const address = new URL(location.href);
    address.searchParams.set("thread", id);
    history.replaceState(null, "", address);
  };
  return [threadId, keep];
}

export const textOf = (content) =>
  typeof content === "string" ? content : content.map((block) => block.text ?? "").join("");

function Message({ message, useActions }) {
  const [draft, setDraft] = useState("");
  const { edit, regenerate, branch, branches = [], choose } = useActions(message);
  const shown = branches.indexOf(branch);
  return (
    <li className={message.type}>
      <p>{textOf(message.content)}</p>
      {edit && <input aria-label="edit" value={draft} onChange={(e) => setDraft(e.target.value)} />}
      {edit && <button onClick={() => edit(draft)}>Save</button>}
      {regenerate && <button onClick={regenerate}>Regenerate</button>}
      {branches.length > 1 && (
        <span className="branches">
          <button disabled={shown === 0} onClick={() => choose(branches[shown - 1])}>Older</button>
          {shown + 1}/{branches.length}
          <button disabled={shown === branches.length - 1} onClick={() => choose(branches[shown + 1])}>Newer</button>
        </span>
      )}
    </li>
  );
}

export function Chat({ stream, send, answer, answerAll, waiting, useActions, Events }) {
  const [draft, setDraft] = useState("");
  const submit = (event) => {
    event.preventDefault();
    setDraft("");
    send(draft);
  };
  // A thread whose run was cut off has a breakpoint without a question.
  const asks = stream.interrupt?.value;
  const question = typeof asks === "string" ? asks : asks?.question;
  return (
    <main data-busy={stream.isLoading}>
      <ol>
        {stream.messages.map((message, index) => (
          <Message key={message.id ?? index} message={message} useActions={useActions} />
        ))}
      </ol>
      {question && (
        <section>
          <p>{question}</p>
          <button onClick={() => answer("yes")}>Approve</button>
          {stream.interrupts.length > 1 && <button onClick={answerAll}>Answer all</button>}
        </section>
      )}
      {stream.error != null && <p role="alert">{stream.error.message ?? String(stream.error)}</p>}
      <form onSubmit={submit}>
        <input aria-label="say" value={draft} onChange={(e) => setDraft(e.target.value)} />
        <button>Send</button>
        <output>{waiting}</output>
      </form>
      <button onClick={() => stream.stop()}>Stop</button>
      <ul>{Events && <Events stream={stream} />}</ul>
    </main>
  );
}

export const show = (Page) =>
  createRoot(document.getElementById("root")).render(
    <StrictMode>
      <Page />
    </StrictMode>,
  );
