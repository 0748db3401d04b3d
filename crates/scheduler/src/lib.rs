//! Which LoRA adapter on which inference engine: a pure, embeddable placement library.
