// The hook for which the chat contract was written: it must run unchanged against the proxy.

export async function* streamChat(messages, url = "/api/chat") {
  const response = await fetch(url, {
    method: "POST",
    headers: { "Content-Type": "application/json" },
    body: JSON.stringify({ messages }),
  });
  const reader = response.body.getReader();
  const decoder = new TextDecoder();
  let buffer = "";
  while (true) {
    const { value, done } = await reader.read();
    if (done) return;
    buffer += decoder.decode(value, { stream: true });
    let end;
    while ((end = buffer.indexOf("\n\n")) >= 0) {
      const frame = buffer.slice(0, end).trim();
      buffer = buffer.slice(end + 2);
      if (frame.startsWith("data:")) yield frame.slice(5);
      else if (frame === "event: done") return;
    }
  }
}
