"""The contracts of Vercel's AI SDK: UI message streams and text streams."""
