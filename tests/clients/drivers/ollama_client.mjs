// Ollama's JavaScript client: `chat` streamed and in one piece, and `generate`.

import { Ollama } from "ollama";

const ollama = (ask) => new Ollama({ host: `${ask.url}/ollama` });

function request(ask) {
  const images = ask.image ? [ask.image] : undefined;
  const tools = ask.tools?.map((tool) => ({ type: "function", function: tool }));
  return { model: ask.model, messages: [{ role: "user", content: ask.question, images }], tools };
}

function take(seen, part, text, thinking) {
  if (part.done) {
    seen.finish = part.done_reason;
    seen.used(part.prompt_eval_count, part.eval_count);
  }
  seen.reasoning += thinking ?? "";
  seen.say(text);
}

function takeChat(seen, part) {
  for (const { function: called } of part.message.tool_calls ?? [])
    seen.tools.push({ id: null, name: called.name, arguments: called.arguments });
  take(seen, part, part.message.content, part.message.thinking);
}

/** Read a stream of parts; leaving its loop closes nothing, so that programs call `abort`. */
async function reading(stream, taking) {
  try {
    for await (const part of stream) taking(part);
  } catch (error) {
    stream.abort();
    throw error;
  }
}

async function chatStreamed(ask, seen) {
  await reading(await ollama(ask).chat({ ...request(ask), stream: true }), (part) => takeChat(seen, part));
}

async function chatWhole(ask, seen) {
  takeChat(seen, await ollama(ask).chat(request(ask)));
}

async function generateStreamed(ask, seen) {
  const images = ask.image ? [ask.image] : undefined;
  const stream = await ollama(ask).generate({ model: ask.model, prompt: ask.question, images, stream: true });
  await reading(stream, (part) => take(seen, part, part.response, part.thinking));
}

async function models(ask, seen) {
  const { models: listed } = await ollama(ask).list();
  for (const { model } of listed) await ollama(ask).show({ model });
  await ollama(ask).ps();
  seen.text = listed.map(({ model }) => model.replace(/:latest$/, "")).join(" ");
}

export const clients = {
  "ollama models": models,
  "ollama chat, streamed": chatStreamed,
  "ollama chat, whole": chatWhole,
  "ollama generate, streamed": generateStreamed,
};
