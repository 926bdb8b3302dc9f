// What a page does to `useChatStream` while it answers: `chat` is what the hook gives, `hide` and `show` its component.
import { Activity, useState } from "react";
import { createRoot } from "react-dom/client";
import { useChatStream } from "chat-proxy-client/react";

function Chat() {
  window.chat = useChatStream({ url: "/chat" });
  return chat.messages.map(({ content }) => content).join("|") + ` ${chat.status} ${chat.error?.message ?? "fine"}`;
}

function Page() {
  const [mode, setMode] = useState("visible");
  window.setMode = setMode;
  return <Activity mode={mode}><Chat /></Activity>;
}

createRoot(document.body).render(<Page />);
