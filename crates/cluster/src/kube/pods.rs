//! What a pod says of the engine in it. Pure.
