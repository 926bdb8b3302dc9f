"""The backend that reaches models through the litellm SDK."""
