import { useChatStream } from "chat-proxy-client/react";

export function Chat() {
  const { messages, status, error, send, stop, retry } = useChatStream({ url: "/api/chat" });
  const busy = status === "submitted" || status === "streaming";

  function ask(event) {
    event.preventDefault();
    const { question } = event.target.elements;
    if (!question.value.trim()) return;
    send(question.value);
    event.target.reset();
  }

  return (
    <>
      <ol aria-live="polite" aria-busy={busy}>
        {messages.map(({ role, content }, at) => (
          <li key={at} className={role}>
            {content}
          </li>
        ))}
        {status === "submitted" && <li className="assistant waiting">…</li>}
      </ol>
      {error && (
        <p role="alert">
          {error.message} <button onClick={retry}>Try again</button>
        </p>
      )}
      <form onSubmit={ask}>
        <input name="question" aria-label="Your message" placeholder="Ask something" autoComplete="off" autoFocus />
        {busy ? (
          <button type="button" onClick={stop}>
            Stop
          </button>
        ) : (
          <button>Send</button>
        )}
      </form>
    </>
  );
}
