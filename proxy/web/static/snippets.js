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
const shell = (text) => `'${text.replaceAll("'", "'\\''")}'`;

/** @type {Record<string, (ask: Ask) => string>} */
export const SNIPPETS = {
  curl: ({ base, path, body, needsKey }) =>
    `curl -N ${base}/${path} \\\n  -H 'content-type: application/json' \\\n${needsKey ? '  -H "authorization: Bearer $CHAT_PROXY_KEY" \\\n' : ""}  -d ${shell(JSON.stringify(body))}`,
  fetch: ({ base, path, body, needsKey }) => `const response = await fetch(${quoted(`${base}/${path}`)}, {
  method: "POST",
  headers: { "content-type": "application/json"${needsKey ? ", authorization: `Bearer ${key}`" : ""} },
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

const { messages, sendMessage, stop, status } = useChat({
  transport: new DefaultChatTransport({ api: "${ask.base}/ai-sdk/chat"${ask.needsKey ? ", headers: { authorization: `Bearer ${key}` }" : ""} }),
});
// sendMessage({ text: ${quoted(ask.text)} })
// Another origin than the page's: name the page's under server.cors.origins.`,
  "the chat hook": (ask) => `// The hook calls /api/chat of its own origin. Send that path on, with Vite for one:
export default {
  server: { proxy: { "/api/chat": ${quoted(ask.base)} } },
};
// The hook itself stays as it is:
// fetch("/api/chat", { method: "POST", body: JSON.stringify({ messages }) })`,
  "Open WebUI": (ask) => `# Admin Settings → Connections → OpenAI API → Add Connection
URL   ${ask.base}/v1
Key   ${key(ask)}

# or from the environment
OPENAI_API_BASE_URL=${ask.base}/v1 OPENAI_API_KEY=${key(ask)} open-webui serve`,
  Codex: (ask) => `# ~/.codex/config.toml
model = ${quoted(ask.model)}
model_provider = "chat-proxy"

[model_providers.chat-proxy]
name = "chat-proxy"
base_url = "${ask.base}/v1"
wire_api = "responses"${ask.needsKey ? '\nenv_key = "CHAT_PROXY_KEY"' : ""}`,
  "Claude Code": (ask) => `export ANTHROPIC_BASE_URL=${ask.base}
export ANTHROPIC_AUTH_TOKEN=${key(ask)}
export ANTHROPIC_MODEL=${ask.model}
claude`,
};
