/** The answers of chat-proxy in a React component. */

import { useCallback, useEffect, useRef, useState } from "react";

import { type ChatError, type ChatOptions, type Message, streamChat } from "./index.js";

export interface ChatMessage extends Message {
  role: "user" | "assistant" | "system";
  content: string;
}

/** `submitted`: nothing of the answer came yet. `stopped`: by `stop`; what came stays. `error`: see `error`. */
export type ChatStatus = "ready" | "submitted" | "streaming" | "stopped" | "error";

export interface UseChatStreamOptions extends Omit<ChatOptions, "messages" | "signal"> {
  /** Where the proxy is; by default `/api/chat` of the page's own origin. */
  url?: string | URL;
  initialMessages?: readonly ChatMessage[];
}

export interface ChatStream {
  /** The conversation, the answer that is being written included. */
  messages: readonly ChatMessage[];
  status: ChatStatus;
  /** Why the last answer is not whole, with status `error`. */
  error: ChatError | undefined;
  /** Ask. Stops an answer that is under way. */
  send(text: string): void;
  /** Stop the answer. */
  stop(): void;
  /** Ask the last question again, in place of what was answered. */
  retry(): void;
  /** Take another conversation, such as an empty one. Stops an answer that is under way. */
  setMessages(messages: readonly ChatMessage[]): void;
}

/** A conversation: its messages, its state, and what a person can do with it. */
export function useChatStream(options: UseChatStreamOptions = {}): ChatStream {
  const [messages, show] = useState<readonly ChatMessage[]>(options.initialMessages ?? []);
  const [status, setStatus] = useState<ChatStatus>("ready");
  const [error, setError] = useState<ChatError>();
  const latest = useRef({ options, messages });
  latest.current.options = options;
  const running = useRef<AbortController>(undefined);

  const put = useCallback((next: readonly ChatMessage[]) => {
    latest.current.messages = next;
    show(next);
  }, []);

  const stop = useCallback(() => {
    if (!running.current) return;
    running.current.abort();
    running.current = undefined;
    setStatus("stopped");
  }, []);

  const answer = useCallback(async (asked: readonly ChatMessage[]) => {
    running.current?.abort();
    const controller = (running.current = new AbortController());
    const current = () => running.current === controller;
    const { url = "/api/chat", initialMessages, ...request } = latest.current.options;
    let content = "";
    put(asked);
    setError(undefined);
    setStatus("submitted");
    try {
      for await (const part of streamChat(url, { ...request, messages: asked, signal: controller.signal })) {
        if (!current()) return;
        if (part.type !== "text") continue;
        if (!content) setStatus("streaming");
        content += part.text;
        put([...asked, { role: "assistant", content }]);
      }
      if (current()) setStatus("ready");
    } catch (failure) {
      if (!current()) return;
      setError(failure as ChatError);
      setStatus("error");
    }
    if (current()) running.current = undefined;
  }, []);

  const send = useCallback((text: string) => {
    void answer([...latest.current.messages, { role: "user", content: text }]);
  }, []);

  const retry = useCallback(() => {
    const { messages } = latest.current;
    const last = messages.findLastIndex((message) => message.role === "user");
    if (last >= 0) void answer(messages.slice(0, last + 1));
  }, []);

  const setMessages = useCallback((next: readonly ChatMessage[]) => {
    stop();
    put(next);
  }, []);

  useEffect(() => stop, []); // a component that is gone or hidden shows nothing

  return { messages, status, error, send, stop, retry, setMessages };
}
