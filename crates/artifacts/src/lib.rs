//! Fetch, verify and store LoRA adapters.
