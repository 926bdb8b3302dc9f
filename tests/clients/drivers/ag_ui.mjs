// AG-UI's client: one run of an `HttpAgent`.

import { HttpAgent } from "@ag-ui/client";

async function run(ask, seen) {
  const source = { type: "data", value: ask.image, mimeType: "image/png" };
  const content = ask.image ? [{ type: "text", text: ask.question }, { type: "image", source }] : ask.question;
  const agent = new HttpAgent({ url: `${ask.url}/agui`, initialMessages: [{ id: "1", role: "user", content }] });
  let left = false; // the client tells itself of an error then
  const parameters = { tools: ask.tools ?? [], forwardedProps: { model: ask.model } };
  const done = await agent.runAgent(parameters, {
    onTextMessageContentEvent({ event }) {
      try {
        seen.say(event.delta);
      } catch {
        left = true;
        agent.abortRun();
      }
    },
    onReasoningMessageContentEvent({ event }) {
      seen.reasoning += event.delta;
    },
    onToolCallEndEvent({ event, toolCallName, toolCallArgs }) {
      seen.tools.push({ id: event.toolCallId, name: toolCallName, arguments: toolCallArgs });
    },
    onRunErrorEvent({ event }) {
      if (!left) seen.error = { name: "RUN_ERROR", status: null, message: event.message };
    },
    onRunFinishedEvent({ event }) {
      seen.finish = event.outcome?.type ?? "finished";
      const usage = event.usage?.[0];
      if (usage) seen.used(usage.inputTokens, usage.outputTokens);
    },
    onRunFailed({ error }) {
      if (!seen.error && !left) seen.fail(error);
      return { stopPropagation: true };
    },
  });
  if (seen.error) {
    // CopilotKit runs these, whether the run failed or not.
    const left = (done?.newMessages ?? []).flatMap((message) => message.toolCalls ?? []);
    for (const { id, function: f } of left) seen.tools.push({ id, name: f.name, arguments: f.arguments });
  }
}

export const clients = { HttpAgent: run };
