// CopilotKit in a page: a tool of the page's own, and an agent at the proxy. `ask` tells which calls the page has run.

import { HttpAgent } from "@ag-ui/client";
import { CopilotKitCore } from "@copilotkit/core";
import { z } from "zod";

let threads = 0;

window.ask = async ({ url, question }) => {
  const tools = [];
  let error = null;
  const agent = new HttpAgent({ url: `${url}/agui`, agentId: "default", threadId: `thread-${++threads}` });
  const core = new CopilotKitCore({ agents__unsafe_dev_only: { default: agent } });
  core.addTool({
    name: "weather",
    description: "Tell the weather of a city.",
    parameters: z.object({ city: z.string() }),
    handler: async ({ city }) => {
      tools.push({ id: null, name: "weather", arguments: { city } });
      return `rain in ${city}`;
    },
  });
  core.subscribe({ onError: (event) => (error = { name: event.code, message: event.error.message }) });
  agent.addMessage({ id: "question", role: "user", content: question });
  await core.runAgent({ agent });
  const said = agent.messages.filter(({ role, content }) => role === "assistant" && content);
  return { text: said.map(({ content }) => content).join(""), tools, error };
};
document.title = "ready";
