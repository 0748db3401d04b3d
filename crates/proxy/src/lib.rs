//! The OpenAI-compatible data path, and where its table comes from.
