// Asks with the project's own JavaScript client, in Node and in a page: `ask(client, {url, question, …})`.

/** What one answer came to: its text and notices, or the error; `stop` and `leave` as soon as text came. */
async function ask({ ChatError, fetchChatStream, streamChat }, asked) {
  const answer = { text: "", notices: [], error: null };
  const stop = new AbortController();
  const { url, question, dialect, how, wire, resume } = asked;
  const messages = [{ role: "user", content: question }];
  const fetch = wire && (async () => new Response(cut(wire)));
  try {
    if (how === "tokens") {
      for await (const token of fetchChatStream(messages, url)) answer.text += token;
      return answer;
    }
    for await (const part of streamChat(url, { messages, dialect, resume, body: asked.body, signal: stop.signal, fetch })) {
      if (part.type === "text") answer.text += part.text;
      else answer.notices.push(part);
      if (how === "stop" && answer.text) stop.abort();
      if (how === "leave" && answer.text) break;
    }
  } catch (error) {
    const { name, message, code, status, retryable, retryAfter, requestId } = error;
    answer.error = { name, message, code, status, retryable, retryAfter, requestId, typed: error instanceof ChatError };
  }
  return answer;
}

/** A body that comes in pieces of `size` bytes. */
function cut({ base64, size }) {
  const bytes = Uint8Array.from(atob(base64), (character) => character.charCodeAt(0));
  let at = 0;
  return new ReadableStream({
    pull(stream) {
      if (at >= bytes.length) return stream.close();
      stream.enqueue(bytes.slice(at, (at += size)));
    },
  });
}

/** Ask everything in `asks`, eight at once; the answers are in order. */
export async function askAll(client, asks) {
  const answers = [];
  let next = 0;
  const worker = async () => {
    for (let at = next++; at < asks.length; at = next++) answers[at] = await ask(client, asks[at]);
  };
  await Promise.all(Array.from({ length: 8 }, worker));
  return answers;
}

if (globalThis.process?.argv[1].endsWith("js_client.mjs")) {
  const client = await import(process.argv[2]);
  const { readFileSync } = await import("node:fs");
  process.stdout.write(JSON.stringify(await askAll(client, JSON.parse(readFileSync(0, "utf-8")))));
}
