// The Anthropic SDK of Node: Messages streamed, by its helper, and in one piece.

import Anthropic from "@anthropic-ai/sdk";

const sdk = (ask) => new Anthropic({ baseURL: ask.url, apiKey: "none", maxRetries: 0 });

function request(ask) {
  const source = { type: "base64", media_type: "image/png", data: ask.image };
  const content = ask.image ? [{ type: "text", text: ask.question }, { type: "image", source }] : ask.question;
  const tools = ask.tools?.map(({ parameters, ...tool }) => ({ ...tool, input_schema: parameters }));
  return { model: ask.model, max_tokens: 4096, messages: [{ role: "user", content }], tools };
}

function takeMessage(seen, { content, stop_reason, usage }) {
  const all = (type, key) => content.filter((block) => block.type === type).map((block) => block[key]).join("");
  seen.text = all("text", "text");
  seen.reasoning = all("thinking", "thinking");
  const calls = content.filter(({ type }) => type === "tool_use");
  seen.tools = calls.map(({ id, name, input }) => ({ id, name, arguments: input }));
  seen.finish = stop_reason;
  seen.used(usage.input_tokens, usage.output_tokens);
}

async function streamed(ask, seen) {
  let read = 0;
  for await (const event of await sdk(ask).messages.create({ ...request(ask), stream: true })) {
    switch (event.type) {
      case "message_start":
        read = event.message.usage.input_tokens;
        break;
      case "content_block_start":
        if (event.content_block.type === "tool_use")
          seen.tools.push({ id: event.content_block.id, name: event.content_block.name, arguments: "" });
        break;
      case "message_delta":
        seen.finish = event.delta.stop_reason;
        seen.used(event.usage.input_tokens || read, event.usage.output_tokens);
        break;
      case "content_block_delta":
        seen.reasoning += event.delta.thinking ?? "";
        if (event.delta.type === "input_json_delta") seen.tools.at(-1).arguments += event.delta.partial_json;
        seen.say(event.delta.text);
    }
  }
}

async function helped(ask, seen) {
  const stream = sdk(ask).messages.stream(request(ask));
  for await (const { delta } of stream) seen.say(delta?.text);
  takeMessage(seen, await stream.finalMessage());
}

async function whole(ask, seen) {
  takeMessage(seen, await sdk(ask).messages.create(request(ask), { signal: seen.controller.signal }));
}

async function models(ask, seen) {
  for await (const { id } of sdk(ask).models.list()) seen.text += `${id} `;
}

async function count(ask, seen) {
  const { max_tokens: _, ...asked } = request(ask);
  seen.used((await sdk(ask).messages.countTokens(asked)).input_tokens, 0);
}

export const clients = { "anthropic models": models, "anthropic count": count, "anthropic, streamed": streamed, "anthropic, helper": helped, "anthropic, whole": whole };
