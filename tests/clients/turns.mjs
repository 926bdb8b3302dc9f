// A conversation of several turns, as an app has it: two tools at once, one of which shows an image, a call that is never
// answered, and a user who goes on. node turns.mjs ai|ag-ui URL; prints the last answer.

const [kind, url] = process.argv.slice(2);
const PNG = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg==";
const parameters = { type: "object", properties: { city: { type: "string" } } };
const tools = ["weather", "map", "wait"].map((name) => ({ name, description: `The ${name}.`, parameters }));

async function withAI() {
  const { Chat } = await import("@ai-sdk/react");
  const { DefaultChatTransport, lastAssistantMessageIsCompleteWithToolCalls } = await import("ai");
  const outputs = {
    weather: { degrees: 7 },
    map: { content: [{ type: "text", text: "the map" }, { type: "image", data: PNG, mimeType: "image/png" }] },
  };
  const called = tools.map((tool) => ({ type: "function", function: tool }));
  const errors = [];
  const chat = new Chat({
    transport: new DefaultChatTransport({ api: `${url}/api/chat`, body: { tools: called } }),
    sendAutomaticallyWhen: lastAssistantMessageIsCompleteWithToolCalls,
    onError: (error) => errors.push(error.message),
    onToolCall({ toolCall: { toolName, toolCallId } }) {
      const output = outputs[toolName];
      if (output) chat.addToolOutput({ tool: toolName, toolCallId, output });
    },
  });
  const waits = () => JSON.stringify(chat.messages).includes("tool-wait") || JSON.stringify(chat.messages).includes('"toolName":"wait"');
  await chat.sendMessage({ text: "What is it like there?" });
  while (!errors.length && !(waits() && chat.status === "ready")) await new Promise((done) => setTimeout(done, 10));
  if (!errors.length) await chat.sendMessage({ text: "Never mind." });
  return errors[0] ?? chat.messages.at(-1).parts.filter(({ type }) => type === "text").map(({ text }) => text).join("");
}

async function withAgent() {
  const { HttpAgent } = await import("@ag-ui/client");
  const agent = new HttpAgent({ url: `${url}/agui`, initialMessages: [{ id: "1", role: "user", content: "What is it like there?" }] });
  const results = {
    weather: "7 degrees",
    map: [{ type: "text", text: "the map" }, { type: "image", source: { type: "data", value: PNG, mimeType: "image/png" } }],
  };
  for (;;) {
    await agent.runAgent({ tools });
    const { toolCalls = [], content } = agent.messages.at(-1);
    if (!toolCalls.length) return content;
    for (const { id, function: f } of toolCalls) {
      const result = results[f.name];
      const said = result ? { role: "tool", toolCallId: id, content: result } : { role: "user", content: "Never mind." };
      agent.addMessage({ id: crypto.randomUUID(), ...said });
    }
  }
}

console.log(JSON.stringify(await (kind === "ai" ? withAI() : withAgent())));
