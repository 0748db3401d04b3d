//! A simulated engine as strict as the real one, and fixtures.
