import react from "@vitejs/plugin-react";
import { defineConfig } from "vite";

// The page calls /api/chat on its own origin, as it would behind a web server; Vite passes it on to the proxy.
const proxy = { "/api": process.env.CHAT_PROXY ?? "http://127.0.0.1:8080" };

export default defineConfig({
  plugins: [react()],
  resolve: { dedupe: ["react"] }, // the client is a folder beside this one, with a React of its own for its types
  server: { proxy },
  preview: { proxy },
});
