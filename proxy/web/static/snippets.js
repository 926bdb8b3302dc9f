// @ts-check
/** The same request in other hands: what to paste where. */

/**
 * @typedef {{base: string, path: string, body: Record<string, any>, model: string, text: string, needsKey: boolean}} Ask
 * `base` is where the proxy is, without a slash at its end
 */

/** @param {Ask} ask */
const key = ({ needsKey }) => (needsKey ? "$CHAT_PROXY_KEY" : "none");
/** @param {unknown} value */
const quoted = (value) => JSON.stringify(value);
/** @param {string} text */
const shell = (text) => (/^[\w@%+=:,./-]+$/.test(text) ? text : `'${text.replaceAll("'", "'\\''")}'`);

/** @type {Record<string, (ask: Ask) => string>} */
export const SNIPPETS = {
  curl: ({ base, path, body, needsKey }) =>
    `curl -N ${shell(`${base}/${path}`)} \\\n  -H 'content-type: application/json' \\\n${needsKey ? '  -H "authorization: Bearer $CHAT_PROXY_KEY" \\\n' : ""}  -d ${shell(JSON.stringify(body))}`,
  fetch: ({ base, path, body, needsKey }) => `const response = await fetch(${quoted(`${base}/${path}`)}, {
  method: "POST",
  headers: { "content-type": "application/json"${needsKey ? ", authorization: `Bearer ${process.env.CHAT_PROXY_KEY}`" : ""} },
  body: JSON.stringify(${JSON.stringify(body, null, 2).replaceAll("\n", "\n  ")}),
});
for await (const chunk of response.body.pipeThrough(new TextDecoderStream())) {
  console.log(chunk);
}`,
  "OpenAI SDK, Python": (ask) => `import os
from openai import OpenAI

client = OpenAI(base_url="${ask.base}/v1", api_key=${ask.needsKey ? 'os.environ["CHAT_PROXY_KEY"]' : '"none"'})
stream = client.chat.completions.create(
    model=${quoted(ask.model)},
    messages=[{"role": "user", "content": ${quoted(ask.text)}}],
    stream=True,
)
for chunk in stream:
    if chunk.choices:
        print(chunk.choices[0].delta.content or "", end="", flush=True)`,
  "OpenAI SDK, JavaScript": (ask) => `import OpenAI from "openai";

const client = new OpenAI({ baseURL: "${ask.base}/v1", apiKey: ${ask.needsKey ? "process.env.CHAT_PROXY_KEY" : '"none"'} });
const stream = await client.chat.completions.create({
  model: ${quoted(ask.model)},
  messages: [{ role: "user", content: ${quoted(ask.text)} }],
  stream: true,
});
for await (const chunk of stream) {
  process.stdout.write(chunk.choices[0]?.delta?.content ?? "");
}`,
  "Anthropic SDK, Python": (ask) => `import os
from anthropic import Anthropic

client = Anthropic(base_url="${ask.base}", api_key=${ask.needsKey ? 'os.environ["CHAT_PROXY_KEY"]' : '"none"'})
with client.messages.stream(
    model=${quoted(ask.model)},
    max_tokens=1024,
    messages=[{"role": "user", "content": ${quoted(ask.text)}}],
) as stream:
    for text in stream.text_stream:
        print(text, end="", flush=True)`,
  "Anthropic SDK, JavaScript": (ask) => `import Anthropic from "@anthropic-ai/sdk";

const client = new Anthropic({ baseURL: "${ask.base}", apiKey: ${ask.needsKey ? "process.env.CHAT_PROXY_KEY" : '"none"'} });
const stream = client.messages.stream({
  model: ${quoted(ask.model)},
  max_tokens: 1024,
  messages: [{ role: "user", content: ${quoted(ask.text)} }],
});
stream.on("text", (text) => process.stdout.write(text));
await stream.finalMessage();`,
  useChat: (ask) => `import { useChat } from "@ai-sdk/react";
import { DefaultChatTransport } from "ai";

// From a page of another origin: name that origin under server.cors.origins.
const transport = new DefaultChatTransport({
  api: "${ask.base}/ai-sdk/chat",${"model" in ask.body ? `\n  body: { model: ${quoted(ask.model)} },` : ""}${
    ask.needsKey ? "\n  headers: { authorization: `Bearer ${process.env.CHAT_PROXY_KEY}` }, // whoever loads the page can read it" : ""
  }
});

export function Chat() {
  const { messages, sendMessage, stop, status, error } = useChat({ transport });
  return (
    <>
      {messages.map(({ id, role, parts }) => (
        <p key={id} className={role}>{parts.map((part) => (part.type === "text" ? part.text : ""))}</p>
      ))}
      {error && <p role="alert">{error.message}</p>}
      <button onClick={() => sendMessage({ text: ${quoted(ask.text)} })}>Send</button>
      <button onClick={stop} disabled={status === "ready"}>Stop</button>
    </>
  );
}`,
  "the chat hook": (ask) => `// vite.config.js: the hook calls /api/chat of its own origin, and stays as it is.
export default {
  server: {
    proxy: {
      "/api/chat": {
        target: ${quoted(ask.base)},
        changeOrigin: true,${ask.needsKey ? "\n        headers: { authorization: `Bearer ${process.env.CHAT_PROXY_KEY}` }," : ""}
      },
    },
  },
};`,
  "Open WebUI": (ask) => `OPENAI_API_BASE_URL=${shell(`${ask.base}/v1`)} OPENAI_API_KEY=${key(ask)} open-webui serve

# or under Admin Settings → Connections → OpenAI API → Add Connection:
# URL  ${ask.base}/v1
# Key  ${key(ask)}`,
  Codex: (ask) => `# ~/.codex/config.toml
model = ${quoted(ask.model)}
model_provider = "chat-proxy"

[model_providers.chat-proxy]
name = "chat-proxy"
base_url = "${ask.base}/v1"
wire_api = "responses"${ask.needsKey ? '\nenv_key = "CHAT_PROXY_KEY"' : ""}`,
  "Claude Code": (ask) => `export ANTHROPIC_BASE_URL=${shell(ask.base)}
export ANTHROPIC_AUTH_TOKEN=${key(ask)}
export ANTHROPIC_MODEL=${shell(ask.model)}
claude`,
};
