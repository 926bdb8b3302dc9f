"""The streams of Vercel's AI SDK."""
