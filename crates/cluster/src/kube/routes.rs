//! Writes Services and EndpointSlices.
