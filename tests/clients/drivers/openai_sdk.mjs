// The OpenAI SDK of Node: Chat Completions and Responses, each streamed, by its helper, and in one piece.

import OpenAI from "openai";

const sdk = (ask) => new OpenAI({ baseURL: `${ask.url}/v1`, apiKey: "none", maxRetries: 0 });
const picture = (ask) => `data:image/png;base64,${ask.image}`;

// -- Chat Completions

function chatRequest(ask, more) {
  const question = { type: "text", text: ask.question };
  const content = ask.image ? [question, { type: "image_url", image_url: { url: picture(ask) } }] : ask.question;
  const tools = ask.tools?.map((tool) => ({ type: "function", function: { ...tool, strict: true } }));
  return { model: ask.model, messages: [{ role: "user", content }], tools, ...more };
}

const inStream = { stream_options: { include_usage: true } };

async function chatStreamed(ask, seen) {
  for await (const chunk of await sdk(ask).chat.completions.create(chatRequest(ask, { stream: true, ...inStream }))) {
    if (chunk.usage) seen.used(chunk.usage.prompt_tokens, chunk.usage.completion_tokens);
    for (const { delta, finish_reason } of chunk.choices) {
      seen.reasoning += delta.reasoning_content ?? "";
      seen.finish = finish_reason ?? seen.finish;
      for (const { index, id, function: called } of delta.tool_calls ?? []) {
        seen.tools[index] ??= { id, name: called.name, arguments: "" };
        seen.tools[index].arguments += called.arguments ?? "";
      }
      seen.say(delta.content);
    }
  }
}

async function chatHelped(ask, seen) {
  const stream = sdk(ask).chat.completions.stream(chatRequest(ask, inStream));
  for await (const chunk of stream) seen.say(chunk.choices[0]?.delta.content);
  takeChat(seen, await stream.finalChatCompletion());
}

async function chatWhole(ask, seen) {
  takeChat(seen, await sdk(ask).chat.completions.create(chatRequest(ask), { signal: seen.controller.signal }));
}

function takeChat(seen, { choices: [{ message, finish_reason }], usage }) {
  seen.text = message.content ?? "";
  seen.reasoning = message.reasoning_content ?? "";
  seen.finish = finish_reason;
  seen.tools = (message.tool_calls ?? []).map(({ id, function: { name, arguments: text } }) => ({ id, name, arguments: text }));
  if (usage) seen.used(usage.prompt_tokens, usage.completion_tokens);
}

// -- Responses

function responseRequest(ask) {
  const text = { type: "input_text", text: ask.question };
  const image = { type: "input_image", detail: "auto", image_url: picture(ask) };
  const input = ask.image ? [{ role: "user", content: [text, image] }] : ask.question;
  const tools = ask.tools?.map((tool) => ({ type: "function", strict: true, ...tool }));
  return { model: ask.model, input, store: false, tools };
}

function takeResponse(seen, { status, incomplete_details, output, usage, error }) {
  seen.finish = incomplete_details?.reason ?? status;
  const calls = output.filter(({ type }) => type === "function_call");
  seen.tools = calls.map(({ call_id, name, arguments: text }) => ({ id: call_id, name, arguments: text }));
  if (usage) seen.used(usage.input_tokens, usage.output_tokens);
  if (error) seen.error = { name: `response.${status}`, status: null, message: error.message };
}

function takeEvent(seen, event) {
  switch (event.type) {
    case "response.reasoning_summary_text.delta":
    case "response.reasoning_text.delta":
      seen.reasoning += event.delta;
      break;
    case "response.completed":
    case "response.incomplete":
    case "response.failed":
      takeResponse(seen, event.response);
      break;
    case "error":
      seen.error = { name: "error", status: null, message: event.message };
      break;
    case "response.output_text.delta":
      seen.say(event.delta);
  }
}

async function responseStreamed(ask, seen) {
  for await (const event of await sdk(ask).responses.create({ ...responseRequest(ask), stream: true })) takeEvent(seen, event);
}

async function responseHelped(ask, seen) {
  const stream = sdk(ask).responses.stream(responseRequest(ask));
  for await (const event of stream) takeEvent(seen, event);
  if (seen.error) return;
  const whole = await stream.finalResponse();
  seen.text = whole.output_text;
  takeResponse(seen, whole);
}

async function responseWhole(ask, seen) {
  const whole = await sdk(ask).responses.create(responseRequest(ask), { signal: seen.controller.signal });
  const reasoning = whole.output.filter(({ type }) => type === "reasoning");
  seen.text = whole.output_text;
  seen.reasoning = reasoning.flatMap(({ summary, content }) => [...summary, ...(content ?? [])].map(({ text }) => text)).join("");
  takeResponse(seen, whole);
}

async function models(ask, seen) {
  for await (const { id } of sdk(ask).models.list()) seen.text += `${id} `;
}

export const clients = {
  "openai models": models,
  "openai chat, streamed": chatStreamed,
  "openai chat, helper": chatHelped,
  "openai chat, whole": chatWhole,
  "openai responses, streamed": responseStreamed,
  "openai responses, helper": responseHelped,
  "openai responses, whole": responseWhole,
};
