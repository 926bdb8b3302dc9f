// Frameworks around OpenAI's SDK of Node: LangChain and LlamaIndex, which hand the results of tools on.

import { HumanMessage, ToolMessage } from "@langchain/core/messages";
import { tool } from "@langchain/core/tools";
import { ChatOpenAI } from "@langchain/openai";
import { OpenAI, OpenAIResponses } from "@llamaindex/openai";

const weather = ({ city }) => `rain in ${city}`;
const description = "Tell the weather of a city.";
const schema = { type: "object", properties: { city: { type: "string" } }, required: ["city"], additionalProperties: false };

// -- LangChain

const langchainTool = tool(weather, { name: "weather", description, schema });

function langchain(ask, useResponsesApi) {
  const configuration = { baseURL: `${ask.url}/v1` };
  const model = new ChatOpenAI({ model: ask.model, apiKey: "none", maxRetries: 0, useResponsesApi, configuration });
  return ask.tools ? model.bindTools([langchainTool]) : model;
}

async function langchainTurns(ask, answer) {
  const messages = [new HumanMessage(ask.question)];
  for (;;) {
    const said = await answer(messages);
    if (!said.tool_calls?.length) return said;
    messages.push(said, ...said.tool_calls.map(({ id, args }) => new ToolMessage({ content: weather(args), tool_call_id: id })));
  }
}

const langchainStreamed = (responses) => (ask, seen) =>
  langchainTurns(ask, async (messages) => {
    let whole;
    for await (const piece of await langchain(ask, responses).stream(messages)) {
      whole = whole ? whole.concat(piece) : piece;
      seen.say(piece.text);
    }
    return whole;
  });

const langchainWhole = (responses) => async (ask, seen) => {
  const { signal } = seen.controller;
  seen.text = (await langchainTurns(ask, (messages) => langchain(ask, responses).invoke(messages, { signal }))).text;
};

// -- LlamaIndex

const llamaTool = { call: weather, metadata: { name: "weather", description, parameters: schema } };

function llama(ask, Model) {
  const baseURL = `${ask.url}/v1`;
  return new Model({ model: "gpt-4o", apiKey: "none", baseURL, maxRetries: 0 });
}

function result({ id, input }) {
  const content = weather(typeof input === "string" ? JSON.parse(input) : input);
  return { content, role: "user", options: { toolResult: { id, result: content, isError: false } } };
}

const llamaStreamed = (Model) => async (ask, seen) => {
  const messages = [{ role: "user", content: ask.question }];
  const tools = ask.tools && [llamaTool];
  for (;;) {
    let calls = [];
    for await (const piece of await llama(ask, Model).chat({ messages, tools, stream: true })) {
      calls = piece.options?.toolCall ?? calls;
      // with every other event of Responses it says its last piece again
      if (!piece.raw?.type || piece.raw.type === "response.output_text.delta") seen.say(piece.delta);
    }
    if (!calls.length) return;
    messages.push({ role: "assistant", content: "", options: { toolCall: calls } }, ...calls.map(result));
  }
};

const llamaWhole = (Model) => async (ask, seen) => {
  const messages = [{ role: "user", content: ask.question }];
  const tools = ask.tools && [llamaTool];
  for (;;) {
    const { message } = await llama(ask, Model).chat({ messages, tools });
    const calls = message.options?.toolCall ?? [];
    if (!calls.length) return (seen.text = message.content);
    messages.push(message, ...calls.map(result));
  }
};

export const clients = {
  "langchain-js chat, streamed": langchainStreamed(false),
  "langchain-js chat, whole": langchainWhole(false),
  "langchain-js responses, streamed": langchainStreamed(true),
  "langchain-js responses, whole": langchainWhole(true),
  "llama-index-js chat, streamed": llamaStreamed(OpenAI),
  "llama-index-js chat, whole": llamaWhole(OpenAI),
  "llama-index-js responses, streamed": llamaStreamed(OpenAIResponses),
  "llama-index-js responses, whole": llamaWhole(OpenAIResponses),
};
