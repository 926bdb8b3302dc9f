"""The `/chat` contract: messages in, a stream of bare tokens out."""
